//! Batches: several videos by address in one request, with one webhook at the end.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use uuid::Uuid;
use visage::clock::{Clock, SystemClock};
use visage::config::{Secret, Settings};
use visage::store::Scope;

use crate::keys::{clip, key};
use crate::sources::killed::serve;
use crate::sources::{Recorder, eventually, quick, work};
use crate::support::clips::{self, models};
use crate::support::http;
use crate::support::postgres::TestDatabase;
use crate::support::service::Service;
use crate::support::web::WebServer;
use crate::webhooks::{Receiver, SECRET, open};

/// Settings with which videos are fetched from the web server of the tests, and webhooks may go to this machine.
fn settings(settings: &mut Settings) {
    quick(settings);
    open(settings);
}

/// Runs a test with SQLite, then with Postgres. The test gets the change of the settings that says where its database is.
async fn with_both(test: impl AsyncFn(&dyn Fn(&mut Settings))) {
    test(&|_| ()).await;
    let database = TestDatabase::create().await;
    test(&|settings| settings.database.url = Secret::new(database.url())).await;
}

async fn start(change: impl FnOnce(&mut Settings), database: &dyn Fn(&mut Settings)) -> Service {
    Service::start(|settings| {
        change(settings);
        database(settings);
    })
    .await
}

fn items(urls: &[String]) -> Value {
    urls.iter().map(|url| json!({"video_url": url})).collect()
}

async fn send(service: &Service, body: &Value, name: Option<&str>, key: Option<&str>) -> Response {
    let mut request = service.http.post(format!("{}/v1/batches", service.base)).json(body);
    if let Some(name) = name {
        request = request.header("idempotency-key", name);
    }
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    request.send().await.unwrap()
}

/// Sends a batch, which must be accepted.
async fn accept(service: &Service, body: &Value) -> Value {
    let answer = send(service, body, None, None).await;
    let (status, body): (_, Value) = (answer.status(), answer.json().await.unwrap());
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    body
}

async fn state(service: &Service, batch: &Value) -> Value {
    service.get(&format!("/v1/batches/{}", batch["id"].as_str().unwrap())).await.json().await.unwrap()
}

async fn ended(service: &Service, batch: &Value) -> Value {
    eventually("the batch ends", async || state(service, batch).await["ended_at"].is_string()).await;
    state(service, batch).await
}

