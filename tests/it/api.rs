//! The HTTP endpoints.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;
use visage::analysis::{
    Analysis, Detail, FailureReason, Findings, METRICS_VERSION, Options, Sampling, Summary, Timeline, VideoFacts,
};
use visage::clock::{Clock, SystemClock};
use visage::config::{ByteSize, MailTransport};
use visage::store::{Claim, ClaimState, JobFailure, JobProgress, JobVideo};

use crate::support::clips::Clips;
use crate::support::service::{Service, video_form};

/// Time limit for any single step of a test.
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(600);

pub fn clip() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

fn now() -> Timestamp {
    SystemClock.now()
}

pub async fn claim(service: &Service) -> Claim {
    service.store.claim("test", now(), LEASE).await.unwrap().expect("a job is queued")
}

pub async fn finish(service: &Service, claim: &Claim) {
    let held = service.store.complete(claim, &findings(), &[], now(), None).await.unwrap();
    assert_eq!(held, ClaimState::Held);
}

fn findings() -> Findings {
    let video = VideoFacts {
        duration_s: 1.0,
        fps: 25.0,
        width: 160,
        height: 120,
        codec: "h264".to_owned(),
        frames_total: 25,
        frames_analyzed: 2,
        has_audio: false,
        start_s: 0.0,
        turned: 0,
        stream_orientation: None,
    };
    let summary = Summary::default();
    let warnings = vec!["No face was found.".to_owned()];
    let analysis = Analysis {
        video,
        summary,
        speech: None,
        faces: vec![],
        models: vec![],
        metrics_version: METRICS_VERSION,
        warnings,
        warning_codes: vec![],
    };
    Findings { analysis, timeline: Timeline::default() }
}

/// Returns the problem details of an answer, and checks their format.
async fn problem(response: Response) -> Value {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let (status, id) = (response.status().as_u16(), response.headers()["x-request-id"].clone());
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"], id.to_str().unwrap());
    for member in ["type", "title", "code", "detail"] {
        assert!(!body[member].as_str().unwrap().is_empty(), "{body}");
    }
    body
}

pub async fn refused(response: Response, status: u16, code: &str) -> Value {
    let given = response.status();
    let body = problem(response).await;
    assert_eq!((given.as_u16(), body["code"].as_str().unwrap()), (status, code), "{body}");
    body
}

#[tokio::test]
async fn a_video_is_accepted_and_its_job_is_queued() {
    let service = Service::start(|_| {}).await;
    let form = Form::new()
        .text("email", "ann@example.org")
        .text("sample_every", "5")
        .part("video", Part::bytes(clip()).file_name("clip.mp4"))
        .text("email", "bob@example.org")
        .text("sampling", "fast")
        .text("max_faces", "3");
    let response = service.upload(form).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let headers = response.headers().clone();
    let body: Value = response.json().await.unwrap();
    let token = body["token"].as_str().unwrap().to_owned();
    assert_eq!(headers[header::LOCATION], format!("/results/{token}"));
    assert_eq!(headers[header::RETRY_AFTER], "2");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(body["links"]["self"], format!("{}/results/{token}", service.base));
    snapshot("accepted", &body);
    let claim = claim(&service).await;
    assert_eq!(claim.token.to_string(), token);
    assert_eq!((claim.options.sample_every, claim.options.max_faces), (5, 3));
    assert_eq!(claim.options.sampling, Sampling::Fast);
    assert_eq!(claim.recipients, ["ann@example.org", "bob@example.org"]);
    assert_eq!(service.stored().len(), 1);
    let JobVideo::Stored(key) = &claim.video else { panic!("{:?}", claim.video) };
    assert!(!key.contains(&token), "the storage key contains the token");
    let stored = std::fs::read(&service.stored()[0]).unwrap();
    assert_eq!(stored, clip(), "the stored bytes are those that were sent");
}

