//! The notice that people get before their faces are analyzed, and the statement that they got it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use visage::config::{MailTransport, Settings};
use visage::store::Scope;

use crate::api::{claim, clip, finish, refused};
use crate::keys::key;
use crate::support::clips::Clips;
use crate::support::service::{Service, video_form};

fn demanding(settings: &mut Settings) {
    settings.notice.required = true;
    settings.notice.operator = "Example Ltd".to_owned();
}

async fn notice(service: &Service, language: &str) -> Value {
    service.get(&format!("/v1/notice?language={language}")).await.json().await.unwrap()
}

fn picture() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.make("frame.png", "-f lavfi -i testsrc=size=32x32 -frames:v 1")).unwrap()
}

/// The calls that take a video or a picture, each as a request without a statement and one with it.
fn calls(service: &Service, key: &str) -> Vec<(&'static str, [RequestBuilder; 2])> {
    let video = clip();
    let post = |path: &str| service.http.post(format!("{}{path}", service.base)).header("x-api-key", key);
    let form = |path: &str| {
        [false, true].map(|given| {
            let form = video_form(video.clone());
            post(path).multipart(if given { form.text("notice", "given") } else { form })
        })
    };
    let member = |path: &str, body: Value| {
        [false, true].map(|given| {
            let mut body = body.clone();
            if given {
                body["notice"] = json!("given");
            }
            post(path).json(&body)
        })
    };
    let content = json!({"content": STANDARD.encode(&video)});
    let frame = || Form::new().part("frame", Part::bytes(picture()));
    vec![
        ("/analyze-video", form("/analyze-video")),
        ("/upload", form("/upload")),
        ("/record_video", form("/record_video")),
        ("/api/facial-analysis", form("/api/facial-analysis")),
        ("/v1/uploads", member("/v1/uploads", json!({"size_bytes": 10}))),
        ("/predict", member("/predict", content.clone())),
        ("/thumbnail", member("/thumbnail", content)),
        (
            "/process-frame",
            ["/process-frame", "/process-frame?notice=given"].map(|path| post(path).body(video.clone())),
        ),
        (
            "/save_frame",
            [post("/save_frame").multipart(frame()), post("/save_frame").multipart(frame().text("notice", "given"))],
        ),
        ("/v1/pictures", member("/v1/pictures", json!({"pictures": [STANDARD.encode(picture())]}))),
        ("/v1/batches", member("/v1/batches", json!({"items": [{"video_url": "https://example.org/clip.mp4"}]}))),
        ("/analyze", member("/analyze", json!({"img": STANDARD.encode(picture())}))),
    ]
}

