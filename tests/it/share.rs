//! Share links: one result, without a key, until it expires.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use visage::clock::{Clock, SystemClock};
use visage::config::Settings;
use visage::store::Scope;

use crate::api::{claim, clip, finish, refused};
use crate::keys::key;
use crate::support::service::{Service, video_form};

/// A service that needs keys, a key, and the token of a finished result of that key.
pub struct Shared {
    pub service: Service,
    pub key: String,
    pub token: String,
}

/// A share link.
pub struct Link {
    /// The share id, which stands for the token.
    pub id: String,
    /// The parameter of the query.
    pub share: String,
}

impl Shared {
    pub async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let service = Service::start(|settings| {
            settings.auth.required = true;
            change(settings);
        })
        .await;
        let key = key(&service, &[Scope::Analyze, Scope::Read]).await;
        let token = send(&service, &key).await;
        Self { service, key, token }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.service.http.request(method, format!("{}{path}", self.service.base))
    }

    /// Sends a request without a key.
    pub async fn ask(&self, method: Method, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    /// Makes a link.
    pub async fn link(&self) -> Link {
        let path = format!("/results/{}/share", self.token);
        let made = self.request(Method::POST, &path).header("x-api-key", &self.key).send().await.unwrap();
        assert_eq!((made.status().as_u16(), &made.headers()["cache-control"]), (201, &"no-store".parse().unwrap()));
        let link: Value = made.json().await.unwrap();
        assert!(!link.to_string().contains(&self.token), "the link reveals the token: {link}");
        let share = link["share"].as_str().unwrap().to_owned();
        let (path, query) = link["url"].as_str().unwrap().split_once('?').unwrap();
        assert_eq!(query, format!("share={share}"));
        Link { id: path.rsplit('/').next().unwrap().to_owned(), share }
    }
}

async fn send(service: &Service, key: &str) -> String {
    let request = service.http.post(format!("{}/analyze-video", service.base)).header("x-api-key", key);
    let accepted: Value = request.multipart(video_form(clip())).send().await.unwrap().json().await.unwrap();
    finish(service, &claim(service).await).await;
    accepted["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_share_link_opens_one_result_and_changes_nothing() {
    let shared = Shared::start(|_| ()).await;
    let (Link { id, share }, token) = (shared.link().await, &shared.token);
    for part in ["", "/report", "/timeline", "/events"] {
        refused(shared.ask(Method::GET, &format!("/results/{token}{part}")).await, 401, "key_required").await;
        refused(shared.ask(Method::GET, &format!("/results/{id}{part}")).await, 401, "key_required").await;
        let read = shared.ask(Method::GET, &format!("/results/{id}{part}?share={share}")).await;
        assert_eq!(read.status(), 200, "{part}");
        assert_eq!(read.headers()["cache-control"], "no-store", "{part}");
        assert_eq!(read.headers()["referrer-policy"], "no-referrer", "{part}");
        assert!(!read.text().await.unwrap().contains(token.as_str()), "{part} reveals the token");
        // With a key, the link still opens its result, and still without the token.
        let path = format!("/results/{id}{part}?share={share}");
        let read = shared.request(Method::GET, &path).header("x-api-key", &shared.key).send().await.unwrap();
        assert_eq!(read.status(), 200, "{part}");
    }
    // The report leads back to the same link.
    let report = shared.ask(Method::GET, &format!("/results/{id}/report?share={share}")).await.text().await.unwrap();
    assert!(report.contains(&format!("/results/{id}?share={share}")), "{report}");
    assert_eq!(shared.link().await.id, id, "each link of a result has the same id");
    // A browser gets the page, which is not cached either.
    let page = shared.request(Method::GET, &format!("/results/{id}?share={share}")).header("accept", "text/html");
    let page = page.send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.headers()["cache-control"].to_str().unwrap()), (200, "no-store"));

    let other = send(&shared.service, &shared.key).await;
    for wrong in [&other, token] {
        refused(shared.ask(Method::GET, &format!("/results/{wrong}?share={share}")).await, 403, "bad_share_link").await;
    }
    for (method, path) in [
        (Method::DELETE, format!("/results/{token}")),
        (Method::DELETE, format!("/results/{id}")),
        (Method::POST, format!("/results/{token}/share")),
        (Method::GET, "/v1/analyses".to_owned()),
        (Method::POST, "/v1/uploads".to_owned()),
        (Method::POST, "/analyze-video".to_owned()),
        (Method::GET, format!("/get_stats?token={token}")),
    ] {
        let and = if path.contains('?') { '&' } else { '?' };
        let response = shared.ask(method.clone(), &format!("{path}{and}share={share}")).await;
        assert_eq!(response.status(), 401, "{method} {path}");
    }
    let still = shared.ask(Method::GET, &format!("/results/{id}?share={share}")).await;
    assert_eq!(still.status(), 200, "nothing was erased");
}