#[tokio::test]
async fn the_name_of_the_file_is_in_state_and_report_unless_it_is_left_out() {
    for kept in [true, false] {
        let service = Service::start(|settings| settings.retention.file_names = kept).await;
        let name = "../my <b>talk.mp4";
        let form = Form::new().part("video", Part::bytes(clip()).file_name(name));
        let answer: Value = service.upload(form).await.json().await.unwrap();
        let token = answer["token"].as_str().unwrap();
        let claim = claim(&service).await;
        finish(&service, &claim).await;
        let get = |path: String| service.http.get(format!("{}{path}", service.base)).send();
        let state: Value = get(format!("/results/{token}")).await.unwrap().json().await.unwrap();
        let report = get(format!("/results/{token}/report")).await.unwrap().text().await.unwrap();
        let wanted = if kept { json!("my <b>talk.mp4") } else { Value::Null };
        assert_eq!(state["file_name"], wanted);
        assert_eq!(report.contains("my &#60;b&#62;talk.mp4"), kept, "{report}");
    }
}

#[tokio::test]
async fn the_settings_are_used_if_no_options_are_given() {
    let service = Service::start(|settings| settings.video.sample_every = 7).await;
    service.accept(clip()).await;
    let claim = claim(&service).await;
    assert_eq!((claim.options.sample_every, claim.options.max_faces), (7, 10));
    assert_eq!(claim.recipients, Vec::<String>::new());
}

#[tokio::test]
async fn options_may_be_form_fields_or_query_parameters() {
    let service = Service::start(|_| {}).await;
    let post = |query: &str, form: Form| {
        service.http.post(format!("{}/analyze-video{query}", service.base)).multipart(form).send()
    };
    let fields = video_form(clip()).text("speech", "off").text("detail", "expressions");
    let in_address =
        post("?detail=expressions&speech=off&sample_every=3", video_form(clip()).text("sample_every", "9"));
    let usual = post("", video_form(clip()).text("gaze", "on").text("detail", ""));
    for response in [post("", fields).await, in_address.await, usual.await] {
        assert_eq!(response.unwrap().status(), StatusCode::ACCEPTED);
    }
    let detail = Some(Detail::Expressions);
    let asked = Options { speech: false, detail, ..Options::new(20, 10) };
    for expected in [asked, Options { sample_every: 9, ..asked }, Options::new(20, 10)] {
        assert_eq!(claim(&service).await.options, expected);
    }
    for (code, query) in [
        ("unknown_parameter", "?sample_evry=3"),
        ("bad_option", "?gaze=perhaps"),
        ("bad_option", "?detail=everything"),
        ("bad_option", "?max_faces=0"),
        ("contradiction", "?gaze=off&detail=expressions"),
    ] {
        refused(post(query, video_form(clip())).await.unwrap(), 422, code).await;
    }
}

#[tokio::test]
async fn an_invalid_form_is_refused_and_the_error_named() {
    let service = Service::start(|_| {}).await;
    let with = |name: &'static str, value: String| video_form(clip()).text(name, value);
    let long = "x".repeat(2049);
    for (status, code, form) in [
        (422, "missing_video", Form::new().text("email", "a@b.c")),
        (422, "empty_video", video_form(vec![])),
        (422, "not_a_video", video_form(b"just some text, long enough to be looked at".repeat(10))),
        (422, "two_videos", video_form(clip()).part("video", Part::bytes(clip()))),
        (422, "unknown_field", with("sample_evry", "5".to_owned())),
        (422, "bad_option", with("sample_every", "0".to_owned())),
        (422, "bad_option", with("sample_every", "often".to_owned())),
        (422, "bad_option", with("sampling", "rough".to_owned())),
        (422, "bad_option", with("max_faces", "-1".to_owned())),
        (422, "bad_option", with("max_faces", "101".to_owned())),
        (422, "bad_email", with("email", "nobody".to_owned())),
        (422, "bad_email", with("email", "a@b.c\r\nBcc: d@e.f".to_owned())),
        (422, "bad_email", with("email", "j\u{fc}rgen@example.org".to_owned())),
        (422, "bad_email", with("email", "\"ann lee\"@example.org".to_owned())),
        (422, "bad_email", with("email", "ann@[127.0.0.1]".to_owned())),
        (422, "bad_email", with("email", "ann@m\u{fc}..de".to_owned())),
        (413, "field_too_large", with("email", long)),
        (422, "not_text", video_form(clip()).part("email", Part::bytes(vec![0xFF, 0xFE]))),
    ] {
        let body = refused(service.upload(form).await, status, code).await;
        if code == "unknown_field" {
            assert_eq!(body["field"], "sample_evry");
        }
    }
    let many = (0..11).fold(video_form(clip()), |form, n| form.text("email", format!("{n}@b.c")));
    refused(service.upload(many).await, 422, "too_many_recipients").await;
    service.is_clean().await;
}

