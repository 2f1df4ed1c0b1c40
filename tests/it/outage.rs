//! Runs the service as processes, and lets the disk become full and worker processes die.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;
use visage::analysis::Options;
use visage::blob;
use visage::clock::{Clock, RandomTokens, SystemClock, Tokens};
use visage::config::{Secret, Settings};
use visage::store::{Job, JobVideo, NewJob, Origin, Priority, Status, Store};

use crate::support::clips::{self, Clips, Models};
use crate::support::postgres::TestDatabase;
use crate::support::program::{self, PROGRAM, Process};

/// Time limit for any single step, long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

impl Process {
    /// Starts `visage` with this command. A file above the size limit causes an error and no signal.
    fn start(home: &Path, models: &Models, database: &str, command: &[&str], vars: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(home.join("log")).unwrap();
        let mut shell = Command::new("sh");
        program::set_up(&mut shell, home, models);
        shell
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", PROGRAM])
            .args(command)
            .env("VISAGE_DATABASE__URL", database)
            .env("VISAGE_ENGINE__THREADS", "1")
            .env("VISAGE_QUEUE__LEASE_S", "2")
            .env("VISAGE_QUEUE__POLL_S", "1")
            .env("VISAGE_QUEUE__CONCURRENCY", "1")
            .env("VISAGE_QUEUE__BACKOFF_BASE_S", "1")
            .env("VISAGE_QUEUE__BACKOFF_MAX_S", "2")
            .envs(vars.iter().copied())
            .env("VISAGE_LOG__FILTER", "visage=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        Self(shell.spawn().unwrap())
    }

    /// Limits the size of the files of the process (soft limit). `None` removes the limit.
    fn bound_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.0.id().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
        assert!(done.expect("prlimit of util-linux is installed").success());
    }
}

