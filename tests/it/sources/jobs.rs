//! From the address to the result: a worker fetches the video, and every failure is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AnyPool, AssertSqlSafe};
use tokio_util::sync::CancellationToken;
use visage::clock::{Clock, ManualClock, SystemClock};
use visage::config::ByteSize;
use visage::store::{Scope, Status};

use super::{Recorder, accept, allow_outside, eventually, quick, work, worker};
use crate::keys::{clip, key};
use crate::support::clips;
use crate::support::log::RecordedLog;
use crate::support::service::Service;
use crate::support::web::WebServer;

async fn count(service: &Service, sql: &str) -> i64 {
    let pool = AnyPool::connect(service.settings.database.url.expose()).await.unwrap();
    let count = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await.unwrap();
    pool.close().await;
    count
}

/// Waits until neither the storage nor the database has a video.
async fn nothing_is_left(service: &Service) {
    let is_empty = async || service.stored().is_empty() && service.store.video_count().await.unwrap() == 0;
    eventually("nothing is left", is_empty).await;
}

#[tokio::test]
async fn a_video_is_fetched_analyzed_and_deleted() {
    let (server, service) = (WebServer::start(clip()).await, Service::start(quick).await);
    let recorder = Recorder::default();
    let token = accept(&service, &server.url("/video.mp4?signature=secret")).await;
    let waiting: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert_eq!((&waiting["status"], &waiting["progress"]["stage"]), (&json!("queued"), &json!("waiting")));
    work(&service, recorder.clone());
    let result = service.finished(token).await;
    assert_eq!((&result["status"], &result["attempts"]), (&json!("done"), &json!(1)), "{result}");
    assert_eq!(recorder.seen(), [clip()]);
    assert_eq!(server.requests("/video.mp4"), 1);
    nothing_is_left(&service).await;
    assert_eq!(count(&service, "SELECT COUNT(*) FROM jobs WHERE video_url IS NOT NULL").await, 0);
    for path in ["/redirect?/video.mp4", "/chunked.mp4"] {
        let result = service.finished(accept(&service, &server.url(path)).await).await;
        assert_eq!(result["status"], "done", "{path}: {result}");
    }
    assert_eq!(recorder.seen(), [clip(), clip(), clip()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_video_gives_the_result_of_an_upload() {
    let models = clips::models();
    let video = std::fs::read(clips::shared("single_face.mp4")).unwrap();
    let server = WebServer::start(video.clone()).await;
    let select = models.select();
    let service = Service::start(|settings| {
        quick(settings);
        select(settings);
    })
    .await;
    service.work().await;
    let (uploaded, fetched) = (service.accept(video).await, accept(&service, &server.url("/video.mp4")).await);
    let (uploaded, fetched) = (service.finished(uploaded).await, service.finished(fetched).await);
    assert_eq!((&uploaded["status"], &fetched["status"]), (&json!("done"), &json!("done")), "{fetched}");
    assert_eq!(fetched["analysis"]["video"], uploaded["analysis"]["video"]);
    assert_eq!(fetched["analysis"]["faces"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_failure_has_a_code_and_tells_the_host_only() {
    let server = WebServer::start(clip().repeat(1 + 300_000 / clip().len())).await;
    let service = Service::start(|settings| {
        quick(settings);
        settings.http.max_upload = ByteSize(1_000_000);
        settings.sources.max_fetch_s = 3;
    })
    .await;
    let log = RecordedLog::start();
    work(&service, Recorder::default());
    let redirect = |to: &str| format!("/redirect?{to}");
    let expected = [
        ("/missing.mp4".to_owned(), "video_refused", "answered with status 404", 1),
        ("/partial.mp4".to_owned(), "video_refused", "answered with status 206", 1),
        ("/busy.mp4".to_owned(), "video_refused", "answered with status 503", 2),
        ("/short.mp4".to_owned(), "video_unreachable", "127.0.0.2 did not answer", 2),
        ("/stalled.mp4".to_owned(), "video_unreachable", "127.0.0.2 did not answer", 2),
        ("/silent.mp4".to_owned(), "video_unreachable", "127.0.0.2 did not answer", 2),
        ("/garbage".to_owned(), "video_unreachable", "127.0.0.2 did not answer", 2),
        ("/slow.mp4".to_owned(), "video_too_slow", "from 127.0.0.2 within", 1),
        ("/endless.mp4".to_owned(), "video_too_large", "the limit is 1 MB", 1),
        ("/huge.mp4".to_owned(), "video_too_large", "the limit is 1 MB", 1),
        ("/page.html".to_owned(), "not_a_video", "not a video", 1),
        ("/empty.mp4".to_owned(), "not_a_video", "not a video", 1),
        ("/loop".to_owned(), "too_many_redirects", "more than 5 times", 6),
        (redirect("https://10.0.0.1/secret"), "address_refused", "from 10.0.0.1", 1),
        (redirect("http://localhost/secret"), "address_refused", "from localhost", 1),
        (redirect("file:///etc/secret"), "address_refused", "may not fetch", 1),
    ];
    let mut tokens = Vec::new();
    for (path, ..) in &expected {
        let mark = if path.contains('?') { "" } else { "?signature=secret" };
        tokens.push(accept(&service, &server.url(&format!("{path}{mark}"))).await);
    }
    for ((path, code, told, requests), token) in expected.iter().zip(tokens) {
        let result = service.finished(token).await;
        let error = &result["error"];
        assert_eq!((&result["status"], &error["code"]), (&json!("failed"), &json!(code)), "{path}: {result}");
        assert!(error["detail"].as_str().unwrap().contains(told), "{path}: {error}");
        assert!(!result.to_string().contains("secret"), "{path}: {result}");
        let base = path.split('?').next().unwrap();
        if base != "/redirect" {
            assert_eq!(server.requests(base), *requests, "{path}");
        }
        let page = service.get(&format!("/results/{token}/report?language=de")).await.text().await.unwrap();
        assert!(!page.contains("secret"), "{page}");
    }
    // Nothing is left in the storage, and no address in the database.
    nothing_is_left(&service).await;
    assert_eq!(count(&service, "SELECT COUNT(*) FROM jobs WHERE video_url IS NOT NULL").await, 0);
    let admin = key(&service, &[Scope::Admin]).await;
    let seen = service.http.get(format!("{}/v1/admin/overview", service.base)).bearer_auth(admin).send().await.unwrap();
    let seen = seen.text().await.unwrap();
    assert!(seen.contains("video_unreachable") && !seen.contains("secret"), "{seen}");
    let log = log.text();
    assert!(log.contains("127.0.0.2") && log.contains("fetch ended"), "{log}");
    for secret in ["secret", "signature", ".mp4"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn a_fault_that_passes_is_tried_again() {
    let (server, service) = (WebServer::start(clip()).await, Service::start(quick).await);
    work(&service, Recorder::default());
    for path in ["/busy-once.mp4", "/broken-once.mp4"] {
        let result = service.finished(accept(&service, &server.url(path)).await).await;
        assert_eq!((&result["status"], &result["attempts"]), (&json!("done"), &json!(1)), "{path}: {result}");
        assert_eq!(server.requests(path), 2);
    }
    nothing_is_left(&service).await;
}

#[tokio::test]
async fn erasing_a_job_closes_the_connection_and_leaves_nothing() {
    let (server, service) = (WebServer::start(clip()).await, Service::start(quick).await);
    work(&service, Recorder::default());
    let token = accept(&service, &server.url("/held.mp4")).await;
    server.holds(1).await;
    let running: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
    assert_eq!((&running["status"], &running["progress"]["stage"]), (&json!("running"), &json!("fetching")));
    let erased = service.http.delete(format!("{}/results/{token}", service.base)).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    server.holds(0).await;
    nothing_is_left(&service).await;
    assert_eq!(service.get(&format!("/results/{token}")).await.status(), 404);
}

#[tokio::test]
async fn a_shutdown_hands_the_job_back_without_counting_an_attempt() {
    let server = WebServer::start(clip()).await;
    let service = Service::start(|settings| {
        quick(settings);
        settings.queue.shutdown_grace_s = 0;
    })
    .await;
    let (stop, recorder) = (CancellationToken::new(), Recorder::default());
    let first = tokio::spawn(worker(&service, recorder.clone()).run(stop.clone()));
    let token = accept(&service, &server.url("/held.mp4")).await;
    server.holds(1).await;
    stop.cancel();
    first.await.unwrap();
    server.holds(0).await;
    let job = service.store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempts, job.is_unfetched), (Status::Queued, 0, true));
    work(&service, recorder.clone());
    assert_eq!(service.finished(token).await["status"], "done");
    assert_eq!(recorder.seen(), [clip()]);
}

#[tokio::test]
async fn slow_servers_of_one_client_hold_up_no_other_job() {
    let server = WebServer::start(clip()).await;
    let service = Service::start(|settings| {
        allow_outside(settings);
        settings.queue.concurrency = 1;
        settings.queue.poll_s = 1;
        settings.sources.max_concurrent = 3;
        settings.sources.max_concurrent_client = 2;
    })
    .await;
    work(&service, Recorder::default());
    let mut stalled = Vec::new();
    for _ in 0..5 {
        stalled.push(accept(&service, &server.url("/silent.mp4")).await);
    }
    eventually("two videos are being fetched", async || server.requests("/silent.mp4") == 2).await;
    // An upload is analyzed meanwhile, and the video of another client is fetched.
    let uploaded = service.accept(clip()).await;
    assert_eq!(service.finished(uploaded).await["status"], "done");
    let other = key(&service, &[Scope::Analyze, Scope::Read]).await;
    let call = service.http.post(format!("{}/v1/analyses", service.base)).bearer_auth(&other);
    let sent: Value =
        call.json(&json!({"video_url": server.url("/video.mp4")})).send().await.unwrap().json().await.unwrap();
    eventually("the video of the other client is fetched", async || server.requests("/video.mp4") == 1).await;
    let token = sent["token"].as_str().unwrap().parse().unwrap();
    eventually("it is analyzed", async || service.store.job(token).await.unwrap().unwrap().status == Status::Done)
        .await;
    assert_eq!(server.requests("/silent.mp4"), 2, "no third server of the first client is waited for");
}

#[tokio::test]
async fn an_operator_can_have_a_video_fetched_again_while_its_address_is_kept() {
    let server = WebServer::start(clip()).await;
    let service = Service::start(|settings| {
        quick(settings);
        settings.queue.max_attempts = 1;
        settings.retention.failed_videos_h = 24;
    })
    .await;
    work(&service, Recorder::default());
    let token = accept(&service, &server.url("/busy-once.mp4")).await;
    assert_eq!(service.finished(token).await["error"]["code"], "video_refused");
    let admin = key(&service, &[Scope::Admin]).await;
    let call = service.http.get(format!("{}/v1/admin/overview", service.base)).bearer_auth(&admin);
    let overview: Value = call.send().await.unwrap().json().await.unwrap();
    assert_eq!(overview["failures"][0]["can_retry"], true, "{overview}");
    let retry = format!("{}/v1/admin/jobs/{token}/retry", service.base);
    assert_eq!(service.http.post(retry).bearer_auth(&admin).send().await.unwrap().status(), 202);
    assert_eq!(service.finished(token).await["status"], "done");
    nothing_is_left(&service).await;
}

#[tokio::test]
async fn the_quotas_of_the_storage_hold() {
    let server = WebServer::start(clip()).await;
    let service = Service::start(|settings| {
        quick(settings);
        settings.storage.quota_client = ByteSize(clip().len() as u64 * 3 / 2);
        settings.retention.videos_h = 24;
    })
    .await;
    work(&service, Recorder::default());
    let first = accept(&service, &server.url("/video.mp4")).await;
    assert_eq!(service.finished(first).await["status"], "done");
    for path in ["/video.mp4", "/chunked.mp4"] {
        let second = service.finished(accept(&service, &server.url(path)).await).await;
        assert_eq!(second["error"]["code"], "storage_full", "{path}: {second}");
    }
    assert_eq!(service.stored().len(), 1);
}

#[tokio::test]
async fn the_address_of_a_failed_job_is_forgotten_after_its_retention() {
    let server = WebServer::start(clip()).await;
    let service = Service::start(|settings| {
        quick(settings);
        settings.retention.failed_videos_h = 1;
    })
    .await;
    let working = work(&service, Recorder::default());
    let token = accept(&service, &server.url("/missing.mp4")).await;
    service.finished(token).await;
    let kept = "SELECT COUNT(*) FROM jobs WHERE video_url IS NOT NULL";
    assert_eq!(count(&service, kept).await, 1);
    service.stop.cancel();
    working.await.unwrap();
    let later = SystemClock.now() + Duration::from_secs(3601);
    let mut janitor = worker(&service, Recorder::default());
    janitor.clock = Arc::new(ManualClock::at(later));
    assert_eq!(janitor.sweep().await.videos, 1);
    assert_eq!(count(&service, kept).await, 0);
}