#[tokio::test]
async fn a_share_link_ends_with_its_time_and_with_its_result() {
    let shared = Shared::start(|_| ()).await;
    let (Link { id, share }, token) = (shared.link().await, &shared.token);
    let links = visage::share::ShareLinks::new(&shared.service.settings, &shared.service.store).await.unwrap();
    let past = SystemClock.now() - Duration::from_secs(1);
    let expired = links.sign(id.parse().unwrap(), past);
    refused(shared.ask(Method::GET, &format!("/results/{id}?share={expired}")).await, 410, "share_link_expired").await;
    // The time cannot be changed, and neither can anything else.
    let (_, signature) = share.split_once('.').unwrap();
    for altered in [format!("99999999999.{signature}"), share[..share.len() - 2].to_owned(), String::new()] {
        let path = format!("/results/{id}?share={altered}");
        refused(shared.ask(Method::GET, &path).await, 403, "bad_share_link").await;
    }
    let erase = shared.request(Method::DELETE, &format!("/results/{token}")).header("x-api-key", &shared.key);
    assert_eq!(erase.send().await.unwrap().status(), 204);
    refused(shared.ask(Method::GET, &format!("/results/{id}?share={share}")).await, 404, "unknown_token").await;
}

#[tokio::test]
async fn a_secret_of_the_settings_signs_the_links() {
    let secret = |text: &str| visage::config::Secret::new(text.repeat(8));
    let one = Shared::start(|settings| settings.share.secret.set(secret("abcd"))).await;
    let Link { id, share } = one.link().await;
    let path = format!("/results/{id}?share={share}");
    assert_eq!(one.ask(Method::GET, &path).await.status(), 200);
    // The running service takes over new secrets.
    let (old, new) = (secret("abcd"), secret("efgh"));
    let both = visage::config::Secret::new(format!("{} {}", new.expose(), old.expose()));
    one.service.settings.share.secret.set(both);
    assert_eq!(one.ask(Method::GET, &path).await.status(), 200, "earlier links stay valid");
    let Link { id, share } = one.link().await;
    one.service.settings.share.secret.set(new);
    refused(one.ask(Method::GET, &path).await, 403, "bad_share_link").await;
    assert_eq!(one.ask(Method::GET, &format!("/results/{id}?share={share}")).await.status(), 200);
}

#[tokio::test]
async fn a_share_link_does_not_let_its_reader_erase_a_result_that_needs_no_key() {
    let service = Service::start(|_| ()).await;
    let token = service.accept(clip()).await;
    finish(&service, &claim(&service).await).await;
    let made = service.http.post(format!("{}/results/{token}/share", service.base)).send().await.unwrap();
    let link: Value = made.json().await.unwrap();
    let read = service.http.get(link["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(read.status(), 200);
    let result: Value = read.json().await.unwrap();
    assert!(!result.to_string().contains(&token.to_string()), "{result}");
    let id = result["token"].as_str().unwrap();
    let erase = service.http.delete(format!("{}/results/{id}?share={}", service.base, link["share"].as_str().unwrap()));
    refused(erase.send().await.unwrap(), 404, "unknown_token").await;
    assert_eq!(service.get(&format!("/results/{token}")).await.status(), 200);
}
