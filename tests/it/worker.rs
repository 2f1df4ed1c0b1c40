//! Runs jobs from claim to clean-up, with a scripted analysis.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{AnyPool, AssertSqlSafe};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use visage::analysis::{Analysis, FailureReason, Findings, METRICS_VERSION, Options, Summary, Timeline, VideoFacts};
use visage::blob::{BlobError, BlobInfo, BlobStore, Part, PartUpload, Parts, Upload};
use visage::clock::{Clock, ManualClock, RandomTokens, Tokens};
use visage::config::{S3Read, Secret, Settings, StorageKind};
use visage::fault::{self, Fault};
use visage::identity::StorageIdentity;
use visage::media::{Pieces, Position, Source};
use visage::pipeline::{AnalysisParts, AnalyzedPiece, Cancel, Joined, Piece, PieceProgress, Progress, SoundResult};
use visage::report::{Context, MailError, Message};
use visage::secret::LinkError;
use visage::share::ShareLinks;
use visage::store::{Backoff, Job, JobProgress, JobVideo, LogEntry, NewJob, Origin, Priority, Status, Store};
use visage::worker::{AnalysisError, Analyzer, MailSender, Splitter, Swept, Worker};

/// Time limit for any single step of a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scripted analysis: the text in the video chooses its outcome.
#[derive(Default)]
struct Script {
    /// Sources, in the order in which they were analyzed.
    seen: Mutex<Vec<Source>>,
    /// Number of running analyses, and of cancelled ones.
    running: AtomicU32,
    cancelled: AtomicU32,
    is_device_back: AtomicBool,
    /// How pieces of long videos are analyzed. `None`: all videos are short.
    pieces: Option<ScriptedPieces>,
}

/// A scripted analysis of pieces.
#[derive(Clone)]
struct ScriptedPieces {
    /// The error of each piece. `None`: it lasts until it is cancelled.
    error: Option<AnalysisError>,
    begun: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
}

impl ScriptedPieces {
    fn new(error: Option<AnalysisError>) -> Self {
        Self { error, begun: Arc::default(), cancelled: Arc::default() }
    }
}

impl Splitter for ScriptedPieces {
    fn pieces(&self, _: &Source, _: Options, _: u64, _: &Cancel) -> Result<Option<Vec<Piece>>, AnalysisError> {
        let piece = |from: u32| {
            let pieces = Pieces { from, until: Some(from + 1) };
            let piece = json!({"pieces": pieces, "turns": 0, "start": Position::default(), "frames_total": 72});
            serde_json::from_value(piece).unwrap()
        };
        Ok(Some((0..3).map(piece).collect()))
    }

    fn analyze_piece(
        &self,
        _: &Source,
        _: Options,
        _: Piece,
        _: PieceProgress<'_>,
        _: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<AnalyzedPiece, AnalysisError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        while self.error.is_none() && !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.error.is_none() {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        Err(self.error.clone().unwrap_or_else(AnalysisError::cancelled))
    }

    fn hear(&self, _: &Source, _: Options, _: &Cancel) -> Result<SoundResult, AnalysisError> {
        Ok(SoundResult::default())
    }

    fn join(
        &self,
        _: &Source,
        _: Options,
        _: &[AnalyzedPiece],
        _: &SoundResult,
        _: &Cancel,
    ) -> Result<Joined, AnalysisError> {
        panic!("no piece is ever done")
    }
}

impl Script {
    fn seen(&self) -> Vec<Source> {
        self.seen.lock().unwrap().clone()
    }

    fn runs(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn wait_until_cancelled(&self, cancel: &Cancel) -> AnalysisError {
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.cancelled.fetch_add(1, Ordering::SeqCst);
        AnalysisError::cancelled()
    }
}

impl Analyzer for Script {
    fn analyze(
        &self,
        source: &Source,
        _options: Options,
        _: AnalysisParts<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        let run = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(source.clone());
            seen.len()
        };
        let failure = |fault, reason| AnalysisError::new(fault, reason, "as the video says");
        let Source::File(path) = source else {
            return Err(failure(Fault::Ours(fault::Part::Storage), FailureReason::SourceUnreadable));
        };
        let video = std::fs::read_to_string(path).unwrap();
        progress(Progress { frames_done: 30, frames_total: 72 });
        match video.as_str() {
            "good" => Ok(findings()),
            "good at the third run" if run >= 3 => Ok(findings()),
            "good at the third run" | "always fails" => Err(failure(Fault::Unclear, FailureReason::DecoderFailed)),
            "good once the device is back" if self.is_device_back.load(Ordering::SeqCst) => Ok(findings()),
            "good once the device is back" => {
                Err(failure(Fault::Ours(fault::Part::Models), FailureReason::VisionFailed))
            }
            "no video" => Err(failure(Fault::Video, FailureReason::NotAVideo)),
            "poison" => panic!("as the video says"),
            "endless" => Err(self.wait_until_cancelled(cancel)),
            "deaf" => {
                // An analysis that does not notice its cancellation.
                std::thread::sleep(Duration::from_millis(1500));
                Ok(findings())
            }
            "needs company" => {
                self.running.fetch_add(1, Ordering::SeqCst);
                while self.running.load(Ordering::SeqCst) < 2 {
                    if cancel.is_cancelled() {
                        return Err(AnalysisError::cancelled());
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(findings())
            }
            other => panic!("unknown script {other:?}"),
        }
    }

    fn splitter(&self) -> Result<Option<Box<dyn Splitter>>, AnalysisError> {
        Ok(self.pieces.clone().map(|pieces| Box::new(pieces) as _))
    }
}

/// The English text of the mail about this failure.
const NOT_A_VIDEO: &str = "The file is not a video that can be read. Send an MP4, MOV, AVI, MKV or WebM file that \
                           plays on your own device.";

fn findings() -> Findings {
    let video = VideoFacts {
        duration_s: 2.4,
        fps: 30.0,
        width: 640,
        height: 360,
        codec: "h264".to_owned(),
        frames_total: 72,
        frames_analyzed: 4,
        has_audio: false,
        start_s: 0.0,
        turned: 0,
        stream_orientation: None,
    };
    let summary = Summary::default();
    let analysis = Analysis {
        video,
        summary,
        speech: None,
        faces: vec![],
        models: vec![],
        metrics_version: METRICS_VERSION,
        warnings: vec![],
        warning_codes: vec![],
    };
    Findings { analysis, timeline: Timeline::default() }
}

/// A blob store in a folder, which can return addresses as sources and can refuse to delete.
struct Blobs {
    folder: tempfile::TempDir,
    as_urls: bool,
    stuck: Mutex<bool>,
    /// Whether every call fails.
    away: AtomicBool,
    /// Number of calls that read the identity.
    asked: AtomicU32,
    identity: Mutex<Option<Uuid>>,
    modified: Mutex<HashMap<String, Timestamp>>,
}

impl Blobs {
    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(key.replace('/', "_"))
    }