#[tokio::test]
async fn a_body_that_is_not_a_form_is_refused() {
    let service = Service::start(|_| {}).await;
    let url = format!("{}/analyze-video", service.base);
    let post = |content_type: &'static str, body: &'static str| {
        service.http.post(&url).header("content-type", content_type).body(body).send()
    };
    refused(service.http.post(&url).send().await.unwrap(), 415, "not_a_form").await;
    refused(post("application/json", "{}").await.unwrap(), 415, "not_a_form").await;
    refused(post("multipart/form-data", "x").await.unwrap(), 400, "bad_form").await;
    refused(post("multipart/form-data; boundary=a", "").await.unwrap(), 400, "bad_form").await;
    refused(post("multipart/form-data; boundary=a", "--b\r\n\r\nx\r\n--b--").await.unwrap(), 400, "bad_form").await;
}

#[tokio::test]
async fn a_mail_address_is_refused_if_mail_is_off() {
    let service = Service::start(|settings| settings.mail.transport = MailTransport::None).await;
    refused(service.upload(video_form(clip()).text("email", "a@b.c")).await, 422, "mail_off").await;
    service.is_clean().await;
    service.accept(clip()).await;
}

#[tokio::test]
async fn a_video_beyond_the_limits_is_refused_and_deleted() {
    let service = Service::start(|settings| {
        settings.video.max_duration_s = 1;
        settings.video.max_pixels = 160 * 120;
    })
    .await;
    let clips = Clips::new();
    let long = clips.moving("long.mp4", 3.0, "-c:v libx264 -pix_fmt yuv420p");
    let large = clips.make("large.mp4", "-f lavfi -i testsrc=size=320x240:rate=25:duration=0.5 -c:v libx264");
    for (path, code) in [(long, "video_too_long"), (large, "picture_too_large")] {
        let body = refused(service.upload(video_form(std::fs::read(path).unwrap())).await, 422, code).await;
        assert!(body["detail"].as_str().unwrap().contains("limit"), "{body}");
    }
    service.is_clean().await;
}

#[tokio::test]
async fn an_upload_with_a_too_large_content_length_is_refused_before_its_body_is_sent() {
    let service = Service::start(|settings| settings.http.max_upload = ByteSize(1000)).await;
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    let head = "POST /analyze-video HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The server closes the connection without asking for the body.
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"upload_too_large\""), "{answer}");
}

