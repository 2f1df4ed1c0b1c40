//! `POST /v1/pictures`, with the real models and real pictures.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::multipart::{Form, Part};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use visage::config::ByteSize;
use visage::store::Scope;

use crate::api::refused;
use crate::keys::key;
use crate::support::clips::{self, Clips};
use crate::support::service::Service;

const LABELS: [&str; 7] = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"];

/// A group of five people, 1000 x 667 pixels.
fn group() -> Vec<u8> {
    std::fs::read(clips::shared("multi_face.jpg")).unwrap()
}

/// A frame of the clip with one man, in the format of this name, changed by this filter of FFmpeg.
fn man(name: &str, filter: &str) -> Vec<u8> {
    frame("single_face.mp4", name, 1.5, filter)
}

fn frame(clip: &str, name: &str, at_s: f64, filter: &str) -> Vec<u8> {
    let clips = Clips::new();
    std::fs::copy(clips::shared(clip), clips.path("clip")).unwrap();
    let made = clips.make(name, &format!("-ss {at_s} -i $clip -frames:v 1 -vf {filter} -update 1"));
    std::fs::read(made).unwrap()
}

/// A JPEG file with an orientation in its EXIF data.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif =
        [&b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation, 0, 0, 0, 0, 0, 0]].concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

fn form(pictures: &[(&str, &[u8])]) -> Form {
    pictures.iter().fold(Form::new(), |form, (name, bytes)| {
        form.part("picture", Part::bytes(bytes.to_vec()).file_name((*name).to_owned()))
    })
}

async fn send(service: &Service, form: Form) -> Response {
    service.http.post(format!("{}/v1/pictures", service.base)).multipart(form).send().await.unwrap()
}

async fn send_json(service: &Service, body: &Value) -> Response {
    service.http.post(format!("{}/v1/pictures", service.base)).json(body).send().await.unwrap()
}

async fn ok(response: Response) -> Value {
    let (status, store) = (response.status(), response.headers().get(header::CACHE_CONTROL).cloned());
    let body: Value = response.json().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(store.unwrap(), "no-store");
    body
}

fn ids(picture: &Value) -> Vec<u64> {
    picture["faces"].as_array().unwrap().iter().map(|face| face["id"].as_u64().unwrap()).collect()
}

/// Checks that a picture was not read, and that its place says why.
fn failed(picture: &Value, code: &str) {
    let problem = &picture["problem"];
    assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(422)), "{picture}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.ends_with('.') && detail.contains(' '), "{detail}");
    assert_eq!((&picture["width"], &picture["height"], &picture["faces"]), (&Value::Null, &Value::Null, &json!([])));
}

