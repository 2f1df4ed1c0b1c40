//! The way from a file to its result on the page.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{service, token, watch_shifts};
use crate::support::browser::{Browser, ENTER, RIGHT, TAB};
use crate::support::clips::{self, frame_times};

const CLIP: &str = "sad_then_happy.mp4";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_and_its_result_shows_both_expressions() {
    let clip = clips::shared(CLIP);
    let models = clips::models();
    let service = service(&models).await;
    let browser = Browser::open(1280, 860, &[]).await;
    watch_shifts(&browser).await;
    browser.goto(&service.base).await;
    browser.until("the start page", "document.readyState === 'complete'").await;
    browser.picture("start").await;
    browser.check_accessibility("start").await;

    browser.choose("#file", &clip).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('640')").await;
    browser.write("input[name=email]", "ann@example.org").await;
    browser.picture("preview").await;
    browser.check_accessibility("preview").await;
    // There is no worker yet, so the page shows a waiting job.
    browser.click("#send").await;
    browser.until("the queue", "document.querySelector('.steps .now')?.textContent.startsWith('Waiting')").await;
    browser.picture("waiting").await;
    browser.check_accessibility("waiting").await;
    let working = service.work().await;
    browser
        .until(
            "progress",
            "document.querySelector('.meter[aria-valuenow]') || document.querySelector('#timeline-title')",
        )
        .await;
    browser.picture("progress").await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    drop(working);
    browser.until("the video", "document.querySelector('.player video').readyState >= 2").await;
    browser.settle().await;
    browser.picture("result").await;
    browser.check_accessibility("result").await;
    assert_eq!(browser.eval("return window.shifts").await, json!([]), "the layout must not shift");

    // The headline and the segments.
    assert_eq!(browser.text(".story h1").await, "First sad, then happy");
    let runs = browser
        .eval(
            "return [...document.querySelectorAll('.segments button')].map((run) => [run.textContent, \
                             parseFloat(run.style.left), parseFloat(run.style.width)])",
        )
        .await;
    let runs: Vec<(String, f64, f64)> = serde_json::from_value(runs).unwrap();
    let share = |name: &str| runs.iter().filter(|run| run.0 == name).map(|run| run.2).sum::<f64>();
    assert!(share("Sad") > 20.0 && share("Happy") > 40.0, "{runs:?}");
    assert!(runs.first().unwrap().0 == "Sad" && runs.last().unwrap().0 == "Happy", "{runs:?}");

    let token = token(&browser).await;
    // A click on the happy segment moves the video there, and the box has its label.
    let last = "[...document.querySelectorAll('.segments button')].at(-1)";
    browser.eval(&format!("{last}.click()")).await;
    browser.until("the jump", "document.querySelector('.player video').currentTime > 8").await;
    browser.until("the box", "document.querySelector('.player .boxes text')?.textContent.includes('Happy')").await;
    browser.picture("result-happy").await;

    // The browser itself makes a boomerang: the clip forwards, then backwards.
    let before = service.stored().len();
    browser.click("[data-action=save_loop]").await;
    browser
        .until("the boomerang", "document.querySelector('#toast').textContent.includes('The boomerang is saved')")
        .await;
    assert_boomerang(&browser.saved("boomerang.").await);
    assert_eq!(service.stored().len(), before, "the service stores nothing for a boomerang");

    // After a reload the page shows the result. The file has to be chosen again, because only the browser had it.
    browser.refresh().await;
    browser.until("the result after the reload", "document.querySelector('#timeline-title')").await;
    assert!(browser.is_shown(".player .empty").await);
    browser.picture("result-without-file").await;
    browser.check_accessibility("the result without its file").await;
    browser.choose(".player input[type=file]", &clip).await;
    browser.until("the player", "document.querySelector('.player video').videoWidth").await;

    // After erasing, neither the page nor the service has the result.
    browser.click(".actions .danger").await;
    browser.until("the question", "document.querySelector('dialog[open]')").await;
    assert_eq!(browser.eval("return document.activeElement.value").await, json!(""), "the Enter key erases nothing");
    browser.picture("erase").await;
    browser.check_accessibility("erase").await;
    browser.click("dialog[open] .danger").await;
    browser
        .until("the start page", "location.pathname === '/' && document.querySelector('#choose').checkVisibility()")
        .await;
    browser.picture("erased").await;
    browser.check_accessibility("erased").await;
    assert_eq!(service.get(&format!("/results/{token}")).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_player_is_in_step_with_a_file_whose_time_stamps_begin_at_10_s() {
    let made = clips::Clips::new();
    std::os::unix::fs::symlink(clips::shared(CLIP), made.path("whole.mp4")).unwrap();
    let late = "-i $whole.mp4 -c copy -output_ts_offset 10 -avoid_negative_ts disabled -movflags \
                empty_moov+default_base_moof+frag_keyframe+frag_discont";
    let clip = made.make("late.mp4", late);
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&service.base).await;
    browser.until("the start page", "document.readyState === 'complete'").await;
    browser.choose("#file", &clip).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('640')").await;
    browser.click("#send").await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    drop(working);
    browser.until("the video", "document.querySelector('.player video').readyState >= 2").await;
    let token = token(&browser).await;
    let result: serde_json::Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let video = &result["analysis"]["video"];
    let (start_s, duration_s) = (video["start_s"].as_f64().unwrap(), video["duration_s"].as_f64().unwrap());
    assert!((start_s - 10.0).abs() < 0.1 && (duration_s - 19.7).abs() < 0.3, "{video}");

    // The smile begins after 9 s.
    browser.eval("[...document.querySelectorAll('.segments button')].at(-1).click()").await;
    browser.until("the jump", "document.querySelector('.player video').currentTime > 18").await;
    browser.until("the box", "document.querySelector('.player .boxes text')?.textContent.includes('Happy')").await;
    browser.eval("[...document.querySelectorAll('.segments button')].at(0).click()").await;
    browser.until("the jump back", "document.querySelector('.player video').currentTime < 18").await;
    browser
        .until("the first box", "/Sad|Neutral/.test(document.querySelector('.player .boxes text')?.textContent)")
        .await;
    let seen = browser.eval("return document.querySelector('.player video').currentTime").await;
    assert!(seen.as_f64().unwrap() >= 9.9, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_link_opens_on_a_phone_in_dark_mode_and_in_german() {
    let clip = clips::shared(CLIP);
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let token = service.accept(std::fs::read(&clip).unwrap()).await;
    service.finished(token).await;
    drop(working);
    let browser = Browser::open(390, 844, &[]).await;
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.devtools("Emulation.setEmulatedMedia", dark).await;
    browser.goto(&format!("{}/results/{token}?language=de", service.base)).await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    assert_eq!(browser.text(".story h1").await, "Erst traurig, dann fröhlich");
    assert_eq!(
        browser.eval("return document.documentElement.scrollWidth <= innerWidth").await,
        json!(true),
        "nothing is wider than the phone"
    );
    browser.picture("phone-dark-german").await;
    browser.check_accessibility("a phone in the dark").await;
    browser.goto(&format!("{}/?language=de", service.base)).await;
    browser.until("the start page", "document.readyState === 'complete'").await;
    browser.picture("phone-start").await;
    browser.check_accessibility("the start page on a phone in the dark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_done_by_keyboard() {
    let clip = clips::shared("single_face.mp4");
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&service.base).await;
    browser.until("the start page", "document.readyState === 'complete'").await;
    let focus = "return document.activeElement.id";
    let mut passed = Vec::new();
    for _ in 0..12 {
        browser.press(TAB).await;
        passed.push(browser.eval(focus).await.as_str().unwrap().to_owned());
        if passed.last().unwrap() == "choose" {
            break;
        }
    }
    assert!(passed.iter().any(|id| id == "choose"), "{passed:?}");
    // The file dialog belongs to the system. The test counts the clicks that open it.
    browser
        .eval(
            "window.opened = 0; document.querySelector('#file').addEventListener('click', (event) => { \
                  window.opened += 1; event.preventDefault(); })",
        )
        .await;
    browser.press(ENTER).await;
    assert_eq!(browser.eval("return window.opened").await, json!(1));
    browser.choose("#file", &clip).await;
    browser.until("the preview has the focus", "document.activeElement.id === 'preview-title'").await;
    for _ in 0..12 {
        browser.press(TAB).await;
        if browser.eval(focus).await == "send" {
            break;
        }
    }
    assert_eq!(browser.eval(focus).await, "send");
    browser.press(ENTER).await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    drop(working);
    // The heading of the card has the focus. Tab reaches the cursor of the timeline from there.
    for _ in 0..25 {
        browser.press(TAB).await;
        if browser.eval("return document.activeElement.getAttribute('role')").await == "slider" {
            break;
        }
    }
    assert_eq!(browser.eval("return document.activeElement.getAttribute('role')").await, "slider");
    let before = browser.eval("return document.activeElement.ariaValueNow").await;
    browser.press(RIGHT).await;
    assert_ne!(browser.eval("return document.activeElement.ariaValueNow").await, before);
    let told = browser.eval("return document.activeElement.ariaValueText").await;
    assert!(told.as_str().unwrap().contains("Person 1"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_span_of_speech_is_drawn_in_the_timeline() {
    let models = clips::models().with("silero_vad.onnx");
    let clip = clips::shared("speech_and_face.mp4");
    let service = service(&models).await;
    let working = service.work().await;
    let token = service.accept(std::fs::read(&clip).unwrap()).await;
    let result = service.finished(token).await;
    drop(working);
    let spans = result["analysis"]["speech"]["spans"].as_array().unwrap();
    assert!(!spans.is_empty());
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&format!("{}/results/{token}", service.base)).await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    browser.until("the lane", "document.querySelector('.plot .talk')").await;
    let drawn = browser
        .eval(
            "return [...document.querySelectorAll('.plot .talk')].map((span) => \
                              [+span.getAttribute('x'), +span.getAttribute('width')])",
        )
        .await;
    let drawn: Vec<[f64; 2]> = serde_json::from_value(drawn).unwrap();
    let width = browser.eval("return document.querySelector('.plot .slider').clientWidth").await.as_f64().unwrap();
    let long = result["analysis"]["video"]["duration_s"].as_f64().unwrap();
    assert_eq!(drawn.len(), spans.len());
    for ([x, wide], span) in drawn.iter().zip(spans) {
        let [start, end] = ["start_s", "end_s"].map(|key| span[key].as_f64().unwrap() / long * width);
        assert!((x - start).abs() < 1.0 && (x + wide - end.min(width)).abs() < 1.5, "{span}: {x} {wide} of {width}");
    }
    browser.picture("result-speech").await;
    browser.check_accessibility("a result with speech").await;
}

/// Asserts that the file is a boomerang: about three seconds at ten frames a second, then the same frames backwards.
fn assert_boomerang(path: &Path) {
    let times = frame_times(path);
    let (count, long) = (times.len(), times.last().copied().unwrap_or_default());
    assert!((40..=70).contains(&count) && (4.5..9.0).contains(&long), "{count} pictures in {long} s");
    let scaled = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(path)
        .args(["-vf", "scale=32:18,format=gray", "-fps_mode", "passthrough", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    let pictures: Vec<&[u8]> = scaled.stdout.chunks_exact(32 * 18).collect();
    let apart = |a: usize, b: usize| -> u32 {
        pictures[a].iter().zip(pictures[b]).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>() / (32 * 18)
    };
    let last = pictures.len() - 1;
    // The first frame and the one at which the clip turns are shown once.
    let gap = apart(1, last) + apart(6, last - 5);
    assert!(gap < 8, "the last frame must resemble the second one: {gap}");
    assert!(apart(0, last / 2) > apart(0, last), "the middle frame must differ from the first one");
}