#[tokio::test]
async fn an_upload_that_exceeds_the_limit_is_answered_while_the_client_still_sends() {
    let service = Service::start(|settings| settings.http.max_upload = ByteSize(1 << 20)).await;
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    let head = "POST /analyze-video HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let part = b"--b\r\nContent-Disposition: form-data; name=\"video\"\r\n\r\n\0\0\0\x18ftypisom";
    let mut first = format!("{:x}\r\n", part.len()).into_bytes();
    first.extend(part);
    first.extend(b"\r\n");
    socket.write_all(&first).await.unwrap();
    // Send eight times the limit without reading the answer.
    let chunk = [b"10000\r\n".as_slice(), &[0; 1 << 16], b"\r\n"].concat();
    for _ in 0..128 {
        timeout(PATIENCE, socket.write_all(&chunk)).await.unwrap().expect("the server stopped reading");
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let got = timeout(PATIENCE, socket.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..got]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    service.is_clean().await;
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let service = Service::start(|_| {}).await;
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    let video = clip();
    let before = b"--b\r\nContent-Disposition: form-data; name=\"video\"; filename=\"a\"\r\n\r\n";
    let body = [before.as_slice(), &video, b"\r\n--b--\r\n"].concat();
    let head = format!(
        "POST /analyze-video HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut go = [0; 25];
    timeout(PATIENCE, socket.read_exact(&mut go)).await.unwrap().unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&body).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

/// Begins an upload and stops after the first bytes of the video.
async fn hang(service: &Service) -> TcpStream {
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    let text = "POST /analyze-video HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"video\"\r\n\r\n";
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.write_all(&clip()[..2000]).await.unwrap();
    for _ in 0..500 {
        if service.stored().len() == 1 {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upload did not begin");
}

#[tokio::test]
async fn one_upload_too_many_gets_429_with_retry_after() {
    let service = Service::start(|settings| settings.http.max_concurrent_uploads = 1).await;
    let hanging = hang(&service).await;
    let response = service.upload(video_form(clip())).await;
    let wait_s: u64 = response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait_s), "{wait_s}");
    refused(response, 429, "too_many_uploads").await;
    drop(hanging);
    service.is_clean().await;
    service.accept(clip()).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_a_running_upload() {
    let service = Service::start(|_| {}).await;
    let video = clip();
    let (send, mut body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(futures_util::stream::poll_fn(move |cx| body.poll_recv(cx)));
    let form = Form::new().part("video", Part::stream(body));
    let (http, url) = (service.http.clone(), format!("{}/analyze-video", service.base));
    let answer = tokio::spawn(async move { http.post(url).multipart(form).send().await });
    send.send(Ok(video[..1000].to_vec())).await.unwrap();
    while service.stored().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    service.stop.cancel();
    send.send(Ok(video[1000..].to_vec())).await.unwrap();
    drop(send);
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    timeout(PATIENCE, service.ended()).await.unwrap();
}

#[tokio::test]
async fn a_result_is_queued_then_running_then_done() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let path = format!("/results/{token}");
    let response = service.get(&path).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let body: Value = response.json().await.unwrap();
    snapshot("result_queued", &body);

    let claim = claim(&service).await;
    let progress = JobProgress { frames_done: 5, frames_total: 20 };
    service.store.heartbeat(&claim, progress, now(), LEASE).await.unwrap();
    let body: Value = service.get(&path).await.json().await.unwrap();
    assert_eq!(body["status"], "running");
    assert_eq!(body["progress"]["fraction"], 0.25);
    assert_eq!(body["progress"]["stage"], "analyzing");
    assert_eq!(body["attempts"], 1);

    finish(&service, &claim).await;
    let response = service.get(&path).await;
    assert!(!response.headers().contains_key(header::RETRY_AFTER));
    let body: Value = response.json().await.unwrap();
    snapshot("result_done", &body);
    let analysis: Analysis = serde_json::from_value(body["analysis"].clone()).unwrap();
    assert_eq!(analysis, findings().analysis);
}

/// Compares a result with a snapshot, without the members that differ from run to run.
fn snapshot(name: &str, body: &Value) {
    let times = ["created_at", "started_at", "finished_at", "expires_at"];
    let mut settings = insta::Settings::clone_current();
    for member in times {
        settings.add_dynamic_redaction(&format!(".{member}"), time);
    }
    settings.add_redaction(".token", "[token]");
    for link in ["self", "report", "timeline", "events"] {
        settings.add_redaction(&format!(".links.{link}"), "[url]");
    }
    settings.bind(|| insta::assert_json_snapshot!(name, body));
}

/// Replaces an RFC 3339 time by a placeholder, after checking its format.
fn time(value: insta::internals::Content, _path: insta::internals::ContentPath<'_>) -> insta::internals::Content {
    match value.as_str().map(str::parse::<Timestamp>) {
        Some(Ok(_)) => "[time]".into(),
        Some(Err(error)) => error.to_string().into(),
        None => value,
    }
}

#[tokio::test]
async fn a_failed_analysis_has_the_status_failed_and_an_error() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let claim = claim(&service).await;
    let failure = JobFailure {
        code: "not_a_video".to_owned(),
        detail: "The video cannot be read.".to_owned(),
        reason: Some(FailureReason::NotAVideo),
    };
    service.store.give_up(&claim, &failure, &[], now(), None).await.unwrap();
    let response = service.get(&format!("/results/{token}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], "failed");
    assert_eq!(body["analysis"], Value::Null);
    insta::assert_json_snapshot!(body["error"], @r#"
    {
      "code": "not_a_video",
      "detail": "The video cannot be read.",
      "status": 422,
      "title": "The video could not be analyzed",
      "type": "urn:visage:problem:not_a_video"
    }
    "#);
    let german: Value = service.get(&format!("/results/{token}?language=de")).await.json().await.unwrap();
    let detail = german["error"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("Die Datei ist kein Video"), "{detail}");
    refused(service.get(&format!("/results/{token}/report")).await, 422, "not_a_video").await;
}

#[tokio::test]
async fn an_unchanged_result_is_not_sent_again() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let url = format!("{}/results/{token}", service.base);
    let etag = service.http.get(&url).send().await.unwrap().headers()[header::ETAG].clone();
    let ask = || service.http.get(&url).header(header::IF_NONE_MATCH, etag.clone()).send();
    let same = ask().await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(same.headers()[header::ETAG], etag);
    assert_eq!(same.bytes().await.unwrap().len(), 0);
    finish(&service, &claim(&service).await).await;
    let changed = ask().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_ne!(changed.headers()[header::ETAG], etag);
}

/// Starts a long poll and returns when the service waits for its job.
async fn long_poll(service: &Service, path: &str, etag: Option<&str>) -> tokio::task::JoinHandle<Response> {
    let mut request = service.http.get(format!("{}{path}", service.base));
    if let Some(etag) = etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let poll = tokio::spawn(async move { request.send().await.unwrap() });
    let waits = async {
        while service.store.waiters() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waits).await.expect("the poll does not wait");
    poll
}

#[tokio::test]
async fn a_long_poll_returns_when_the_analysis_ends() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let poll = long_poll(&service, &format!("/results/{token}?wait=60"), None).await;
    let claim = claim(&service).await;
    // Gives a poll that returns too early the time to do so.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!poll.is_finished(), "the poll must wait for the end, not for the start of the run");
    finish(&service, &claim).await;
    let body: Value = timeout(PATIENCE, poll).await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(body["status"], "done");
}

#[tokio::test]
async fn a_long_poll_with_an_etag_returns_at_any_change() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let etag = service.get(&format!("/results/{token}")).await.headers()[header::ETAG].to_str().unwrap().to_owned();
    let poll = long_poll(&service, &format!("/results/{token}?wait=60"), Some(&etag)).await;
    claim(&service).await;
    let body: Value = timeout(PATIENCE, poll).await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(body["status"], "running");
}

#[tokio::test]
async fn a_long_poll_ends_at_its_timeout_and_at_shutdown() {
    let service = Service::start(|settings| settings.http.max_wait_s = 1).await;
    let token = service.accept(clip()).await;
    let response = timeout(PATIENCE, service.get(&format!("/results/{token}?wait=3600"))).await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["status"], "queued");

    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let poll = long_poll(&service, &format!("/results/{token}?wait=60"), None).await;
    service.stop.cancel();
    let response = timeout(Duration::from_secs(30), poll).await.unwrap().unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["status"], "queued");
}

