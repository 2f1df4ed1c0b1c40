//! Kills worker processes at random times and checks that no job and no mail is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;
use uuid::Uuid;
use visage::analysis::Options;
use visage::blob;
use visage::clock::{Clock, RandomTokens, SystemClock, Tokens};
use visage::config::{Settings, StorageKind};
use visage::store::{JobVideo, NewJob, Origin, Priority, Status, Store};

use crate::support::clips::{self, Models};
use crate::support::postgres::TestDatabase;
use crate::support::smtp::SmtpServer;

const JOBS: usize = 20;
const WORKERS: usize = 3;
/// Seed of the random times at which workers are killed.
const SEED: u64 = 20;
/// Increase of the longest lifetime of a started worker with every kill, so that workers finish even on a slow machine.
const LONGER: Duration = Duration::from_millis(100);
/// Time limit of the whole test on a slow machine.
const PATIENCE: Duration = Duration::from_secs(540);

/// Everything that the workers of the test share.
struct Fixture {
    database: TestDatabase,
    smtp: SmtpServer,
    folder: tempfile::TempDir,
    models: Models,
}

impl Fixture {
    /// The settings of the workers, as environment variables.
    fn vars(&self) -> Vec<(String, String)> {
        let port = self.smtp.port().to_string();
        let videos = self.folder.path().join("videos").display().to_string();
        [
            ("DATABASE__URL", self.database.url().as_str()),
            ("DATABASE__MAX_CONNECTIONS", "3"),
            ("STORAGE__KIND", "folder"),
            ("STORAGE__FOLDER", &videos),
            ("QUEUE__LEASE_S", "2"),
            ("QUEUE__POLL_S", "1"),
            ("QUEUE__CONCURRENCY", "1"),
            // Killed runs do not count as attempts, so the default is enough.
            ("QUEUE__MAX_ATTEMPTS", "5"),
            ("QUEUE__BACKOFF_MAX_S", "5"),
            ("MODELS__FOLDER", &self.models.path().display().to_string()),
            ("ENGINE__DEVICE", "cpu"),
            ("ENGINE__THREADS", "1"),
            ("MAIL__TRANSPORT", "smtp"),
            ("MAIL__MAX_ATTEMPTS", "10000"),
            ("MAIL__SMTP__HOST", "127.0.0.1"),
            ("MAIL__SMTP__PORT", &port),
            ("MAIL__SMTP__SECURITY", "none"),
            ("MAIL__SMTP__TIMEOUT_S", "1"),
        ]
        .map(|(key, value)| (format!("VISAGE_{key}"), value.to_owned()))
        .into()
    }

