//! A result that is opened by a share link, in a service that needs keys.

use reqwest::Method;
use serde_json::json;

use crate::share::{Link, Shared};
use crate::support::browser::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn a_share_link_shows_the_result_without_a_question_for_a_key() {
    let shared = Shared::start(|_| ()).await;
    let Link { id, share } = shared.link().await;
    let browser = Browser::open(1280, 860, &[]).await;
    browser.goto(&format!("{}/results/{id}?share={share}", shared.service.base)).await;
    browser.until("the result", "document.querySelector('#take-title')").await;
    assert!(!browser.is_shown("dialog[open]").await, "no key is asked for");
    // This browser did not send the file, so the service tells its name.
    assert_eq!(browser.text("#stage .name").await, "clip.mp4");
    let actions = browser.text(".actions").await;
    assert!(!actions.contains("Erase"), "{actions}");
    let report = browser.eval("return document.querySelector('.actions a').getAttribute('href')").await;
    let report = shared.ask(Method::GET, report.as_str().unwrap()).await;
    assert_eq!(report.status(), 200);
    browser.picture("shared").await;
    // The next video has nothing to do with the link.
    browser.click("#new").await;
    browser.until("the start page", "document.querySelector('#choose').checkVisibility()").await;
    assert_eq!(browser.eval("return location.pathname + location.search").await, json!("/"));
    // For a damaged link, the page offers no second try.
    browser.goto(&format!("{}/results/{id}?share={share}x", shared.service.base)).await;
    browser.until("the error", "document.querySelector('#trouble').checkVisibility()").await;
    assert!(browser.text("#trouble-text").await.starts_with("This link is not valid"));
    assert_eq!(browser.eval("return document.querySelectorAll('#trouble-actions button').length").await, json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_copies_a_share_link_that_opens_the_result() {
    let shared = Shared::start(|_| ()).await;
    let browser = Browser::open(1280, 860, &[]).await;
    let granted =
        json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": shared.service.base});
    browser.devtools("Browser.grantPermissions", granted).await;
    browser.goto(&shared.service.base).await;
    browser.eval(&format!("sessionStorage.setItem('visage-key', {:?})", shared.key)).await;
    browser.goto(&format!("{}/results/{}", shared.service.base, shared.token)).await;
    browser.until("the result", "document.querySelector('#take-title')").await;
    browser
        .eval("window.copied = ''; navigator.clipboard.writeText = async (text) => { window.copied = text; };")
        .await;
    let copy = "[...document.querySelectorAll('.actions button')].find((button) => /link/i.test(button.textContent))";
    browser.eval(&format!("{copy}.click()")).await;
    browser.until("the copy", "window.copied").await;
    let copied = browser.eval("return window.copied").await;
    let path = copied.as_str().unwrap().strip_prefix(&shared.service.base).unwrap();
    assert_eq!(shared.ask(Method::GET, path).await.status(), 200, "{copied}");
}