#[tokio::test]
async fn an_invalid_wait_is_refused() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    for wait in ["soon", "-1", "1.5", ""] {
        refused(service.get(&format!("/results/{token}?wait={wait}")).await, 422, "bad_wait").await;
    }
}

#[tokio::test]
async fn unknown_tokens_get_404() {
    let service = Service::start(|_| {}).await;
    for token in ["0188a5f0-0000-4000-8000-000000000000", "nonsense", "..%2F..%2Fetc%2Fpasswd", "%00"] {
        for path in ["", "/report", "/timeline", "/events"] {
            refused(service.get(&format!("/results/{token}{path}")).await, 404, "unknown_token").await;
        }
        let delete = service.http.delete(format!("{}/results/{token}", service.base)).send().await.unwrap();
        refused(delete, 404, "unknown_token").await;
    }
}

#[tokio::test]
async fn an_expired_result_gets_410() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let claim = claim(&service).await;
    let over = now() + SignedDuration::from_secs(60);
    service.store.complete(&claim, &findings(), &[], now(), Some(over)).await.unwrap();
    let body: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert!(body["expires_at"].is_string());
    assert_eq!(service.store.expire(over, 10).await.unwrap(), 1);
    for path in ["", "/report", "/timeline"] {
        refused(service.get(&format!("/results/{token}{path}")).await, 410, "expired").await;
    }
}

