//! Which addresses a request may have, and what a refusal tells.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use visage::clock::{Clock, SystemClock};
use visage::store::JobVideo;

use super::{allow_outside, send};
use crate::keys::clip;
use crate::support::service::{Service, video_form};

async fn is_refused(answer: reqwest::Response, code: &str, field: &str) -> Value {
    let (status, body): (_, Value) = (answer.status(), answer.json().await.unwrap());
    assert_eq!((status.as_u16(), &body["code"], &body["field"]), (422, &json!(code), &json!(field)), "{body}");
    body
}

async fn start(service: &Service, body: &Value) -> reqwest::Response {
    service.http.post(format!("{}/v1/analyses", service.base)).json(body).send().await.unwrap()
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused_at_once_in_form_and_json() {
    let service = Service::start(|settings| {
        settings.sources.hosts = vec!["media.example".to_owned()];
        settings.sources.s3_buckets = vec!["films".to_owned()];
    })
    .await;
    for (address, told) in [
        ("https://10.0.0.1/talk.mp4", "no videos from private networks"),
        ("https://localhost/talk.mp4", "no videos from private networks"),
        ("http://media.example/talk.mp4", "over TLS only"),
        ("https://ann:secret@media.example/talk.mp4", "no user"),
        ("talk.mp4", "begins with https://"),
        ("https://other.example/talk.mp4", "no videos from other.example"),
        ("s3://private/talk.mp4", "the bucket private"),
        ("s3://films", "s3://BUCKET/KEY"),
        ("javascript:alert(1)", "begins with https://"),
    ] {
        for answer in [send(&service, address).await, start(&service, &json!({"video_url": address})).await] {
            let body = is_refused(answer, "bad_video_url", "video_url").await;
            let detail = body["detail"].as_str().unwrap();
            assert!(detail.contains(told) && !detail.contains("secret"), "{address}: {detail}");
        }
    }
    let long = format!("https://media.example/{}", "a".repeat(1990));
    is_refused(send(&service, &long).await, "bad_video_url", "video_url").await;
    service.is_clean().await;
}

#[tokio::test]
async fn a_request_has_either_a_file_or_one_address() {
    let service = Service::start(|_| {}).await;
    let address = "https://media.example/talk.mp4";
    let both = video_form(clip()).text("video_url", address);
    is_refused(service.upload(both).await, "two_videos", "video_url").await;
    let both = Form::new().text("video_url", address).part("video", Part::bytes(clip()));
    is_refused(service.upload(both).await, "two_videos", "video_url").await;
    let two = Form::new().text("video_url", address).text("video_url", address);
    is_refused(service.upload(two).await, "two_videos", "video").await;
    is_refused(service.upload(Form::new().text("video_url", "")).await, "missing_video", "video").await;
    is_refused(service.upload(video_form(vec![]).text("video_url", "")).await, "empty_video", "video").await;
    let upload = "00000000-0000-4000-8000-000000000000";
    let both = json!({"upload": upload, "video_url": address});
    is_refused(start(&service, &both).await, "two_videos", "video_url").await;
    let body = is_refused(start(&service, &json!({"max_faces": 3})).await, "missing_video", "upload").await;
    assert!(body["detail"].as_str().unwrap().contains("video_url"), "{body}");
    let wrong = start(&service, &json!({"video_url": [address]})).await;
    assert_eq!(wrong.status(), 422);
    service.is_clean().await;
    // What a web form sends in which no file was chosen, or no address typed.
    let empty_file = Form::new().part("video", Part::bytes(Vec::new()).file_name("")).text("video_url", address);
    assert_eq!(service.upload(empty_file).await.status(), 202);
    assert_eq!(service.upload(video_form(clip()).text("video_url", "")).await.status(), 202);
}

#[tokio::test]
async fn videos_by_address_can_be_switched_off() {
    let service = Service::start(|settings| {
        settings.sources.enabled = false;
        settings.sources.s3_buckets = vec!["films".to_owned()];
    })
    .await;
    is_refused(send(&service, "https://media.example/talk.mp4").await, "video_urls_off", "video_url").await;
    assert_eq!(send(&service, "s3://films/talk.mp4").await.status(), 202, "buckets have a list of their own");
}

#[tokio::test]
async fn calls_of_other_services_take_no_address() {
    let service = Service::start(|settings| {
        allow_outside(settings);
        settings.sources.s3_buckets = vec!["films".to_owned()];
    })
    .await;
    for path in ["/upload", "/record_video", "/api/facial-analysis/"] {
        let form = Form::new().text("video_url", "s3://films/talk.mp4");
        let answer = service.http.post(format!("{}{path}", service.base)).multipart(form).send().await.unwrap();
        let (status, body): (_, Value) = (answer.status(), answer.json().await.unwrap());
        assert_eq!((status.as_u16(), &body["code"]), (400, &json!("missing_video")), "{path}: {body}");
    }
    service.is_clean().await;
}

#[tokio::test]
async fn a_repeated_request_with_an_idempotency_key_gets_the_same_token() {
    let service = Service::start(|_| {}).await;
    let call = async |address: &str, key: &str| {
        let body = json!({"video_url": address, "file_name": "talk.mp4"});
        let call = service.http.post(format!("{}/v1/analyses", service.base)).header("idempotency-key", key);
        let answer = call.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (first, again) = (call("https://a.example/1", "x").await, call("https://a.example/1", "x").await);
    assert_eq!((first.0, &first.1["token"]), (202, &again.1["token"]));
    let reused = call("https://a.example/2", "x").await;
    assert_eq!((reused.0, &reused.1["code"]), (422, &json!("idempotency_key_reused")));
    let other = call("https://a.example/1", "y").await;
    assert_ne!(other.1["token"], first.1["token"]);
    // Options, name and address are those of the request. The fragment of an address is not sent to servers.
    let form = Form::new().text("video_url", "HTTPS://A.example/2?x=1#t=5").text("sample_every", "7");
    let sent: Value = service.upload(form).await.json().await.unwrap();
    let now = SystemClock.now();
    let mut claims = Vec::new();
    while let Some(claim) =
        service.store.claim_unfetched("w", 0, now, std::time::Duration::from_secs(60)).await.unwrap()
    {
        claims.push(claim);
    }
    assert_eq!(claims.len(), 3);
    let claim = claims.iter().find(|claim| sent["token"] == claim.token.to_string()).unwrap();
    let JobVideo::Remote(address) = &claim.video else { panic!("{:?}", claim.video) };
    assert_eq!((address.expose(), claim.options.sample_every), ("https://a.example/2?x=1", 7));
    assert!(!format!("{claim:?}").contains("a.example"), "{claim:?}");
    let job = service.store.job(claims[0].token).await.unwrap().unwrap();
    assert_eq!(job.file_name.as_deref(), Some("talk.mp4"));
}
