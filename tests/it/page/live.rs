//! Live sessions of the page. Chromium's fake camera plays a clip.

use serde_json::{Value, json};
use visage::store::Scope;

use super::record::fake_camera;
use super::{service, token};
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};
use crate::support::service::Service;

/// A person is in view, with a box, an emotion and a ribbon.
const SEEN: &str = "document.querySelector('#live-boxes text')?.textContent.match(/^1 · \\w+/) \
                    && document.querySelector('[data-live=\"1\"] .ribbon span') \
                    && document.querySelector('[data-live=\"1\"] .contact')";

/// Keeps each WebSocket of the page in `sockets`, its largest number of unanswered pictures in `most`, the refused
/// loads in `violations`, and what is said to screen readers in `told`.
const WATCH: &str = "window.sockets = []; window.most = 0; window.violations = []; window.told = []; const Real = \
                     window.WebSocket; window.WebSocket = class extends Real { constructor(...given) { super(...given); \
                     sockets.push(this); this.waiting = 0; this.addEventListener('message', ({ data }) => { if \
                     (JSON.parse(data).picture) this.waiting -= 1; }); } send(what) { super.send(what); if (what.size > \
                     4000) window.most = Math.max(window.most, (this.waiting += 1)); } }; \
                     document.addEventListener('securitypolicyviolation', (event) => \
                     violations.push(event.blockedURI)); new MutationObserver(() => \
                     told.push([performance.now(), document.getElementById('said').textContent])) \
                     .observe(document.getElementById('said'), { childList: true, characterData: true, subtree: true });";

/// Opens a browser whose camera shows a man who begins to smile.
async fn browser(made: &Clips) -> Browser {
    std::os::unix::fs::symlink(clips::shared("single_face.mp4"), made.path("face.mp4")).unwrap();
    let camera = made.make("camera.mjpeg", "-i $face.mp4 -vf fps=15 -an -q:v 3 -f mjpeg");
    Browser::open(1280, 860, &fake_camera(&camera)).await
}

/// Opens the camera for a live session.
async fn open_camera(browser: &Browser, service: &Service) {
    browser.goto(&service.base).await;
    browser.eval(WATCH).await;
    browser.click("#live").await;
    browser.click("#notice-yes").await;
    let ready = "document.querySelector('#camera-live').videoWidth && !document.querySelector('#camera-go').disabled";
    browser.until("the camera's picture", ready).await;
}

async fn go_live(browser: &Browser) {
    browser.click("#camera-go").await;
    browser.until("a person in view", SEEN).await;
}

async fn finish(browser: &Browser) {
    browser.click("#camera-stop").await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;
}