#[tokio::test]
async fn a_report_has_no_scripts_and_a_strict_content_security_policy() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let path = format!("/results/{token}/report");
    let early = service.get(&path).await;
    assert_eq!(early.headers()[header::RETRY_AFTER], "2");
    refused(early, 409, "not_finished").await;
    finish(&service, &claim(&service).await).await;
    let page = service.get(&path).await;
    assert_eq!(page.status(), StatusCode::OK);
    let headers = page.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") || html.starts_with("<!doctype html>"), "{}", &html[..100]);
    assert!(!html.contains("<script"), "the page must not have scripts");
}

/// Reads a stream of events until an event with this text has arrived completely.
async fn read_until(stream: &mut Response, text: &str) -> String {
    let mut read = String::new();
    while !(read.contains(text) && read.ends_with("\n\n")) {
        let chunk = timeout(PATIENCE, stream.chunk()).await.unwrap().unwrap().expect("the stream goes on");
        read += std::str::from_utf8(&chunk).unwrap();
    }
    read
}

#[tokio::test]
async fn events_report_the_progress_and_end_with_the_analysis() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let mut response = service.get(&format!("/results/{token}/events")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut text = read_until(&mut response, "queued").await;
    let claim = claim(&service).await;
    text += &read_until(&mut response, "running").await;
    finish(&service, &claim).await;
    text += &timeout(PATIENCE, response.text()).await.unwrap().unwrap();
    let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    names.dedup();
    assert_eq!(names, ["progress", "done"]);
    let data: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(
        data.iter().map(|data| data["status"].as_str().unwrap()).collect::<Vec<_>>(),
        ["queued", "running", "done"]
    );
    assert_eq!(data[2]["progress"]["fraction"], 1.0);
}

