//! Workers killed at any instant lose nothing.

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
use visage::store::{NewJob, Status, Store};

use crate::support::clips::{self, Models};
use crate::support::postgres::TestDatabase;
use crate::support::smtp::SmtpServer;

const JOBS: usize = 20;
const WORKERS: usize = 3;
/// Of the moments at which workers are killed.
const SEED: u64 = 20;
/// The longest time that a worker lives once it works grows by this with every kill, so that however slow the machine
/// is, some live long enough to finish.
const LONGER: Duration = Duration::from_millis(100);
/// For all of it, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(540);

/// What the workers share, all of a test's own.
struct Place {
    database: TestDatabase,
    smtp: SmtpServer,
    folder: tempfile::TempDir,
    models: Models,
}

impl Place {
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
            // Kills do not count: the default is enough.
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

    /// No file but this one, so that nobody's `config/` takes part.
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

    /// Whether a worker is past its start: only then does it take the signal to stop as a wish.
    fn says_that_it_works(&self, worker: &Worker) -> bool {
        let name = format!("-{}-", worker.process.id());
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().any(|line| line.contains("working") && line.contains(&name))
    }

    fn start_worker(&self) -> Worker {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_visage"))
            .arg("work")
            .arg("--config")
            .arg(self.config())
            .envs(self.vars())
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
    /// When it is to be killed, once that is drawn.
    dies_at: Option<Instant>,
}

impl Worker {
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The part of its name in the database that tells it from others of this machine.
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

/// Puts in jobs for copies of one clip, each with an address of its own; tokens by address.
async fn put_in(settings: &Settings, store: &Store, clip: &Path) -> BTreeMap<String, Uuid> {
    let clock = Arc::new(SystemClock);
    let blobs = blob::open(&settings.storage, clock.clone()).await.unwrap();
    let video = Bytes::from(std::fs::read(clip).unwrap());
    let mut tokens = BTreeMap::new();
    for number in 0..JOBS {
        let (token, recipient) = (RandomTokens.next(), format!("reader{number}@example.org"));
        let video_key = format!("videos/{token}");
        let mut upload = blobs.begin(&video_key).await.unwrap();
        upload.write(video.clone()).await.unwrap();
        upload.finish().await.unwrap();
        let options = Options::new(5, 10);
        let job = NewJob { token, video_key, options, recipients: vec![recipient.clone()], webhook: None };
        store.enqueue(&job, clock.now()).await.unwrap();
        tokens.insert(recipient, token);
    }
    tokens
}

/// Kills and restarts workers until every job is done and every mail recorded as sent; how many were killed. Most are
/// killed some time after they begin to work, some while they still load.
async fn kill_until_all_is_done(place: &Place, pool: &PgPool) -> usize {
    let mut moments = StdRng::seed_from_u64(SEED);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| place.start_worker()).collect();
    let mut killed = 0_u32;
    // Each of the first is killed while it surely holds a job.
    for worker in &mut workers {
        while held_by(pool, worker).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worker.kill();
        killed += 1;
        *worker = place.start_worker();
    }
    let open = "SELECT (SELECT COUNT(*) FROM jobs WHERE status <> 'done') \
                     + (SELECT COUNT(*) FROM outbox WHERE status <> 'sent')";
    while count(pool, open).await > 0 {
        for worker in &mut workers {
            if worker.dies_at.is_none() && (moments.random_bool(0.001) || place.says_that_it_works(worker)) {
                let longest = Duration::from_millis(500) + LONGER * killed;
                worker.dies_at = Some(Instant::now() + longest.mul_f64(moments.random()));
            }
            if worker.dies_at.is_some_and(|at| Instant::now() >= at) {
                worker.kill();
                killed += 1;
                *worker = place.start_worker();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    workers.iter_mut().for_each(Worker::kill);
    killed as usize
}

/// How many jobs a worker holds.
async fn held_by(pool: &PgPool, worker: &Worker) -> i64 {
    let held = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE worker LIKE $1").bind(worker.pattern());
    held.fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_at_any_instant_lose_nothing_and_mail_nothing_under_two_ids() {
    let models = clips::models();
    let (database, smtp) = (TestDatabase::create().await, SmtpServer::start());
    let place = Place { database, smtp, folder: tempfile::tempdir().unwrap(), models };
    std::fs::write(place.config(), "").unwrap();
    let settings = Settings::load(Some(&place.config()), place.vars()).unwrap();
    assert_eq!(settings.storage.kind, StorageKind::Folder);
    let store = Store::open(&settings.database).await.unwrap();
    let pool = PgPool::connect(settings.database.url.expose()).await.unwrap();
    let clip = clips::shared("single_face.mp4");
    let tokens = put_in(&settings, &store, &clip).await;

    let killing = tokio::time::timeout(PATIENCE, kill_until_all_is_done(&place, &pool)).await;
    let killed = killing.unwrap_or_else(|_| panic!("not done yet:\n{}", place.end_of_log()));

    // Every job is done, and all found the same in the same video.
    let mut results = Vec::new();
    for token in tokens.values() {
        let job = store.job(*token).await.unwrap().unwrap();
        assert_eq!((job.status, job.failure), (Status::Done, None));
        results.push(store.findings(*token).await.unwrap().unwrap());
    }
    assert_eq!(count(&pool, "SELECT COUNT(*) FROM results").await, JOBS as i64);
    assert!(results.iter().all(|findings| *findings == results[0]));
    // Runs whose worker was killed are counted apart from the others.
    let runs = count(&pool, "SELECT CAST(SUM(attempts + deaths) AS BIGINT) FROM jobs").await as usize;
    assert!(runs >= JOBS + WORKERS, "{killed} workers were killed, and {runs} runs were enough");

    // Every address has its mail, under one Message-ID: that of its row.
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let taken = place.smtp.messages();
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
        assert!(id.contains(&row), "{id} does not hold {row}");
    }
    // One is repeated only by a process that was killed between the server's yes and its own note of it.
    let repeated = taken.len() - JOBS;
    assert!(repeated <= killed, "{repeated} mails were repeated by {killed} killed processes");

    // A worker that is let live sweeps what the dead left, and ends well when it is told to.
    let mut last = place.start_worker();
    let swept = async {
        while !place.says_that_it_works(&last) || store.video_count().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let swept = tokio::time::timeout(PATIENCE, swept).await;
    assert!(swept.is_ok(), "videos are left:\n{}", place.end_of_log());
    let videos = std::fs::read_dir(place.folder.path().join("videos").join("videos")).unwrap();
    assert_eq!(videos.count(), 0);
    kill(Pid::from_raw(last.process.id() as i32), Signal::SIGTERM).unwrap();
    assert!(last.process.wait().unwrap().success(), "{}", place.end_of_log());
    assert_eq!(place.smtp.messages().len(), taken.len());
    println!("{killed} workers killed, {runs} runs of {JOBS} jobs, {repeated} mails repeated");
}
