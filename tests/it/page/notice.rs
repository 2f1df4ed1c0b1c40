//! What the page tells people before a video is recorded or sent.

use serde_json::{Value, json};

use super::token;
use crate::support::browser::Browser;
use crate::support::clips::Clips;
use crate::support::service::Service;

async fn demanding_service() -> Service {
    Service::start(|settings| {
        settings.notice.required = true;
        settings.notice.operator = "Example Ltd".to_owned();
        settings.notice.link = "https://example.org/privacy".to_owned();
    })
    .await
}

/// Counts the times that the page asks for the camera, in `window.asked`.
async fn count_requests(browser: &Browser) {
    browser
        .eval(
            "window.asked = 0; const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices); \
             navigator.mediaDevices.getUserMedia = (wanted) => { window.asked += 1; return real(wanted); };",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_camera_starts_only_after_a_yes_and_shows_that_it_runs() {
    let service = demanding_service().await;
    let arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"].map(str::to_owned);
    let browser = Browser::open(390, 844, &arguments).await;
    browser.goto(&service.base).await;
    count_requests(&browser).await;
    let title = browser.eval("return document.title").await;
    browser.click("#record").await;
    browser.until("the notice", "document.activeElement.id === 'notice-title'").await;
    let told = browser.text("[data-panel=notice]").await;
    for fact in ["A computer program", "facial expression", "Purpose:", "Example Ltd", "erased", "You may say no"] {
        assert!(told.contains(fact), "{fact}: {told}");
    }
    assert!(browser.is_shown("[data-panel=notice] a[href='https://example.org/privacy']").await);
    browser.picture("notice").await;
    browser.check_accessibility("the notice").await;
    browser.click("#notice-no").await;
    assert!(browser.is_shown("#choose").await);
    assert_eq!(browser.eval("return window.asked").await, json!(0), "no camera without a yes");

    browser.click("#record").await;
    browser.click("#notice-yes").await;
    browser.until("the camera's picture", "document.querySelector('#camera-live').videoWidth").await;
    assert!(browser.text("#camera-on").await.contains("camera is on"));
    assert!(browser.eval("return document.title").await.as_str().unwrap().starts_with('\u{25cf}'));
    browser.eval("window.scrollTo(0, document.body.scrollHeight)").await;
    let seen = "const box = document.querySelector('#camera-on').getBoundingClientRect(); \
                return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth \
                && box.width > innerWidth * 0.6";
    assert_eq!(browser.eval(seen).await, json!(true), "the sign stays in view");
    for language in ["en", "de", "fr", "es"] {
        let lines = "const page = await fetch(`/?language=LANGUAGE`, { headers: { Accept: 'text/html' } }); \
                     const html = new DOMParser().parseFromString(await page.text(), 'text/html'); \
                     const words = html.getElementById('words'); \
                     const sign = document.querySelector('#camera-on span'), told = sign.textContent; \
                     sign.textContent = JSON.parse(words.textContent)['camera.on']; \
                     const seen = [sign.getClientRects().length, sign.scrollWidth <= sign.parentElement.clientWidth, \
                     sign.parentElement.getBoundingClientRect().height < 40]; sign.textContent = told; return seen;";
        let lines = format!("return (async () => {{ {} }})()", lines.replace("LANGUAGE", language));
        assert_eq!(browser.eval(&lines).await, json!([1, true, true]), "the sign has one line: {language}");
    }
    browser.picture("camera-on").await;
    browser.check_accessibility("the camera is on").await;
    browser.click("#camera-go").await;
    browser.until("the sign", "document.querySelector('#camera-on').textContent.includes('recording')").await;
    browser.until("a second", "document.querySelector('#camera-time').textContent >= '0:01'").await;
    browser.click("#camera-stop").await;
    browser.until("the preview", "document.querySelector('#preview-title').checkVisibility()").await;
    assert!(!browser.is_shown("#camera-on").await);
    assert_eq!(browser.eval("return document.title").await, title);

    // The same person may record again without a question, but the next video needs a new yes.
    browser.click("#again").await;
    browser.until("the camera again", "document.querySelector('#camera-on').checkVisibility()").await;
    browser.click("#camera-back").await;
    assert!(!browser.is_shown("#camera-on").await);
    browser.click("#home").await;
    browser.click("#record").await;
    browser.until("the notice again", "document.querySelector('#notice-yes').checkVisibility()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notice_is_shown_before_a_file_is_sent_and_stands_with_its_result() {
    let service = demanding_service().await;
    let clips = Clips::new();
    let clip = clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p");
    let browser = Browser::open(1280, 860, &[]).await;
    for language in ["en", "de", "es", "fr"] {
        let notice: Value = service.get(&format!("/v1/notice?language={language}")).await.json().await.unwrap();
        browser.goto(&format!("{}/?language={language}", service.base)).await;
        browser.until("the start page", "document.readyState === 'complete'").await;
        browser.choose("#file", &clip).await;
        browser.until("the preview", "document.querySelector('#send-notice').checkVisibility()").await;
        let in_view = "return document.querySelector('#send').getBoundingClientRect().bottom <= innerHeight";
        assert_eq!(browser.eval(in_view).await, json!(true), "{language}: the notice does not push the button away");
        let told = browser.text("#send-notice").await;
        for paragraph in notice["text"].as_str().unwrap().split("\n\n") {
            assert!(told.contains(paragraph.trim()), "{language}: {paragraph}: {told}");
        }
        browser.click("#send").await;
        browser.until("the queue", "location.pathname.startsWith('/results/')").await;
        let token = token(&browser).await;
        let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
        assert_eq!(result["notice"]["shown"]["version"], notice["version"], "{result}");
        assert_eq!(result["notice"]["shown"]["language"], language);
    }
    browser.picture("notice-preview").await;
}
