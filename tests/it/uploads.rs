//! Uploads in parts, into a folder and into a bucket.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use visage::analysis::{Findings, Options};
use visage::clock::{Clock, ManualClock, RandomTokens, SystemClock};
use visage::config::{ByteSize, StorageKind};
use visage::media::Source;
use visage::pipeline::{AnalysisParts, Cancel, Progress};
use visage::store::Scope;
use visage::worker::{AnalysisError, Analyzer, Worker};

use crate::keys::{clip, key};
use crate::support::clips::Clips;
use crate::support::s3::{ListParts, S3Server};
use crate::support::s3_external::ExternalS3Server;
use crate::support::service::Service;

/// Returns a clip with slightly more than two parts.
fn large_clip() -> Vec<u8> {
    let clips = Clips::new();
    let source = "-f lavfi -i testsrc=size=320x240:rate=25:duration=4 -c:v rawvideo -pix_fmt bgr24";
    let video = std::fs::read(clips.make("clip.avi", source)).unwrap();
    assert!(video.len() > 20 << 20);
    video
}

/// A service with one kind of storage.
struct UploadService {
    service: Service,
    bucket: Option<S3Server>,
    other: Option<ExternalS3Server>,
}

impl UploadService {
    async fn folder() -> Self {
        let service = Service::start(|changed| changed.video.extra_codecs = vec!["rawvideo".to_owned()]);
        Self { service: service.await, bucket: None, other: None }
    }

    async fn bucket(direct: bool) -> Self {
        let bucket = S3Server::start().await;
        let settings = bucket.settings();
        let service = Service::start(move |changed| {
            changed.video.extra_codecs = vec!["rawvideo".to_owned()];
            changed.storage.kind = StorageKind::S3;
            changed.storage.s3 = settings;
            changed.storage.s3.direct_uploads = direct;
        });
        Self { service: service.await, bucket: Some(bucket), other: None }
    }

    /// Starts a service on a bucket whose server lists parts in this way.
    async fn bucket_listing(how: ListParts) -> Self {
        let fixture = Self::bucket(true).await;
        fixture.bucket.as_ref().unwrap().list_parts(how);
        fixture
    }

    async fn other(server: ExternalS3Server) -> Self {
        let settings = server.settings();
        let service = Service::start(move |changed| {
            changed.video.extra_codecs = vec!["rawvideo".to_owned()];
            changed.storage.kind = StorageKind::S3;
            changed.storage.s3 = settings;
        });
        Self { service: service.await, bucket: None, other: Some(server) }
    }

    async fn begin(&self, size: usize) -> Value {
        let response = self.post("/v1/uploads", &json!({"size_bytes": size})).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let upload: Value = response.json().await.unwrap();
        assert_eq!(location, format!("/v1/uploads/{}", upload["upload"].as_str().unwrap()));
        upload
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.service.http.post(format!("{}{path}", self.service.base)).json(body).send().await.unwrap()
    }

    async fn start(&self, upload: &Value) -> (u16, Value) {
        told(
            self.post(
                "/v1/analyses",
                &json!({"upload": upload["upload"], "sample_every": 5, "email": "ann@example.org"}),
            )
            .await,
        )
        .await
    }

    async fn state(&self, upload: &Value) -> (u16, Value) {
        told(self.service.get(&format!("/v1/uploads/{}", upload["upload"].as_str().unwrap())).await).await
    }

    /// PUTs a part to its address, as any HTTP client does.
    async fn put(&self, part: &Value, bytes: Vec<u8>) -> Response {
        self.service.http.put(part["url"].as_str().unwrap()).body(bytes).send().await.unwrap()
    }

    async fn send(&self, part: &Value, video: &[u8]) {
        let (from, size) = (part["offset"].as_u64().unwrap() as usize, part["size_bytes"].as_u64().unwrap() as usize);
        let response = self.put(part, video[from..from + size].to_vec()).await;
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    }

    /// Counts files or objects, including unfinished files of a folder.
    fn stored(&self) -> usize {
        if let Some(other) = &self.other {
            return other.objects();
        }
        match &self.bucket {
            None => self.service.stored().len(),
            Some(bucket) => bucket.objects().iter().filter(|name| name.starts_with("visage/")).count(),
        }
    }
}