#[tokio::test]
async fn each_picture_is_answered_with_its_faces_and_a_bad_one_fails_only_itself() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let (group, man) = (group(), man("man.png", "null"));
    let bmp = self::man("man.bmp", "null");
    let pictures: [(&str, &[u8]); 8] = [
        ("../group.jpg", &group),
        ("text.jpg", b"no picture at all"),
        ("man.png", &man),
        ("cut.png", &man[..2000]),
        ("iphone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("man.bmp", &bmp),
        ("empty.jpg", b""),
        ("clip.mp4", &std::fs::read(clips::shared("single_face.mp4")).unwrap()),
    ];
    let body = ok(send(&service, form(&pictures)).await).await;
    let answers = body["pictures"].as_array().unwrap();
    assert_eq!(answers.len(), pictures.len());
    assert_eq!(answers[0]["file_name"], "group.jpg", "no folder");
    assert_eq!((&answers[0]["width"], &answers[0]["height"]), (&json!(1000), &json!(667)));
    assert_eq!(ids(&answers[0]), [1, 2, 3, 4, 5]);
    assert_eq!(answers[2]["problem"], Value::Null);
    assert_eq!(ids(&answers[2]), [6], "another person than those of the group");
    for (place, code) in [
        (1, "not_a_picture"),
        (3, "picture_damaged"),
        (4, "picture_format_not_supported"),
        (5, "picture_format_not_supported"),
        (6, "empty_picture"),
        (7, "not_a_picture"),
    ] {
        failed(&answers[place], code);
    }
    assert_eq!(answers[4]["problem"]["format"], "HEIC");
    assert!(answers[7]["problem"]["detail"].as_str().unwrap().contains("/analyze-video"), "{}", answers[7]);

    let face = &answers[2]["faces"][0];
    let emotions = face["emotions"].as_object().unwrap();
    assert_eq!(emotions.keys().map(String::as_str).collect::<Vec<_>>(), LABELS);
    assert!((emotions.values().map(|share| share.as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 0.001, "{face}");
    assert_eq!(face["dominant_emotion"], "happy", "{face}");
    assert!(face["valence"].as_f64() > Some(0.3) && face["score"].as_f64() > Some(0.6), "{face}");
    assert!(face["bbox"]["width"].as_f64() > Some(50.0) && face["quality"].as_f64() > Some(0.5), "{face}");
    assert_eq!(
        (&face["eye_contact"], &face["eyes_shut"], &face["mouth_covered"]),
        (&json!(true), &json!(false), &json!(false))
    );
    for angle in [&face["pose"]["yaw"], &face["pose"]["pitch"], &face["gaze"]["yaw"], &face["gaze"]["pitch"]] {
        assert!(angle.as_f64().unwrap().abs() < 30.0, "{face}");
    }
    assert_eq!(face.get("expressions"), None);
    let used: Vec<&str> =
        body["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(used, ["yunet", "emotion", "face_landmarks"]);
    assert_eq!(body["warning_codes"], json!([]));
    service.is_clean().await;
}

#[tokio::test]
async fn people_keep_their_ids_by_the_returned_state_and_other_states_are_refused() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let group = group();
    let first = ok(send(&service, form(&[("a.jpg", &group)])).await).await;
    let state = first["face_state"].as_str().unwrap().to_owned();
    assert!(state.len() < 10_000, "{}", state.len());

    // The same people mirrored and smaller, after another person.
    let woman = frame("sad_then_happy.mp4", "woman.png", 2.0, "null");
    let clips = Clips::new();
    clips.write("group.jpg", &group);
    let changed = std::fs::read(clips.make("b.webp", "-i $group.jpg -vf hflip,scale=900:-2")).unwrap();
    let second = form(&[("woman.png", &woman), ("b.webp", &changed)]).text("face_state", state.clone());
    let second = ok(send(&service, second).await).await;
    assert_eq!(ids(&second["pictures"][0]), [6], "{second}");
    let mut again = ids(&second["pictures"][1]);
    again.sort_unstable();
    assert_eq!(again, [1, 2, 3, 4, 5], "{second}");
    // Who is at the left is at the right now.
    let centre = |face: &Value| face["bbox"]["x"].as_f64().unwrap() + face["bbox"]["width"].as_f64().unwrap() / 2.0;
    for before in first["pictures"][0]["faces"].as_array().unwrap() {
        let faces = second["pictures"][1]["faces"].as_array().unwrap();
        let now = faces.iter().find(|face| face["id"] == before["id"]).unwrap();
        assert!((centre(before) * 0.9 + centre(now) - 900.0).abs() < 30.0, "{before} {now}");
    }
    // Without the state, ids begin anew.
    assert_eq!(ids(&ok(send(&service, form(&[("w.png", &woman)])).await).await["pictures"][0]), [1]);
    let empty = form(&[("w.png", &woman)]).text("face_state", "");
    assert_eq!(ids(&ok(send(&service, empty).await).await["pictures"][0]), [1]);

    let flipped = state.replacen(&state[50..51], if &state[50..51] == "A" { "B" } else { "A" }, 1);
    for garbage in
        ["garbage", "not base64 at all!", &state[..state.len() - 8], &flipped, &URL_SAFE_NO_PAD.encode([1; 40])]
    {
        let wrong = form(&[("a.png", &woman)]).text("face_state", garbage.to_owned());
        let body = refused(send(&service, wrong).await, 422, "bad_face_state").await;
        assert_eq!(body["field"], "face_state");
        let wrong = json!({"pictures": [STANDARD.encode(&woman)], "face_state": garbage});
        refused(send_json(&service, &wrong).await, 422, "bad_face_state").await;
    }
    let long = form(&[("a.png", &woman)]).text("face_state", "A".repeat(100_000));
    refused(send(&service, long).await, 413, "field_too_large").await;
}

#[tokio::test]
async fn pictures_are_turned_by_their_exif_data() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let upright = man("upright.jpg", "null");
    // Turned counterclockwise, so that a viewer has to turn it clockwise (orientation 6); mirrored; upside down.
    let turned = [
        with_orientation(&man("a.jpg", "transpose=cclock"), 6),
        with_orientation(&man("b.jpg", "hflip"), 2),
        with_orientation(&man("c.jpg", "hflip,vflip"), 3),
    ];
    let all: Vec<(&str, &[u8])> =
        std::iter::once(&upright).chain(&turned).map(|bytes| ("picture.jpg", bytes.as_slice())).collect();
    let body = ok(send(&service, form(&all)).await).await;
    let answers = body["pictures"].as_array().unwrap();
    for answer in answers {
        assert_eq!((&answer["width"], &answer["height"]), (&json!(640), &json!(360)), "{answer}");
        assert_eq!(ids(answer), [1], "{answer}");
        for side in ["x", "y", "width", "height"] {
            let [expected, given] =
                [&answers[0], answer].map(|picture| picture["faces"][0]["bbox"][side].as_f64().unwrap());
            assert!((expected - given).abs() < 6.0, "{side}: {expected} {given}");
        }
    }
}

#[tokio::test]
async fn pictures_may_come_as_base64_in_json_with_options() {
    let models = clips::models().with("face_blendshapes.onnx");
    let service = Service::start(models.select()).await;
    let (group, man) = (group(), man("man.webp", "null"));
    let in_base64 = [
        STANDARD.encode(&man),
        URL_SAFE_NO_PAD.encode(&man),
        format!("data:image/webp;base64,{}", STANDARD.encode(&man)),
        "no base64!".to_owned(),
        String::new(),
        "data:image/png,plain".to_owned(),
    ];
    let body = json!({"pictures": in_base64, "detail": "expressions", "max_faces": "3", "gaze": "on"});
    let body = ok(send_json(&service, &body).await).await;
    let answers = body["pictures"].as_array().unwrap();
    for answer in &answers[..3] {
        assert_eq!((ids(answer), &answer["file_name"]), (vec![1], &Value::Null), "{answer}");
        assert_eq!(answer["faces"], answers[0]["faces"]);
    }
    assert!(answers[0]["faces"][0]["expressions"]["mouthSmileLeft"].as_f64() > Some(0.2), "{body}");
    for answer in &answers[3..] {
        failed(answer, "not_base64");
    }
    let few = form(&[("group.jpg", &group)]).text("max_faces", "2").text("gaze", "off");
    let body = ok(send(&service, few).await).await;
    assert_eq!(ids(&body["pictures"][0]), [1, 2]);
    assert_eq!(body["pictures"][0]["faces"][0]["gaze"], Value::Null);
    assert_eq!(body["warning_codes"], json!([{"code": "eye_contact_by_head"}]));
}

#[tokio::test]
async fn wrong_requests_are_refused_with_the_reason() {
    let service = Service::start(|settings| {
        settings.pictures.max_count = 2;
        settings.pictures.max_upload = ByteSize(100_000);
        settings.models.folder = "/nowhere".into();
    })
    .await;
    let png = || form(&[("a.png", b"\x89PNG\r\n\x1a\n")]);
    let three: Vec<(&str, &[u8])> = vec![("a.png", b"x"); 3];
    let body = refused(send(&service, form(&three)).await, 422, "too_many_pictures").await;
    assert_eq!(body["limit"], 2);
    refused(send(&service, form(&[("a.png", &[0; 100_001])])).await, 413, "upload_too_large").await;
    refused(send(&service, Form::new().text("max_faces", "1")).await, 422, "missing_picture").await;
    for (name, given, code, field) in [
        ("max_faces", "0", "bad_option", "max_faces"),
        ("gaze", "maybe", "bad_option", "gaze"),
        ("detail", "everything", "bad_option", "detail"),
        ("sample_every", "5", "unknown_field", "sample_every"),
    ] {
        let body = refused(send(&service, png().text(name, given)).await, 422, code).await;
        assert_eq!(body["field"], field);
    }
    let both = png().text("gaze", "off").text("detail", "expressions");
    refused(send(&service, both).await, 422, "contradiction").await;
    for (body, status, code) in [
        (json!({"pictures": []}), 422, "missing_picture"),
        (json!({"pictures": ["AAAA", "AAAA", "AAAA"]}), 422, "too_many_pictures"),
        (json!({"pictures": "A".repeat(5000)}), 422, "bad_body"),
        (json!({"pictures": ["AAAA"], "sample_every": 5}), 422, "bad_body"),
        (json!({"pictures": ["AAAA"], "max_faces": 101}), 422, "bad_option"),
        (json!({"pictures": ["AAAA"], "gaze": false, "detail": "expressions"}), 422, "contradiction"),
        (json!({}), 422, "bad_body"),
        (json!([]), 422, "bad_body"),
    ] {
        let answer = refused(send_json(&service, &body).await, status, code).await;
        assert!(answer["detail"].as_str().unwrap().len() < 500, "{answer}");
    }
    let post = || service.http.post(format!("{}/v1/pictures", service.base));
    let broken = post().header(header::CONTENT_TYPE, "application/json").body("{\"pictures\": [");
    refused(broken.send().await.unwrap(), 400, "bad_json").await;
    refused(post().body("picture").send().await.unwrap(), 415, "unsupported_media_type").await;
    let no_end = post().header(header::CONTENT_TYPE, "multipart/form-data; boundary=x").body("--x\r\n");
    refused(no_end.send().await.unwrap(), 400, "bad_form").await;
    // The models are missing, which fails every picture.
    let small = man("small.png", "scale=64:-2");
    let response = send(&service, form(&[("a.png", &small)])).await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    refused(response, 503, "model_unavailable").await;
    service.is_clean().await;
}

#[tokio::test]
async fn a_picture_with_too_many_pixels_fails_only_itself() {
    let models = clips::models();
    let given = models.select();
    let service = Service::start(|settings| {
        given(settings);
        settings.pictures.max_pixels = 640 * 360;
    })
    .await;
    let (large, small) = (group(), man("man.jpg", "null"));
    let body = ok(send(&service, form(&[("large.jpg", &large), ("small.jpg", &small)])).await).await;
    failed(&body["pictures"][0], "picture_too_large");
    assert_eq!(body["pictures"][0]["problem"]["limit_pixels"], 640 * 360);
    assert_eq!(ids(&body["pictures"][1]), [1]);
}

#[tokio::test]
async fn a_key_is_asked_for_and_each_request_counts_against_its_quota() {
    let models = clips::models();
    let given = models.select();
    let service = Service::start(|settings| {
        given(settings);
        settings.auth.required = true;
        settings.limits.change(|limits| limits.videos_per_day_key = 1);
    })
    .await;
    let picture = man("man.jpg", "null");
    refused(send(&service, form(&[("a.jpg", &picture)])).await, 401, "key_required").await;
    let reader = key(&service, &[Scope::Read]).await;
    let post = || service.http.post(format!("{}/v1/pictures", service.base)).multipart(form(&[("a.jpg", &picture)]));
    refused(post().header("x-api-key", reader).send().await.unwrap(), 403, "scope_required").await;
    let analyst = key(&service, &[Scope::Analyze]).await;
    let first = ok(post().header("x-api-key", &analyst).send().await.unwrap()).await;
    assert_eq!(ids(&first["pictures"][0]), [1]);
    refused(post().header("x-api-key", &analyst).send().await.unwrap(), 429, "quota_used_up").await;
}