fn statuses(batch: &Value) -> Vec<&str> {
    batch["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect()
}

async fn delete(service: &Service, batch: &Value, query: &str) -> StatusCode {
    let address = format!("{}/v1/batches/{}{query}", service.base, batch["id"].as_str().unwrap());
    service.http.delete(address).send().await.unwrap().status()
}

/// Fails if the outbox still holds a webhook after a while.
async fn no_webhook_is_left(service: &Service) {
    eventually("the webhook is recorded as sent", async || service.store.mails_waiting().await.unwrap() == 0).await;
}

#[tokio::test]
async fn a_batch_fails_item_by_item_and_ends_with_one_webhook() {
    with_both(fails_item_by_item).await;
}

async fn fails_item_by_item(database: &dyn Fn(&mut Settings)) {
    let (server, service) = (WebServer::start(clip()).await, start(settings, database).await);
    let receiver = Receiver::default();
    let hook = receiver.start(&[500, 204]).await;
    let body = json!({
        "items": [
            {"video_url": server.url("/video.mp4"), "file_name": "one.mp4"},
            {"video_url": server.url("/missing.mp4")},
            {"video_url": "https://10.0.0.1/private.mp4"},
            {"video_url": server.url("/chunked.mp4"), "file_name": "two.mp4"},
        ],
        "webhook_url": hook, "max_faces": 3,
    });
    let batch = accept(&service, &body).await;
    assert_eq!(statuses(&batch), ["queued", "queued", "refused", "queued"]);
    assert_eq!(
        (&batch["status"], &batch["fraction"], &batch["ended_at"]),
        (&json!("running"), &json!(0.0), &Value::Null)
    );
    let refused = &batch["items"][2];
    assert_eq!((&refused["token"], &refused["error"]["code"]), (&Value::Null, &json!("bad_video_url")));
    work(&service, Recorder::default());
    let end = ended(&service, &batch).await;
    assert_eq!(statuses(&end), ["done", "failed", "refused", "done"], "{end}");
    assert_eq!((&end["status"], &end["fraction"]), (&json!("ended"), &json!(1.0)));
    let counts = &end["counts"];
    assert_eq!(
        (&counts["total"], &counts["done"], &counts["failed"], &counts["refused"]),
        (&json!(4), &json!(2), &json!(1), &json!(1))
    );
    assert_eq!(end["items"][1]["error"]["code"], "video_refused");
    assert_eq!(end["items"][0]["file_name"], "one.mp4");
    for item in [0, 3] {
        let token = end["items"][item]["token"].as_str().unwrap();
        let result: Value = service.get(&format!("/results/{token}")).await.json().await.unwrap();
        assert_eq!((&result["status"], &result["options"]["max_faces"]), (&json!("done"), &json!(3)));
    }
    // The first attempt gets an error, and the second one is the same message.
    let came = receiver.got(2).await;
    no_webhook_is_left(&service).await;
    for (headers, body) in &came {
        Webhook::new(SECRET).unwrap().verify(body, headers).unwrap();
        assert_eq!(headers["webhook-id"], came[0].0["webhook-id"]);
    }
    let told: Value = serde_json::from_slice(&came[1].1).unwrap();
    assert_eq!((&told["type"], &told["data"]["batch"]), (&json!("batch.ended"), &batch["id"]));
    assert_eq!(statuses(&told["data"]), ["done", "failed", "refused", "done"]);
    assert_eq!(told["data"]["items"][1]["error"]["code"], "video_refused");
    assert_eq!(receiver.came.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_batch_of_wrong_items_is_refused_with_the_error_of_each() {
    let service = Service::start(|settings| {
        quick(settings);
        settings.sources.max_batch_items = 2;
    })
    .await;
    let wrong = json!({"items": [{"video_url": "ftp://a.example/x"}, {"video_url": "s3://unlisted/x"}]});
    let answer = send(&service, &wrong, None, None).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["code"], "no_item_accepted");
    assert_eq!((&told["items"][1]["index"], &told["items"][1]["error"]["code"]), (&json!(1), &json!("bad_video_url")));
    let url = || json!({"video_url": "https://media.example.org/x.mp4"});
    for (body, code) in [
        (json!({"items": []}), "empty_batch"),
        (json!({"items": [url(), url(), url()]}), "too_many_items"),
        (json!({"items": [url()], "max_faces": 0}), "bad_option"),
        (json!({"items": [url()], "gaze": false, "detail": "expressions"}), "contradiction"),
        (json!({"items": [url()], "email": "a@example.org"}), "bad_body"),
        (json!({"items": [url()], "webhook_url": "https://example.org/"}), "webhooks_off"),
    ] {
        let told: Value = send(&service, &body, None, None).await.json().await.unwrap();
        assert_eq!(told["code"], code, "{body}: {told}");
    }
    assert_eq!(service.store.queue_depth().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_cancelled_batch_keeps_ended_results_and_erases_the_rest() {
    with_both(cancelled).await;
}

async fn cancelled(database: &dyn Fn(&mut Settings)) {
    let (server, service) = (WebServer::start(clip()).await, start(settings, database).await);
    let receiver = Receiver::default();
    let hook = receiver.start(&[]).await;
    let urls = [server.url("/video.mp4"), server.url("/held.mp4")];
    let batch = accept(&service, &json!({"items": items(&urls), "webhook_url": hook})).await;
    work(&service, Recorder::default());
    server.holds(1).await;
    eventually("the first item is done", async || statuses(&state(&service, &batch).await)[0] == "done").await;
    assert_eq!(delete(&service, &batch, "").await, StatusCode::NO_CONTENT);
    server.holds(0).await;
    let end = state(&service, &batch).await;
    assert_eq!((&end["status"], statuses(&end)), (&json!("cancelled"), vec!["done", "cancelled"]));
    let token = |item: usize| end["items"][item]["token"].as_str().unwrap();
    assert_eq!(service.get(&format!("/results/{}", token(0))).await.status(), StatusCode::OK);
    assert_eq!(service.get(&format!("/results/{}", token(1))).await.status(), StatusCode::NOT_FOUND);
    let told: Value = serde_json::from_slice(&receiver.got(1).await[0].1).unwrap();
    assert_eq!(told["data"]["status"], "cancelled");
    // A repeated call changes nothing.
    assert_eq!(delete(&service, &batch, "?erase=false").await, StatusCode::NO_CONTENT);
    assert_eq!(state(&service, &batch).await, end);
    no_webhook_is_left(&service).await;
    assert_eq!(receiver.came.lock().unwrap().len(), 1);
    assert_eq!(delete(&service, &batch, "?erase=perhaps").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(delete(&service, &batch, "?erase=true").await, StatusCode::NO_CONTENT);
    assert_eq!(delete(&service, &batch, "?erase=true").await, StatusCode::NOT_FOUND);
    assert_eq!(service.get(&format!("/results/{}", token(0))).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn erased_and_expired_items_leave_the_batch_whole() {
    with_both(erased_and_expired).await;
}

async fn erased_and_expired(database: &dyn Fn(&mut Settings)) {
    let (server, service) = (WebServer::start(clip()).await, start(settings, database).await);
    let receiver = Receiver::default();
    let hook = receiver.start(&[]).await;
    let urls = [server.url("/video.mp4"), server.url("/video.mp4")];
    let batch = accept(&service, &json!({"items": items(&urls), "webhook_url": hook})).await;
    let token: Uuid = batch["items"][0]["token"].as_str().unwrap().parse().unwrap();
    assert!(service.store.erase(token, SystemClock.now()).await.unwrap().is_some());
    assert_eq!(statuses(&state(&service, &batch).await), ["erased", "queued"]);
    work(&service, Recorder::default());
    assert_eq!(statuses(&ended(&service, &batch).await), ["erased", "done"]);
    receiver.got(1).await;
    service.store.expire("2999-01-01T00:00:00Z".parse().unwrap(), 10).await.unwrap();
    let end = state(&service, &batch).await;
    assert_eq!((&end["status"], statuses(&end)), (&json!("ended"), vec!["erased", "expired"]));
    // Erasing the last open analysis ends the batch.
    let all = accept(&service, &json!({"items": items(&[server.url("/held.mp4")])})).await;
    let token: Uuid = all["items"][0]["token"].as_str().unwrap().parse().unwrap();
    service.store.erase(token, SystemClock.now()).await.unwrap();
    assert_eq!(ended(&service, &all).await["counts"]["erased"], 1);
}

#[tokio::test]
async fn a_repeated_request_gives_the_same_batch() {
    with_both(repeated).await;
}

async fn repeated(database: &dyn Fn(&mut Settings)) {
    let service = start(quick, database).await;
    let body = json!({"items": [{"video_url": "https://media.example.org/x.mp4"}]});
    let first: Value = send(&service, &body, Some("name"), None).await.json().await.unwrap();
    let again: Value = send(&service, &body, Some("name"), None).await.json().await.unwrap();
    assert_eq!((&first["id"], &first["items"]), (&again["id"], &again["items"]));
    assert_eq!(service.store.queue_depth().await.unwrap().0, 1);
    let other = json!({"items": [{"video_url": "https://media.example.org/y.mp4"}]});
    let reused = send(&service, &other, Some("name"), None).await;
    assert_eq!(reused.json::<Value>().await.unwrap()["code"], "idempotency_key_reused");
    // The name of a batch is not that of a video, and the other way round.
    let single = |name: &'static str| {
        let request = service.http.post(format!("{}/v1/analyses", service.base));
        request.header("idempotency-key", name).json(&json!({"video_url": "https://media.example.org/x.mp4"})).send()
    };
    assert_eq!(single("name").await.unwrap().json::<Value>().await.unwrap()["code"], "idempotency_key_reused");
    assert_eq!(single("other").await.unwrap().status(), StatusCode::ACCEPTED);
    let crossed = send(&service, &body, Some("other"), None).await;
    assert_eq!(crossed.json::<Value>().await.unwrap()["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn batches_are_listed_by_key_and_hidden_from_other_keys() {
    with_both(listed).await;
}

async fn listed(database: &dyn Fn(&mut Settings)) {
    let limited = |settings: &mut Settings| {
        quick(settings);
        settings.limits.change(|limits| limits.videos_per_day_key = 7);
    };
    let service = start(limited, database).await;
    let (own, other) =
        (key(&service, &[Scope::Analyze, Scope::Read]).await, key(&service, &[Scope::Analyze, Scope::Read]).await);
    let body = |count: usize| json!({"items": items(&vec!["https://media.example.org/x.mp4".to_owned(); count])});
    let mut sent = Vec::new();
    for count in [1, 2, 3] {
        let batch: Value = send(&service, &body(count), None, Some(&own)).await.json().await.unwrap();
        sent.insert(0, batch["id"].clone());
    }
    // 6 of 7 videos are counted: 2 more do not fit, and nothing of them is queued or counted.
    let refused = send(&service, &body(2), None, Some(&own)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "quota_used_up");
    assert_eq!(send(&service, &body(1), Some("last"), Some(&own)).await.status(), StatusCode::ACCEPTED);
    // A repetition needs no quota.
    assert_eq!(send(&service, &body(1), Some("last"), Some(&own)).await.status(), StatusCode::ACCEPTED);
    let list = async |key: &str, query: &str| -> Value {
        let request = service.http.get(format!("{}/v1/batches{query}", service.base)).bearer_auth(key);
        request.send().await.unwrap().json().await.unwrap()
    };
    let first = list(&own, "?limit=3").await;
    let cursor = first["next"].as_str().unwrap();
    let second = list(&own, &format!("?limit=3&cursor={cursor}")).await;
    assert_eq!((&second["batches"][0]["id"], &second["next"]), (&sent[2], &Value::Null));
    let ids: Vec<_> = first["batches"].as_array().unwrap()[1..].iter().map(|batch| batch["id"].clone()).collect();
    assert_eq!(ids, sent[..2]);
    assert_eq!(first["batches"][1]["counts"]["queued"], 3);
    assert_eq!(list(&other, "").await, json!({"batches": [], "next": null}));
    assert_eq!(list(&own, "?limit=0").await["parameter"], "limit");
    let path = format!("{}/v1/batches/{}", service.base, sent[0].as_str().unwrap());
    for (key, status) in [(Some(&other), 404), (None, 404), (Some(&own), 200)] {
        let request = service.http.get(&path);
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    assert_eq!(service.http.delete(&path).bearer_auth(&other).send().await.unwrap().status(), 404);
    assert_eq!(service.http.delete(&path).bearer_auth(&own).send().await.unwrap().status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_in_the_middle_of_a_batch_loses_nothing() {
    let (models, home) = (models(), tempfile::tempdir().unwrap());
    let server = WebServer::start(std::fs::read(clips::shared("single_face.mp4")).unwrap()).await;
    let (mut process, base) = serve(home.path(), &models);
    let body = json!({"items": items(&[server.url("/video.mp4"), server.url("/held.mp4")])});
    let sent = http().post(format!("{base}/v1/batches")).json(&body).send().await.unwrap();
    let sent: Value = sent.json().await.unwrap();
    server.holds(1).await;
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    server.holds(0).await;

    let (_process, base) = serve(home.path(), &models);
    let end = async {
        loop {
            let address = format!("{base}/v1/batches/{}", sent["id"].as_str().unwrap());
            let batch: Value = http().get(address).send().await.unwrap().json().await.unwrap();
            if batch["ended_at"].is_string() {
                return batch;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(240), end).await.expect("the batch does not end");
    assert_eq!(statuses(&end), ["done", "done"], "{end}");
    assert_eq!((&end["items"][1]["token"], &end["counts"]["total"]), (&sent["items"][1]["token"], &json!(2)));
}