async fn until<T>(home: &Path, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        if started.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(home.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            panic!("not yet: {what}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns `http://ADDRESS:PORT` from the log.
async fn address(home: &Path) -> String {
    until(home, "the service listens", async || {
        let log = std::fs::read_to_string(home.join("log")).unwrap_or_default();
        let line = log.lines().find(|line| line.contains("listening"))?.to_owned();
        let text = line.split("127.0.0.1:").nth(1)?;
        Some(format!("http://127.0.0.1:{}", text.split(|c: char| !c.is_ascii_digit()).next()?))
    })
    .await
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |facts| facts.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_no_job_and_the_service_resumes_when_there_is_space() {
    let models = clips::models();
    let (home, clips) = (TempDir::new().unwrap(), Clips::new());
    let home = home.path();
    let clip = std::fs::read(clips.moving("clip.mp4", 4.0, "-c:v mpeg4")).unwrap();
    let database = format!("sqlite://{}/visage.db", home.display());
    let service = Process::start(home, &models, &database, &["serve"], &[]);
    let base = address(home).await;
    let http = crate::support::http();
    let ready = async || http.get(format!("{base}/readyz")).send().await.unwrap().status();
    let upload = async || {
        let part = reqwest::multipart::Part::bytes(clip.clone()).file_name("clip.mp4");
        let form = reqwest::multipart::Form::new().part("video", part);
        http.post(format!("{base}/analyze-video")).multipart(form).send().await.unwrap()
    };
    until(home, "the service is ready", async || (ready().await == StatusCode::OK).then_some(())).await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let answer = upload().await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let body: Value = answer.json().await.unwrap();
        tokens.push(body["token"].as_str().unwrap().parse::<Uuid>().unwrap());
    }

    // The limit is smaller than the files of the database, so every write to them fails.
    service.bound_files(Some(size(&home.join("visage.db")).min(4096)));
    until(home, "the service says that it is not ready", async || {
        (ready().await == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let refused = upload().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    // In this time the lease of a job ends many times. None of its failed runs may count as an attempt.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);

    service.bound_files(None);
    until(home, "the service is ready again", async || (ready().await == StatusCode::OK).then_some(())).await;
    // Every connection of the pool can write again.
    for _ in 0..15 {
        let answer = upload().await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{}", answer.text().await.unwrap());
        let body: Value = answer.json().await.unwrap();
        tokens.push(body["token"].as_str().unwrap().parse().unwrap());
    }
    for token in tokens {
        let result = until(home, "the job ends", async || {
            let result: Value = http.get(format!("{base}/results/{token}")).send().await.ok()?.json().await.ok()?;
            result["finished_at"].is_string().then_some(result)
        })
        .await;
        assert_eq!((&result["status"], &result["error"]), (&"done".into(), &Value::Null), "{result}");
    }
}

/// A Postgres database and a folder with one job.
struct Fixture {
    home: TempDir,
    database: TestDatabase,
    store: Store,
    pool: PgPool,
    token: Uuid,
}

impl Fixture {
    async fn new(clip: &Path) -> Self {
        let (home, database) = (TempDir::new().unwrap(), TestDatabase::create().await);
        let mut settings = Settings::defaults().unwrap();
        settings.database.url = Secret::new(database.url());
        settings.storage.folder = home.path().join("videos");
        let store = Store::open(&settings.database).await.unwrap();
        let blobs = blob::open(&settings.storage, std::sync::Arc::new(SystemClock)).await.unwrap();
        let token = RandomTokens.next();
        let video_key = format!("videos/{token}");
        let mut upload = blobs.begin(&video_key).await.unwrap();
        upload.write(std::fs::read(clip).unwrap().into()).await.unwrap();
        upload.finish().await.unwrap();
        let job = NewJob {
            token,
            video: JobVideo::Stored(video_key),
            options: Options::new(1, 10),
            recipients: vec![],
            webhook: None,
            origin: Origin::default(),
            notice: None,
            priority: Priority::Normal,
        };
        store.enqueue(&job, SystemClock.now()).await.unwrap();
        let pool = PgPool::connect(&database.url()).await.unwrap();
        Self { home, database, store, pool, token }
    }

    fn worker(&self, models: &Models) -> Process {
        Process::start(self.home.path(), models, &self.database.url(), &["work"], &[])
    }

    async fn job(&self) -> Job {
        self.store.job(self.token).await.unwrap().unwrap()
    }

    async fn deaths(&self) -> i64 {
        sqlx::query_scalar(AssertSqlSafe("SELECT deaths FROM jobs")).fetch_one(&self.pool).await.unwrap()
    }

    async fn ended(&self) -> Job {
        until(self.home.path(), "the job ends", async || {
            Some(self.job().await).filter(|job| !matches!(job.status, Status::Queued | Status::Running))
        })
        .await
    }
}

/// Returns the child processes that run this command.
fn children(parent: &Process, command: &str) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", parent.0.id());
    let of_main = std::fs::read_to_string(path).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", parent.0.id())).into_iter().flatten().flatten();
    let others = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all: String = others.chain([of_main]).collect::<Vec<_>>().join(" ");
    let pids = all.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    let mut found: Vec<i32> = pids
        .filter(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains(command)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(Pid::from_raw).collect()
}

/// Kills more workers than a job has attempts, by SIGKILL (as when memory runs out) and by SIGABRT (as in a crash).
/// Neither counts, because another job of the same process may be the cause.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_after_any_number_of_killed_workers() {
    let models = clips::models();
    let clips = Clips::new();
    let fixture = Fixture::new(&clips.moving("clip.mp4", 8.0, "-c:v mpeg4")).await;
    for death in 1..=6 {
        let mut worker = fixture.worker(&models);
        let pattern = format!("%-{}-%", worker.0.id());
        until(fixture.home.path(), "the worker has the job", async || {
            let held = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE status = 'running' AND worker LIKE $1");
            let held: i64 = held.bind(&pattern).fetch_one(&fixture.pool).await.unwrap();
            (held > 0).then_some(())
        })
        .await;
        // Rust's runtime ignores the first SIGSEGV from outside, so SIGABRT simulates a crash.
        let signal = if death % 2 == 0 { Signal::SIGABRT } else { Signal::SIGKILL };
        kill(Pid::from_raw(worker.0.id() as i32), signal).unwrap();
        worker.0.wait().unwrap();
    }
    let _worker = fixture.worker(&models);
    let job = fixture.ended().await;
    assert_eq!((job.status, job.failure), (Status::Done, None));
    assert!(fixture.deaths().await >= 5, "{} deaths", fixture.deaths().await);
    assert_eq!(job.attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_process_of_its_own_counts_if_it_crashes_and_not_if_it_is_killed() {
    let models = clips::models();
    let clips = Clips::new();
    let fixture = Fixture::new(&clips.moving("clip.mp4", 60.0, "-c:v mpeg4")).await;
    // The state after the death of a worker.
    sqlx::query("UPDATE jobs SET deaths = 1").execute(&fixture.pool).await.unwrap();
    let worker = fixture.worker(&models);
    let next_child = async |before: &[Pid]| {
        until(fixture.home.path(), "an analysis runs in a process of its own", async || {
            children(&worker, "run-job").into_iter().find(|child| !before.contains(child))
        })
        .await
    };
    let mut seen = Vec::new();
    for _ in 0..6 {
        let child = next_child(&seen).await;
        kill(child, Signal::SIGKILL).unwrap();
        seen.push(child);
    }
    for _ in 0..5 {
        let child = next_child(&seen).await;
        let job = fixture.job().await;
        assert_eq!(job.failure, None);
        kill(child, Signal::SIGABRT).unwrap();
        seen.push(child);
    }
    let job = fixture.ended().await;
    assert_eq!((job.status, job.attempts), (Status::Failed, 5));
    let failure = job.failure.unwrap();
    assert_eq!(failure.code, "analysis_crashed");
    assert!(!failure.detail.contains("Convert"), "{}", failure.detail);
    assert_eq!(fixture.deaths().await, 1, "the worker itself must not die");
    assert_eq!(children(&worker, "run-job"), []);
}

/// Kills processes that decode, and not those that wait for a video.
#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_crashes_costs_its_job_one_attempt_and_one_that_is_killed_none() {
    let models = clips::models();
    let clips = Clips::new();
    let fixture = Fixture::new(&clips.moving("clip.mp4", 30.0, "-c:v mpeg4")).await;
    // Each run begins anew, so that it lasts long enough to be killed. No decoder looks for the length of the video before.
    let queue = [("VISAGE_QUEUE__KEEP_PROGRESS_S", "0"), ("VISAGE_QUEUE__SPLIT_FROM_S", "0")];
    let vars = [[("VISAGE_METRICS__LISTEN", "127.0.0.1:0")].as_slice(), &queue].concat();
    let home = fixture.home.path();
    let mut worker = Process::start(home, &models, &fixture.database.url(), &["work"], &vars);
    let mut seen = Vec::new();
    for signal in [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGABRT] {
        let child = until(home, "a decoder works", async || {
            let is_busy = |child: &Pid| {
                let threads = std::fs::read_dir(format!("/proc/{child}/task")).map_or(0, Iterator::count);
                threads > 1 && !seen.contains(child)
            };
            children(&worker, "decode-child").into_iter().find(is_busy)
        })
        .await;
        kill(child, signal).unwrap();
        seen.push(child);
    }
    let job = fixture.ended().await;
    assert_eq!((job.status, job.failure), (Status::Done, None));
    assert_eq!(job.attempts, 3, "two crashes and the run that was done");
    assert!(worker.0.try_wait().unwrap().is_none(), "the worker goes on");
    assert_eq!(fixture.deaths().await, 0);

    let log = std::fs::read_to_string(home.join("log")).unwrap();
    let ends: Vec<&str> = log.lines().filter(|line| line.contains("a decoder process ended")).collect();
    assert_eq!(ends.len(), 3, "{log}");
    assert!(ends.iter().all(|line| line.contains(&format!("job={}", job.id))), "the lines name the job: {ends:#?}");

    let metrics =
        log.lines().find_map(|line| line.split("serving metrics").nth(1)?.split("127.0.0.1:").nth(1)).unwrap();
    let port = metrics.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let base = format!("http://127.0.0.1:{port}");
    let text = crate::support::http().get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    for (end, count) in [("crashed", 2), ("killed", 1), ("done", 1)] {
        let line = format!("visage_decoder_processes_ended_total{{end=\"{end}\"}} {count}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}
