//! Recording with a camera. Chromium's fake device plays a clip.

use serde_json::json;

use super::{service, token};
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};

pub(super) fn fake_camera(picture: &std::path::Path) -> Vec<String> {
    vec![
        "--use-fake-device-for-media-stream".to_owned(),
        "--use-fake-ui-for-media-stream".to_owned(),
        format!("--use-file-for-fake-video-capture={}", picture.display()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_previewed_repeated_and_analyzed() {
    let clip = clips::shared("single_face.mp4");
    let models = clips::models();
    let made = Clips::new();
    std::os::unix::fs::symlink(&clip, made.path("face.mp4")).unwrap();
    let camera = made.make("camera.mjpeg", "-i $face.mp4 -vf fps=15 -an -q:v 3 -f mjpeg");
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &fake_camera(&camera)).await;
    browser.goto(&service.base).await;
    browser.click("#record").await;
    browser.click("#notice-yes").await;
    browser
        .until(
            "the camera's picture",
            "document.querySelector('#camera-live').videoWidth && !document.querySelector('#camera-go').disabled",
        )
        .await;
    assert!(
        browser.eval("return document.querySelectorAll('#camera-choice option').length").await.as_u64().unwrap() >= 1
    );
    browser.picture("camera").await;
    browser.check_accessibility("camera").await;
    browser
        .eval(
            "const real = window.MediaRecorder; window.recordedAs = []; window.MediaRecorder = class extends real { \
             constructor(stream, wanted) { super(stream, wanted); window.recordedAs.push(wanted.mimeType); } };",
        )
        .await;
    let record = async || {
        browser.click("#camera-go").await;
        browser
            .until("the clock of the recording", "document.querySelector('#camera-time').textContent >= '0:02'")
            .await;
    };
    record().await;
    let kind = browser.eval("return window.recordedAs[0]").await;
    // With avc1, Chromium loses the parameter sets when the camera is turned.
    assert!(kind.as_str().is_some_and(|kind| kind.contains("avc3") || kind.contains("vp9")), "{kind}");
    browser.picture("recording").await;
    browser.check_accessibility("recording").await;
    browser.click("#camera-stop").await;
    browser.until("the preview", "document.querySelector('#preview-name').textContent.startsWith('recording')").await;
    assert_eq!(
        browser.eval("return document.querySelector('#camera-live').srcObject").await,
        json!(null),
        "the camera is off"
    );
    browser.click("#again").await;
    browser
        .until(
            "the camera again",
            "document.querySelector('#camera-live').videoWidth && !document.querySelector('#camera-go').disabled",
        )
        .await;
    record().await;
    browser.click("#camera-stop").await;
    browser.until("the preview", "document.querySelector('#preview-video').videoWidth").await;
    // A recording has no duration in its header.
    let detail = browser.text("#detail-note").await;
    assert!(detail.starts_with("About ") && !detail.contains("Infinity"), "{detail}");
    browser.picture("recorded").await;
    browser.click("#send").await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    drop(working);
    let result: serde_json::Value =
        service.get(&format!("/results/{}", token(&browser).await)).await.json().await.unwrap();
    assert_eq!(result["analysis"]["faces"].as_array().unwrap().len(), 1, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_continue_after_a_refused_camera() {
    let service = crate::support::service::Service::start(|_| ()).await;
    let browser = Browser::open(1000, 800, &["--use-fake-device-for-media-stream".to_owned()]).await;
    browser.goto(&service.base).await;
    for name in ["camera", "microphone"] {
        let denied = json!({"permission": {"name": name}, "setting": "denied", "origin": service.base});
        browser.devtools("Browser.setPermission", denied).await;
    }
    browser.click("#record").await;
    browser.click("#notice-yes").await;
    browser.until("the reason", "document.querySelector('#camera-error').checkVisibility()").await;
    assert!(browser.text("#camera-error").await.contains("Allow it"));
    browser.picture("camera-denied").await;
    browser.check_accessibility("camera denied").await;
    for name in ["camera", "microphone"] {
        let granted = json!({"permission": {"name": name}, "setting": "granted", "origin": service.base});
        browser.devtools("Browser.setPermission", granted).await;
    }
    browser.click("#camera-retry").await;
    browser.until("the camera's picture", "document.querySelector('#camera-live').videoWidth").await;
    assert!(!browser.is_shown("#camera-error").await);
    browser.click("#camera-back").await;
    assert!(browser.is_shown("#choose").await);
}
