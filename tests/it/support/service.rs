//! The HTTP service with its own port, database and storage.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::decoders;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use visage::analysis::{FailureReason, Findings, Options};
use visage::api::{self, AppState, ImmediateAnalyzer};
use visage::blob::{self, BlobStore};
use visage::clock::{RandomTokens, SystemClock};
use visage::config::{Secret, Settings};
use visage::fault::Fault;
use visage::identity::StorageIdentity;
use visage::isolation::Decoders;
use visage::media::Source;
use visage::pipeline::{AnalysisParts, Cancel, LazyPipeline, Pipeline, Progress};
use visage::report::{Mailer, Reporter};
use visage::store::Store;
use visage::worker::{AnalysisError, Analyzer, MailSender, Worker};

/// A running service. It ends on drop.
pub struct Service {
    /// `http://ADDRESS:PORT`
    pub base: String,
    pub settings: Arc<Settings>,
    pub store: Store,
    pub blobs: Arc<dyn BlobStore>,
    pub identity: StorageIdentity,
    pub stop: CancellationToken,
    pub folder: TempDir,
    pub http: Client,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts a service on SQLite and a folder, with these changes to the default settings.
    pub async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(change, |settings, decoders| Arc::new(LazyPipeline::new(settings, decoders))).await
    }

    /// Starts a service with this analyzer for immediate calls.
    pub async fn start_with(
        change: impl FnOnce(&mut Settings),
        analyzer: impl FnOnce(Arc<Settings>, Decoders) -> Arc<dyn ImmediateAnalyzer>,
    ) -> Self {
        // The settings make the future large.
        Box::pin(Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), change, analyzer)).await
    }

    /// Starts a service at the address of an earlier one.
    pub async fn start_at(address: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::start_on(listener, change, |settings, decoders| Arc::new(LazyPipeline::new(settings, decoders))).await
    }

    async fn start_on(
        listener: TcpListener,
        change: impl FnOnce(&mut Settings),
        analyzer: impl FnOnce(Arc<Settings>, Decoders) -> Arc<dyn ImmediateAnalyzer>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults().unwrap();
        settings.database.url = Secret::new(format!("sqlite://{}/visage.db", folder.path().display()));
        settings.storage.folder = folder.path().join("videos");
        settings.mail.outbox = folder.path().join("outbox");
        change(&mut settings);
        settings.http.listen = listener.local_addr().unwrap().to_string();
        let store = Store::open(&settings.database).await.unwrap();
        let blobs = blob::open(&settings.storage, Arc::new(SystemClock)).await.unwrap();
        let identity = StorageIdentity::establish(&store, &blobs, &SystemClock, &RandomTokens).await.unwrap();
        let (settings, stop) = (Arc::new(settings), CancellationToken::new());
        let decoders = decoders(&settings);
        let sessions = TaskTracker::new();
        let router = api::router(AppState {
            sessions: sessions.clone(),
            settings: settings.clone(),
            store: store.clone(),
            blobs: blobs.clone(),
            identity,
            reporter: Reporter::new(&settings).unwrap(),
            analyzer: analyzer(settings.clone(), decoders.clone()),
            decoders,
            clock: Arc::new(SystemClock),
            tokens: Arc::new(RandomTokens),
            stop: stop.clone(),
        });
        let (http, ended) = (settings.http.clone(), stop.clone());
        let task = tokio::spawn(async move {
            api::serve(listener, router, &http, ended, Duration::from_secs(10)).await;
            sessions.close();
            sessions.wait().await;
        });
        let base = format!("http://{}", settings.http.listen);
        let http = super::http();
        Self { base, settings, store, blobs, identity, stop, folder, http, task }
    }

    pub fn address(&self) -> &str {
        &self.settings.http.listen
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    /// Uploads a form.
    pub async fn upload(&self, form: Form) -> Response {
        self.http.post(format!("{}/analyze-video", self.base)).multipart(form).send().await.unwrap()
    }

    /// Uploads a video that must be accepted, and returns its token.
    pub async fn accept(&self, video: Vec<u8>) -> Uuid {
        let response = self.upload(video_form(video)).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{}", response.text().await.unwrap());
        let body: Value = response.json().await.unwrap();
        body["token"].as_str().unwrap().parse().unwrap()
    }

    /// Returns the files of the storage folder, including unfinished ones.
    pub fn stored(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.settings.storage.folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| !path.ends_with(".visage-storage")).collect()
    }

    /// Waits until the storage folder is empty, and checks that the database has no job. Panics if videos are left.
    pub async fn is_clean(&self) {
        for _ in 0..500 {
            if self.stored().is_empty() {
                assert_eq!(self.store.video_count().await.unwrap(), 0, "a job was left");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left in storage: {:?}", self.stored());
    }

    /// Starts a worker of this service. It ends with the service.
    pub async fn work(&self) -> JoinHandle<()> {
        let settings = self.settings.clone();
        let pipeline = tokio::task::spawn_blocking(move || Pipeline::load(&settings, &decoders(&settings)).unwrap())
            .await
            .unwrap();
        let mailer = Mailer::new(&self.settings, Reporter::new(&self.settings).unwrap()).unwrap();
        let worker = Worker {
            name: "test".to_owned(),
            settings: self.settings.clone(),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            identity: self.identity,
            analyzer: Arc::new(pipeline),
            job_process: None,
            mail_sender: mailer.map(|mailer| Arc::new(mailer) as Arc<dyn MailSender>),
            clock: Arc::new(SystemClock),
            tokens: Arc::new(RandomTokens),
        };
        tokio::spawn(worker.run(self.stop.clone()))
    }

    /// Waits until the analysis of a token has ended, and returns the result.
    pub async fn finished(&self, token: Uuid) -> Value {
        let waiting = async {
            loop {
                let result: Value = self.get(&format!("/results/{token}?wait=30")).await.json().await.unwrap();
                if result["finished_at"].is_string() {
                    return result;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(300), waiting).await.expect("the analysis does not end")
    }

    /// Ends the service as a restart does. Returns the folder, which is removed on drop.
    pub async fn leave(mut self) -> TempDir {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits until the service has ended after `stop`.
    pub async fn ended(mut self) {
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// Returns a form with only a video.
pub fn video_form(video: Vec<u8>) -> Form {
    Form::new().part("video", Part::bytes(video).file_name("clip.mp4"))
}

/// Refuses every video as `not_a_video`, so that its job ends at once.
pub struct RefusingAnalyzer;

impl Analyzer for RefusingAnalyzer {
    fn analyze(
        &self,
        _: &Source,
        _: Options,
        _: AnalysisParts<'_>,
        _: &(dyn Fn(Progress) + Sync),
        _: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        Err(AnalysisError::new(Fault::Video, FailureReason::NotAVideo, "refused by the test"))
    }
}
