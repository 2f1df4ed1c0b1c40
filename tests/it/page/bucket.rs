//! Uploads from the page directly to a bucket.

use visage::config::StorageKind;

use crate::support::browser::Browser;
use crate::support::clips::Clips;
use crate::support::s3::S3Server;
use crate::support::service::Service;

async fn service_with_bucket() -> (Service, S3Server) {
    let bucket = S3Server::start().await;
    let settings = bucket.settings();
    let service = Service::start(|changed| {
        changed.video.extra_codecs = vec!["rawvideo".to_owned()];
        changed.storage.kind = StorageKind::S3;
        changed.storage.s3 = settings;
        changed.http.public_url = String::new();
    });
    (service.await, bucket)
}

/// Sends a video of three parts, and waits until it is queued.
async fn send(service: &Service) {
    let clips = Clips::new();
    let clip =
        clips.make("clip.avi", "-f lavfi -i testsrc=size=320x240:rate=25:duration=4 -c:v rawvideo -pix_fmt bgr24");
    let browser = Browser::open(1000, 800, &[]).await;
    browser.goto(&service.base).await;
    browser.choose("#file", &clip).await;
    // The browser cannot play this video, and the page says so.
    browser.until("the message", "document.querySelector('#preview-blind').checkVisibility()").await;
    browser.picture("preview-blind").await;
    browser.check_accessibility("a file that the browser cannot show").await;
    browser.click("#send").await;
    browser.until("the queue", "location.pathname.startsWith('/results/')").await;
    assert_eq!(service.store.queue_depth().await.unwrap(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_go_directly_to_a_bucket_with_a_cors_rule() {
    let (service, bucket) = service_with_bucket().await;
    bucket.allow_origin(&service.base);
    send(&service).await;
    assert_eq!(bucket.cross_origin_parts(), 3);
    assert_eq!((bucket.open_uploads(), bucket.objects().len()), (0, 1), "{:?}", bucket.objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cors_rule_the_video_goes_through_the_service() {
    let (service, bucket) = service_with_bucket().await;
    send(&service).await;
    assert_eq!(bucket.cross_origin_parts(), 0);
    assert_eq!((bucket.open_uploads(), bucket.objects().len()), (0, 1), "{:?}", bucket.objects());
}
