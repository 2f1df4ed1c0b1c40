//! The web page, in a real browser. Screenshots are stored in `target/screens` for inspection.

mod admin;
mod agreement;
mod bucket;
mod client_library;
mod docs;
mod errors;
mod flow;
mod live;
mod long;
mod mail;
mod notice;
mod paper;
mod people;
mod player;
mod queue;
mod record;
mod scripts;
mod shape;
mod share;
mod start;

use std::path::Path;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::clips::{self, Models};
use crate::support::service::Service;

/// Starts a service with the models of the tests.
async fn service(models: &Models) -> Service {
    Service::start(|settings| {
        let given = models.settings();
        settings.models = given.models;
        settings.engine = given.engine;
        settings.http.public_url = String::new();
    })
    .await
}

/// Sends a file by the page and waits for its result.
async fn result_of(browser: &Browser, base: &str, clip: &Path) {
    browser.goto(base).await;
    browser.choose("#file", clip).await;
    let known = "document.querySelector('#preview-video').readyState >= 2 || document.querySelector('#preview-blind').checkVisibility()";
    browser.until("the preview", known).await;
    browser.click("#send").await;
    browser.until("the result", "document.querySelector('.pair .plain')").await;
}

/// Sends a file by the page and waits for its result. Then nothing else is analyzed.
async fn analyzed(clip: &Path) -> (Models, Service, Browser) {
    let models = clips::models();
    let service = service(&models).await;
    let working = service.work().await;
    let browser = Browser::open(1280, 860, &[]).await;
    result_of(&browser, &service.base, clip).await;
    drop(working);
    (models, service, browser)
}

/// Returns the token in the address of the page.
async fn token(browser: &Browser) -> uuid::Uuid {
    let path = browser.eval("return location.pathname").await;
    path.as_str().unwrap().strip_prefix("/results/").expect("the address has a token").parse().unwrap()
}

