//! The HTTP service on a port of its own, with a database and a storage of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use visage::api::{self, Analyzer, AppState};
use visage::blob::{self, BlobStore};
use visage::clock::{RandomTokens, SystemClock};
use visage::config::{Secret, Settings};
use visage::identity::StorageIdentity;
use visage::pipeline::{LazyPipeline, Pipeline};
use visage::report::{Mailer, Reporter};
use visage::store::Store;
use visage::worker::{Post, Worker};

/// A running service; it ends when dropped.
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
    /// On SQLite and a folder, with these changes to the defaults.
    pub async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(change, |settings| Arc::new(LazyPipeline::new(settings))).await
    }

    /// ... and with this behind the calls that are answered with their result.
    pub async fn start_with(
        change: impl FnOnce(&mut Settings),
        analyzer: impl FnOnce(Arc<Settings>) -> Arc<dyn Analyzer>,
    ) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), change, analyzer).await
    }

    /// At an address where another was before.
    pub async fn start_at(address: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::start_on(listener, change, |settings| Arc::new(LazyPipeline::new(settings))).await
    }

    async fn start_on(
        listener: TcpListener,
        change: impl FnOnce(&mut Settings),
        analyzer: impl FnOnce(Arc<Settings>) -> Arc<dyn Analyzer>,
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
        let router = api::router(AppState {
            settings: settings.clone(),
            store: store.clone(),
            blobs: blobs.clone(),
            identity,
            reporter: Reporter::new(&settings).unwrap(),
            analyzer: analyzer(settings.clone()),
            clock: Arc::new(SystemClock),
            tokens: Arc::new(RandomTokens),
            stop: stop.clone(),
        });
        let (http, ended) = (settings.http.clone(), stop.clone());
        let task = tokio::spawn(async move {
            api::serve(listener, router, &http, ended, Duration::from_secs(10)).await;
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

    /// Uploads a video that is expected to be taken; its token.
    pub async fn accept(&self, video: Vec<u8>) -> Uuid {
        let response = self.upload(video_form(video)).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{}", response.text().await.unwrap());
        let body: Value = response.json().await.unwrap();
        body["token"].as_str().unwrap().parse().unwrap()
    }

    /// Files of the storage folder, unfinished ones included.
    pub fn stored(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.settings.storage.folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| !path.ends_with(".visage-storage")).collect()
    }

    /// Nothing lies in the storage folder, or will in a moment, and no job is in the database.
    pub async fn is_clean(&self) {
        for _ in 0..500 {
            if self.stored().is_empty() {
                assert_eq!(self.store.video_count().await.unwrap(), 0, "a job was left behind");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left in storage: {:?}", self.stored());
    }

    /// Starts a worker of this service; it ends with it.
    pub async fn work(&self) -> JoinHandle<()> {
        let settings = self.settings.clone();
        let pipeline = tokio::task::spawn_blocking(move || Pipeline::load(&settings).unwrap()).await.unwrap();
        let mailer = Mailer::new(&self.settings, Reporter::new(&self.settings).unwrap()).unwrap();
        let worker = Worker {
            name: "test".to_owned(),
            settings: self.settings.clone(),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            identity: self.identity,
            analyzer: Arc::new(pipeline),
            confined: None,
            post: mailer.map(|mailer| Arc::new(mailer) as Arc<dyn Post>),
            clock: Arc::new(SystemClock),
            tokens: Arc::new(RandomTokens),
        };
        tokio::spawn(worker.run(self.stop.clone()))
    }

    /// The result of a token, once it is finished.
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

    /// Ends the service as a restart does; its files stay as long as what is given back.
    pub async fn leave(mut self) -> TempDir {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Waits for the end of the service after `stop`.
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

/// A form with a video alone.
pub fn video_form(video: Vec<u8>) -> Form {
    Form::new().part("video", Part::bytes(video).file_name("clip.mp4"))
}
