//! Measures the queue at size: claim, heartbeat and completion of jobs, through the store's own code.
//!
//! ```sh
//! createdb queue
//! cargo bench --bench queue -- postgres:///queue --waiting 1000000 --done 1000000 --claimers 128 --seconds 60
//! cargo bench --bench queue -- sqlite:/tmp/queue.db --waiting 1000000 --done 1000000 --claimers 8 --seconds 60
//! ```
//!
//! The database must be empty. Rows are written first, then the claimers work at the same time. `--reader` keeps a
//! transaction open meanwhile, so that Postgres cannot remove old versions of rows. Prints cycles a second for each
//! tenth of the time, the latency of claims and whole cycles, and on Postgres the number of sequential scans.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic on an error")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use sqlx::{Connection, Row};
use visage::analysis::{Findings, VideoFacts, summarise};
use visage::clock::{Clock, SystemClock};
use visage::config::{Secret, Settings};
use visage::store::{JobProgress, Store};

#[derive(Parser)]
struct Args {
    /// Address of an empty database.
    url: String,
    #[arg(long, default_value_t = 1_000_000)]
    waiting: u32,
    #[arg(long, default_value_t = 1_000_000)]
    done: u32,
    #[arg(long, default_value_t = 128)]
    claimers: u32,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 64)]
    connections: u32,
    #[arg(long)]
    reader: bool,
    /// Cargo adds this.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The result of a job without faces.
fn findings() -> Findings {
    let facts = VideoFacts {
        duration_s: 0.7,
        start_s: 0.0,
        fps: 30.0,
        width: 640,
        height: 360,
        codec: "h264".to_owned(),
        frames_total: 21,
        frames_analyzed: 5,
        has_audio: false,
        turned: 0,
        stream_orientation: None,
    };
    summarise(facts, &[0.0, 0.2, 0.4, 0.6], &[], None, Vec::new(), Vec::new())
}

/// Adds jobs with this status. `first` is the id of the first one.
async fn fill(url: &str, status: &str, first: u32, number: u32, options: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let (finished, video) = if status == "done" { ("n", "NULL") } else { ("NULL", "'videos/' || n") };
    let sql = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}) \
         INSERT INTO jobs (id, token, status, version, options, video_key, run_at, attempts, claim, frames_done, \
                           frames_total, created_at, finished_at, cost, client, rank) \
         SELECT n, '00000000-0000-0000-0000-' || {padded}, '{status}', 1, '{options}', {video}, n, 0, 0, 0, \
                0, n, {finished}, 100, 'sender-' || (n % 1000), {first_rank} + n / 1000 * 256 \
         FROM numbers",
        last = first + number - 1,
        // The priority `normal`, and a turn for each thousand jobs.
        first_rank = 2_i64 << 48,
        padded = if url.starts_with("sqlite") { "printf('%012d', n)" } else { "lpad(CAST(n AS TEXT), 12, '0')" },
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    sqlx::query("UPDATE counters SET value = $1 WHERE name = 'jobs'")
        .bind(i64::from(first + number))
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query(if url.starts_with("sqlite") { "SELECT 1" } else { "ANALYZE jobs" })
        .execute(&mut connection)
        .await
        .unwrap();
}

/// Returns the number of sequential scans of the table of jobs.
async fn sequential_scans(url: &str) -> Option<i64> {
    if url.starts_with("sqlite") {
        return None;
    }
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let row = sqlx::query("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'jobs'").fetch_one(&mut connection);
    Some(row.await.unwrap().try_get(0).unwrap())
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1000.0
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let mut settings = Settings::defaults().unwrap();
    settings.database.url = Secret::new(&args.url);
    settings.database.max_connections = args.connections;
    let store = Store::open(&settings.database).await.unwrap();
    let options = serde_json::to_string(&visage::analysis::Options::new(100, 10)).unwrap();
    fill(&args.url, "done", 1, args.done.max(1), &options).await;
    fill(&args.url, "queued", 1 + args.done.max(1), args.waiting, &options).await;
    println!("{} waiting, {} done, {} claimers", args.waiting, args.done, args.claimers);

    let mut reader = sqlx::AnyConnection::connect(&args.url).await.unwrap();
    if args.reader {
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(&mut reader).await.unwrap();
        sqlx::query("SELECT COUNT(*) FROM counters").execute(&mut reader).await.unwrap();
    }
    let scans = sequential_scans(&args.url).await;
    let (lease, done) = (Duration::from_secs(60), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let until = started + Duration::from_secs(args.seconds);
    let tasks = (0..args.claimers).map(|claimer| {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move {
            let (name, mut times) = (format!("bench-{claimer}"), Vec::new());
            while Instant::now() < until {
                let begun = Instant::now();
                let Some(claim) = store.claim(&name, SystemClock.now(), lease).await.unwrap() else { break };
                let claimed = begun.elapsed();
                let progress = JobProgress { frames_done: 10, frames_total: 21 };
                store.heartbeat(&claim, progress, SystemClock.now(), lease).await.unwrap();
                store.complete(&claim, &findings(), &[], SystemClock.now(), None).await.unwrap();
                times.push((claimed, begun.elapsed()));
                done.fetch_add(1, Ordering::Relaxed);
            }
            times
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut before = 0;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(args.seconds * 100)).await;
        let now = done.load(Ordering::Relaxed);
        print!("{:.0} ", (now - before) as f64 / (args.seconds as f64 / 10.0));
        before = now;
    }
    println!("cycles a second, by tenths of the time");
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0} cycles a second", times.len() as f64 / seconds);
    for (name, pick) in [("claim", 0), ("cycle", 1)] {
        let mut sorted: Vec<Duration> = times.iter().map(|time| if pick == 0 { time.0 } else { time.1 }).collect();
        sorted.sort();
        println!("{name}: p50 {:.1} ms, p99 {:.1} ms", quantile(&sorted, 0.5), quantile(&sorted, 0.99));
    }
    let begun = Instant::now();
    let depth = store.queue_depth().await.unwrap();
    println!("queue depth {depth:?} in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let begun = Instant::now();
    let lost = store.release_lost(SystemClock.now(), visage::store::Backoff { base: lease, max: lease }).await.unwrap();
    println!("{} lost jobs found in {:.1} ms", lost.len(), begun.elapsed().as_secs_f64() * 1000.0);
    if let (Some(before), Some(after)) = (scans, sequential_scans(&args.url).await) {
        println!("{} sequential scans of the table of jobs", after - before);
    }
    store.close().await;
}
