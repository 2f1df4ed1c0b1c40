//! Clients that wait for jobs, and for a database that does not answer.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;
use visage::analysis::Options;
use visage::clock::{Clock, RandomTokens, SystemClock, Tokens};
use visage::config::{Secret, Settings};
use visage::store::{JobFailure, JobProgress, JobVideo, NewJob, Origin, Priority, Sight, Store};

use crate::support::postgres::{PrivateServer, TestDatabase};
use crate::support::service::Service;

const CLIENTS: usize = 1000;
const LEASE: Duration = Duration::from_secs(600);
/// Time after which Postgres has written the statistics of an idle connection, which takes 10 seconds.
const STATISTICS: Duration = Duration::from_secs(12);

async fn add(store: &Store) -> Uuid {
    let token = RandomTokens.next();
    let options = Options::new(5, 10);
    let job = NewJob {
        token,
        video: JobVideo::Stored(format!("videos/{token}")),
        options,
        recipients: vec![],
        webhook: None,
        origin: Origin::default(),
        notice: None,
        priority: Priority::Normal,
    };
    store.enqueue(&job, SystemClock.now()).await.unwrap();
    token
}

/// Returns the number of transactions of a database.
async fn transactions(database: &TestDatabase) -> i64 {
    let (server, name) = database.url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
    sqlx::query_scalar(sql).bind(name).fetch_one(&mut admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiting_clients_cost_at_most_one_query_a_second_and_all_are_notified() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let change = |settings: &mut Settings| {
        settings.database.url = Secret::new(url);
        settings.http.max_wait_s = 300;
    };
    let service = Service::start(change).await;
    let mut tokens = Vec::new();
    for _ in 0..50 {
        tokens.push(add(&service.store).await);
    }
    let running = service.store.claim("w", SystemClock.now(), LEASE).await.unwrap().unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (http, token) = (service.http.clone(), tokens[number % tokens.len()]);
            let url = format!("{}/results/{token}?wait=300", service.base);
            tokio::spawn(async move { http.get(url).send().await.unwrap().json::<Value>().await.unwrap() })
        })
        .collect();
    let all_wait = async {
        while service.store.waiters() < CLIENTS {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Each client queries once before it waits. Wait until these queries have ended.
        let mut seen = 0;
        loop {
            tokio::time::sleep(STATISTICS).await;
            let now = transactions(&database).await;
            if now - seen <= 20 {
                return;
            }
            seen = now;
        }
    };
    tokio::time::timeout(Duration::from_secs(200), all_wait).await.expect("not all clients wait");
    let (before, since) = (transactions(&database).await, Instant::now());
    for frames_done in 0..20 {
        let progress = JobProgress { frames_done, frames_total: 20 };
        service.store.heartbeat(&running, progress, SystemClock.now(), LEASE).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(STATISTICS).await;
    let (seconds, made) = (since.elapsed().as_secs_f64(), transactions(&database).await - before);
    // Each of the 20 heartbeats is two transactions, because of its notification.
    let of_clients = made as f64 - 40.0;
    println!("{CLIENTS} clients: {of_clients} transactions in {seconds:.1} s");
    // Preparing statements adds some transactions for each of ten connections.
    assert!(of_clients <= seconds + 30.0, "{of_clients} transactions in {seconds:.1} s");

    let failure = JobFailure { code: "not_a_video".to_owned(), detail: "It is none.".to_owned(), reason: None };
    let ended = Instant::now();
    for number in 0..tokens.len() {
        let claim = if number == 0 {
            running.clone()
        } else {
            service.store.claim("w", SystemClock.now(), LEASE).await.unwrap().unwrap()
        };
        service.store.give_up(&claim, &failure, &[], SystemClock.now(), None).await.unwrap();
    }
    for answer in join_all(clients).await {
        assert_eq!(answer.unwrap()["status"], "failed");
    }
    assert!(ended.elapsed() < Duration::from_secs(120), "{:?}", ended.elapsed());
    assert_eq!(service.store.waiters(), 0);
    service.store.close().await;
}

#[tokio::test]
async fn a_change_by_another_process_is_seen_without_notifications() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = Settings::defaults().unwrap().database;
    database.url = Secret::new(format!("sqlite://{}/visage.db", folder.path().display()));
    // Two independent handles, as in two processes.
    let (here, there) = (Store::open(&database).await.unwrap(), Store::open(&database).await.unwrap());
    let token = add(&there).await;
    let mut waiter = here.wait_for(token);
    let version = here.job(token).await.unwrap().unwrap().version;
    assert!(matches!(waiter.changed(version, Duration::from_millis(100)).await, Sight::None));
    let claim = there.claim("w", SystemClock.now(), LEASE).await.unwrap().unwrap();
    let Sight::Job(job) = waiter.changed(version, Duration::from_secs(30)).await else {
        panic!("the change was not seen")
    };
    assert!(job.version > version);
    // A change is reported only once.
    assert!(matches!(waiter.changed(job.version, Duration::from_millis(1500)).await, Sight::None));
    there.erase(token, SystemClock.now()).await.unwrap();
    assert!(matches!(waiter.changed(job.version, Duration::from_secs(30)).await, Sight::Ended));
    drop((waiter, claim));
    assert_eq!(here.waiters(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_database_gives_503_within_three_seconds_until_it_is_back() {
    let server = PrivateServer::start().await;
    let url = server.url();
    let service = Service::start(|settings| settings.database.url = Secret::new(url)).await;
    let token = add(&service.store).await;
    let path = format!("/results/{token}");
    assert_eq!(service.get(&path).await.status(), StatusCode::OK);

    let unanswered = async |what: &str| {
        let asked = (0..20).map(async |number| {
            let started = Instant::now();
            let answer = match number {
                0 => service.get("/readyz").await,
                2 => service
                    .http
                    .delete(format!("{}/results/{}", service.base, RandomTokens.next()))
                    .send()
                    .await
                    .unwrap(),
                3 => service.get(&format!("{path}/events")).await,
                4 => service.get(&format!("{path}?wait=30")).await,
                _ => service.get(&path).await,
            };
            (number, answer, started.elapsed())
        });
        for (number, answer, taken) in join_all(asked).await {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{what}: {number}");
            assert!(answer.headers().contains_key("retry-after"), "{what}: {number}");
            // The tolerance of half a second is for a busy machine.
            assert!(taken < Duration::from_millis(3500), "{what}: {number} took {taken:?}");
        }
    };
    server.freeze();
    unanswered("frozen").await;
    server.thaw();
    let back = async {
        while service.get(&path).await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back).await.expect("the database was not found again");
    server.end();
    server.ended().await;
    unanswered("down").await;
}

#[tokio::test]
async fn results_events_and_lists_show_the_place_in_the_queue() {
    let service = Service::start(|_| {}).await;
    let key = crate::keys::key(&service, &[visage::store::Scope::Admin]).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(add(&service.store).await);
    }
    for (ahead, token) in tokens.iter().enumerate() {
        let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
        assert_eq!(result["queue"], serde_json::json!({"ahead": ahead, "starts_in_s": null}));
    }
    let mut events = service.get(&format!("/results/{}/events", tokens[2])).await;
    let mut next = async || {
        let mut text = String::new();
        while !text.contains("data:") {
            text += &String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap());
        }
        text
    };
    assert!(next().await.contains(r#""queue":{"ahead":2,"starts_in_s":null}"#));
    service.store.worker_seen("w", 1, SystemClock.now()).await.unwrap();
    service.store.claim("w", SystemClock.now(), LEASE).await.unwrap().unwrap();
    let told = next().await;
    assert!(told.contains(r#""queue":{"ahead":1,"starts_in_s":null}"#), "{told}");
    let list = service.http.get(format!("{}/v1/analyses", service.base)).bearer_auth(key);
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    let places: Vec<_> = list["analyses"].as_array().unwrap().iter().map(|job| &job["queue"]["ahead"]).collect();
    assert_eq!(places, [&Value::from(1), &Value::from(0), &Value::Null], "newest first; the oldest runs");
}