    fn put(&self, key: &str, video: &str, now: Timestamp) {
        std::fs::write(self.path(key), video).unwrap();
        self.modified.lock().unwrap().insert(key.to_owned(), now);
    }

    fn answers(&self) -> Result<(), BlobError> {
        let refused = BlobError::Remote { action: "any", reason: "the bucket is away".to_owned() };
        if self.away.load(Ordering::SeqCst) { Err(refused) } else { Ok(()) }
    }

    fn has(&self, key: &str) -> bool {
        self.path(key).exists()
    }
}

#[async_trait]
impl BlobStore for Blobs {
    async fn begin(&self, _key: &str) -> Result<Box<dyn Upload>, BlobError> {
        Err(BlobError::Remote { action: "begin", reason: "not needed here".to_owned() })
    }

    async fn source(&self, key: &str) -> Result<Source, BlobError> {
        self.answers()?;
        Ok(if self.as_urls {
            Source::Url(format!("http://bucket.invalid/{key}"))
        } else {
            Source::File(self.path(key))
        })
    }

    async fn fetch(&self, key: &str, to: &Path) -> Result<u64, BlobError> {
        self.answers()?;
        if !self.has(key) {
            return Err(BlobError::NotFound);
        }
        Ok(std::fs::copy(self.path(key), to)?)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        if *self.stuck.lock().unwrap() {
            return Err(BlobError::Remote { action: "delete", reason: "stuck".to_owned() });
        }
        let _ = std::fs::remove_file(self.path(key));
        self.modified.lock().unwrap().remove(key);
        Ok(())
    }

    async fn list_older(&self, before: Timestamp, limit: usize) -> Result<Vec<BlobInfo>, BlobError> {
        let modified = self.modified.lock().unwrap();
        let old = modified.iter().filter(|(_, modified)| **modified < before).take(limit);
        Ok(old.map(|(key, &modified)| BlobInfo { key: key.clone(), size_bytes: 1, modified }).collect())
    }

    async fn abort_abandoned(&self, _before: Timestamp, _kept: &HashSet<String>) -> Result<usize, BlobError> {
        Ok(3)
    }

    async fn check(&self) -> Result<(), BlobError> {
        self.answers()
    }

    async fn exists(&self, key: &str) -> Result<bool, BlobError> {
        self.answers()?;
        Ok(self.has(key))
    }

    async fn identity(&self) -> Result<Option<Uuid>, BlobError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers()?;
        Ok(*self.identity.lock().unwrap())
    }

    async fn set_identity(&self, id: Uuid) -> Result<(), BlobError> {
        self.answers()?;
        *self.identity.lock().unwrap() = Some(id);
        Ok(())
    }
}

#[async_trait]
impl Parts for Blobs {
    async fn begin_parts(&self, _key: &str) -> Result<String, BlobError> {
        Err(BlobError::Remote { action: "begin", reason: "not needed here".to_owned() })
    }

    async fn part_address(&self, _: &str, _: &str, _: u32, _: u64, _: Duration) -> Result<Option<String>, BlobError> {
        Ok(None)
    }

    async fn begin_part(&self, _: &str, _handle: &str, _number: u32) -> Result<Box<dyn PartUpload>, BlobError> {
        Err(BlobError::NotFound)
    }

    async fn parts(&self, _key: &str, _handle: &str) -> Result<Option<BTreeMap<u32, Part>>, BlobError> {
        Err(BlobError::NotFound)
    }

    async fn join_parts(&self, _key: &str, _handle: &str, _: &BTreeMap<u32, Part>) -> Result<(), BlobError> {
        Err(BlobError::NotFound)
    }