async fn told(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Runs each test on each kind of storage.
macro_rules! on_all {
    ($($name:ident,)*) => {
        mod folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::UploadService::folder().await).await;
            })*
        }
        mod bucket {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::UploadService::bucket(true).await).await;
            })*
        }
        mod bucket_through_the_service {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::UploadService::bucket(false).await).await;
            })*
        }
    };
}

/// Runs a test on servers that do not implement S3 completely.
macro_rules! on_others {
    ($($name:ident,)*) => {
        on_others!(@ bucket_without_list_parts, bucket_listing, super::ListParts::NotImplemented, $($name,)*);
        on_others!(@ bucket_that_knows_no_upload, bucket_listing, super::ListParts::NoSuchUpload, $($name,)*);
        on_others!(@ bucket_that_lists_nothing, bucket_listing, super::ListParts::Nothing, $($name,)*);
        on_others!(@ bucket_without_tags, bucket_listing, super::ListParts::WithoutTags, $($name,)*);
        on_others!(@ localbucket, other, super::ExternalS3Server::localbucket().await, $($name,)*);
        on_others!(@ moto, other, super::ExternalS3Server::moto().await, $($name,)*);
    };
    (@ $server:ident, $fixture:ident, $argument:expr, $($name:ident,)*) => {
        mod $server {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::UploadService::$fixture($argument).await).await;
            })*
        }
    };
}

