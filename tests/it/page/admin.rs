//! The operator's page and its calls.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use visage::clock::{Clock, SystemClock};
use visage::store::{JobFailure, Scope};

use crate::keys::key;
use crate::support::browser::Browser;
use crate::support::clips::Clips;
use crate::support::service::Service;

const TROUBLE: &str = "The video could not be read from storage. Upload it again later.";

/// Adds a failed job whose video still exists. Returns its token.
async fn failed(service: &Service) -> uuid::Uuid {
    let token = service.accept(std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let now = SystemClock.now();
    let claim = service.store.claim("w", now, Duration::from_secs(60)).await.unwrap().unwrap();
    let failure = JobFailure { code: "storage_unavailable".to_owned(), detail: TROUBLE.to_owned(), reason: None };
    service.store.give_up(&claim, &failure, &[], now, None).await.unwrap();
    token
}

async fn overview(service: &Service, key: &str) -> Value {
    let call = service.http.get(format!("{}/v1/admin/overview", service.base)).bearer_auth(key);
    call.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_calls_need_the_scope_admin() {
    let service = Service::start(|_| ()).await;
    let other = key(&service, &[Scope::Read, Scope::Logs, Scope::Analyze]).await;
    let path = format!("{}/v1/admin/overview", service.base);
    assert_eq!(service.http.get(&path).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(service.http.get(&path).bearer_auth(&other).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let retry = format!("{}/v1/admin/jobs/{}/retry", service.base, uuid::Uuid::nil());
    assert_eq!(service.http.post(&retry).bearer_auth(&other).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let admin = key(&service, &[Scope::Admin]).await;
    assert_eq!(service.http.post(&retry).bearer_auth(&admin).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_can_run_again_while_its_video_exists() {
    let service = Service::start(|_| ()).await;
    let (token, admin) = (failed(&service).await, key(&service, &[Scope::Admin]).await);
    let before = overview(&service, &admin).await;
    assert_eq!(before["failures"][0]["can_retry"], true);
    assert_eq!(before["failures"][0]["code"], "storage_unavailable");
    assert_eq!(before["throughput"].as_array().unwrap().len(), 24);
    assert_eq!(before["throughput"][23]["failed"], 1);
    let retry = format!("{}/v1/admin/jobs/{token}/retry", service.base);
    let again = async || service.http.post(&retry).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(again().await.status(), StatusCode::ACCEPTED);
    let after = overview(&service, &admin).await;
    assert_eq!((&after["queue"]["queued"], after["failures"].as_array().unwrap().len()), (&1.into(), 0));
    let refused = again().await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "not_failed");

    let claim = service.store.claim("w", SystemClock.now(), Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((claim.token, claim.attempt), (token, 1), "the number of runs starts again");
    let failure = JobFailure { code: "storage_unavailable".to_owned(), detail: TROUBLE.to_owned(), reason: None };
    service.store.give_up(&claim, &failure, &[], SystemClock.now(), None).await.unwrap();
    service.store.video_deleted(token).await.unwrap();
    let refused = again().await;
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "video_gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_page_shows_jobs_workers_and_requests() {
    let service = Service::start(|settings| settings.retention.failed_videos_h = 24).await;
    let gone = failed(&service).await;
    service.store.video_deleted(gone).await.unwrap();
    let token = failed(&service).await;
    let other = service.accept(std::fs::read(Clips::new().moving("b.mp4", 2.0, "-c:v libx264")).unwrap()).await;
    service.store.claim("host-1", SystemClock.now(), Duration::from_secs(600)).await.unwrap().unwrap();
    service.store.worker_seen("host-1", 2, SystemClock.now()).await.unwrap();
    service.store.worker_seen("host-0", 2, SystemClock.now() - Duration::from_secs(3600)).await.unwrap();
    let admin = key(&service, &[Scope::Admin]).await;
    let browser = Browser::open(1280, 900, &[]).await;
    browser.goto(&format!("{}/admin", service.base)).await;
    browser.until("the form", "document.querySelector('#key')").await;
    browser.picture("admin-sign-in").await;
    browser.check_accessibility("signing in").await;
    browser.write("#key", "vis_wrong_key").await;
    browser.click(".signin .main").await;
    browser.until("the refusal", "document.querySelector('.signin .bad')?.textContent.includes('not valid')").await;
    browser.write("#key", &admin).await;
    browser.click(".signin .main").await;
    browser.until("the operator's page", "document.querySelector('#log table')").await;
    let now = browser.text("#now").await;
    assert!(now.contains(TROUBLE) && now.contains("host-1") && now.contains("silent"), "{now}");
    assert!(now.contains("kept for 24 hours") && now.contains("video erased"), "{now}");
    let buttons = browser.eval("return document.querySelectorAll('#now td .button').length").await;
    assert_eq!(buttons, 1, "only a job whose video exists can run again");
    assert!(now.contains(&other.to_string()[..8]) && now.contains(&token.to_string()[..8]), "{now}");
    browser.picture("admin").await;
    browser.check_accessibility("the operator's page").await;

    browser.write("input[name=status_code]", "202").await;
    browser.click(".filters button").await;
    let shown = "[...document.querySelectorAll('#log tbody tr')].length && [...document.querySelectorAll('#log tbody \
                 tr')].every((row) => row.cells[3].textContent === '202' && row.cells[2].textContent === \
                 '/analyze-video')";
    browser.until("the filtered log", shown).await;

    browser.click("#now td .button").await;
    browser
        .until("the job in the queue", "document.querySelector('#toast').textContent.includes('back in the queue')")
        .await;
    assert_eq!(service.store.queue_depth().await.unwrap(), (1, 1));
    assert_eq!(browser.eval("return document.cookie").await, "", "no cookie is set");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_explains_why_jobs_without_videos_cannot_run_again() {
    let service = Service::start(|_| ()).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let browser = Browser::open(390, 844, &[]).await;
    browser.goto(&format!("{}/admin", service.base)).await;
    browser.write("#key", &admin).await;
    browser.click(".signin .main").await;
    browser.until("the operator's page", "document.querySelector('#log table')").await;
    browser.picture("admin-empty-phone").await;
    assert!(browser.text("#now").await.contains("Nothing has failed"));
    let token = failed(&service).await;
    service.store.video_deleted(token).await.unwrap();
    // The page refreshes itself.
    browser
        .until("the reason", "document.querySelector('#retries')?.textContent.includes('retention.failed_videos_h')")
        .await;
    assert_eq!(overview(&service, &admin).await["failed_videos_h"], 0);
    assert!(!browser.is_shown("#now td .button").await);
    browser.picture("admin-phone").await;
    browser.check_accessibility("the operator's page on a phone").await;
    assert_eq!(browser.eval("return document.documentElement.scrollWidth <= innerWidth").await, true);
}
