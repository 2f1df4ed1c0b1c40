//! DeepFace's own REST service, called as its README, its Postman collection and its tests call it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use visage::config::ByteSize;
use visage::store::Scope;

use crate::keys::key;
use crate::sources::allow_outside;
use crate::support::clips::{self, Clips};
use crate::support::service::Service;
use crate::support::web::WebServer;

const LABELS: [&str; 7] = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"];

/// Five people, 1000 x 667 pixels.
fn people() -> Vec<u8> {
    std::fs::read(clips::shared("multi_face.jpg")).unwrap()
}

fn faceless() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.make("frame.png", "-f lavfi -i testsrc=size=160x120 -frames:v 1")).unwrap()
}

fn data(picture: &[u8]) -> String {
    format!("data:image/jpeg;base64,{}", STANDARD.encode(picture))
}

fn post(service: &Service) -> RequestBuilder {
    service.http.post(format!("{}/analyze", service.base))
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Sends a request that must succeed, and returns the results.
async fn results(request: RequestBuilder) -> Vec<Value> {
    let (status, body) = answer(request).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["results"].as_array().unwrap().clone()
}

/// Sends a request that must fail, and checks the shape of the error. Returns its text.
async fn error(request: RequestBuilder, member: &str, code: &str) -> String {
    let (status, body) = answer(request).await;
    assert_eq!((status, body["code"].as_str()), (400, Some(code)), "{body}");
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    let text = body[member].as_str().unwrap().to_owned();
    assert_eq!(text.starts_with("Exception while analyzing: "), member == "error", "{text}");
    text
}

fn check_shape(result: &Value) {
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(result), ["dominant_emotion", "emotion", "face_confidence", "region"], "{result}");
    let emotion = result["emotion"].as_object().unwrap();
    let mut labels: Vec<&str> = emotion.keys().map(String::as_str).collect();
    labels.sort_unstable();
    assert_eq!(labels, LABELS);
    let percent = |label: &str| emotion[label].as_f64().unwrap();
    assert!((LABELS.map(percent).iter().sum::<f64>() - 100.0).abs() < 0.01, "{result}");
    let dominant = result["dominant_emotion"].as_str().unwrap();
    assert!(LABELS.iter().all(|label| percent(label) <= percent(dominant)), "{result}");
    assert!((0.0..=1.0).contains(&result["face_confidence"].as_f64().unwrap()), "{result}");
    assert_eq!(names(&result["region"]), ["h", "left_eye", "right_eye", "w", "x", "y"], "{result}");
    for side in ["x", "y", "w", "h"] {
        assert!(result["region"][side].is_u64(), "{result}");
    }
}

#[tokio::test]
async fn a_picture_in_json_is_answered_in_the_shape_of_deepface() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let img = data(&people());
    let found = results(post(&service).json(&json!({"img": img, "actions": ["emotion"]}))).await;
    assert_eq!(found.len(), 5);
    for result in &found {
        check_shape(result);
        let region = &result["region"];
        let number = |place: &Value| place.as_u64().unwrap();
        assert!(
            number(&region["x"]) + number(&region["w"]) < 1000 && number(&region["y"]) + number(&region["h"]) < 667
        );
        assert!(result["face_confidence"].as_f64() > Some(0.6), "{result}");
        // Left is the person's own, so it is further to the right.
        let [left, right] = [&region["left_eye"], &region["right_eye"]].map(|eye| number(&eye[0]));
        assert!(left > right && right > number(&region["x"]) && left < number(&region["x"]) + number(&region["w"]));
    }
    // As the README does it: JSON with the content type that curl sends by default.
    let body = json!({"img": STANDARD.encode(people()), "actions": "emotion"}).to_string();
    let by_curl = post(&service).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
    assert_eq!(results(by_curl).await, found);
    // All parameters of the documentation.
    let all = json!({
        "img": img, "actions": ["emotion"], "detector_backend": "retinaface", "enforce_detection": true, "align": true,
        "anti_spoofing": false, "silent": true, "expand_percentage": 0, "max_faces": 2,
    });
    assert_eq!(results(post(&service).json(&all)).await, found[..2]);
    // Without actions, the only one that there is.
    assert_eq!(results(post(&service).json(&json!({"img": img}))).await, found);
    service.is_clean().await;
}