/// Records the layout shifts that the browser reports, in `window.shifts`.
async fn watch_shifts(browser: &Browser) {
    let script = "window.shifts = []; new PerformanceObserver((list) => { for (const entry of list.getEntries()) if \
                  (!entry.hadRecentInput) window.shifts.push([entry.value, ...entry.sources.map((source) => \
                  source.node?.outerHTML?.slice(0, 80))]); }).observe({type: 'layout-shift', buffered: true})";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_json_and_a_browser_gets_a_page() {
    let service = Service::start(|_| ()).await;
    let asked = |accept: &'static str, path: &str| {
        service.http.get(format!("{}{path}", service.base)).header("accept", accept).send()
    };
    let page = asked("text/html,*/*;q=0.8", "/").await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let varies: Vec<_> = page.headers().get_all("vary").iter().map(|vary| vary.to_str().unwrap()).collect();
    assert!(varies.contains(&"accept") && varies.contains(&"accept-language"), "{varies:?}");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let html = page.text().await.unwrap();
    for wrong in ["<style", " style=", " onclick=", "http://", "https://", "<script>"] {
        assert!(!html.replace("http://www.w3.org", "").contains(wrong), "{wrong}");
    }
    for accept in ["*/*", "application/json", ""] {
        let health = asked(accept, "/").await.unwrap();
        assert_eq!(health.json::<serde_json::Value>().await.unwrap()["status"], "ok", "{accept}");
    }
    let unknown = format!("/results/{}", uuid::Uuid::nil());
    assert_eq!(asked("text/html", &unknown).await.unwrap().status(), 200, "the page itself shows the error");
    assert_eq!(asked("application/json", &unknown).await.unwrap().status(), 404);

    let style = html.split("href=\"").find(|rest| rest.starts_with("/assets/") && rest.contains("style.css")).unwrap();
    let path = style.split('"').next().unwrap();
    let asset = asked("*/*", path).await.unwrap();
    assert!(asset.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(asked("*/*", "/assets/0000000000000000/style.css").await.unwrap().status(), 404);
    assert_eq!(asked("*/*", &path.replace("style.css", "nothing.css")).await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_at_a_wrong_address_gets_a_page_in_its_language() {
    let service = Service::start(|_| ()).await;
    let nobody = format!("/results/{}/report", uuid::Uuid::nil());
    for (path, wanted) in
        [("/nowhere", "There is nothing at this address"), (&nobody, "There is no result at this address")]
    {
        let asked = |accept: &'static str, language: &'static str| {
            let call = service.http.get(format!("{}{path}", service.base));
            call.header("accept", accept).header("accept-language", language).send()
        };
        let page = asked("text/html,*/*;q=0.8", "en").await.unwrap();
        assert_eq!(page.status(), 404, "{path}");
        assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        let html = page.text().await.unwrap();
        assert!(html.contains(wanted) && html.contains("href=\"/\""), "{path}: {html}");
        let german = asked("text/html", "de").await.unwrap().text().await.unwrap();
        assert!(german.contains("Seite nicht gefunden"), "{path}: {german}");
        let problem = asked("application/json", "en").await.unwrap();
        assert_eq!(problem.headers()["content-type"], "application/problem+json", "{path}");
    }
    let browser = Browser::open(390, 844, &[]).await;
    browser.goto(&format!("{}/nowhere", service.base)).await;
    browser.picture("wrong-address").await;
    browser.check_accessibility("a wrong address").await;
    browser.click(".card .main").await;
    browser.until("the start page", "document.querySelector('#choose')?.checkVisibility()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_icon_is_there_and_static_files_are_not_in_the_request_log() {
    let service = Service::start(|_| ()).await;
    let icon = service.get("/favicon.ico").await;
    assert_eq!(
        (icon.status().as_u16(), icon.headers()["content-type"].to_str().unwrap()),
        (200, "image/vnd.microsoft.icon")
    );
    assert_eq!(icon.bytes().await.unwrap()[..4], [0, 0, 1, 0]);
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&service.base).await;
    browser.until("the start page", "performance.getEntriesByName('usable').length").await;
    let key = crate::keys::key(&service, &[visage::store::Scope::Logs, visage::store::Scope::Admin]).await;
    let logged = async || -> Vec<String> {
        let call = service.http.get(format!("{}/logs", service.base)).header("x-api-key", &key);
        let body: serde_json::Value =
            call.header("date", "2026-01-01T00:00:00Z").send().await.unwrap().json().await.unwrap();
        let entries = body["logs"].as_array().unwrap_or_else(|| panic!("{body}"));
        entries.iter().map(|entry| entry["endpoint"].as_str().unwrap().to_owned()).collect()
    };
    let page = async {
        while !logged().await.iter().any(|endpoint| endpoint == "/") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), page).await.expect("the page is in the log");
    let logged = logged().await;
    assert!(!logged.iter().any(|endpoint| endpoint.contains("assets") || endpoint.contains("favicon")), "{logged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_small() {
    let service = Service::start(|_| ()).await;
    let html =
        service.http.get(&service.base).header("accept", "text/html").send().await.unwrap().text().await.unwrap();
    let links = html.split('"').filter(|part| part.starts_with("/assets/"));
    let paths: std::collections::BTreeSet<&str> = links.chain(["/"]).collect();
    assert!(paths.len() > 10, "{paths:?}");
    let mut total = 0;
    for path in paths {
        let call = service.http.get(format!("{}{path}", service.base));
        let answer = call.header("accept", "text/html").header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip", "{path}");
        total += answer.bytes().await.unwrap().len();
    }
    assert!(total < 70_000, "{total} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_in_the_language_of_its_reader() {
    let service = Service::start(|_| ()).await;
    let page = |query: &str, languages: &'static str| {
        let request = service.http.get(format!("{}/{query}", service.base)).header("accept", "text/html");
        async move { request.header("accept-language", languages).send().await.unwrap().text().await.unwrap() }
    };
    assert!(page("", "de-AT,de;q=0.9").await.contains("<html lang=\"de\">"));
    assert!(page("", "fr-CA").await.contains("<html lang=\"fr\">"));
    assert!(page("", "xx").await.contains("<html lang=\"en\">"));
    for (tag, name) in [("en", "English"), ("de", "Deutsch"), ("es", "Español"), ("fr", "Français")] {
        let link = format!("<a href=\"?language={tag}\" hreflang=\"{tag}\" lang=\"{tag}\">{name}</a>");
        assert!(page("?language=fr", "en").await.contains(&link) == (tag != "fr"), "{tag}");
    }
    assert!(page("?language=de", "en").await.contains("Datei wählen"));
}
