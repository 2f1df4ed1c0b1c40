//! The client library for JavaScript, in a page of another origin.

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::keys;
use crate::support::browser::Browser;
use crate::support::service::Service;

/// A page that loads the library as it is, without a build step.
const PAGE: &str = "<!doctype html><title>app</title><script type=module>\
                    import { Client, ProblemError } from '/index.js'; window.visage = { Client, ProblemError };</script>";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_sends_a_video_with_the_client_library() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let library = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/javascript/index.js")).unwrap();
    let script = move || async move { ([(header::CONTENT_TYPE, "text/javascript")], library) };
    let app = Router::new().route("/", get(async || Html(PAGE))).route("/index.js", get(script));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let service = Service::start(|settings| settings.cors.origins = vec![origin.clone()]).await;
    service.work().await;

    let browser = Browser::open(800, 600, &[]).await;
    browser.goto(&origin).await;
    browser.until("the library", "window.visage !== undefined").await;
    let clip = base64(&keys::clip());
    let script = format!(
        "(async () => {{ \
           const client = new visage.Client('{base}'); \
           const bytes = Uint8Array.from(atob('{clip}'), (letter) => letter.charCodeAt(0)); \
           const file = new File([bytes], 'clip.mp4', {{ type: 'video/mp4' }}); \
           const result = await client.analyze(file, {{ sample_every: 5, notice: 'given' }}); \
           const report = await client.report(result.token, {{ language: 'fr' }}); \
           const refused = await client.upload(new Blob(['nothing'])).catch((error) => error); \
           window.found = [result.status, result.file_name, result.options.sample_every, report.includes('lang=\"fr\"'), \
                           refused instanceof visage.ProblemError && refused.code && refused.requestId !== null \
                             ? refused.code : String(refused)]; \
         }})().catch((error) => {{ window.found = [String(error)]; }})",
        base = service.base,
    );
    browser.eval(&script).await;
    browser.until("the result", "window.found !== undefined").await;
    let found = browser.eval("return window.found").await;
    assert_eq!(found, serde_json::json!(["done", "clip.mp4", 5, true, "not_a_video"]));
    serving.abort();
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
