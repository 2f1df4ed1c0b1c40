//! The page's error messages.

use std::time::Duration;

use jiff::ToSpan;
use serde_json::json;
use visage::clock::{Clock, SystemClock};

use super::service;
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_analyzed_is_refused_with_a_reason() {
    let clips = Clips::new();
    let service = Service::start(|settings| settings.http.max_upload = "200 kB".parse().unwrap()).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&service.base).await;
    let message = "document.querySelector('#start-error').checkVisibility() && \
                     document.querySelector('#start-error').textContent";
    // The page rejects the file by its name.
    browser.choose("#file", &clips.write("letter.txt", b"Dear Ann")).await;
    browser.until("the error message", &format!("({message}).includes('not a video')")).await;
    // The name is that of a video. The service rejects the file.
    browser.choose("#file", &clips.write("false.mp4", &[b"Dear Ann".as_slice(), &[0; 4000]].concat())).await;
    browser.click("#send").await;
    browser.until("the error message", &format!("({message}).includes('not a video')")).await;
    browser.picture("not-a-video").await;
    browser.check_accessibility("not a video").await;
    service.is_clean().await;
    // The page rejects a file that is too large before it sends anything.
    browser.choose("#file", &clips.write("large.mp4", &vec![0; 300_000])).await;
    browser.until("the error message", &format!("({message}).includes('200\\u00a0kB')")).await;
    browser.picture("too-large").await;
    browser.check_accessibility("too large").await;
    // A good file removes the message.
    browser.choose("#file", &clips.moving("fine.mp4", 1.0, "-c:v libx264")).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('160')").await;
    assert!(!browser.is_shown("#start-error").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_result_is_explained_on_the_page() {
    let service = Service::start(|settings| settings.retention.results_d = 1).await;
    let token = service.accept(std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&format!("{}/results/{}", service.base, uuid::Uuid::nil())).await;
    browser
        .until(
            "the message",
            "document.querySelector('#trouble-text').textContent.includes('no result at this address')",
        )
        .await;
    browser.picture("unknown").await;
    browser.check_accessibility("unknown").await;

    let claim = service.store.claim("w", SystemClock.now(), Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(claim.token, token);
    let failure = visage::store::JobFailure {
        code: "damaged".to_owned(),
        detail: "The file is damaged.".to_owned(),
        reason: None,
    };
    let past = SystemClock.now() - 1.hour();
    service.store.give_up(&claim, &failure, &[], past, Some(past)).await.unwrap();
    browser.goto(&format!("{}/results/{token}", service.base)).await;
    browser
        .until("the failure", "document.querySelector('#trouble-title').textContent.includes('could not be analyzed')")
        .await;
    assert!(browser.text("#trouble-text").await.contains("The file is damaged"));
    assert_eq!(browser.text("#trouble-file").await, "clip.mp4");
    browser.picture("failed").await;
    browser.check_accessibility("failed").await;
    service.store.expire(SystemClock.now(), 10).await.unwrap();
    browser.refresh().await;
    browser
        .until(
            "the message that the result has expired",
            "document.querySelector('#trouble-text').textContent.includes('retention period is over')",
        )
        .await;
    browser.picture("expired").await;
    browser.check_accessibility("expired").await;
    browser.click("#trouble-actions .main").await;
    assert!(browser.is_shown("#choose").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_continues_after_a_lost_connection_and_is_queued_once() {
    let clip = clips::shared("sad_then_happy.mp4");
    let models = clips::models();
    let service = service(&models).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&service.base).await;
    browser.choose("#file", &clip).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('640')").await;
    browser.devtools("Network.enable", json!({})).await;
    let network = |offline: bool, upload: i64| {
        let conditions =
            json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload});
        browser.devtools("Network.emulateNetworkConditions", conditions)
    };
    // At this rate the upload is still running when the connection is cut.
    network(false, 400_000).await;
    browser.click("#send").await;
    browser.until("some of the upload", "parseFloat(document.querySelector('.meter')?.ariaValueNow) > 5").await;
    network(true, 0).await;
    browser
        .until(
            "the message",
            "[...document.querySelectorAll('.story .note')].some((note) => note.checkVisibility() && \
                               note.textContent.includes('lost'))",
        )
        .await;
    browser.picture("connection-lost").await;
    browser.check_accessibility("connection lost").await;
    network(false, -1).await;
    browser.until("the queue", "location.pathname.startsWith('/results/')").await;
    assert_eq!(service.store.queue_depth().await.unwrap(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_waits_for_a_service_that_restarts() {
    let service = Service::start(|_| ()).await;
    let token = service.accept(std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&format!("{}/results/{token}", service.base)).await;
    browser.until("the queue", "document.querySelector('.steps .now')?.textContent.startsWith('Waiting')").await;
    let (address, folder, database) =
        (service.address().to_owned(), service.settings.storage.folder.clone(), service.settings.database.clone());
    // Only the process ends. Its files stay.
    let kept = service.folder.path().to_owned();
    service.stop.cancel();
    let _files = service.leave().await;
    let lost = "[...document.querySelectorAll('.story .note')].some((note) => note.checkVisibility())";
    browser.until("the message", lost).await;
    browser.picture("service-gone").await;
    browser.check_accessibility("the service is gone").await;
    assert!(kept.is_dir());
    let again = Service::start_at(&address, |settings| {
        settings.database = database;
        settings.storage.folder = folder;
    })
    .await;
    browser.until("the page to continue", &format!("!({lost})")).await;
    again.http.delete(format!("{}/results/{token}", again.base)).send().await.unwrap();
    browser
        .until(
            "the message that the result is gone",
            "document.querySelector('#trouble-text').textContent.includes('no result at this address')",
        )
        .await;
}
