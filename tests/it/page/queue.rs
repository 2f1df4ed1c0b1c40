//! The place in the queue, as the page shows it.

use std::time::Duration;

use sqlx::AnyPool;
use visage::clock::{Clock, SystemClock};

use crate::support::browser::Browser;
use crate::support::clips::Clips;
use crate::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_person_sees_how_many_videos_are_before_theirs_and_about_how_long_it_takes() {
    let (service, clips) = (Service::start(|_| ()).await, Clips::new());
    let clip = clips.moving("a.mp4", 1.0, "-c:v libx264");
    let video = std::fs::read(&clip).unwrap();
    let measured = service.accept(video.clone()).await;
    // A video of the same length took a minute.
    let pool = AnyPool::connect(service.settings.database.url.expose()).await.unwrap();
    sqlx::query(
        "UPDATE jobs SET status = 'done', claim = 1, started_at = created_at, finished_at = created_at + 60000 \
         WHERE token = $1",
    )
    .bind(measured.to_string())
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    service.store.worker_seen("w", 1, SystemClock.now()).await.unwrap();
    for _ in 0..2 {
        service.accept(video.clone()).await;
    }

    let browser = Browser::open(390, 844, &[]).await;
    browser.goto(&service.base).await;
    browser.choose("#file", &clip).await;
    browser.click("#send").await;
    let shows = |text: &str| format!("document.querySelector('#stage').textContent.includes({text:?})");
    browser.until("the place", &shows("2 videos are before yours. The analysis starts in about 2 minutes.")).await;
    browser.picture("waiting-place").await;
    browser.check_accessibility("waiting with a place").await;
    service.store.claim("w", SystemClock.now(), Duration::from_secs(600)).await.unwrap().unwrap();
    browser.until("the next place", &shows("1 video is before yours. The analysis starts in about 2 minutes.")).await;
    service.store.claim("w", SystemClock.now(), Duration::from_secs(600)).await.unwrap().unwrap();
    browser.until("the first place", &shows("Your video is next.")).await;
}
