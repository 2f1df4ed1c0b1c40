//! Webhooks are signed, repeated until they are accepted, and never sent into the operator's own network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use visage::clock::{RandomTokens, SystemClock};
use visage::config::{Secret, Settings};
use visage::worker::Worker;

use crate::keys::clip;
use crate::support::service::{RefusingAnalyzer, Service, video_form};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G";

/// A receiver that answers with given statuses and records the requests.
#[derive(Clone, Default)]
pub struct Receiver {
    answers: Arc<Mutex<Vec<u16>>>,
    pub came: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    receiver.came.lock().unwrap().push((headers, body));
    let mut answers = receiver.answers.lock().unwrap();
    match if answers.is_empty() { 204 } else { answers.remove(0) } {
        302 => Redirect::to("/elsewhere").into_response(),
        status => StatusCode::from_u16(status).unwrap().into_response(),
    }
}

impl Receiver {
    /// Starts the receiver and returns its address.
    pub async fn start(&self, answers: &[u16]) -> String {
        *self.answers.lock().unwrap() = answers.to_vec();
        let router =
            Router::new().route("/hook", post(receive)).route("/elsewhere", post(receive)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    pub async fn got(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        let waiting = async {
            while self.came.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("no webhook arrived");
        self.came.lock().unwrap().clone()
    }
}

pub fn work(service: &Service) {
    let worker = Worker {
        name: "test".to_owned(),
        settings: service.settings.clone(),
        store: service.store.clone(),
        blobs: service.blobs.clone(),
        identity: service.identity,
        job_process: None,
        analyzer: Arc::new(RefusingAnalyzer),
        mail_sender: None,
        clock: Arc::new(SystemClock),
        tokens: Arc::new(RandomTokens),
    };
    tokio::spawn(worker.run(service.stop.clone()));
}

pub fn open(settings: &mut Settings) {
    settings.webhooks.secret.set(Secret::new(SECRET));
    settings.webhooks.allow_private = true;
    settings.webhooks.backoff_base_s = 0;
    settings.queue.poll_s = 1;
}

#[tokio::test]
async fn a_webhook_is_signed_and_repeated_until_it_is_accepted() {
    let (service, receiver) = (Service::start(open).await, Receiver::default());
    // Errors and redirects are not success, and redirects are not followed.
    let address = receiver.start(&[500, 302, 204]).await;
    let accepted = service.upload(video_form(clip()).text("webhook_url", address)).await;
    assert_eq!(accepted.status(), 202);
    let accepted: Value = accepted.json().await.unwrap();
    work(&service);
    let came = receiver.got(3).await;
    let hook = Webhook::new(SECRET).unwrap();
    for (headers, body) in &came {
        hook.verify(body, headers).unwrap();
        assert_eq!(headers["webhook-id"], came[0].0["webhook-id"], "the id must be the same in every attempt");
        let told: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(told["type"], "analysis.failed");
        let (data, token) = (&told["data"], &accepted["token"]);
        assert_eq!((&data["token"], &data["status"], &data["summary"]), (token, &json!("failed"), &Value::Null));
        assert_eq!(data["error"]["code"], "not_a_video");
        let detail = data["error"]["detail"].as_str().unwrap();
        assert!(detail.starts_with("The file is not a video"), "{detail}");
        assert_eq!(data["result"], format!("{}/results/{}", service.base, token.as_str().unwrap()));
    }
    assert!(Webhook::new(SECRET).unwrap().verify(b"{}", &came[0].0).is_err());
    let id = came[0].0["webhook-id"].to_str().unwrap().replace("msg_", "");
    assert_ne!(accepted["token"].as_str().unwrap().replace('-', ""), id, "the id is logged and must not be the token");
    // After success nothing is sent, even if the outbox is checked again.
    let lease = Duration::from_secs(1);
    let later = "2999-01-01T00:00:00Z".parse().unwrap();
    let waiting = async {
        while service.store.claim_webhook(later, lease).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the webhook is still in the outbox");
    assert_eq!(receiver.came.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn during_a_change_of_secret_both_the_old_and_the_new_secret_verify_a_webhook() {
    let new = "whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE=";
    let receiver = Receiver::default();
    let service = Service::start(|settings| {
        open(settings);
        settings.webhooks.secret.set(Secret::new(format!("{new} {SECRET}")));
    })
    .await;
    let address = receiver.start(&[204]).await;
    assert_eq!(service.upload(video_form(clip()).text("webhook_url", address)).await.status(), 202);
    work(&service);
    let came = receiver.got(1).await;
    let (headers, body) = &came[0];
    let signatures = headers["webhook-signature"].to_str().unwrap();
    assert_eq!(signatures.split(' ').filter(|signature| signature.starts_with("v1,")).count(), 2, "{signatures}");
    for secret in [new, SECRET] {
        Webhook::new(secret).unwrap().verify(body, headers).unwrap();
    }
    let other = "whsec_b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3Q=";
    assert!(Webhook::new(other).unwrap().verify(body, headers).is_err());
}

#[tokio::test]
async fn private_addresses_are_refused_and_not_called() {
    let service = Service::start(|settings| settings.webhooks.secret.set(Secret::new(SECRET))).await;
    for url in
        ["https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "http://example.org/", "example.org"]
    {
        let refused = service.upload(video_form(clip()).text("webhook_url", url)).await;
        let (status, refused): (_, Value) = (refused.status(), refused.json().await.unwrap());
        assert_eq!(
            (status.as_u16(), &refused["code"], &refused["field"]),
            (422, &json!("bad_webhook_url"), &json!("webhook_url")),
            "{url}"
        );
    }
    let body = json!({"upload": "00000000-0000-4000-8000-000000000000", "webhook_url": "https://localhost/hook"});
    let refused = service.http.post(format!("{}/v1/analyses", service.base)).json(&body).send().await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "bad_webhook_url", "a name of this machine");
    let refused = service.upload(video_form(clip()).text("webhook_url", "https://localhost/hook")).await;
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "bad_webhook_url", "a name of this machine");
    service.is_clean().await;
    // The name may resolve to another address later, so it is checked again when the webhook is sent.
    let address = format!(
        "https://localhost:{}/hook",
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    );
    let hooks = visage::report::webhook::Webhooks::new(&service.settings.webhooks).unwrap().unwrap();
    let data = visage::report::webhook::EventData {
        token: uuid::Uuid::nil(),
        status: visage::report::webhook::EventStatus::Done,
        result: String::new(),
        summary: None,
        error: None,
    };
    let event = visage::report::webhook::Event {
        r#type: visage::report::webhook::EventType::Done,
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        data,
    };
    let refused = hooks.send(uuid::Uuid::nil(), &address, &event, jiff::Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(refused.reason.contains("no public address") && !refused.reason.contains("localhost"), "{refused}");
}

#[tokio::test]
async fn webhooks_are_refused_if_no_secret_is_set() {
    let service = Service::start(|_| {}).await;
    let refused = service.upload(video_form(clip()).text("webhook_url", "https://example.org/")).await;
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "webhooks_off");
    let body = json!({"upload": "00000000-0000-4000-8000-000000000000", "webhook_url": "https://example.org/"});
    let refused = service.http.post(format!("{}/v1/analyses", service.base)).json(&body).send().await.unwrap();
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "webhooks_off");
}