    /// The only configuration file, so that the files in `config/` are not read.
    fn config(&self) -> PathBuf {
        self.folder.path().join("settings.toml")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("workers.log")
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Tells whether a worker has started. Before that, the signal to stop kills it.
    fn has_started(&self, worker: &Worker) -> bool {
        let name = format!("-{}-", worker.process.id());
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().any(|line| line.contains("working") && line.contains(&name))
    }

    fn start_worker(&self) -> Worker {
        self.start_worker_with(&[])
    }

    /// Waits until a query counts at least one row.
    async fn until(&self, pool: &PgPool, what: &str, sql: &str) {
        let holds = async {
            while count(pool, sql).await == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let held = tokio::time::timeout(PATIENCE, holds).await;
        assert!(held.is_ok(), "{what}:\n{}", self.end_of_log());
    }

    /// Starts a worker with further settings.
    fn start_worker_with(&self, settings: &[(&str, &str)]) -> Worker {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_visage"))
            .arg("work")
            .arg("--config")
            .arg(self.config())
            .envs(self.vars())
            .envs(settings.iter().map(|(key, value)| (format!("VISAGE_{key}"), value)))
            .env("VISAGE_LOG", "visage=info")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Worker { process, dies_at: None }
    }
}

/// A `visage work` that does not outlive the test.
struct Worker {
    process: Child,
    /// The time at which it is killed, if already chosen.
    dies_at: Option<Instant>,
}

impl Worker {
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SQL pattern of its name in the database, which contains its process id.
    fn pattern(&self) -> String {
        format!("%-{}-%", self.process.id())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn count(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap()
}

/// Queues jobs for copies of one clip, each with its own mail address. Returns the tokens by address.
async fn queue_jobs(settings: &Settings, store: &Store, clip: &Path, jobs: usize) -> BTreeMap<String, Uuid> {
    let clock = Arc::new(SystemClock);
    let blobs = blob::open(&settings.storage, clock.clone()).await.unwrap();
    let video = Bytes::from(std::fs::read(clip).unwrap());
    let mut tokens = BTreeMap::new();
    for number in 0..jobs {
        let (token, recipient) = (RandomTokens.next(), format!("reader{number}@example.org"));
        let video_key = format!("videos/{token}");
        let mut upload = blobs.begin(&video_key).await.unwrap();
        upload.write(video.clone()).await.unwrap();
        upload.finish().await.unwrap();
        let options = Options::new(5, 10);
        let job = NewJob {
            token,
            video: JobVideo::Stored(video_key),
            options,
            recipients: vec![recipient.clone()],
            webhook: None,
            origin: Origin::default(),
            notice: None,
            priority: Priority::Normal,
        };
        store.enqueue(&job, clock.now()).await.unwrap();
        tokens.insert(recipient, token);
    }
    tokens
}

/// Kills and restarts workers until every job is done and every mail is recorded as sent. Returns the number of
/// kills. Most workers are killed some time after their start, some while they still load models.
async fn kill_until_all_jobs_are_done(fixture: &Fixture, pool: &PgPool) -> usize {
    let mut moments = StdRng::seed_from_u64(SEED);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| fixture.start_worker()).collect();
    let mut killed = 0_u32;
    // Each of the first workers is killed while it has a job.
    for worker in &mut workers {
        while jobs_of(pool, worker).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worker.kill();
        killed += 1;
        *worker = fixture.start_worker();
    }
    let open = "SELECT (SELECT COUNT(*) FROM jobs WHERE status <> 'done') \
                     + (SELECT COUNT(*) FROM outbox WHERE status <> 'sent')";
    while count(pool, open).await > 0 {
        for worker in &mut workers {
            if worker.dies_at.is_none() && (moments.random_bool(0.001) || fixture.has_started(worker)) {
                let longest = Duration::from_millis(500) + LONGER * killed;
                worker.dies_at = Some(Instant::now() + longest.mul_f64(moments.random()));
            }
            if worker.dies_at.is_some_and(|at| Instant::now() >= at) {
                worker.kill();
                killed += 1;
                *worker = fixture.start_worker();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    workers.iter_mut().for_each(Worker::kill);
    killed as usize
}

/// Counts the jobs of a worker.
async fn jobs_of(pool: &PgPool, worker: &Worker) -> i64 {
    let held = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE worker LIKE $1").bind(worker.pattern());
    held.fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_lose_no_job_and_send_no_mail_with_two_ids() {
    let models = clips::models();
    let (database, smtp) = (TestDatabase::create().await, SmtpServer::start());
    let fixture = Fixture { database, smtp, folder: tempfile::tempdir().unwrap(), models };
    std::fs::write(fixture.config(), "").unwrap();
    let settings = Settings::load(Some(&fixture.config()), fixture.vars()).unwrap();
    assert_eq!(settings.storage.kind, StorageKind::Folder);
    let store = Store::open(&settings.database).await.unwrap();
    let pool = PgPool::connect(settings.database.url.expose()).await.unwrap();
    let clip = clips::shared("single_face.mp4");
    let tokens = queue_jobs(&settings, &store, &clip, JOBS).await;

    let killing = tokio::time::timeout(PATIENCE, kill_until_all_jobs_are_done(&fixture, &pool)).await;
    let killed = killing.unwrap_or_else(|_| panic!("not done yet:\n{}", fixture.end_of_log()));

    // Every job is done, with equal findings, because all have the same video.
    let mut results = Vec::new();
    for token in tokens.values() {
        let job = store.job(*token).await.unwrap().unwrap();
        assert_eq!((job.status, job.failure), (Status::Done, None));
        results.push(store.findings(*token).await.unwrap().unwrap());
    }
    assert_eq!(count(&pool, "SELECT COUNT(*) FROM results").await, JOBS as i64);
    assert!(results.iter().all(|findings| *findings == results[0]));
    // Runs with a killed worker are counted as deaths.
    let runs = count(&pool, "SELECT CAST(SUM(attempts + deaths) AS BIGINT) FROM jobs").await as usize;
    assert!(runs >= JOBS + WORKERS, "{killed} workers were killed, and there were only {runs} runs");

    // Every address has its mail, with one Message-ID: the id of its row.
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let taken = fixture.smtp.messages();
    for mail in &taken {
        assert_eq!(mail.to.len(), 1);
        ids.entry(mail.to[0].clone()).or_default().insert(mail.message_id.clone());
    }
    assert_eq!(ids.keys().collect::<Vec<_>>(), tokens.keys().collect::<Vec<_>>());
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(ids.values().flatten().collect::<BTreeSet<_>>().len(), JOBS);
    assert_eq!(count(&pool, "SELECT COUNT(*) FROM outbox").await, JOBS as i64);
    for (recipient, token) in &tokens {
        let row: String = sqlx::query_scalar("SELECT id FROM outbox WHERE token = $1")
            .bind(token.to_string())
            .fetch_one(&pool)
            .await
            .unwrap();
        let id = ids[recipient].first().unwrap();
        assert!(id.contains(&row), "{id} does not contain {row}");
    }
    // A mail is repeated only if a process was killed after the server accepted the mail and before that was recorded.
    let repeated = taken.len() - JOBS;
    assert!(repeated <= killed, "{repeated} mails were repeated by {killed} killed processes");

    // A last worker removes the videos that killed workers left, and ends without an error at SIGTERM.
    let mut last = fixture.start_worker();
    let swept = async {
        while !fixture.has_started(&last) || store.video_count().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let swept = tokio::time::timeout(PATIENCE, swept).await;
    assert!(swept.is_ok(), "videos were not removed:\n{}", fixture.end_of_log());
    let videos = std::fs::read_dir(fixture.folder.path().join("videos").join("videos")).unwrap();
    assert_eq!(videos.count(), 0);
    kill(Pid::from_raw(last.process.id() as i32), Signal::SIGTERM).unwrap();
    assert!(last.process.wait().unwrap().success(), "{}", fixture.end_of_log());
    assert_eq!(fixture.smtp.messages().len(), taken.len());
    println!("{killed} workers killed, {runs} runs of {JOBS} jobs, {repeated} mails repeated");
}

/// A long video whose job is queued.
struct LongVideo {
    fixture: Fixture,
    settings: Settings,
    store: Store,
    pool: PgPool,
    clip: PathBuf,
    _made: clips::Clips,
    token: Uuid,
}

impl LongVideo {
    /// A clip of 20 seconds, and this many repetitions.
    async fn queue(repetitions: u32) -> Self {
        let models = clips::models();
        let (database, smtp) = (TestDatabase::create().await, SmtpServer::start());
        let fixture = Fixture { database, smtp, folder: tempfile::tempdir().unwrap(), models };
        std::fs::write(fixture.config(), "").unwrap();
        let settings = Settings::load(Some(&fixture.config()), fixture.vars()).unwrap();
        let store = Store::open(&settings.database).await.unwrap();
        let pool = PgPool::connect(settings.database.url.expose()).await.unwrap();
        let made = clips::Clips::new();
        let once = clips::shared("sad_then_happy.mp4");
        let clip = made.make("long.mp4", &format!("-stream_loop {repetitions} -i {} -an -c copy", once.display()));
        let token = *queue_jobs(&settings, &store, &clip, 1).await.values().next().unwrap();
        Self { fixture, settings, store, pool, clip, _made: made, token }
    }

    /// Has a worker analyze the video once more, and kills it. Returns the findings.
    async fn findings_again(&self, worker: &mut Worker) -> visage::analysis::Findings {
        let token = *queue_jobs(&self.settings, &self.store, &self.clip, 1).await.values().next().unwrap();
        let again = format!("SELECT COUNT(*) FROM jobs WHERE status = 'done' AND token = '{token}'");
        self.fixture.until(&self.pool, "not done again", &again).await;
        worker.kill();
        self.store.findings(token).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_survives_a_stopped_and_a_killed_worker() {
    let long = LongVideo::queue(5).await;
    let LongVideo { fixture, store, pool, token, .. } = &long;
    let start = || fixture.start_worker_with(&[("QUEUE__SHUTDOWN_GRACE_S", "0"), ("QUEUE__KEEP_PROGRESS_S", "1")]);
    let kept = async || count(pool, "SELECT COUNT(*) FROM analysis_parts").await;
    let until = async |what: &str, sql: &str| fixture.until(pool, what, sql).await;

    // A worker that is stopped keeps all that it has read, and hands its job back.
    let mut worker = start();
    until("no progress", "SELECT COUNT(*) FROM jobs WHERE frames_done > 20").await;
    let before = kept().await;
    kill(Pid::from_raw(worker.process.id() as i32), Signal::SIGTERM).unwrap();
    assert!(worker.process.wait().unwrap().success(), "{}", fixture.end_of_log());
    until("not handed back", "SELECT COUNT(*) FROM jobs WHERE status = 'queued' AND attempts = 0").await;
    let stopped = kept().await;
    assert!(stopped > before, "{before} parts, then {stopped}");

    // A worker that is killed keeps what it has read up to its last part.
    let mut worker = start();
    until("no part", &format!("SELECT COUNT(*) FROM jobs WHERE status = 'running' AND parts > {}", stopped + 1)).await;
    worker.kill();
    let killed = kept().await;
    let mut worker = start();
    until("not done", "SELECT COUNT(*) FROM jobs WHERE status = 'done'").await;
    assert_eq!(kept().await, 0);
    let log = std::fs::read_to_string(fixture.log()).unwrap();
    let continued: Vec<u32> = log
        .lines()
        .filter(|line| line.contains("the analysis continues after"))
        .filter_map(|line| line.split("samples=").nth(1)?.split_whitespace().next()?.parse().ok())
        .collect();
    assert!(continued.len() == 2 && continued[0] > 0 && continued[1] > continued[0], "{continued:?}\n{log}");
    println!("continued after {continued:?} samples; {stopped} and {killed} parts");

    // The result is the same as in one run.
    let broken_off = store.findings(*token).await.unwrap().unwrap();
    assert_eq!(long.findings_again(&mut worker).await, broken_off);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_analyze_a_long_video_and_two_of_them_die() {
    let long = LongVideo::queue(8).await;
    let LongVideo { fixture, store, pool, token, .. } = &long;
    let start = |split_from_s: &'static str| {
        let progress = [("QUEUE__SHUTDOWN_GRACE_S", "0"), ("QUEUE__KEEP_PROGRESS_S", "1")];
        fixture
            .start_worker_with(&[progress, [("VIDEO__PIECE_S", "20"), ("QUEUE__SPLIT_FROM_S", split_from_s)]].concat())
    };
    let until = async |what: &str, sql: &str| fixture.until(pool, what, sql).await;

    // A worker that stops keeps what it has read of its piece.
    let begun = "SELECT COUNT(*) FROM analysis_pieces WHERE begun IS NOT NULL AND status =";
    let mut stopped = start("60");
    until("no progress in a piece", &format!("{begun} 'running'")).await;
    kill(Pid::from_raw(stopped.process.id() as i32), Signal::SIGTERM).unwrap();
    assert!(stopped.process.wait().unwrap().success(), "{}", fixture.end_of_log());
    until("nothing kept", &format!("{begun} 'waiting'")).await;
    // The next worker has the job, the others help.
    let mut first = start("60");
    until("no pieces", "SELECT COUNT(*) FROM analysis_pieces WHERE status = 'running'").await;
    let mut others = [start("60"), start("60")];
    until("no help", "SELECT COUNT(*) / 3 FROM analysis_pieces WHERE status = 'running'").await;
    until("no progress", "SELECT COUNT(*) FROM jobs WHERE frames_done > 0 AND frames_total > frames_done").await;
    // The worker of the job dies, then one that helps. The name of a worker has the id of its process.
    first.kill();
    until("nothing done by those that help", "SELECT COUNT(*) / 3 FROM analysis_pieces WHERE status = 'done'").await;
    until("no worker of the job", "SELECT COUNT(*) FROM jobs WHERE status = 'running'").await;
    let worker: String = sqlx::query_scalar("SELECT worker FROM jobs").fetch_one(pool).await.unwrap();
    let helps = |other: &Worker| !worker.contains(&format!("-{}-", other.process.id()));
    others.iter_mut().find(|other| helps(other)).unwrap().kill();
    until("not done", "SELECT COUNT(*) FROM jobs WHERE status = 'done'").await;
    others.iter_mut().for_each(Worker::kill);
    assert_eq!(count(pool, "SELECT COUNT(*) FROM analysis_pieces").await, 0);
    let log = std::fs::read_to_string(fixture.log()).unwrap();
    assert!(log.contains("the piece continues after these samples"), "{log}");
    let ended: Vec<(u32, bool)> = log
        .lines()
        .filter(|line| line.contains("a piece of a job ended"))
        .filter_map(|line| {
            let number = line.split(" ended").nth(1)?.split("piece=").nth(1)?.split_whitespace().next()?;
            Some((number.parse().ok()?, line.contains("doer=Other")))
        })
        .collect();
    let mut numbers: Vec<u32> = ended.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    // Nine pieces. The line of a worker that was killed just after it had stored a result is missing.
    assert!(numbers.len() == ended.len() && numbers.len() >= 8, "pieces done twice, or not at all: {ended:?}\n{log}");
    let helped = ended.iter().filter(|(_, by_other)| *by_other).count();
    assert!((1..9).contains(&helped), "{ended:?}");

    // The result is that of one worker.
    let together = store.findings(*token).await.unwrap().unwrap();
    assert_eq!(long.findings_again(&mut start("0")).await, together);
}
