//! Videos of every shape: the whole picture, its boxes and the controls are inside the screen.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::service;
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};

/// Makes clips of a face in the shapes that cameras give: name, width and height as players show them.
fn shapes(made: &Clips) -> Vec<(&'static str, PathBuf, [f64; 2])> {
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    let make = |name: &str, filter: &str| {
        let shape = format!("-i $face.mp4 -t 1 -vf {filter} -an -c:v libx264 -pix_fmt yuv420p");
        made.make(name, &shape)
    };
    vec![
        ("portrait", make("portrait.mp4", "crop=ih*9/16:ih,scale=720:1280,setsar=1"), [720.0, 1280.0]),
        ("square", make("square.mp4", "crop=ih:ih,scale=480:480,setsar=1"), [480.0, 480.0]),
        ("anamorphic", make("anamorphic.mp4", "scale=360:480,setsar=16/9"), [640.0, 480.0]),
        ("landscape", make("landscape.mp4", "scale=640:360,setsar=1"), [640.0, 360.0]),
    ]
}

/// Checks that the video in this element is shown whole, in its shape, and inside its screen and the card around it.
async fn is_whole(browser: &Browser, video: &str, [width, height]: [f64; 2], place: &str) {
    let script = format!(
        "const video = document.querySelector({video:?}); const at = (element) => {{ const r = element.getBoundingClientRect(); \
         return [r.left, r.top, r.right, r.bottom]; }}; return {{ size: [video.videoWidth, video.videoHeight], fit: getComputedStyle(video).objectFit, \
         video: at(video), screen: at(video.closest('.screen')), card: at(video.closest('.card')), width: innerWidth }};"
    );
    let told = browser.eval(&script).await;
    let rectangle = |name: &str| -> [f64; 4] { serde_json::from_value(told[name].clone()).unwrap() };
    let size: [f64; 2] = serde_json::from_value(told["size"].clone()).unwrap();
    assert!((size[0] / size[1] - width / height).abs() < 0.01, "{place}: {told}");
    // The picture is fitted into the element, so the element has to be inside the screen.
    assert_eq!(told["fit"], "contain", "{place}");
    let (inner, screen, card) = (rectangle("video"), rectangle("screen"), rectangle("card"));
    for (inner, outer) in [(inner, screen), (screen, card)] {
        let is_inside = inner[0] >= outer[0] - 0.5
            && inner[1] >= outer[1] - 0.5
            && inner[2] <= outer[2] + 0.5
            && inner[3] <= outer[3] + 0.5;
        assert!(is_inside, "{place}: {told}");
    }
    let (across, down) = (inner[2] - inner[0], inner[3] - inner[1]);
    let shown = (across / width).min(down / height);
    assert!(shown * width > 150.0 && shown * height > 150.0, "{place}: the picture is tiny: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_of_any_shape_is_shown_whole_with_its_boxes() {
    let made = Clips::new();
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    for (name, clip, size) in shapes(&made) {
        browser.resize(1280, 860).await;
        browser.goto(&service.base).await;
        browser.choose("#file", &clip).await;
        browser.until("the preview", "document.querySelector('#preview-video').readyState >= 2").await;
        for width in [1280, 390] {
            browser.resize(width, 860).await;
            is_whole(&browser, "#preview-video", size, &format!("preview of {name} in {width}")).await;
        }
        browser.picture(&format!("preview-{name}-phone")).await;
        browser.click("#send").await;
        browser.until("the box", "document.querySelector('.player .boxes text')").await;
        for width in [1440, 1280, 820, 390] {
            browser.resize(width, 860).await;
            browser.settle().await;
            is_whole(&browser, ".player video", size, &format!("{name} in {width}")).await;
            let outside = "return [...document.querySelectorAll('.player .boxes rect, .player .boxes text')].filter((mark) => { \
                           const [a, b] = [mark, document.querySelector('.player .screen')].map((e) => e.getBoundingClientRect()); \
                           return a.left < b.left - 2 || a.top < b.top - 2 || a.right > b.right + 2 || a.bottom > b.bottom + 2; }).length";
            assert_eq!(browser.eval(outside).await, json!(0), "{name} in {width}");
            let fits = browser.eval("return document.documentElement.scrollWidth <= innerWidth").await;
            assert_eq!(fits, Value::Bool(true), "{name} in {width}");
            browser.picture(&format!("shape-{name}-{width}")).await;
        }
    }
    drop(working);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_camera_and_its_button_are_in_view_at_once() {
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    let service = crate::support::service::Service::start(|_| ()).await;
    for (name, filter, size) in
        [("upright", "crop=ih*9/16:ih,scale=360:640", [360.0, 640.0]), ("across", "scale=640:360", [640.0, 360.0])]
    {
        let shape = format!("-i $face.mp4 -vf {filter},setsar=1,fps=15 -an -q:v 3 -f mjpeg");
        let camera = made.make(&format!("{name}.mjpeg"), &shape);
        let browser = Browser::open(1280, 800, &super::record::fake_camera(&camera)).await;
        for (width, height) in [(1280, 800), (390, 844)] {
            browser.resize(width, height).await;
            browser.goto(&service.base).await;
            browser.click("#record").await;
            browser.click("#notice-yes").await;
            browser
                .until("the picture", "document.querySelector('#camera-live').videoWidth && !document.querySelector('#camera-go').disabled")
                .await;
            browser.settle().await;
            let place = format!("{name} in {width}");
            is_whole(&browser, "#camera-live", size, &place).await;
            let in_view = "return ['#camera-screen', '#camera-go'].map((part) => { const r = document.querySelector(part).getBoundingClientRect(); \
                           return r.top >= 0 && r.bottom <= innerHeight; })";
            assert_eq!(browser.eval(in_view).await, json!([true, true]), "{place}");
            browser.picture(&format!("camera-{name}-{width}")).await;
            browser.check_accessibility(&place).await;
        }
    }
}
