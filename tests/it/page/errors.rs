//! What goes wrong, in words that people can act on.

use std::time::Duration;

use jiff::ToSpan;
use serde_json::json;
use visage::clock::{Clock, SystemClock};

use super::service;
use crate::support::browser::Browser;
use crate::support::clips::{self, Clips};
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_will_not_do_is_refused_in_words() {
    let clips = Clips::new();
    let service = Service::start(|settings| settings.http.max_upload = "200 kB".parse().unwrap()).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&service.base).await;
    let complaint = "document.querySelector('#start-error').checkVisibility() && document.querySelector('#start-error').textContent";
    // By its name it is none.
    browser.choose("#file", &clips.write("letter.txt", b"Dear Ann")).await;
    browser.until("the complaint", &format!("({complaint}).includes('not a video')")).await;
    // By its name it is one; the service finds out.
    browser.choose("#file", &clips.write("false.mp4", &[b"Dear Ann".as_slice(), &[0; 4000]].concat())).await;
    browser.click("#send").await;
    browser.until("the complaint", &format!("({complaint}).includes('not a video')")).await;
    browser.picture("not-a-video").await;
    browser.check_accessibility("not a video").await;
    service.is_clean().await;
    // Too large: known before a byte is sent.
    browser.choose("#file", &clips.write("large.mp4", &vec![0; 300_000])).await;
    browser.until("the complaint", &format!("({complaint}).includes('200\\u00a0kB')")).await;
    browser.picture("too-large").await;
    browser.check_accessibility("too large").await;
    // And one that is fine makes the complaint go away.
    browser.choose("#file", &clips.moving("fine.mp4", 1.0, "-c:v libx264")).await;
    browser.until("the preview", "document.querySelector('#preview-facts').textContent.includes('160')").await;
    assert!(!browser.is_shown("#start-error").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_result_says_so() {
    let service = Service::start(|settings| settings.retention.results_d = 1).await;
    let token = service.accept(std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&format!("{}/results/{}", service.base, uuid::Uuid::nil())).await;
    browser
        .until(
            "the word",
            "document.querySelector('#trouble-text').textContent.includes('no result under this address')",
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
    browser.picture("failed").await;
    browser.check_accessibility("failed").await;
    service.store.expire(SystemClock.now(), 10).await.unwrap();
    browser.refresh().await;
    browser
        .until(
            "the end of its time",
            "document.querySelector('#trouble-text').textContent.includes('its time is over')",
        )
        .await;
    browser.picture("expired").await;
    browser.check_accessibility("expired").await;
    browser.click("#trouble-actions .main").await;
    assert!(browser.is_shown("#choose").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_a_lost_connection_and_is_analyzed_once() {
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
    // Slow enough to be cut in the middle.
    network(false, 400_000).await;
    browser.click("#send").await;
    browser.until("some of the upload", "parseFloat(document.querySelector('.meter')?.ariaValueNow) > 5").await;
    network(true, 0).await;
    browser.until("the word", "[...document.querySelectorAll('.story .note')].some((note) => note.checkVisibility() && note.textContent.includes('lost'))").await;
    browser.picture("connection-lost").await;
    browser.check_accessibility("connection lost").await;
    network(false, -1).await;
    browser.until("the queue", "location.pathname.startsWith('/results/')").await;
    assert_eq!(service.store.queue_depth().await.unwrap(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_away_in_the_middle_is_waited_for() {
    let service = Service::start(|_| ()).await;
    let token = service.accept(std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&format!("{}/results/{token}", service.base)).await;
    browser.until("the queue", "document.querySelector('.steps .now')?.textContent.startsWith('Waiting')").await;
    let (address, folder, database) =
        (service.address().to_owned(), service.settings.storage.folder.clone(), service.settings.database.clone());
    // The files stay: it is the process that goes.
    let kept = service.folder.path().to_owned();
    service.stop.cancel();
    let _files = service.leave().await;
    let lost = "[...document.querySelectorAll('.story .note')].some((note) => note.checkVisibility())";
    browser.until("the word", lost).await;
    browser.picture("service-gone").await;
    browser.check_accessibility("the service is gone").await;
    assert!(kept.is_dir());
    let again = Service::start_at(&address, |settings| {
        settings.database = database;
        settings.storage.folder = folder;
    })
    .await;
    browser.until("it goes on", &format!("!({lost})")).await;
    again.http.delete(format!("{}/results/{token}", again.base)).send().await.unwrap();
    browser
        .until(
            "the end",
            "document.querySelector('#trouble-text').textContent.includes('no result under this address')",
        )
        .await;
}