    async fn abort_parts(&self, _key: &str, _handle: &str) -> Result<(), BlobError> {
        Ok(())
    }
}

/// A mail server that accepts or refuses mails, or is down.
#[derive(Default)]
struct Server {
    /// Message-ID, recipient and content of each accepted mail.
    taken: Mutex<Vec<(Uuid, String, String)>>,
    /// Token and address of the result, of each report that was offered.
    addresses: Mutex<Vec<(Uuid, String)>>,
    down: Mutex<bool>,
    tries: AtomicU32,
}

#[async_trait]
impl MailSender for Server {
    async fn send(&self, id: Uuid, recipient: &str, message: Message<'_>, context: &Context) -> Result<(), MailError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        assert!(recipient != "poison@example.org", "as the address says");
        if *self.down.lock().unwrap() {
            return Err(MailError { fault: Fault::Ours(fault::Part::Mail), reason: "connection refused".to_owned() });
        }
        if recipient.starts_with("greylisted@") {
            return Err(MailError { fault: Fault::Unclear, reason: "451 later".to_owned() });
        }
        if recipient.starts_with("nobody@") {
            return Err(MailError { fault: Fault::Client, reason: "no such mailbox".to_owned() });
        }
        let told = match message {
            Message::Report(findings) => {
                self.addresses.lock().unwrap().push((context.token, context.result_url.clone().unwrap()));
                format!("{} frames", findings.analysis.video.frames_analyzed)
            }
            Message::Failure { detail, .. } => detail.to_owned(),
            Message::Confirm { url } => url.to_owned(),
        };
        self.taken.lock().unwrap().push((id, recipient.to_owned(), told));
        Ok(())
    }
}

impl Server {
    fn told(&self) -> Vec<(String, String)> {
        self.taken.lock().unwrap().iter().map(|(_, to, told)| (to.clone(), told.clone())).collect()
    }
}

struct Harness {
    settings: Settings,
    store: Store,
    blobs: Arc<Blobs>,
    script: Arc<Script>,
    server: Arc<Server>,
    clock: ManualClock,
    identity: StorageIdentity,
    _folder: tempfile::TempDir,
}

impl Harness {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults().unwrap();
        settings.database.url = Secret::new(format!("sqlite://{}/visage.db", folder.path().display()));
        settings.queue.concurrency = 1;
        settings.queue.lease_s = 1;
        settings.queue.poll_s = 1;
        settings.queue.max_attempts = 3;
        change(&mut settings);
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let blobs = Blobs {
            folder: tempfile::tempdir().unwrap(),
            as_urls: false,
            stuck: Mutex::new(false),
            away: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            identity: Mutex::default(),
            modified: Mutex::default(),
        };
        let store = Store::open(&settings.database).await.unwrap();
        let blobs = Arc::new(blobs);
        let shared: Arc<dyn BlobStore> = blobs.clone();
        let identity = StorageIdentity::establish(&store, &shared, &clock, &RandomTokens).await.unwrap();
        drop(shared);
        Self {
            store,
            settings,
            blobs,
            identity,
            script: Arc::default(),
            server: Arc::default(),
            clock,
            _folder: folder,
        }
    }

    /// Returns videos as addresses, as a bucket does.
    fn bucket(mut self) -> Self {
        Arc::get_mut(&mut self.blobs).unwrap().as_urls = true;
        self
    }

    fn worker(&self, name: &str) -> Worker {
        Worker {
            name: name.to_owned(),
            settings: Arc::new(self.settings.clone()),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            identity: self.identity,
            analyzer: self.script.clone(),
            job_process: None,
            mail_sender: Some(self.server.clone()),
            clock: Arc::new(self.clock.clone()),
            tokens: Arc::new(RandomTokens),
        }
    }

    fn start(&self) -> Running {
        Self::run(self.worker("w"))
    }

    /// Starts a worker that analyzes pieces by this script.
    fn start_with(&self, name: &str, pieces: &ScriptedPieces) -> Running {
        let script = Script { pieces: Some(pieces.clone()), ..Script::default() };
        Self::run(Worker { analyzer: Arc::new(script), ..self.worker(name) })
    }

    fn run(worker: Worker) -> Running {
        let stop = CancellationToken::new();
        Running { task: tokio::spawn(worker.run(stop.clone())), stop }
    }

    /// Uploads a video and puts its job into the queue.
    async fn add(&self, video: &str, recipients: &[&str]) -> Uuid {
        let token = RandomTokens.next();
        self.blobs.put(&key(token), video, self.clock.now());
        let recipients = recipients.iter().map(|&recipient| recipient.to_owned()).collect();
        let options = Options::new(20, 10);
        let job = NewJob {
            token,
            video: JobVideo::Stored(key(token)),
            options,
            recipients,
            webhook: None,
            origin: Origin::default(),
            notice: None,
            priority: Priority::Normal,
        };
        self.store.enqueue(&job, self.clock.now()).await.unwrap();
        token
    }

    async fn until(&self, token: Uuid, holds: impl Fn(&Job) -> bool) -> Job {
        let looking = async {
            loop {
                let job = self.store.job(token).await.unwrap().unwrap();
                if holds(&job) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("the job did not reach the state")
    }

    async fn ended(&self, token: Uuid) -> Job {
        self.until(token, |job| !matches!(job.status, Status::Queued | Status::Running)).await
    }

    async fn count(&self, sql: &str) -> i64 {
        let pool = AnyPool::connect(self.settings.database.url.expose()).await.unwrap();
        let count = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await.unwrap();
        pool.close().await;
        count
    }
}

struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the worker did not stop").unwrap();
    }
}

