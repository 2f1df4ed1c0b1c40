//! Objects of buckets that are not visage's own are read there, and stay.

use std::sync::Arc;

use serde_json::{Value, json};
use visage::config::{ByteSize, S3Read, Settings, StorageKind};
use visage::worker::Worker;

use super::{Recorder, accept, eventually, quick, send, work, worker};
use crate::support::clips;
use crate::support::s3::S3Server;
use crate::support::service::Service;

fn clip() -> Vec<u8> {
    std::fs::read(clips::shared("single_face.mp4")).unwrap()
}

/// Uses the server for the objects of clients. Videos are stored in a folder.
fn read_from(server: &S3Server) -> impl Fn(&mut Settings) {
    let s3 = server.settings();
    move |settings| {
        quick(settings);
        settings.storage.s3 = s3.clone();
        settings.sources.s3_buckets = vec!["films".to_owned()];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_streamed_analyzed_and_kept() {
    let (models, name) = (clips::models(), "2026/talk one.mp4");
    for kind in [StorageKind::Folder, StorageKind::S3] {
        for read in [S3Read::Stream, S3Read::Download] {
            let server = S3Server::start().await;
            server.put("films", name, &clip());
            let (configure, select) = (read_from(&server), models.select());
            let service = Service::start(|settings| {
                configure(settings);
                select(settings);
                settings.storage.kind = kind;
                settings.storage.s3.read = read;
            })
            .await;
            service.work().await;
            let result = service.finished(accept(&service, &format!("s3://films/{name}")).await).await;
            assert_eq!(result["status"], "done", "{kind:?} {read:?}: {result}");
            assert_eq!(result["file_name"], "talk one.mp4");
            assert_eq!(result["analysis"]["faces"].as_array().unwrap().len(), 1);
            assert!(server.has("films", name), "the object was deleted");
            assert_eq!(server.objects(), Vec::<String>::new(), "the object was copied");
            assert_eq!(service.store.video_count().await.unwrap(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_deleted_after_its_analysis_if_the_operator_says_so() {
    let server = S3Server::start().await;
    server.put("films", "good.mp4", &clip());
    let configure = read_from(&server);
    let service = Service::start(|settings| {
        configure(settings);
        settings.storage.s3.read = S3Read::Download;
        settings.sources.s3_delete = true;
    })
    .await;
    let recorder = Recorder::default();
    work(&service, recorder.clone());
    let result = service.finished(accept(&service, "s3://films/good.mp4").await).await;
    assert_eq!(result["status"], "done", "{result}");
    assert_eq!(recorder.seen(), [clip()]);
    eventually("the object is deleted", async || !server.has("films", "good.mp4")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_of_a_failed_or_erased_job_stays_even_then() {
    let server = S3Server::start().await;
    server.put("films", "bad.mp4", b"no video at all");
    let (models, configure) = (clips::models(), read_from(&server));
    let select = models.select();
    let service = Service::start(|settings| {
        configure(settings);
        select(settings);
        settings.sources.s3_delete = true;
    })
    .await;
    let erased = accept(&service, "s3://films/bad.mp4").await;
    let answer = service.http.delete(format!("{}/results/{erased}", service.base)).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert!(server.has("films", "bad.mp4"));
    service.work().await;
    let result = service.finished(accept(&service, "s3://films/bad.mp4").await).await;
    assert_eq!(result["error"]["code"], "not_a_video", "{result}");
    assert!(server.has("films", "bad.mp4"));
    assert_eq!(service.store.video_count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_and_a_large_object_fail_their_jobs_and_an_unlisted_one_is_refused() {
    let server = S3Server::start().await;
    server.put("films", "large.mp4", &vec![0; 2_000_000]);
    server.put("secrets", "talk.mp4", &clip());
    let configure = read_from(&server);
    let service = Service::start(|settings| {
        configure(settings);
        settings.http.max_upload = ByteSize(1_000_000);
    })
    .await;
    let refused: Value = send(&service, "s3://secrets/talk.mp4").await.json().await.unwrap();
    assert_eq!((&refused["code"], &refused["field"]), (&json!("bad_video_url"), &json!("video_url")));
    let (missing, large) =
        (accept(&service, "s3://films/none.mp4").await, accept(&service, "s3://films/large.mp4").await);
    work(&service, Recorder::default());
    for (token, code, told) in
        [(missing, "video_refused", "s3://films answered with status 404"), (large, "video_too_large", "1 MB")]
    {
        let result = service.finished(token).await;
        assert_eq!((&result["error"]["code"], &result["attempts"]), (&json!(code), &json!(1)), "{result}");
        assert!(result["error"]["detail"].as_str().unwrap().contains(told), "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_listed_any_more_is_not_read() {
    let server = S3Server::start().await;
    server.put("films", "talk.mp4", &clip());
    let service = Service::start(read_from(&server)).await;
    let token = accept(&service, "s3://films/talk.mp4").await;
    let (recorder, mut settings) = (Recorder::default(), Settings::clone(&service.settings));
    settings.sources.s3_buckets = Vec::new();
    let worker = Worker { settings: Arc::new(settings), ..worker(&service, recorder.clone()) };
    tokio::spawn(worker.run(service.stop.clone()));
    let result = service.finished(token).await;
    assert_eq!(result["error"]["code"], "address_refused", "{result}");
    assert_eq!(recorder.seen(), Vec::<Vec<u8>>::new());
}
