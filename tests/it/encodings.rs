//! Request bodies in the encodings that clients use: gzip, byte order marks, numbers as strings, variants of base64.
//! Also checks that refusals use the field names of the call.

use async_compression::tokio::bufread::GzipEncoder;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use visage::config::{ByteSize, Settings};
use visage::store::Scope;

use crate::keys::key;
use crate::support::clips::Clips;
use crate::support::service::Service;

const BOUNDARY: &str = "multipart/form-data; boundary=between";

/// A call with a body.
struct Call {
    method: Method,
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    /// Expected status of the answer.
    status: u16,
}

struct TestService {
    service: Service,
    key: String,
}

impl TestService {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let service = Service::start(change).await;
        let key = key(&service, &[Scope::Analyze]).await;
        Self { service, key }
    }

    async fn send(&self, call: &Call, path: &str, encoding: Option<&str>, body: Vec<u8>) -> Response {
        let url = format!("{}{path}", self.service.base);
        let mut request = self.service.http.request(call.method.clone(), url).header("x-api-key", &self.key);
        request = request.header("content-type", call.content_type);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        request.body(body).send().await.unwrap()
    }

    /// Begins an upload of so many bytes, and returns the address of its only part.
    async fn part(&self, size: usize) -> String {
        let begun = self.service.http.post(format!("{}/v1/uploads", self.service.base)).header("x-api-key", &self.key);
        let begun: Value = begun.json(&json!({"size_bytes": size})).send().await.unwrap().json().await.unwrap();
        begun["parts"][0]["url"].as_str().unwrap().strip_prefix(&self.service.base).unwrap().to_owned()
    }
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzipEncoder::new(bytes).read_to_end(&mut packed).await.unwrap();
    packed
}

fn clip() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

fn form(field: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("--between\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"f\"\r\n\r\n");
    [head.as_bytes(), bytes, b"\r\n--between--\r\n"].concat()
}

