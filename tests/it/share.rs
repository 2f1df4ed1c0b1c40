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

    /// Makes a link. Returns its parameter.
    pub async fn link(&self) -> String {
        let path = format!("/results/{}/share", self.token);
        let made = self.request(Method::POST, &path).header("x-api-key", &self.key).send().await.unwrap();
        assert_eq!((made.status().as_u16(), &made.headers()["cache-control"]), (201, &"no-store".parse().unwrap()));
        let link: Value = made.json().await.unwrap();
        let share = link["share"].as_str().unwrap();
        assert!(link["url"].as_str().unwrap().ends_with(&format!("/results/{}?share={share}", self.token)), "{link}");
        share.to_owned()
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
    let (share, token) = (shared.link().await, &shared.token);
    for part in ["", "/report", "/timeline", "/events"] {
        refused(shared.ask(Method::GET, &format!("/results/{token}{part}")).await, 401, "key_required").await;
        let read = shared.ask(Method::GET, &format!("/results/{token}{part}?share={share}")).await;
        assert_eq!(read.status(), 200, "{part}");
        assert_eq!(read.headers()["cache-control"], "no-store", "{part}");
        assert_eq!(read.headers()["referrer-policy"], "no-referrer", "{part}");
    }
    // The report leads back to the same link.
    let report = shared.ask(Method::GET, &format!("/results/{token}/report?share={share}")).await.text().await.unwrap();
    assert!(report.contains(&format!("/results/{token}?share={share}")), "{report}");
    // A browser gets the page, which is not cached either.
    let page = shared.request(Method::GET, &format!("/results/{token}?share={share}")).header("accept", "text/html");
    let page = page.send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.headers()["cache-control"].to_str().unwrap()), (200, "no-store"));

    let other = send(&shared.service, &shared.key).await;
    refused(shared.ask(Method::GET, &format!("/results/{other}?share={share}")).await, 403, "bad_share_link").await;
    for (method, path) in [
        (Method::DELETE, format!("/results/{token}")),
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
    let still = shared.ask(Method::GET, &format!("/results/{token}?share={share}")).await;
    assert_eq!(still.status(), 200, "nothing was erased");
}

#[tokio::test]
async fn a_share_link_ends_with_its_time_and_with_its_result() {
    let shared = Shared::start(|_| ()).await;
    let (share, token) = (shared.link().await, &shared.token);
    let links = visage::share::ShareLinks::new(&shared.service.settings, &shared.service.store).await.unwrap();
    let past = SystemClock.now() - Duration::from_secs(1);
    let expired = links.sign(token.parse().unwrap(), past);
    refused(shared.ask(Method::GET, &format!("/results/{token}?share={expired}")).await, 410, "share_link_expired")
        .await;
    // The time cannot be changed, and neither can anything else.
    let (_, signature) = share.split_once('.').unwrap();
    for altered in [format!("99999999999.{signature}"), share[..share.len() - 2].to_owned(), String::new()] {
        let path = format!("/results/{token}?share={altered}");
        refused(shared.ask(Method::GET, &path).await, 403, "bad_share_link").await;
    }
    let erase = shared.request(Method::DELETE, &format!("/results/{token}")).header("x-api-key", &shared.key);
    assert_eq!(erase.send().await.unwrap().status(), 204);
    refused(shared.ask(Method::GET, &format!("/results/{token}?share={share}")).await, 404, "unknown_token").await;
}

#[tokio::test]
async fn a_secret_of_the_settings_signs_the_links() {
    let secret = |text: &str| visage::config::Secret::new(text.repeat(8));
    let one = Shared::start(|settings| settings.share.secret = secret("abcd")).await;
    let share = one.link().await;
    let path = format!("/results/{}?share={share}", one.token);
    assert_eq!(one.ask(Method::GET, &path).await.status(), 200);
    let mut settings = (*one.service.settings).clone();
    settings.share.secret = secret("efgh");
    let links = visage::share::ShareLinks::new(&settings, &one.service.store).await.unwrap();
    let checked = links.check(one.token.parse().unwrap(), &share, SystemClock.now());
    assert_eq!(checked, Err(visage::secret::LinkError::Invalid), "a new secret ends all links");
}