#[tokio::test]
async fn a_form_with_a_file_or_base64_is_answered_like_json() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let file = || Form::new().part("img", Part::bytes(people()).file_name("test_image.jpg"));
    let found = results(post(&service).multipart(file().text("actions", r#"["emotion"]"#))).await;
    assert_eq!(found.len(), 5);
    found.iter().for_each(check_shape);
    let all = file().text("actions", "('emotion',)").text("detector_backend", "mtcnn").text("max_faces", "1");
    let all = all.text("align", "true").text("enforce_detection", "true").text("anti_spoofing", "");
    assert_eq!(results(post(&service).multipart(all)).await, found[..1]);
    let text = Form::new().text("img", data(&people())).text("actions", "emotion");
    assert_eq!(results(post(&service).multipart(text)).await, found);
    let slash = service.http.post(format!("{}/analyze/", service.base)).multipart(file());
    assert_eq!(results(slash).await, found);
}

#[tokio::test]
async fn a_picture_without_a_face_is_an_error_unless_detection_is_not_enforced() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let body = |more: Value| {
        let mut body = json!({"img": STANDARD.encode(faceless()), "actions": ["emotion"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let text = error(post(&service).json(&body(json!({}))), "error", "no_face").await;
    assert!(text.contains("Face could not be detected") && text.contains("enforce_detection"), "{text}");
    for more in [json!({"enforce_detection": false}), json!({"detector_backend": "skip"})] {
        let found = results(post(&service).json(&body(more))).await;
        assert_eq!(found.len(), 1);
        check_shape(&found[0]);
        assert_eq!(found[0]["face_confidence"], 0.0);
        let whole = json!({"x": 0, "y": 0, "w": 159, "h": 119, "left_eye": null, "right_eye": null});
        assert_eq!(found[0]["region"], whole);
    }
    let form = || Form::new().part("img", Part::bytes(faceless()).file_name("a.png"));
    let whole = results(post(&service).multipart(form().text("enforce_detection", "False"))).await;
    assert_eq!(whole.len(), 1);
    error(post(&service).multipart(form().text("enforce_detection", "True")), "error", "no_face").await;
    // With a face, nothing changes.
    let people = json!({"img": data(&people()), "enforce_detection": false});
    assert_eq!(results(post(&service).json(&people)).await.len(), 5);
}

#[tokio::test]
async fn a_picture_is_fetched_from_its_address_but_from_no_private_network() {
    let (models, server) = (clips::models(), WebServer::start(people()).await);
    let select = models.select();
    let service = Service::start(|settings| {
        select(settings);
        allow_outside(settings);
        settings.http.idle_timeout_s = 1;
    })
    .await;
    let json = |address: &str| post(&service).json(&json!({"img": address, "actions": ["emotion"]}));
    let picture = server.url("/video.mp4");
    assert_eq!(results(json(&picture)).await.len(), 5);
    assert_eq!(results(json(&server.url(&format!("/redirect?{picture}")))).await.len(), 5);
    assert_eq!(results(post(&service).multipart(Form::new().text("img", picture))).await.len(), 5);
    for (path, code, says) in [
        ("/missing.jpg", "picture_refused", "404"),
        ("/busy.mp4", "picture_refused", "503"),
        ("/silent.mp4", "picture_unreachable", "127.0.0.2"),
        ("/short.mp4", "picture_unreachable", "127.0.0.2"),
        ("/loop", "picture_address_refused", "redirects"),
        ("/page.html", "not_a_picture", "JPEG"),
    ] {
        let text = error(json(&server.url(path)), "error", code).await;
        assert!(text.contains(says), "{path}: {text}");
    }
    let (status, body) = answer(json(&server.url("/huge.mp4"))).await;
    assert_eq!((status, body["code"].as_str()), (413, Some("upload_too_large")), "{body}");

    let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = own.local_addr().unwrap().port();
    let asked = server.requests("/redirect");
    for host in
        ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "127.0.0.3"]
    {
        let address = format!("https://{host}:{port}/a.jpg");
        for address in [address.clone(), server.url(&format!("/redirect?{address}"))] {
            error(json(&address), "error", "picture_address_refused").await;
        }
    }
    assert_eq!(server.requests("/redirect"), asked + 8);
    let reached = tokio::time::timeout(std::time::Duration::from_millis(100), own.accept()).await;
    assert!(reached.is_err(), "the service connected to this machine");

    let off = Service::start(|settings| settings.sources.enabled = false).await;
    let body = json!({"img": "https://example.org/a.jpg"});
    error(off.http.post(format!("{}/analyze", off.base)).json(&body), "error", "picture_urls_off").await;
    let broken = Service::start(|settings| settings.sources.ca_file = "/nowhere".into()).await;
    let (status, body) = answer(broken.http.post(format!("{}/analyze", broken.base)).json(&body)).await;
    assert_eq!((status, body["code"].as_str()), (500, Some("internal")), "{body}");
}

#[tokio::test]
async fn other_actions_addresses_and_bad_pictures_are_refused_by_name() {
    let service = Service::start(|settings| settings.models.folder = "/nowhere".into()).await;
    let img = data(b"\xFF\xD8\xFF");
    let json = |body: Value| post(&service).json(&body);
    let text = error(json(json!({"img": img, "actions": ["age", "gender"]})), "error", "action_not_supported").await;
    assert!(text.contains("age, gender") && text.contains("\"emotion\""), "{text}");
    // The call of the README.
    let by_path = json!({"img": "img2.jpg", "actions": ["age", "gender"]});
    error(json(by_path), "error", "action_not_supported").await;
    let text = error(json(json!({"img": img, "actions": ["emotion", "race"]})), "error", "action_not_supported").await;
    assert!(text.contains("race") && !text.contains("gender"), "{text}");
    error(json(json!({"img": img, "actions": ["mood"]})), "error", "bad_option").await;
    let text = error(json(json!({"img": "http://example.org/img2.jpg"})), "error", "picture_address_refused").await;
    assert!(text.contains("https://"), "{text}");
    let text = error(json(json!({"img": "dataset/img1.jpg", "actions": ["emotion"]})), "error", "not_base64").await;
    assert!(text.contains("path"), "{text}");
    error(json(json!({"img": "file:///etc/passwd"})), "error", "not_base64").await;
    error(json(json!({"img": img, "anti_spoofing": true})), "error", "anti_spoofing_not_supported").await;
    error(json(json!({"img": img, "max_faces": 0})), "error", "bad_option").await;
    let text = error(json(json!({"img": img, "enforce_detection": "flase"})), "error", "bad_option").await;
    assert!(text.contains("enforce_detection"), "{text}");
    error(json(json!({"img": img, "notice": 5})), "error", "bad_body").await;
    for body in [json!({}), json!({"img": ""}), json!({"img": null}), json!({"image": img}), json!({"img": [img]})] {
        let text = error(json(body), "exception", "missing_picture").await;
        assert!(text.contains("'img' not found in request"), "{text}");
    }
    error(post(&service).multipart(Form::new().text("actions", "emotion")), "exception", "missing_picture").await;
    error(post(&service).body("no JSON"), "error", "bad_json").await;
    error(post(&service), "error", "bad_json").await;
    error(json(json!([1])), "error", "bad_body").await;
    // The models are not needed to refuse what is no picture, but to decode one.
    let (status, body) = answer(json(json!({"img": data(&people()), "actions": ["emotion"]}))).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("model_unavailable")), "{body}");
}

#[tokio::test]
async fn unreadable_pictures_are_errors_of_the_request() {
    let models = clips::models();
    let given = models.select();
    let service = Service::start(|settings| {
        given(settings);
        settings.pictures.max_upload = ByteSize(1_000_000);
    })
    .await;
    let json = |bytes: &[u8]| post(&service).json(&json!({"img": data(bytes), "actions": ["emotion"]}));
    error(json(b"Not JPEG data"), "error", "not_a_picture").await;
    error(json(&people()[..500]), "error", "picture_damaged").await;
    let file = Form::new().part("img", Part::bytes(b"Not JPEG data".to_vec()).file_name("invalid.jpg"));
    error(post(&service).multipart(file), "error", "not_a_picture").await;
    let (status, body) = answer(json(&[0; 1_000_000])).await;
    assert_eq!((status, body["code"].as_str()), (413, Some("upload_too_large")), "{body}");
}

#[tokio::test]
async fn a_missing_key_is_refused_in_the_shape_of_deepface() {
    let service = Service::start(|settings| settings.auth.required = true).await;
    let request = || post(&service).json(&json!({"img": data(b"Not JPEG data"), "actions": ["emotion"]}));
    let unauthorized = (401, json!({"message": "Invalid or missing authentication token"}));
    assert_eq!(answer(request()).await, unauthorized);
    assert_eq!(answer(request().bearer_auth("wrong")).await, unauthorized);
    let response = request().send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    let reader = key(&service, &[Scope::Read]).await;
    assert_eq!(answer(request().bearer_auth(reader)).await.0, 403);
    let analyst = key(&service, &[Scope::Analyze]).await;
    let (status, body) = answer(request().bearer_auth(analyst)).await;
    assert!(status != 401 && status != 403, "{status}: {body}");
}
