//! The player of a result: where it opens, what its labels say, and what leaves the browser.

use serde_json::{Value, json};

use super::{analyzed, service};
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};

#[tokio::test(flavor = "multi_thread")]
async fn the_player_opens_at_a_telling_moment_and_never_contradicts_the_ribbon() {
    let (_models, service, browser) = analyzed(&clips::shared("sad_then_happy.mp4")).await;
    assert_eq!(browser.text(".story h1").await, "First sad, then happy");
    browser.until("the telling moment", "document.querySelector('.player video').currentTime > 9").await;
    browser.until("its box", "document.querySelector('.player .boxes text')?.textContent.endsWith('Happy')").await;
    // At every moment, box, ribbon and readout name the same emotion.
    let token = super::token(&browser).await;
    let job: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let runs = job["analysis"]["faces"][0]["segments"].as_array().unwrap().clone();
    let page: Value = service.get(&format!("/results/{token}/timeline?limit=5000")).await.json().await.unwrap();
    let top = |row: &Value| {
        let shares = row["emotions"].as_object().unwrap();
        shares.iter().max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap())).unwrap().0.clone()
    };
    let mut differing = 0;
    for row in page["rows"].as_array().unwrap() {
        let time = row["time_s"].as_f64().unwrap();
        let run = runs.iter().find(|run| run["start_s"].as_f64() <= Some(time) && Some(time) < run["end_s"].as_f64());
        let Some(run) = run else { continue };
        let smoothed = run["emotion"].as_str().unwrap().to_owned();
        if top(row) == smoothed && differing > 0 {
            continue;
        }
        differing += usize::from(top(row) != smoothed);
        browser.eval(&format!("document.querySelector('.player video').currentTime = {time}")).await;
        let there = "(() => { const video = document.querySelector('.player video'); return !video.seeking; })()";
        browser.until("the frame", there).await;
        let shown = format!("document.querySelector('.player .boxes g')?.getAttribute('class') === 'e-{smoothed}'");
        browser.until(&format!("the box at {time}"), &shown).await;
        let text = browser.eval("return document.querySelector('.player .boxes text').textContent").await;
        let text = text.as_str().unwrap();
        let readout = browser.text(".readout").await;
        let name = text.split(" · ").nth(1).unwrap();
        assert!(readout.contains(name), "{time}: {text} and {readout}");
    }
    assert!(differing > 0, "the clip has a sample that differs from its run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_saved_here_and_sent_only_if_asked() {
    let (_models, service, browser) = analyzed(&clips::shared("single_face.mp4")).await;
    browser.until("the video", "document.querySelector('.player video').readyState >= 2").await;
    let before = service.stored().len();
    browser.click("[data-action=save_frame]").await;
    let saved = std::fs::read(browser.saved("frame-").await).unwrap();
    assert_eq!(saved[..3], [0xFF, 0xD8, 0xFF], "a JPEG file");
    browser.until("the word", "document.querySelector('#toast').textContent.includes('on your device')").await;
    let calls = "performance.getEntriesByType('resource').filter((entry) => entry.name.includes('save_frame')).length";
    assert_eq!(browser.eval(&format!("return {calls}")).await, json!(0), "nothing is sent");
    assert_eq!(service.stored().len(), before);

    // Sending is another action, which says what happens and can be declined.
    browser.click("[data-action=send_frame]").await;
    browser.until("the question", "document.querySelector('dialog[open]')?.textContent.includes('for an hour')").await;
    browser.picture("send-frame").await;
    browser.check_accessibility("sending a frame").await;
    browser.click("dialog[open] .button:not(.main)").await;
    browser.until("the answer", "!document.querySelector('dialog[open]')").await;
    assert_eq!(service.stored().len(), before);
    browser.click("[data-action=send_frame]").await;
    browser.click("dialog[open] .main").await;
    browser.until("the frame", "document.querySelector('#toast a')?.getAttribute('href').startsWith('/frames/')").await;
    assert_eq!(service.stored().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_the_browser_cannot_show_has_no_boxes_over_a_black_screen() {
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    // Chromium plays the sound of this file, reports no error, and has no pictures.
    let clip = made.make("old.mp4", "-i $face.mp4 -t 2 -c:v mpeg4 -q:v 3 -c:a aac");
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&service.base).await;
    browser.choose("#file", &clip).await;
    browser.until("the word in the preview", "document.querySelector('#preview-blind').checkVisibility()").await;
    assert!(!browser.is_shown("#preview-video").await);
    browser.click("#send").await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    drop(working);
    let told = "document.querySelector('.player .empty').checkVisibility() && document.querySelector('.player .empty').textContent.includes('cannot play')";
    browser.until("the word in the player", told).await;
    assert!(!browser.is_shown(".player video").await);
    let marks = browser.eval("return document.querySelectorAll('.player .boxes *').length").await;
    assert_eq!(marks, json!(0), "no box and no label");
    assert_eq!(browser.eval("return document.querySelector('[data-action=save_frame]').disabled").await, json!(true));
    browser.picture("undecodable").await;
    browser.check_accessibility("a video that cannot be shown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_are_on_the_face_if_the_browser_ignores_the_orientation_in_the_stream() {
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    let x264 = "-an -c:v libx264 -preset veryfast -pix_fmt yuv420p";
    let plain = made.make("plain.mp4", &format!("-i $face.mp4 -t 1 {x264}"));
    made.make("lying.mp4", &format!("-i $face.mp4 -t 1 -vf transpose=0 {x264}"));
    // The stored picture is turned and mirrored, and the stream says how it becomes upright.
    let lying = made.make(
        "turned.mp4",
        "-i $lying.mp4 -c copy -bsf:v h264_metadata=display_orientation=insert:rotate=90:flip=horizontal",
    );
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    let script = "const box = document.querySelector('.player .boxes rect.edge'); const video = document.querySelector('.player video'); \
                  return { box: ['x', 'y', 'width', 'height'].map((side) => Number(box.getAttribute(side))), \
                  view: document.querySelector('.player .boxes').getAttribute('viewBox'), size: [video.videoWidth, video.videoHeight] };";
    let mut seen = Vec::new();
    for clip in [&plain, &lying] {
        browser.goto(&service.base).await;
        browser.choose("#file", clip).await;
        browser.click("#send").await;
        browser.until("a box", "document.querySelector('.player .boxes rect.edge')").await;
        let token = super::token(&browser).await;
        let job: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
        seen.push((job["analysis"]["video"].clone(), browser.eval(script).await));
        browser.picture("orientation").await;
    }
    drop(working);
    let [(upright, plain), (turned, lying)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((&upright["width"], &upright["height"]), (&turned["width"], &turned["height"]));
    assert_eq!(upright.get("stream_orientation"), None);
    assert_eq!((&plain["size"], &lying["size"]), (&json!([640, 360]), &json!([360, 640])), "the browser turns nothing");
    assert_eq!(lying["view"], json!("0 0 360 640"));
    // FFmpeg's filter transpose=0 swaps rows and columns.
    let number = |value: &Value, at: usize| value["box"][at].as_f64().unwrap();
    for (at, swapped) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        let (given, wanted) = (number(lying, at), number(plain, swapped));
        assert!((given - wanted).abs() < 8.0, "{lying} instead of {plain} with rows and columns swapped");
    }
}