/// Whether the page is as wide as the window.
async fn fits(browser: &Browser) {
    let overflow = "return document.documentElement.scrollWidth - innerWidth";
    assert!(browser.eval(overflow).await.as_i64().unwrap() <= 0, "the page is wider than the window");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_shows_people_as_they_are_and_ends_in_a_result() {
    let (models, made) = (clips::models(), Clips::new());
    let (service, browser) = (service(&models).await, browser(&made).await);
    open_camera(&browser, &service).await;
    assert_eq!(browser.eval("return sockets.length").await, json!(0), "nothing is sent yet");
    assert!(browser.is_shown("#camera-go [data-purpose=live]").await);
    assert!(!browser.is_shown("#camera-go [data-purpose=record]").await);
    browser.picture("live-ready").await;
    browser.check_accessibility("before a live session").await;

    go_live(&browser).await;
    assert!(browser.text("#camera-on").await.contains("is live"));
    assert!(browser.eval("return document.title").await.as_str().unwrap().contains("is live"));
    // The camera's picture is shown as in a mirror, and so are the boxes: the man stands right of the middle there.
    let place = "const box = document.querySelector('#live-boxes .edge'); const of = (name) => \
                 Number(box.getAttribute(name)); const [, , width, height] = \
                 document.querySelector('#live-boxes').getAttribute('viewBox').split(' ').map(Number); return \
                 [width, (of('x') + of('width') / 2) / width, of('height') / height]";
    let place = browser.eval(place).await;
    assert_eq!(place[0], 640, "pictures are at most 640 wide");
    assert!(place[1].as_f64().unwrap() > 0.5 && place[2].as_f64().unwrap() > 0.3, "{place}");
    browser.until("the clock", "document.querySelector('#camera-time').textContent >= '0:08'").await;
    let line = browser.text("[data-live='1']").await;
    assert!(line.contains("Person 1") && line.to_lowercase().contains("eye contact"), "{line}");
    browser.picture("live-1280").await;
    browser.check_accessibility("a live session").await;
    fits(&browser).await;
    browser.resize(390, 844).await;
    browser.settle().await;
    browser.picture("live-390").await;
    browser.check_accessibility("a live session on a phone").await;
    fits(&browser).await;
    browser.resize(1280, 860).await;
    let most = browser.eval("return window.most").await;
    assert!((1..=2).contains(&most.as_u64().unwrap()), "{most} pictures were unanswered");
    let told: Vec<(f64, String)> = serde_json::from_value(browser.eval("return told").await).unwrap();
    let told: Vec<_> = told.iter().filter(|(_, words)| words.contains("Person 1")).collect();
    assert!(!told.is_empty(), "a screen reader is told");
    assert!(told.windows(2).all(|two| two[1].0 - two[0].0 >= 4900.0), "at most every five seconds: {told:?}");
    let running = browser.eval("return localStorage.getItem('visage-results')").await;
    assert!(running.as_str().unwrap().contains("Live session"), "the list has it: {running}");

    finish(&browser).await;
    assert!(!browser.is_shown("#camera-on").await);
    assert_eq!(browser.eval("return document.querySelector('#camera-live').srcObject").await, json!(null));
    assert_eq!(browser.eval("return violations").await, json!([]), "the policy of the page allows all of this");
    let empty = browser.text(".player .empty").await;
    assert!(empty.contains("no video to play"), "{empty}");
    assert!(!browser.is_shown(".player .empty .button").await, "there is no file to choose");
    browser.picture("live-result").await;
    browser.check_accessibility("the result of a live session").await;
    let result: Value = service.get(&format!("/results/{}", token(&browser).await)).await.json().await.unwrap();
    assert!(result["file_name"].as_str().unwrap().starts_with("Live session, "), "{result}");
    let (analysis, video) = (&result["analysis"], &result["analysis"]["video"]);
    assert_eq!(analysis["faces"].as_array().unwrap().len(), 1, "{result}");
    assert_eq!((&video["width"], &video["has_audio"]), (&json!(640), &json!(true)), "{video}");
    assert!(!result["notice"]["shown"].is_null(), "{result}");
    let (frames, length) = (video["frames_total"].as_f64().unwrap(), video["duration_s"].as_f64().unwrap());
    assert!(length > 7.0 && frames / length <= 15.5, "{video}");
    let codes = analysis["warning_codes"].to_string();
    assert!(!codes.contains("live_pictures_lost"), "{codes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_the_page_opens_a_live_session_by_a_ticket() {
    let (models, made) = (clips::models(), Clips::new());
    let service = Service::start(|settings| {
        let given = models.settings();
        settings.models = given.models;
        settings.engine = given.engine;
        settings.http.public_url = String::new();
        settings.auth.required = true;
    })
    .await;
    let key = crate::keys::key(&service, &[Scope::Analyze, Scope::Read]).await;
    let browser = browser(&made).await;
    open_camera(&browser, &service).await;
    browser.click("#camera-go").await;
    browser.until("the question for the key", "document.querySelector('#key-dialog').open").await;
    browser.click("#key-dialog [value=cancel]").await;
    browser.until("the reason", "document.querySelector('#start-error').checkVisibility()").await;
    assert!(browser.text("#start-error").await.contains("needs a key"));
    assert_eq!(browser.eval("return sockets.length").await, json!(0));

    browser.click("#camera-go").await;
    browser.until("the question for the key", "document.querySelector('#key-dialog').open").await;
    browser.write("#key-field", &format!("{key}\u{e007}")).await;
    browser.until("a person in view", SEEN).await;
    assert!(!browser.is_shown("#start-error").await);
    let opened = browser.eval("return sockets.map(({ url, protocol }) => [url, protocol])").await;
    let url = format!("{}/v1/live", service.base.replace("http://", "ws://"));
    assert_eq!(opened, json!([[url, "visage.live"]]), "neither key nor ticket is in the address");
    finish(&browser).await;
    let token = token(&browser).await;
    assert_eq!(service.get(&format!("/results/{token}")).await.status(), 401);
    let call = service.http.get(format!("{}/results/{token}", service.base)).header("x-api-key", &key);
    let result: Value = call.send().await.unwrap().json().await.unwrap();
    assert_eq!(result["status"], "done", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_live_session_offers_its_result() {
    let (models, made) = (clips::models(), Clips::new());
    let (service, browser) = (service(&models).await, browser(&made).await);
    open_camera(&browser, &service).await;
    // Before a session has begun, the camera stays open after an error.
    browser.eval("window.Before = window.WebSocket; window.WebSocket = class extends Before { constructor(url, ...rest) { super(url.replace('/v1/live', '/v1/nothing'), ...rest); } }").await;
    browser.click("#camera-go").await;
    browser.until("the reason", "document.querySelector('#start-error').checkVisibility()").await;
    assert!(browser.text("#start-error").await.contains("could not be opened"));
    browser.eval("window.WebSocket = Before; sockets.length = 0;").await;

    go_live(&browser).await;
    browser.eval("sockets[0].close()").await;
    browser.until("the message", "document.querySelector('#live-lost').checkVisibility()").await;
    assert!(!browser.is_shown("#camera-on").await, "the camera is off");
    assert!(browser.text("#live-lost").await.contains("connection was lost"));
    browser.picture("live-lost").await;
    browser.check_accessibility("a lost live session").await;
    browser.click("#live-result").await;
    browser.until("the result", "document.querySelector('#timeline-title')").await;

    // The page leaves a session when the person goes elsewhere.
    open_camera(&browser, &service).await;
    go_live(&browser).await;
    browser.click("#home").await;
    assert!(browser.is_shown("#choose").await && !browser.is_shown("#camera-on").await);
    browser.until("the end of the connection", "sockets[0].readyState === WebSocket.CLOSED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_live_sessions_the_page_offers_none() {
    let service = Service::start(|settings| settings.live.max_sessions = 0).await;
    let browser = Browser::open(390, 844, &[]).await;
    browser.goto(&service.base).await;
    browser.until("the start page", "performance.getEntriesByName('usable').length").await;
    assert!(browser.is_shown("#record").await && !browser.is_shown("#live").await);
}