/// Whether an answer says that the statement is missing.
async fn is_missing(response: Response) -> bool {
    let status = response.status();
    let text = response.text().await.unwrap();
    let is_missing = text.contains("notice=given") || text.contains("\\\"notice\\\": \\\"given\\\"");
    assert!(!is_missing || status == 422, "{status}: {text}");
    is_missing
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_with_a_video_or_picture_is_refused_without_a_required_notice() {
    let service = Service::start(demanding).await;
    let key = key(&service, &[Scope::Analyze]).await;
    let calls = calls(&service, &key);
    let mut tested: Vec<&str> = calls.iter().map(|(path, _)| *path).collect();
    for (path, [without, with]) in calls {
        assert!(is_missing(without.send().await.unwrap()).await, "{path}");
        if path == "/analyze-video" {
            service.is_clean().await;
        }
        assert!(!is_missing(with.send().await.unwrap()).await, "{path}");
    }
    // Starts an upload that was begun with a statement, see below.
    tested.push("/v1/analyses");
    tested.sort_unstable();
    // No call is forgotten: these are all that take a body of their own, besides parts of an upload and calls of
    // operators.
    let document: Value = service.get("/openapi.json").await.json().await.unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let mut taking: Vec<&str> =
        paths.filter(|(_, item)| item["post"]["requestBody"].is_object()).map(|(path, _)| path.as_str()).collect();
    taking.retain(|path| !path.starts_with("/v1/admin/"));
    taking.sort_unstable();
    assert_eq!(taking, tested);
}

#[tokio::test]
async fn a_missing_notice_is_named_and_a_wrong_one_refused() {
    let service = Service::start(demanding).await;
    let body = refused(service.upload(video_form(clip())).await, 422, "notice_missing").await;
    assert!(body["detail"].as_str().unwrap().contains("GET /v1/notice"), "{body}");
    let form = || video_form(clip());
    refused(service.upload(form().text("notice", "yes")).await, 422, "bad_option").await;
    let outdated = form().text("notice", "given").text("notice_version", "0");
    let body = refused(service.upload(outdated).await, 422, "notice_outdated").await;
    assert_eq!(body["version"], notice(&service, "en").await["version"]);
    refused(service.upload(form().text("notice", "")).await, 422, "notice_missing").await;
    service.is_clean().await;
}

#[tokio::test]
async fn the_notice_that_was_shown_stands_with_the_result_and_is_erased_with_it() {
    let service = Service::start(|settings| {
        settings.notice.operator = "Example & Co".to_owned();
        settings.notice.link = "https://example.org/privacy".to_owned();
        settings.report.contact = "Ask Ann".to_owned();
    })
    .await;
    let shown = notice(&service, "de").await;
    assert_eq!((&shown["required"], &shown["operator"]), (&json!(false), &json!("Example & Co")));
    let form = video_form(clip()).text("notice", "given").text("language", "de");
    let form = form.text("notice_version", shown["version"].as_str().unwrap().to_owned());
    let accepted: Value = service.upload(form).await.json().await.unwrap();
    let token = accepted["token"].as_str().unwrap().to_owned();
    finish(&service, &claim(&service).await).await;
    let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let stored = &result["notice"];
    for member in ["version", "language", "text"] {
        assert_eq!(stored["shown"][member], shown[member], "{stored}");
    }
    assert!(stored["given_at"].as_str().unwrap() <= result["created_at"].as_str().unwrap(), "{stored}");
    // The report shows it, and whom to ask.
    let report = service.get(&format!("/results/{token}/report")).await.text().await.unwrap();
    let first = shown["text"].as_str().unwrap().split("\n\n").next().unwrap();
    for text in
        [first, "Example &#38; Co", "https://example.org/privacy", "Ask Ann", shown["version"].as_str().unwrap()]
    {
        assert!(report.contains(text), "{text}: {report}");
    }
    let erased = service.http.delete(format!("{}/results/{token}", service.base)).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    assert!(service.store.job(token.parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_statement_without_a_version_is_recorded_as_the_senders_own() {
    let service = Service::start(demanding).await;
    let token = {
        let form = video_form(clip()).text("notice", "given");
        let accepted: Value = service.upload(form).await.json().await.unwrap();
        accepted["token"].as_str().unwrap().to_owned()
    };
    let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert_eq!(result["notice"]["shown"], Value::Null);
    finish(&service, &claim(&service).await).await;
    let report = service.get(&format!("/results/{token}/report")).await.text().await.unwrap();
    assert!(report.contains("the sender stated that the people in the video had been informed"), "{report}");
    // Without a statement nothing is claimed.
    let silent = Service::start(|_| ()).await;
    let token = silent.accept(clip()).await;
    let result: Value = silent.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert_eq!(result["notice"], Value::Null);
}

#[tokio::test]
async fn a_statement_at_the_beginning_of_an_upload_reaches_its_result() {
    let service = Service::start(demanding).await;
    let video = clip();
    let post = async |path: &str, body: Value| -> Response {
        service.http.post(format!("{}{path}", service.base)).json(&body).send().await.unwrap()
    };
    let version = notice(&service, "fr").await["version"].clone();
    let begin = json!({"size_bytes": video.len(), "notice": "given", "notice_version": version, "language": "fr"});
    let upload: Value = post("/v1/uploads", begin).await.json().await.unwrap();
    let part = upload["parts"][0]["url"].as_str().unwrap();
    assert!(service.http.put(part).body(video).send().await.unwrap().status().is_success());
    let started: Value = post("/v1/analyses", json!({"upload": upload["upload"]})).await.json().await.unwrap();
    let token = started["token"].as_str().unwrap();
    let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert_eq!(result["notice"]["shown"]["version"], version, "{result}");
    assert_eq!(result["notice"]["shown"]["language"], "fr");
}

#[tokio::test]
async fn an_upload_begun_before_notices_were_required_needs_one_to_start() {
    let service = Service::start(demanding).await;
    let begin = json!({"size_bytes": 10, "notice": "given"});
    let request = service.http.post(format!("{}/v1/uploads", service.base)).json(&begin);
    let upload: Value = request.send().await.unwrap().json().await.unwrap();
    let id = upload["upload"].as_str().unwrap().parse().unwrap();
    let begun = service.store.upload(id, "2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap().unwrap();
    service.store.forget_upload(id).await.unwrap();
    let silent = visage::store::PartedUpload { notice: None, ..begun };
    service.store.begin_upload(&silent, "client", "2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    let start = service.http.post(format!("{}/v1/analyses", service.base)).json(&json!({"upload": id}));
    refused(start.send().await.unwrap(), 422, "notice_missing").await;
}

#[tokio::test]
async fn mails_say_whom_to_ask() {
    let service = Service::start(|settings| {
        settings.mail.transport = MailTransport::Outbox;
        settings.notice.operator = "Example Ltd".to_owned();
    })
    .await;
    let mailer =
        visage::report::Mailer::new(&service.settings, visage::report::Reporter::new(&service.settings).unwrap());
    let context = visage::report::Context {
        token: uuid::Uuid::from_u128(7),
        created_at: "2026-11-21T10:45:00Z".parse().unwrap(),
        language: visage::analysis::Language::EN,
        file_name: None,
        result_url: None,
        withdraw_url: None,
        notice: None,
    };
    let message = visage::report::Message::Failure { reason: None, detail: "It could not be read." };
    mailer.unwrap().unwrap().send(context.token, "ann@example.org", message, &context).await.unwrap();
    let file = std::fs::read_dir(&service.settings.mail.outbox).unwrap().next().unwrap().unwrap().path();
    let mail = std::fs::read_to_string(file).unwrap().replace("=\r\n", "").replace("\r\n", " ");
    assert!(mail.contains("you may ask Example Ltd what is stored"), "{mail}");
}