/// Returns every call with a body. Calls that need models get none, and fail with that error after they have read the
/// body.
fn calls() -> Vec<Call> {
    let (clip, picture) = (clip(), b"\x89PNG\r\n\x1a\n and more".to_vec());
    let content = json!({"content": STANDARD.encode(&clip)}).to_string().into_bytes();
    let call = |path, content_type, body: &[u8], status| Call {
        method: Method::POST,
        path,
        content_type,
        body: body.to_vec(),
        status,
    };
    let video = form("video", &clip);
    vec![
        call("/analyze-video", BOUNDARY, &video, 202),
        call("/upload", BOUNDARY, &video, 202),
        call("/record_video", BOUNDARY, &video, 202),
        call("/api/facial-analysis", BOUNDARY, &video, 503),
        call("/process-frame", "video/mp4", &clip, 503),
        call("/predict", "application/json", &content, 503),
        call("/thumbnail", "application/json", &content, 200),
        call("/save_frame", BOUNDARY, &form("frame", &picture), 201),
        call("/v1/uploads", "application/json", br#"{"size_bytes": 5}"#, 201),
        call("/v1/analyses", "application/json", br#"{"upload": "00000000-0000-4000-8000-000000000000"}"#, 404),
        Call { method: Method::PUT, path: "", content_type: "video/mp4", body: clip, status: 204 },
    ]
}

async fn fixture() -> TestService {
    TestService::new(|settings| settings.models.folder = "/nowhere".into()).await
}

#[tokio::test]
async fn every_call_accepts_gzip_and_refuses_other_encodings() {
    let fixture = fixture().await;
    for call in calls() {
        let path = if call.path.is_empty() { fixture.part(call.body.len()).await } else { call.path.to_owned() };
        let packed = gzip(&call.body).await;
        // Two gzip members, as two compressors in sequence write them.
        let (first, second) = call.body.split_at(call.body.len() / 2);
        let members = [gzip(first).await, gzip(second).await].concat();
        for (encoding, body) in [
            (None, &call.body),
            (Some("identity"), &call.body),
            (Some("gzip"), &packed),
            (Some("X-GZIP"), &packed),
            (Some("gzip"), &members),
        ] {
            let answer = fixture.send(&call, &path, encoding, body.clone()).await;
            let status = answer.status().as_u16();
            assert_eq!(status, call.status, "{path} {encoding:?}: {}", answer.text().await.unwrap());
        }
        for encoding in ["br", "deflate", "zstd", "compress", "gzip, gzip", "aws-chunked"] {
            let answer = fixture.send(&call, &path, Some(encoding), call.body.clone()).await;
            assert_eq!(answer.status().as_u16(), 415, "{path} {encoding}");
            assert_eq!(answer.headers()["accept-encoding"], "gzip, identity", "{path} {encoding}");
            assert!(answer.text().await.unwrap().contains("Content-Encoding: gzip"), "{path} {encoding}");
        }
    }
}

#[tokio::test]
async fn broken_or_truncated_gzip_is_a_client_error() {
    let fixture = fixture().await;
    let reserved = async || {
        let now = visage::clock::Clock::now(&visage::clock::SystemClock);
        fixture.service.store.stored_bytes("", now).await.unwrap().total
    };
    for call in calls() {
        let path = if call.path.is_empty() { fixture.part(call.body.len()).await } else { call.path.to_owned() };
        let before = reserved().await;
        let packed = gzip(&call.body).await;
        let mut flipped = packed.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 0xFF;
        for (what, body) in [
            ("no gzip", call.body.clone()),
            ("cut off", packed[..packed.len() - 9].to_vec()),
            ("another checksum", flipped),
            ("followed by other bytes", [&packed[..], b"and more"].concat()),
            ("nothing", vec![]),
        ] {
            let answer = fixture.send(&call, &path, Some("gzip"), body).await;
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert!((400..500).contains(&status), "{path} {what}: {status} {text}");
        }
        assert_eq!(reserved().await, before, "{path} began an upload");
    }
}

#[tokio::test]
async fn the_upload_limit_applies_to_the_decompressed_bytes() {
    let fixture = TestService::new(|settings| {
        settings.models.folder = "/nowhere".into();
        settings.http.max_upload = ByteSize(1_000_000);
        settings.sync.max_upload = ByteSize(1_000_000);
        settings.thumbnails.max_video = ByteSize(1_000_000);
    })
    .await;
    let bomb = {
        let mut head = clip();
        head.resize(20_000_000, 0);
        head
    };
    let text = json!({"content": "A".repeat(20_000_000)}).to_string().into_bytes();
    for call in calls() {
        let (path, unpacked) = match (call.path, call.content_type) {
            ("", _) => (fixture.part(call.body.len()).await, bomb.clone()),
            (path, BOUNDARY) => {
                let field = if path == "/save_frame" { "frame" } else { "video" };
                let mut bytes = bomb.clone();
                if path == "/save_frame" {
                    bytes[..8].copy_from_slice(b"\x89PNG\r\n\x1a\n");
                }
                (path.to_owned(), form(field, &bytes))
            }
            (path, "application/json") => (path.to_owned(), text.clone()),
            (path, _) => (path.to_owned(), bomb.clone()),
        };
        let packed = gzip(&unpacked).await;
        assert!(packed.len() < 1_000_000, "{} bytes", packed.len());
        let answer = fixture.send(&call, &path, Some("gzip"), packed).await;
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        let expected = if call.path.is_empty() { 422 } else { 413 };
        assert_eq!(status, expected, "{path}: {text}");
    }
}

#[tokio::test]
async fn a_recording_is_accepted_in_every_usual_form_of_base64() {
    let fixture = fixture().await;
    let clips = Clips::new();
    let codec = "-f lavfi -i sine=duration=1 -c:v libvpx -b:v 200k -c:a libopus -shortest";
    let video = std::fs::read(clips.moving("recording.webm", 1.0, codec)).unwrap();
    let call = |body: Vec<u8>| Call {
        method: Method::POST,
        path: "/thumbnail",
        content_type: "application/json",
        body,
        status: 200,
    };
    let lines: Vec<String> =
        STANDARD.encode(&video).as_bytes().chunks(76).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    let standard = STANDARD.encode(&video);
    for (format, content) in [
        ("webm", format!("data:video/webm;codecs=vp8,opus;base64,{standard}")),
        ("video/webm;codecs=vp8,opus", format!("data:video/webm; codecs=\"vp8, opus\"; base64,{standard}")),
        ("video/webm", format!("DATA:;BASE64,{}", URL_SAFE.encode(&video))),
        ("video/x-matroska", URL_SAFE_NO_PAD.encode(&video)),
        ("", STANDARD_NO_PAD.encode(&video)),
        ("application/octet-stream", lines.join("\r\n")),
        (".WEBM", format!("\n {standard} \n")),
    ] {
        let begin: String = content.chars().take(60).collect();
        let told = json!({"format": format, "fps": "25", "duration": " 1.0 ", "content": content}).to_string();
        let call = call([b"\xEF\xBB\xBF", told.as_bytes()].concat());
        let answer = fixture.send(&call, call.path, None, call.body.clone()).await;
        let status = answer.status().as_u16();
        let told: Value = answer.json().await.unwrap();
        assert_eq!(status, call.status, "{format} {begin}: {told}");
        assert_eq!(told["duration"], 1.0, "{format} {begin}");
    }
}

#[tokio::test]
async fn numbers_and_booleans_may_be_strings_in_json_and_forms() {
    let fixture = fixture().await;
    let post = |path: &'static str, body: String| {
        let call =
            Call { method: Method::POST, path, content_type: "application/json", body: body.into_bytes(), status: 0 };
        let fixture = &fixture;
        async move {
            let answer = fixture.send(&call, path, None, call.body.clone()).await;
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    for size in ["5", "5.0", "\"5\"", "\" 5 \"", "\"5.0\""] {
        let (status, told) = post("/v1/uploads", format!("\u{feff}{{\"size_bytes\": {size}}}")).await;
        assert_eq!((status, &told["size_bytes"]), (201, &json!(5)), "{size}: {told}");
    }
    for size in ["\"\"", "\"five\"", "\"5 MB\"", "\"5,0\"", "\"0x5\"", "\"5.5\"", "\"-5\"", "[5]", "true"] {
        let (status, told) = post("/v1/uploads", format!("{{\"size_bytes\": {size}}}")).await;
        assert_eq!((status, told["code"].as_str()), (422, Some("bad_body")), "{size}: {told}");
    }
    let upload = "00000000-0000-4000-8000-000000000000";
    for (members, status, code) in [
        (r#""sample_every": "20", "max_faces": " 3 ", "gaze": "off", "speech": "true""#, 404, "unknown_upload"),
        (r#""gaze": false, "speech": "on""#, 404, "unknown_upload"),
        (r#""sample_every": "0""#, 422, "bad_option"),
        (r#""sample_every": "often""#, 422, "bad_body"),
        (r#""gaze": "perhaps""#, 422, "bad_body"),
        (r#""gaze": 1"#, 422, "bad_body"),
    ] {
        let (given, told) = post("/v1/analyses", format!(r#"{{"upload": "{upload}", {members}}}"#)).await;
        assert_eq!((given, told["code"].as_str()), (status, Some(code)), "{members}: {told}");
    }
    let video = form("video", &clip());
    let call = Call { method: Method::POST, path: "", content_type: BOUNDARY, body: video, status: 202 };
    for query in ["sample_every=20.0", "sample_every=2e1&max_faces=+3", "max_faces=03"] {
        let answer = fixture.send(&call, &format!("/analyze-video?{query}"), None, call.body.clone()).await;
        assert_eq!(answer.status().as_u16(), call.status, "{query}: {}", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn refusals_use_the_field_names_of_the_call() {
    let fixture = fixture().await;
    let text = b"this is no video, whatever its name says, and long enough to be looked at".to_vec();
    let encoded =
        b"--between\r\nContent-Disposition: form-data; name=\"video\"\r\nContent-Transfer-Encoding: base64\r\n\r\n\
                    AAAA\r\n--between--\r\n";
    let json_text = json!({"content": STANDARD.encode(&text)}).to_string().into_bytes();
    let post = |path, content_type, body: &[u8], status| Call {
        method: Method::POST,
        path,
        content_type,
        body: body.to_vec(),
        status,
    };
    for (call, says, never) in [
        (post("/analyze-video", BOUNDARY, &form("video", &text), 422), "field video", "content"),
        (post("/analyze-video", BOUNDARY, encoded, 415), "Content-Transfer-Encoding", "MP4"),
        (post("/process-frame", "video/mp4", &text, 422), "The body", "field"),
        (post("/process-frame", "video/mp4", b"", 400), "The body", "field"),
        (post("/predict", "application/json", &json_text, 400), "in content", "field"),
        (post("/predict", "application/json", br#"{"content": 5}"#, 400), "content", "duration"),
        (post("/save_frame", BOUNDARY, &form("frame", &text), 422), "field frame", "video"),
        (post("/save_frame", "text/plain", b"x", 400), "field frame", "video"),
        (post("/v1/uploads", "application/json", &[b' '; 70_000], 413), "members", "video"),
    ] {
        let answer = fixture.send(&call, call.path, None, call.body.clone()).await;
        let status = answer.status().as_u16();
        let told: Value = answer.json().await.unwrap();
        let sentence = told["detail"].as_str().or(told["error"].as_str()).unwrap();
        assert_eq!(status, call.status, "{}: {told}", call.path);
        assert!(sentence.contains(says) && !sentence.contains(never), "{}: {sentence}", call.path);
    }
    let call = post("", BOUNDARY, &form("video", &clip()), 422);
    let answer = fixture.send(&call, "/analyze-video?email=ann@example.org", None, call.body.clone()).await;
    let told: Value = answer.json().await.unwrap();
    assert_eq!((&told["code"], &told["parameter"]), (&json!("unknown_parameter"), &json!("email")), "{told}");
    assert!(!told["detail"].as_str().unwrap().contains("email"), "{told}");
}