fn key(token: Uuid) -> String {
    format!("videos/{token}")
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("timeout: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_analyzed_saved_and_mailed_and_its_video_deleted() {
    let h = Harness::new().await;
    let worker = h.start();
    let token = h.add("good", &["a@example.org", "b@example.org"]).await;
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts, job.failure), (Status::Done, 1, None));
    assert_eq!(job.expires_at, Some(h.clock.now() + Duration::from_secs(30 * 24 * 3600)));
    assert_eq!(h.store.findings(token).await.unwrap(), Some(findings()));
    eventually("both mails are sent", async || h.server.told().len() == 2).await;
    let mut told = h.server.told();
    told.sort();
    assert_eq!(told, ["a@example.org", "b@example.org"].map(|to| (to.to_owned(), "4 frames".to_owned())));
    eventually("the video is deleted", async || h.store.video_count().await.unwrap() == 0).await;
    assert!(!h.blobs.has(&key(token)));
    worker.stop().await;
    assert_eq!(h.server.tries.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_is_kept_for_the_time_of_the_settings() {
    let h = Harness::with(|settings| settings.retention.videos_h = 2).await;
    let worker = h.start();
    let token = h.add("good", &[]).await;
    h.ended(token).await;
    worker.stop().await;
    h.clock.advance(Duration::from_secs(2 * 3600 - 1));
    assert_eq!(h.worker("w").sweep().await.videos, 0);
    assert!(h.blobs.has(&key(token)));
    h.clock.advance(Duration::from_secs(1));
    assert_eq!(h.worker("w").sweep().await.videos, 1);
    assert!(!h.blobs.has(&key(token)));
    assert_eq!(h.worker("w").sweep().await.videos, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_could_not_be_deleted_is_deleted_later() {
    let h = Harness::new().await;
    *h.blobs.stuck.lock().unwrap() = true;
    let worker = h.start();
    let token = h.add("good", &[]).await;
    assert_eq!(h.ended(token).await.status, Status::Done);
    worker.stop().await;
    assert!(h.blobs.has(&key(token)));
    *h.blobs.stuck.lock().unwrap() = false;
    assert_eq!(h.worker("w").sweep().await.videos, 1);
    assert!(!h.blobs.has(&key(token)));
    assert_eq!(h.store.video_count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_reported_while_a_job_runs() {
    let h = Harness::new().await;
    let worker = h.start();
    let token = h.add("endless", &[]).await;
    let job = h.until(token, |job| job.progress.frames_done > 0).await;
    assert_eq!(job.status, Status::Running);
    assert_eq!(job.progress, JobProgress { frames_done: 30, frames_total: 72 });
    h.store.erase(token, h.clock.now()).await.unwrap();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_an_invalid_video_is_not_repeated() {
    let h = Harness::new().await;
    let worker = h.start();
    let token = h.add("no video", &["a@example.org"]).await;
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Failed, 1));
    assert_eq!(job.failure.unwrap().code, "not_a_video");
    eventually("the mail is sent", async || h.server.told().len() == 1).await;
    assert_eq!(h.server.told(), [("a@example.org".to_owned(), NOT_A_VIDEO.to_owned())]);
    eventually("the video is deleted", async || h.store.video_count().await.unwrap() == 0).await;
    worker.stop().await;
    assert_eq!(h.script.runs(), 1);
    assert!(!h.blobs.has(&key(token)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_failure_is_repeated_after_a_wait() {
    let h = Harness::with(|settings| settings.queue.backoff_base_s = 60).await;
    let worker = h.start();
    let token = h.add("good at the third run", &[]).await;
    for (run, wait_s) in [(1, 60), (2, 120)] {
        let job = h.until(token, |job| job.attempts == run && job.status == Status::Queued).await;
        assert_eq!(job.failure, None);
        h.clock.advance(Duration::from_secs(wait_s - 1));
        assert!(h.store.claim("other", h.clock.now(), PATIENCE).await.unwrap().is_none());
        assert_eq!(h.script.runs(), run as usize);
        h.clock.advance(Duration::from_secs(1));
    }
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Done, 3));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_failure_ends_the_job_with_its_reason() {
    let h = Harness::with(|settings| settings.queue.backoff_base_s = 0).await;
    let worker = h.start();
    let token = h.add("always fails", &["a@example.org"]).await;
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Failed, 3));
    assert_eq!(job.failure.unwrap().code, "decoder_failed");
    eventually("the mail is sent", async || h.server.told().len() == 1).await;
    worker.stop().await;
    assert_eq!(h.script.runs(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_the_run_but_not_the_worker() {
    let h = Harness::with(|settings| settings.queue.backoff_base_s = 0).await;
    let worker = h.start();
    let poison = h.add("poison", &[]).await;
    let good = h.add("good", &[]).await;
    let job = h.ended(poison).await;
    assert_eq!((job.status, job.attempts), (Status::Failed, 3));
    assert_eq!(job.failure.unwrap().code, "analysis_crashed");
    assert_eq!(h.ended(good).await.status, Status::Done);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_a_running_job_stops_its_analysis() {
    let h = Harness::new().await;
    let worker = h.start();
    let token = h.add("endless", &["a@example.org"]).await;
    h.until(token, |job| job.status == Status::Running).await;
    let video = h.store.erase(token, h.clock.now()).await.unwrap().unwrap().unwrap();
    h.blobs.delete(&video).await.unwrap();
    let next = h.add("good", &[]).await;
    assert_eq!(h.ended(next).await.status, Status::Done);
    worker.stop().await;
    assert_eq!(h.script.cancelled.load(Ordering::SeqCst), 1);
    assert!(h.store.job(token).await.unwrap().is_none());
    assert_eq!(h.count("SELECT COUNT(*) FROM results").await, 1);
    assert_eq!(h.server.tries.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_running_jobs_finish() {
    let h = Harness::new().await;
    let worker = h.start();
    let running = h.add("deaf", &[]).await;
    let waiting = h.add("good", &[]).await;
    h.until(running, |job| job.status == Status::Running).await;
    worker.stop().await;
    assert_eq!(h.store.job(running).await.unwrap().unwrap().status, Status::Done);
    assert_eq!(h.store.job(waiting).await.unwrap().unwrap().status, Status::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_returns_unfinished_jobs_to_the_queue() {
    let h = Harness::with(|settings| settings.queue.shutdown_grace_s = 0).await;
    let worker = h.start();
    let token = h.add("endless", &["a@example.org"]).await;
    h.until(token, |job| job.status == Status::Running).await;
    eventually("the analysis runs", async || h.script.runs() == 1).await;
    worker.stop().await;
    let job = h.store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempts, job.failure), (Status::Queued, 0, None));
    eventually("the analysis has stopped", async || h.script.cancelled.load(Ordering::SeqCst) == 1).await;

    h.blobs.put(&key(token), "good", h.clock.now());
    let worker = h.start();
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Done, 1));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_begins_anew_if_its_stored_progress_cannot_be_read() {
    let h = Harness::new().await;
    let token = h.add("good", &[]).await;
    let claim = h.store.claim("other", h.clock.now(), h.settings.queue.lease()).await.unwrap().unwrap();
    h.store.keep_part(&claim, 0, "of a newer version").await.unwrap();
    h.store.hand_back(&claim).await.unwrap();
    let worker = h.start();
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Done, 1));
    assert_eq!(h.store.parts(token).await.unwrap(), [""; 0]);
    worker.stop().await;
}

const WAITING: &str = "SELECT COUNT(*) FROM analysis_pieces WHERE status = 'waiting' AND shared = 1 AND deaths = 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_gives_its_piece_of_a_long_video_back() {
    let h = Harness::with(|settings| settings.queue.shutdown_grace_s = 0).await;
    let (own, others) = (ScriptedPieces::new(None), ScriptedPieces::new(None));
    let token = h.add("long", &[]).await;
    let worker = h.start_with("w", &own);
    eventually("the worker of the job begins", async || own.begun.load(Ordering::SeqCst) == 1).await;
    let helper = h.start_with("h", &others);
    eventually("the other one helps", async || others.begun.load(Ordering::SeqCst) == 1).await;
    assert_eq!(h.count(WAITING).await, 1, "the third piece");
    helper.stop().await;
    assert_eq!((others.cancelled.load(Ordering::SeqCst), h.count(WAITING).await), (1, 2));
    assert_eq!(h.store.job(token).await.unwrap().unwrap().status, Status::Running);
    // The worker of the job hands it back, with its piece.
    worker.stop().await;
    let job = h.store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempts, h.count(WAITING).await), (Status::Queued, 0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_stop_when_a_long_video_is_erased() {
    let h = Harness::new().await;
    let (own, others) = (ScriptedPieces::new(None), ScriptedPieces::new(None));
    let token = h.add("long", &[]).await;
    let worker = h.start_with("w", &own);
    eventually("the worker of the job begins", async || own.begun.load(Ordering::SeqCst) == 1).await;
    let helper = h.start_with("h", &others);
    eventually("the other one helps", async || others.begun.load(Ordering::SeqCst) == 1).await;
    h.store.erase(token, h.clock.now()).await.unwrap();
    let cancelled = |script: &ScriptedPieces| script.cancelled.load(Ordering::SeqCst);
    eventually("both are cancelled", async || (cancelled(&own), cancelled(&others)) == (1, 1)).await;
    assert_eq!(h.count("SELECT COUNT(*) FROM analysis_pieces").await, 0);
    worker.stop().await;
    helper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_fails_elsewhere_is_decided_by_the_worker_of_the_job() {
    let h = Harness::with(|settings| settings.queue.shutdown_grace_s = 0).await;
    let failing = |fault, reason| ScriptedPieces::new(Some(AnalysisError::new(fault, reason, "as the script says")));
    let token = h.add("long", &[]).await;
    let (own, others) = (ScriptedPieces::new(None), failing(Fault::Unclear, FailureReason::DecoderFailed));
    let worker = h.start_with("w", &own);
    eventually("the worker of the job begins", async || own.begun.load(Ordering::SeqCst) == 1).await;
    let helper = h.start_with("h", &others);
    let failed = "SELECT COUNT(*) FROM analysis_pieces WHERE status = 'waiting' AND shared = 0";
    eventually("both others failed", async || h.count(failed).await == 2).await;
    assert_eq!(others.begun.load(Ordering::SeqCst), 2, "each is tried once");
    let job = h.store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempts, job.failure), (Status::Running, 1, None));
    helper.stop().await;
    worker.stop().await;

    let worker = h.start_with("v", &failing(Fault::Video, FailureReason::NotAVideo));
    let job = h.ended(token).await;
    assert_eq!((job.status, job.failure.unwrap().code.as_str()), (Status::Failed, "not_a_video"));
    assert_eq!(h.count("SELECT COUNT(*) FROM analysis_pieces").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_cannot_be_read_are_analyzed_again() {
    let h = Harness::new().await;
    let lease = h.settings.queue.lease();
    let claim = async || h.store.claim("other", h.clock.now(), lease).await.unwrap().unwrap();
    let reason = AnalysisError::new(Fault::Video, FailureReason::NotAVideo, "as the script says");
    let script = ScriptedPieces::new(Some(reason));
    let pieces = script.pieces(&Source::Url(String::new()), Options::new(20, 10), 0, &Cancel::default());
    let pieces = pieces.unwrap().unwrap().iter().map(|piece| serde_json::to_string(piece).unwrap()).collect::<Vec<_>>();
    // The results are of another version.
    let token = h.add("long", &[]).await;
    let job = claim().await;
    h.store.put_pieces(&job, &pieces).await.unwrap();
    while let Some(piece) = h.store.claim_own_piece(&job, h.clock.now(), lease).await.unwrap() {
        h.store.finish_piece(&piece, "of a newer version").await.unwrap();
    }
    h.store.hand_back(&job).await.unwrap();
    let worker = h.start_with("w", &script);
    assert_eq!(h.ended(token).await.failure.unwrap().code, "not_a_video");
    assert_eq!(script.begun.load(Ordering::SeqCst), 1);
    worker.stop().await;
    // The pieces themselves are of another version.
    let token = h.add("good", &[]).await;
    let job = claim().await;
    h.store.put_pieces(&job, &["of a newer version".to_owned()]).await.unwrap();
    h.store.hand_back(&job).await.unwrap();
    let worker = h.start_with("w", &script);
    assert_eq!(h.ended(token).await.status, Status::Done, "as a whole");
    assert_eq!(script.begun.load(Ordering::SeqCst), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_video_is_analyzed_as_a_whole_after_the_second_death_of_its_worker() {
    let h = Harness::new().await;
    let (lease, none) = (h.settings.queue.lease(), Backoff { base: Duration::ZERO, max: Duration::ZERO });
    let script = ScriptedPieces::new(None);
    let pieces = script.pieces(&Source::Url(String::new()), Options::new(20, 10), 0, &Cancel::default());
    let pieces = pieces.unwrap().unwrap().iter().map(|piece| serde_json::to_string(piece).unwrap()).collect::<Vec<_>>();
    let token = h.add("good", &[]).await;
    for death in 1..=2 {
        let job = h.store.claim("killed", h.clock.now(), lease).await.unwrap().unwrap();
        h.store.put_pieces(&job, &pieces).await.unwrap();
        h.clock.advance(lease);
        assert_eq!(h.store.release_lost(h.clock.now(), none).await.unwrap()[0].deaths, death);
    }
    let worker = h.start_with("w", &script);
    assert_eq!(h.ended(token).await.status, Status::Done);
    assert_eq!(script.begun.load(Ordering::SeqCst), 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_video_that_workers_copy_is_analyzed_as_a_whole() {
    let h = Harness::with(|settings| {
        settings.storage.kind = StorageKind::S3;
        settings.storage.s3.read = S3Read::Download;
    })
    .await;
    let script = ScriptedPieces::new(None);
    let token = h.add("good", &[]).await;
    let worker = h.start_with("w", &script);
    assert_eq!(h.ended(token).await.status, Status::Done);
    assert_eq!(script.begun.load(Ordering::SeqCst), 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lost_many_workers_is_done_and_its_owner_gets_only_the_result() {
    let h = Harness::with(|settings| settings.queue.backoff_max_s = 60).await;
    let token = h.add("good", &["a@example.org"]).await;
    let none = Backoff { base: Duration::ZERO, max: Duration::ZERO };
    for _ in 0..h.settings.queue.max_attempts * 2 {
        assert!(h.store.claim("killed", h.clock.now(), h.settings.queue.lease()).await.unwrap().is_some());
        h.clock.advance(h.settings.queue.lease());
        h.store.release_lost(h.clock.now(), none).await.unwrap();
    }
    let worker = h.start();
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Done, 1));
    eventually("the mail is sent", async || h.server.told().len() == 1).await;
    worker.stop().await;
    assert_eq!(h.server.told(), [("a@example.org".to_owned(), "4 frames".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_killed_worker_runs_again() {
    let h = Harness::new().await;
    let token = h.add("good", &["a@example.org"]).await;
    h.store.claim("killed", h.clock.now(), h.settings.queue.lease()).await.unwrap().unwrap();
    h.clock.advance(h.settings.queue.lease());
    let worker = h.start();
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Done, 1));
    worker.stop().await;
    assert_eq!(h.count("SELECT deaths FROM jobs").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_job_that_lost_a_worker_runs_in_a_process_of_its_own() {
    let h = Harness::new().await;
    let process = Arc::new(Script::default());
    let (stop, mut worker) = (CancellationToken::new(), h.worker("w"));
    worker.job_process = Some(process.clone());
    let suspect = h.add("good", &[]).await;
    h.store.claim("killed", h.clock.now(), h.settings.queue.lease()).await.unwrap().unwrap();
    h.clock.advance(h.settings.queue.lease());
    let other = h.add("good", &[]).await;
    let running = Running { task: tokio::spawn(worker.run(stop.clone())), stop };
    for token in [suspect, other] {
        assert_eq!(h.ended(token).await.status, Status::Done);
    }
    running.stop().await;
    assert_eq!((process.seen(), h.script.runs()), (vec![Source::File(h.blobs.path(&key(suspect)))], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_storage_fails_no_job_and_is_checked_rarely() {
    let h = Harness::with(|settings| settings.queue.concurrency = 4).await;
    let worker = h.start();
    // Housekeeping reads the identity at its start. No condition tells when it has read it for the last time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    h.blobs.away.store(true, Ordering::SeqCst);
    h.blobs.asked.store(0, Ordering::SeqCst);
    let mut tokens = Vec::new();
    for number in 0..8 {
        tokens.push(h.add("good", &[&format!("reader{number}@example.org")]).await);
    }
    // The test measures the number of checks in this time.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let asked = h.blobs.asked.load(Ordering::SeqCst);
    assert!((2..=5).contains(&asked), "{asked} checks within 8 s by 4 tasks");
    for token in &tokens {
        let job = h.store.job(*token).await.unwrap().unwrap();
        assert_eq!((job.status, job.attempts), (Status::Queued, 0));
    }
    h.blobs.away.store(false, Ordering::SeqCst);
    for token in &tokens {
        let job = h.ended(*token).await;
        assert_eq!((job.status, job.attempts), (Status::Done, 1));
    }
    eventually("the mails are sent", async || h.server.told().len() == 8).await;
    worker.stop().await;
    assert!(h.server.told().iter().all(|(_, told)| told == "4 frames"), "{:?}", h.server.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_fails_no_job() {
    let h = Harness::with(|settings| settings.queue.backoff_base_s = 0).await;
    let token = h.add("good once the device is back", &[]).await;
    let worker = h.start();
    let runs = h.settings.queue.max_attempts as usize * 2;
    eventually("it ran more often than it may fail", async || h.script.runs() > runs).await;
    h.script.is_device_back.store(true, Ordering::SeqCst);
    let job = h.ended(token).await;
    assert_eq!((job.status, job.attempts), (Status::Done, 1));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_replaced_storage_claims_no_job_and_deletes_nothing() {
    let h = Harness::new().await;
    let orphan = key(RandomTokens.next());
    h.blobs.put(&orphan, "another installation's", h.clock.now());
    h.clock.advance(Duration::from_secs(2 * 3600));
    let token = h.add("good", &[]).await;
    // Simulates a disk that is not mounted: the folder exists but has only foreign files.
    let ours = h.blobs.identity.lock().unwrap().take();
    h.blobs.delete(&key(token)).await.unwrap();
    let worker = h.start();
    eventually("storage was checked twice", async || h.blobs.asked.load(Ordering::SeqCst) > 3).await;
    assert_eq!(h.worker("w").sweep().await, Swept::default());
    assert!(h.blobs.has(&orphan));
    let job = h.store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempts), (Status::Queued, 0));
    // The disk is mounted again.
    *h.blobs.identity.lock().unwrap() = ours;
    h.blobs.put(&key(token), "good", h.clock.now());
    assert_eq!(h.ended(token).await.status, Status::Done);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_cannot_be_streamed_is_copied_and_the_copy_is_removed() {
    let h = Harness::new().await.bucket();
    let worker = h.start();
    let token = h.add("good", &[]).await;
    assert_eq!(h.ended(token).await.status, Status::Done);
    worker.stop().await;
    let seen = h.script.seen();
    assert!(matches!(&seen[..], [Source::Url(_), Source::File(_)]), "{seen:?}");
    let Source::File(copy) = &seen[1] else { unreachable!() };
    assert!(!copy.exists());
    assert!(!copy.parent().unwrap().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_is_copied_first_if_configured() {
    let h = Harness::with(|settings| settings.storage.s3.read = S3Read::Download).await.bucket();
    let worker = h.start();
    let token = h.add("good", &[]).await;
    assert_eq!(h.ended(token).await.status, Status::Done);
    worker.stop().await;
    assert!(matches!(&h.script.seen()[..], [Source::File(_)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_video_fails_its_job_only_if_it_stays_missing() {
    for is_bucket in [false, true] {
        let h = Harness::with(|settings| settings.queue.backoff_base_s = 0).await;
        let h = if is_bucket { h.bucket() } else { h };
        let token = h.add("good", &[]).await;
        h.blobs.delete(&key(token)).await.unwrap();
        let worker = h.start();
        let job = h.ended(token).await;
        assert_eq!((job.status, job.attempts), (Status::Failed, h.settings.queue.max_attempts));
        assert_eq!(job.failure.unwrap().code, "video_gone");
        worker.stop().await;
    }
    let h = Harness::with(|settings| settings.queue.backoff_base_s = 5).await;
    let token = h.add("good", &[]).await;
    h.blobs.delete(&key(token)).await.unwrap();
    let worker = h.start();
    h.until(token, |job| job.status == Status::Queued && job.attempts == 1).await;
    h.blobs.put(&key(token), "good", h.clock.now());
    h.clock.advance(Duration::from_secs(5));
    assert_eq!(h.ended(token).await.status, Status::Done);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_number_of_jobs_runs_in_parallel() {
    let h = Harness::with(|settings| settings.queue.concurrency = 2).await;
    let worker = h.start();
    let tokens = [h.add("needs company", &[]).await, h.add("needs company", &[]).await];
    for token in tokens {
        assert_eq!(h.ended(token).await.status, Status::Done);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_has_a_share_link_if_a_key_is_needed_to_see_the_result() {
    for required in [false, true] {
        let h = Harness::with(|settings| settings.auth.required = required).await;
        let worker = h.start();
        let token = h.add("good", &["a@example.org"]).await;
        eventually("the mail is sent", async || !h.server.told().is_empty()).await;
        let (of, address) = h.server.addresses.lock().unwrap()[0].clone();
        assert_eq!(of, token);
        let plain = format!("{}/results/{token}", h.settings.http.base_url());
        if required {
            let (path, share) = address.split_once("?share=").expect("a share link");
            let id: Uuid = path.rsplit('/').next().unwrap().parse().unwrap();
            assert_eq!(h.store.shared_token(id).await.unwrap(), Some(token));
            assert!(!address.contains(&token.to_string()), "{address}");
            let links = ShareLinks::new(&h.settings, &h.store).await.unwrap();
            let end = h.clock.now() + Duration::from_secs(h.settings.share.valid_h * 3600);
            assert_eq!(links.check(id, share, end - Duration::from_secs(1)), Ok(()));
            assert_eq!(links.check(id, share, end), Err(LinkError::Expired));
        } else {
            assert_eq!(address, plain);
        }
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_down_delays_the_mail_and_fails_no_job() {
    let h = Harness::with(|settings| settings.mail.backoff_base_s = 10).await;
    *h.server.down.lock().unwrap() = true;
    let worker = h.start();
    let token = h.add("good", &["a@example.org"]).await;
    assert_eq!(h.ended(token).await.status, Status::Done);
    // The attempt does not count, because no server answered.
    let failed = "SELECT COUNT(*) FROM outbox WHERE status = 'queued' AND last_error IS NOT NULL AND attempts = 0";
    eventually("the try failed", async || h.count(failed).await == 1).await;
    *h.server.down.lock().unwrap() = false;
    h.clock.advance(Duration::from_secs(9));
    assert!(h.store.claim_mail(h.clock.now(), PATIENCE).await.unwrap().is_none());
    h.clock.advance(Duration::from_secs(1));
    eventually("the mail is sent", async || h.server.told().len() == 1).await;
    worker.stop().await;
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE status = 'sent' AND recipient IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_mail_is_given_up_immediately_and_any_other_after_the_last_attempt() {
    let h = Harness::with(|settings| {
        settings.mail.backoff_base_s = 0;
        settings.mail.max_attempts = 3;
        settings.retention.failed_messages_h = 0;
    })
    .await;
    let worker = h.start();
    h.add("good", &["nobody@example.org"]).await;
    let dead = "SELECT COUNT(*) FROM outbox WHERE status = 'dead' AND recipient IS NULL AND attempts = ";
    eventually("it is given up", async || h.count(&format!("{dead}1")).await == 1).await;
    h.add("good", &["greylisted@example.org"]).await;
    eventually("it is given up", async || h.count(&format!("{dead}3")).await == 1).await;
    worker.stop().await;
    assert_eq!(h.server.tries.load(Ordering::SeqCst), 4);
    assert!(h.server.told().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_wait_for_a_server_that_is_down_for_days_and_are_sent_when_it_is_back() {
    let h = Harness::with(|settings| settings.mail.max_attempts = 3).await;
    *h.server.down.lock().unwrap() = true;
    let worker = h.start();
    for number in 0..5 {
        let token = h.add("good", &[&format!("reader{number}@example.org")]).await;
        assert_eq!(h.ended(token).await.status, Status::Done);
    }
    for tries in 1..=6 {
        eventually("a mail was tried", async || {
            h.clock.advance(Duration::from_secs(60));
            h.server.tries.load(Ordering::SeqCst) >= tries
        })
        .await;
        h.clock.advance(Duration::from_secs(12 * 3600));
    }
    let tries = h.server.tries.load(Ordering::SeqCst);
    assert!(tries <= 12, "{tries} attempts: only one mail is tried while the server is down");
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE status = 'dead'").await, 0);
    *h.server.down.lock().unwrap() = false;
    eventually("all are sent", async || {
        h.clock.advance(Duration::from_secs(60));
        h.server.told().len() == 5
    })
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_panics_in_the_renderer_does_not_stop_the_others() {
    let h = Harness::new().await;
    let worker = h.start();
    h.add("good", &["poison@example.org"]).await;
    h.add("good", &["a@example.org"]).await;
    eventually("the other is sent", async || h.server.told().len() == 1).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_of_a_killed_process_is_sent_again_with_the_same_id() {
    let h = Harness::new().await;
    *h.server.down.lock().unwrap() = true;
    let worker = h.start();
    let token = h.add("good", &["a@example.org"]).await;
    h.ended(token).await;
    worker.stop().await;
    h.clock.advance(Duration::from_secs(3600));
    // Another process claims the mail and dies.
    let leased = h.store.claim_mail(h.clock.now(), Duration::from_secs(60)).await.unwrap().unwrap();
    *h.server.down.lock().unwrap() = false;
    h.clock.advance(Duration::from_secs(60));
    let worker = h.start();
    eventually("the mail is sent", async || h.server.told().len() == 1).await;
    worker.stop().await;
    assert_eq!(h.server.taken.lock().unwrap()[0].0, leased.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn housekeeping_removes_only_unneeded_blobs() {
    let h = Harness::with(|settings| settings.retention.results_d = 1).await;
    let waiting = h.add("good", &[]).await;
    let orphan = key(RandomTokens.next());
    h.blobs.put(&orphan, "good", h.clock.now());
    h.blobs.put("holiday.mp4", "somebody else's", h.clock.now());
    h.clock.advance(Duration::from_secs(3601));
    let young = key(RandomTokens.next());
    h.blobs.put(&young, "good", h.clock.now());

    let swept = h.worker("w").sweep().await;
    assert_eq!(swept, Swept { expired: 0, videos: 0, orphans: 1, uploads: 3, ..Swept::default() });
    let left: BTreeMap<_, _> = [
        (orphan.as_str(), h.blobs.has(&orphan)),
        ("young", h.blobs.has(&young)),
        ("waiting", h.blobs.has(&key(waiting))),
        ("holiday", h.blobs.has("holiday.mp4")),
    ]
    .into();
    let expected = [(orphan.as_str(), false), ("young", true), ("waiting", true), ("holiday", true)];
    assert_eq!(left, expected.into());

    let worker = h.start();
    h.ended(waiting).await;
    worker.stop().await;
    h.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(h.worker("w").sweep().await.expired, 1);
    assert_eq!(h.store.job(waiting).await.unwrap().unwrap().status, Status::Expired);
}

#[tokio::test]
async fn old_log_entries_are_deleted_after_the_configured_days_or_kept_with_zero() {
    for (days, forgotten) in [(2, 1), (0, 0)] {
        let h = Harness::with(|settings| settings.retention.request_log_d = days).await;
        let entry = LogEntry {
            answered_at: h.clock.now(),
            method: "GET".to_owned(),
            endpoint: "/logs".to_owned(),
            status_code: 200,
            latency_ms: 1,
            client_id: None,
            key_id: None,
            prediction: None,
            confidence: None,
            error_message: None,
        };
        h.store.log_requests(&[entry], || RandomTokens.next()).await.unwrap();
        h.clock.advance(Duration::from_secs(2 * 24 * 3600 - 1));
        assert_eq!(h.worker("w").sweep().await.log_entries, 0, "{days} days");
        h.clock.advance(Duration::from_secs(3600));
        assert_eq!(h.worker("w").sweep().await.log_entries, forgotten, "{days} days");
    }
}
