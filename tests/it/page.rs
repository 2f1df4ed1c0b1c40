//! The web page, in a real browser. Screenshots are stored in `target/screens` for inspection.

mod admin;
mod bucket;
mod errors;
mod flow;
mod mail;
mod paper;
mod record;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::clips::Models;
use crate::support::service::Service;

/// Starts a service with the models of the tests.
async fn service(models: &Models) -> Service {
    Service::start(|settings| {
        let given = models.settings();
        settings.models = given.models;
        settings.engine = given.engine;
        settings.http.public_url = String::new();
        settings.mail.confirm = false;
    })
    .await
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