on_others! {
    parts_may_be_repeated_and_arrive_in_any_order,
    a_file_that_is_not_a_video_leaves_nothing,
    a_discarded_upload_leaves_nothing,
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_go_through_the_service_if_the_bucket_cannot_list_them() {
    for (fixture, through_service) in [
        (UploadService::bucket_listing(ListParts::Correct).await, false),
        (UploadService::bucket_listing(ListParts::Nothing).await, true),
    ] {
        let upload = fixture.begin(20 << 20).await;
        let is_ours = |part: &Value| part["url"].as_str().unwrap().starts_with(&fixture.service.base);
        assert!(upload["parts"].as_array().unwrap().iter().all(|part| is_ours(part) == through_service), "{upload}");
        let address = format!("{}/v1/uploads/{}", fixture.service.base, upload["upload"].as_str().unwrap());
        assert_eq!(fixture.service.http.delete(address).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        assert_eq!(fixture.bucket.as_ref().unwrap().open_uploads(), 0, "an upload was left open");
    }
}

on_all! {
    parts_may_be_repeated_and_arrive_in_any_order,
    a_file_that_is_not_a_video_leaves_nothing,
    a_discarded_upload_leaves_nothing,
    an_expired_upload_is_removed,
}

async fn parts_may_be_repeated_and_arrive_in_any_order(fixture: UploadService) {
    let video = large_clip();
    let upload = fixture.begin(video.len()).await;
    let parts = upload["parts"].as_array().unwrap();
    assert_eq!((parts.len(), upload["part_size"].as_u64()), (3, Some(8 << 20)));
    assert!(parts.iter().all(|part| part["done"] == false));
    fixture.send(&parts[2], &video).await;
    // Simulates a lost connection: the client sends a part again later.
    fixture.put(&parts[0], vec![0; parts[0]["size_bytes"].as_u64().unwrap() as usize]).await;
    let (status, refused) = fixture.start(&upload).await;
    assert_eq!((status, &refused["code"], &refused["missing"]), (409, &json!("upload_incomplete"), &json!([2])));
    let (_, state) = fixture.state(&upload).await;
    let done: Vec<_> = state["parts"].as_array().unwrap().iter().map(|part| part["done"] == true).collect();
    assert_eq!(done, [true, false, true]);
    fixture.send(&state["parts"][0], &video).await;
    fixture.send(&state["parts"][1], &video).await;

    let (status, accepted) = fixture.start(&upload).await;
    assert_eq!(status, 202, "{accepted}");
    let token: Uuid = accepted["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(fixture.start(&upload).await, (202, accepted), "a repeated start gives the same answer");
    let job = fixture.service.store.job(token).await.unwrap().unwrap();
    assert_eq!(job.options.sample_every, 5);
    let keys = fixture.service.store.video_keys().await.unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    fixture.service.blobs.fetch(keys.iter().next().unwrap(), copy.path()).await.unwrap();
    assert!(std::fs::read(copy.path()).unwrap() == video, "the stored video differs");
    assert_eq!((fixture.stored(), keys.len()), (1, 1), "there are other files");
    assert_eq!(fixture.state(&upload).await.1["code"], "upload_started");
    let erased = fixture.service.http.delete(format!("{}/results/{token}", fixture.service.base)).send().await.unwrap();
    assert_eq!((erased.status(), fixture.stored()), (StatusCode::NO_CONTENT, 0));
}

async fn a_file_that_is_not_a_video_leaves_nothing(fixture: UploadService) {
    let text = b"just some text".repeat(100);
    let upload = fixture.begin(text.len()).await;
    fixture.send(&upload["parts"][0], &text).await;
    let (status, refused) = fixture.start(&upload).await;
    assert_eq!((status, &refused["code"]), (422, &json!("not_a_video")));
    assert_eq!((fixture.stored(), fixture.state(&upload).await.0), (0, 404));
}

async fn a_discarded_upload_leaves_nothing(fixture: UploadService) {
    let video = clip();
    let upload = fixture.begin(video.len()).await;
    fixture.send(&upload["parts"][0], &video).await;
    let path = format!("{}/v1/uploads/{}", fixture.service.base, upload["upload"].as_str().unwrap());
    assert_eq!(fixture.service.http.delete(path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!((fixture.stored(), fixture.state(&upload).await.0, fixture.start(&upload).await.0), (0, 404, 404));
    assert!(fixture.bucket.as_ref().is_none_or(|bucket| bucket.open_uploads() == 0));
}

/// An analyzer that cancels every analysis.
struct Idle;

impl Analyzer for Idle {
    fn analyze(
        &self,
        _: &Source,
        _: Options,
        _: AnalysisParts<'_>,
        _: &(dyn Fn(Progress) + Sync),
        _: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        Err(AnalysisError::cancelled())
    }
}

async fn an_expired_upload_is_removed(fixture: UploadService) {
    let video = clip();
    let (left, started) = (fixture.begin(video.len()).await, fixture.begin(video.len()).await);
    for upload in [&left, &started] {
        fixture.send(&upload["parts"][0], &video).await;
    }
    let (status, accepted) = fixture.start(&started).await;
    assert_eq!(status, 202);
    let clock = ManualClock::at(SystemClock.now());
    let service = &fixture.service;
    let worker = Worker {
        name: "test".to_owned(),
        settings: service.settings.clone(),
        store: service.store.clone(),
        blobs: service.blobs.clone(),
        identity: service.identity,
        job_process: None,
        analyzer: Arc::new(Idle),
        mail_sender: None,
        clock: Arc::new(clock.clone()),
        tokens: Arc::new(RandomTokens),
    };
    assert_eq!(worker.sweep().await.uploads, 0, "the upload has not expired yet");
    assert_eq!(fixture.state(&left).await.0, 200);
    clock.advance(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(worker.sweep().await.uploads, 1);
    assert_eq!((fixture.state(&left).await.0, fixture.stored()), (404, 1), "the video of the job must stay");
    let token = accepted["token"].as_str().unwrap();
    assert_eq!(fixture.service.get(&format!("/results/{token}")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_part_of_another_size_or_number_is_refused() {
    let fixture = UploadService::folder().await;
    let video = clip();
    let upload = fixture.begin(video.len()).await;
    let part = &upload["parts"][0];
    for bytes in [video[1..].to_vec(), [video.clone(), vec![0]].concat(), Vec::new()] {
        let (status, refused) = told(fixture.put(part, bytes).await).await;
        assert_eq!((status, &refused["code"]), (422, &json!("wrong_part_size")), "{refused}");
        assert_eq!(refused["expected_bytes"], video.len());
    }
    // Without a Content-Length, the service counts the bytes.
    let chunks = [Ok::<_, std::io::Error>(video.clone()), Ok(vec![0])];
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let sent = fixture.service.http.put(part["url"].as_str().unwrap()).body(body).send().await.unwrap();
    assert_eq!(told(sent).await.1["code"], "wrong_part_size");
    let base = part["url"].as_str().unwrap().strip_suffix("/1").unwrap();
    for number in ["0", "2", "-1", "x"] {
        let sent = fixture.service.http.put(format!("{base}/{number}")).body(video.clone()).send().await.unwrap();
        assert_eq!((sent.status().as_u16(), told(sent).await.1["code"].clone()), (404, json!("unknown_part")));
    }
    assert_eq!(fixture.stored(), 0, "refused parts were stored");
}

#[tokio::test]
async fn invalid_bodies_are_refused_with_a_specific_code() {
    let fixture = UploadService {
        service: Service::start(|settings| settings.http.max_upload = ByteSize(1000)).await,
        bucket: None,
        other: None,
    };
    for (body, status, code) in [
        (json!({"size_bytes": 1001}), 413, "upload_too_large"),
        (json!({"size_bytes": 0}), 422, "bad_body"),
        (json!({"size_bytes": -1}), 422, "bad_body"),
        (json!({}), 422, "bad_body"),
        (json!({"size_bytes": 5, "size": 5}), 422, "bad_body"),
        (json!([]), 422, "bad_body"),
    ] {
        let (given, refused) = told(fixture.post("/v1/uploads", &body).await).await;
        assert_eq!((given, refused["code"].as_str()), (status, Some(code)), "{body}: {refused}");
        assert!(refused["detail"].as_str().unwrap().ends_with('.'), "{refused}");
    }
    let send = |kind: &str, body: &'static str| {
        let request = fixture.service.http.post(format!("{}/v1/uploads", fixture.service.base));
        request.header("content-type", kind.to_owned()).body(body).send()
    };
    assert_eq!(send("text/plain", "{}").await.unwrap().status(), 415);
    assert_eq!(told(send("application/json", "{").await.unwrap()).await.1["code"], "bad_json");
    let upload = json!("00000000-0000-4000-8000-000000000000");
    for (member, value, code) in [
        ("sample_every", json!(0), "bad_option"),
        ("max_faces", json!(101), "bad_option"),
        ("email", json!("nobody"), "bad_email"),
        ("email", json!(["a@b.c", "nobody"]), "bad_email"),
        ("email", json!("ann@[127.0.0.1]"), "bad_email"),
        ("email", json!(["\"ann lee\"@example.org"]), "bad_email"),
        ("email", json!("ann@m\u{fc}nchen.de"), "unknown_upload"),
        ("language", json!("xx"), "bad_body"),
        ("sampel_every", json!(5), "bad_body"),
        ("max_faces", json!(5), "unknown_upload"),
    ] {
        let refused = told(fixture.post("/v1/analyses", &json!({"upload": upload, member: value})).await).await.1;
        assert_eq!(refused["code"].as_str(), Some(code), "{refused}");
    }
}

#[tokio::test]
async fn an_upload_belongs_to_its_key_and_its_parts_need_no_key() {
    let service = Service::start(|settings| settings.auth.required = true).await;
    let (ann, bob) = (key(&service, &[Scope::Analyze]).await, key(&service, &[Scope::Admin, Scope::Analyze]).await);
    let stranger = key(&service, &[Scope::Analyze]).await;
    let video = clip();
    let begin = |key: Option<&str>| {
        let request =
            service.http.post(format!("{}/v1/uploads", service.base)).json(&json!({"size_bytes": video.len()}));
        key.map_or(request.try_clone().unwrap(), |key| request.bearer_auth(key)).send()
    };
    assert_eq!(begin(None).await.unwrap().status(), 401);
    let upload: Value = begin(Some(&ann)).await.unwrap().json().await.unwrap();
    let path = format!("{}/v1/uploads/{}", service.base, upload["upload"].as_str().unwrap());
    let see = |key: &str| service.http.get(&path).bearer_auth(key).send();
    let seen =
        [see(&ann).await.unwrap().status(), see(&stranger).await.unwrap().status(), see(&bob).await.unwrap().status()];
    assert_eq!(seen.map(|status| status.as_u16()), [200, 404, 200]);
    let part = service.http.put(upload["parts"][0]["url"].as_str().unwrap()).body(video.clone()).send().await.unwrap();
    assert_eq!(part.status(), 204, "without a key");
    let start = |key: &str| {
        let request = service.http.post(format!("{}/v1/analyses", service.base)).bearer_auth(key);
        request.json(&json!({"upload": upload["upload"]})).send()
    };
    assert_eq!(start(&stranger).await.unwrap().status(), 404);
    let (status, accepted) = told(start(&ann).await.unwrap()).await;
    assert_eq!(status, 202, "{accepted}");
    let job = service.store.job(accepted["token"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(job.owner.as_deref(), ann.split('_').nth(1));
}