#[tokio::test]
async fn erasing_deletes_everything() {
    let service = Service::start(|_| {}).await;
    let token = service.accept(clip()).await;
    let held = claim(&service).await;
    let url = format!("{}/results/{token}", service.base);
    assert_eq!(service.http.delete(&url).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    service.is_clean().await;
    assert!(service.store.job(token).await.unwrap().is_none());
    assert_eq!(service.store.complete(&held, &findings(), &[], now(), None).await.unwrap(), ClaimState::Lost);
    refused(service.http.delete(&url).send().await.unwrap(), 404, "unknown_token").await;
    refused(service.http.get(&url).send().await.unwrap(), 404, "unknown_token").await;
}

#[tokio::test]
async fn the_service_reports_its_health_and_readiness() {
    let service = Service::start(|_| {}).await;
    let body: Value = service.get("/").await.json().await.unwrap();
    assert_eq!((body["service"].as_str(), body["status"].as_str()), (Some("visage"), Some("ok")));
    assert_eq!(service.get("/healthz").await.json::<Value>().await.unwrap()["status"], "ok");
    let ready = service.get("/readyz").await;
    assert_eq!(ready.status(), StatusCode::OK);
    assert_eq!(ready.json::<Value>().await.unwrap()["status"], "ready");
    assert_eq!(service.stored().len(), 0);
}

#[tokio::test]
async fn a_service_without_its_storage_is_healthy_but_not_ready() {
    let service = Service::start(|_| {}).await;
    std::fs::remove_dir_all(&service.settings.storage.folder).unwrap();
    std::fs::write(&service.settings.storage.folder, b"in the way").unwrap();
    let body = refused(service.get("/readyz").await, 503, "not_ready").await;
    assert_eq!(body["down"], serde_json::json!(["storage"]));
    assert!(!body.to_string().contains(service.folder.path().to_str().unwrap()), "{body}");
    assert_eq!(service.get("/healthz").await.status(), StatusCode::OK);
    let body = refused(service.upload(video_form(clip())).await, 503, "storage_unavailable").await;
    assert!(!body.to_string().contains(service.folder.path().to_str().unwrap()), "{body}");
    assert_eq!(service.store.video_count().await.unwrap(), 0);
}

#[tokio::test]
async fn every_path_also_works_with_a_slash_at_its_end() {
    let service = Service::start(|_| {}).await;
    let url = format!("{}/analyze-video/", service.base);
    let response = service.http.post(url).multipart(video_form(clip())).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let token = response.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
    assert_eq!(service.get(&format!("/results/{token}/")).await.status(), StatusCode::OK);
    assert_eq!(service.get(&format!("/results/{token}/?wait=0")).await.status(), StatusCode::OK);
    refused(service.get(&format!("/results/{token}/report/")).await, 409, "not_finished").await;
    assert_eq!(service.get("/healthz/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn unknown_paths_and_methods_get_problem_details() {
    let service = Service::start(|_| {}).await;
    refused(service.get("/nowhere").await, 404, "not_found").await;
    let url = format!("{}/analyze-video", service.base);
    let response = service.http.request(Method::GET, &url).send().await.unwrap();
    assert_eq!(response.headers()[header::ALLOW], "POST");
    refused(response, 405, "method_not_allowed").await;
}

#[tokio::test]
async fn errors_are_in_the_language_of_the_request() {
    let service = Service::start(|settings| settings.http.max_upload = ByteSize(500_000)).await;
    let post =
        |query: &str, form: Form| service.http.post(format!("{}/analyze-video{query}", service.base)).multipart(form);
    let without = || Form::new().text("sample_every", "5");
    let large = || video_form(vec![0; 600_000]);
    let german = post("", large()).header(header::ACCEPT_LANGUAGE, "de-AT, en;q=0.5").send().await.unwrap();
    assert_eq!(german.headers()[header::CONTENT_LANGUAGE], "de");
    let body = refused(german, 413, "upload_too_large").await;
    assert_eq!(body["title"], "Der Upload ist zu groß");
    let limit = "Eine Anfrage darf höchstens 500 kB haben. Senden Sie ein kürzeres oder kleineres Video.";
    assert_eq!(body["detail"], limit);
    let key = service.get("/v1/analyses?language=de").await;
    let body = refused(key, 401, "key_required").await;
    assert!(body["detail"].as_str().unwrap().starts_with("Senden Sie einen Schlüssel als"), "{body}");
    // The query precedes the header, and English is the default.
    let french = post("?language=fr", without()).header(header::ACCEPT_LANGUAGE, "de").send().await.unwrap();
    let body = refused(french, 422, "missing_video").await;
    assert_eq!(body["detail"], "Envoyez le fichier dans le champ video.");
    let english = post("", without()).send().await.unwrap();
    assert_eq!(english.headers()[header::CONTENT_LANGUAGE], "en");
    assert_eq!(refused(english, 422, "missing_video").await["detail"], "Send the file in the field video.");
    // The calls of other services keep their shape.
    let url = format!("{}/process-frame?sample_every=0", service.base);
    let answer = service.http.post(url).header(header::ACCEPT_LANGUAGE, "de").send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let sentence = "Setzen Sie sample_every auf eine ganze Zahl von 1 bis 10000, oder lassen Sie es weg.";
    assert_eq!(body, json!({"error": sentence, "code": "bad_option"}));
}

#[tokio::test]
async fn a_harmless_request_id_is_returned_and_any_other_replaced() {
    let service = Service::start(|_| {}).await;
    let ask = |id: &str| service.http.get(format!("{}/healthz", service.base)).header("x-request-id", id).send();
    assert_eq!(ask("abc-1.2_3").await.unwrap().headers()["x-request-id"], "abc-1.2_3");
    for id in ["a b", &"x".repeat(65), "\"status\":500"] {
        let given = ask(id).await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(given.parse::<Uuid>().is_ok(), "{given}");
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_an_idle_one_is_closed() {
    let service = Service::start(|settings| settings.http.idle_timeout_s = 1).await;
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    for _ in 0..3 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let got = socket.read(&mut answer).await.unwrap();
        assert!(answer[..got].starts_with(b"HTTP/1.1 200 OK"));
    }
    // Send only half of a request head.
    socket.write_all(b"GET /healthz HT").await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection stays open");
}
