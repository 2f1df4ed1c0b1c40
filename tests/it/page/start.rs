//! The form, the progress of an analysis, and results without a face or a sound.

use serde_json::{Value, json};

use super::{analyzed, result_of, service};
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};
use crate::support::service::Service;

async fn options(browser: &Browser, service: &Service) -> Value {
    browser.until("the queue", "location.pathname.startsWith('/results/')").await;
    let token = super::token(browser).await;
    service.get(&format!("/results/{token}")).await.json::<Value>().await.unwrap()["options"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn detail_has_three_levels_and_a_short_video_is_sampled_five_times_a_second() {
    let made = Clips::new();
    let service = Service::start(|_| ()).await;
    let browser = Browser::open(1000, 860, &[]).await;
    let short = made.moving("short.mp4", 4.0, "-c:v libx264 -pix_fmt yuv420p");
    let long = made.make("long.mp4", "-f lavfi -i color=size=160x120:rate=5:duration=75 -c:v libx264 -pix_fmt yuv420p");
    for (clip, level, wanted, told) in [
        (&short, None, json!(5), "20 samples"),
        (&short, Some("quick"), json!(2), "8 samples"),
        (&short, Some("fine"), json!(15), "60 samples"),
        (&long, None, Value::Null, "1 frame in 20"),
        (&long, Some("fine"), json!(5), "375 samples"),
    ] {
        browser.goto(&service.base).await;
        browser.choose("#file", clip).await;
        browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('160')").await;
        if let Some(level) = level {
            browser.eval(&format!("document.querySelector('input[value={level}]').click()")).await;
        }
        let note = browser.text("#detail-note").await;
        assert!(note.contains(told), "{note}");
        browser.click("#send").await;
        let options = options(&browser, &service).await;
        assert_eq!((&options["samples_per_second"], &options["sample_every"]), (&wanted, &json!(20)), "{level:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_a_second_are_taken_whatever_the_frame_rate() {
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let clip = std::fs::read(clips::shared("single_face.mp4")).unwrap();
    let form = crate::support::service::video_form(clip).text("samples_per_second", "5");
    let answer: Value = service.upload(form).await.json().await.unwrap();
    let result = service.finished(answer["token"].as_str().unwrap().parse().unwrap()).await;
    drop(working);
    // 2.4 s of 30 frames a second, every 6th.
    assert_eq!(result["analysis"]["video"]["frames_analyzed"], 12, "{result}");
    let form = reqwest::multipart::Form::new().text("samples_per_second", "61");
    let refused: Value = service.upload(form).await.json().await.unwrap();
    assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_option"), &json!("samples_per_second")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_goes_to_several_addresses() {
    let models = clips::models();
    let service = service(&models).await;
    let browser = Browser::open(1000, 860, &[]).await;
    browser.goto(&service.base).await;
    browser.choose("#file", &clips::shared("single_face.mp4")).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('640')").await;
    browser.write("input[name=email]", "ann@example.org, bob@example.org").await;
    browser.click("#send").await;
    let working = service.work().await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
    let outbox = service.settings.mail.outbox.clone();
    let mails = || {
        let entries = std::fs::read_dir(&outbox).map_or_else(|_| vec![], |entries| entries.flatten().collect());
        let mails = entries.iter().filter(|entry| entry.path().extension().is_some_and(|end| end == "eml"));
        mails.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect::<String>()
    };
    let both = async {
        while !["ann@example.org", "bob@example.org"].iter().all(|address| mails().contains(address)) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), both).await.expect("a mail for each address");
    drop(working);
}

#[tokio::test(flavor = "multi_thread")]
async fn bar_and_number_of_the_progress_agree() {
    let made = Clips::new();
    let clip = made.write("clip.mp4", &std::fs::read(clips::shared("sad_then_happy.mp4")).unwrap());
    let service = Service::start(|_| ()).await;
    let browser = Browser::open(1000, 860, &[]).await;
    browser.goto(&service.base).await;
    browser.choose("#file", &clip).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('640')").await;
    browser.devtools("Network.enable", json!({})).await;
    let slow = json!({"offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 300_000});
    browser.devtools("Network.emulateNetworkConditions", slow).await;
    // Reads both in each frame.
    let watch = "window.progress = []; (function read() { const bar = document.querySelector('.meter > i'); const number = document.querySelector('.percent'); \
                 if (bar && number && number.textContent.includes('%')) window.progress.push([new DOMMatrix(getComputedStyle(bar).transform).a * 100, parseFloat(number.textContent)]); \
                 requestAnimationFrame(read); })()";
    browser.eval(watch).await;
    browser.click("#send").await;
    browser.until("some progress", "new Set(window.progress.map((pair) => pair[1])).size > 4").await;
    let seen: Vec<[f64; 2]> = serde_json::from_value(browser.eval("return window.progress").await).unwrap();
    for [bar, number] in seen {
        assert!((bar - number).abs() < 0.01, "the bar is at {bar}%, the number says {number}%");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_without_a_face_gets_tips_and_another_try() {
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    result_of(&browser, &service.base, &clips::shared("no_face.mp4")).await;
    assert_eq!(browser.text(".story h1").await, "No face was found");
    let tips = browser.text("#tips").await;
    assert!(tips.contains("light") && tips.contains("whole face"), "{tips}");
    let warned = "return [...document.querySelectorAll('#more .note')].map((note) => note.textContent).join()";
    let warned = browser.eval(warned).await;
    assert!(!warned.as_str().unwrap().to_lowercase().contains("face"), "no warning repeats it: {warned}");
    browser.picture("no-face").await;
    browser.check_accessibility("no face").await;
    let first = super::token(&browser).await;
    browser.click("[data-action=again]").await;
    let again = format!(
        "location.pathname.startsWith('/results/') && !location.pathname.includes('{first}') && document.querySelector('#tips')"
    );
    browser.until("the second result", &again).await;
    drop(working);
    let options = options(&browser, &service).await;
    assert_eq!(options["samples_per_second"], 15);
    assert!(!browser.is_shown("[data-action=again]").await, "it cannot get finer");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_no_warning() {
    let made = Clips::new();
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    let clip = made.make("silent.mp4", "-i $face.mp4 -an -c:v copy");
    let (_models, service, browser) = analyzed(&clip).await;
    let token = super::token(&browser).await;
    let job: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    let sentence = job["analysis"]["warnings"][0].as_str().unwrap();
    assert_eq!(job["analysis"]["warning_codes"][0]["code"], "no_sound");
    assert!(browser.text("#speech").await.contains(sentence));
    let warned = browser
        .eval("return [...document.querySelectorAll('#more .note')].map((note) => note.textContent).join()")
        .await;
    assert!(!warned.as_str().unwrap().contains(sentence), "{warned}");
}
