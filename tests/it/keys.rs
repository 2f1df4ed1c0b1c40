//! API keys: access to calls and to analyses.

use std::time::Duration;

use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;
use visage::analysis::Options;
use visage::clock::{Clock, ManualClock, RandomTokens, SystemClock, Tokens, random_secret};
use visage::config::{Secret, Settings};
use visage::store::{
    ApiKey, Enqueued, JobVideo, LogEntry, LogFilter, NewJob, NewKey, Origin, Period, Priority, REMEMBERED, Repeatable,
    Scope, Store,
};

use crate::support::clips::Clips;
use crate::support::postgres::TestDatabase;
use crate::support::service::{Service, video_form};

pub fn clip() -> Vec<u8> {
    let clips = Clips::new();
    std::fs::read(clips.moving("clip.mp4", 1.0, "-c:v libx264 -pix_fmt yuv420p")).unwrap()
}

fn new_key(scopes: &[Scope]) -> NewKey {
    NewKey {
        name: "test".to_owned(),
        scopes: scopes.to_vec(),
        rate_per_minute: None,
        max_concurrent: None,
        videos_per_day: None,
        videos_per_month: None,
        expires_at: None,
    }
}

/// Creates a key and returns its text.
pub async fn create(store: &Store, key: &NewKey) -> String {
    let now = SystemClock.now();
    store.create_key(key, RandomTokens.next(), &random_secret().unwrap(), now).await.unwrap()
}

/// Creates a key with these scopes in the database of a running service.
pub async fn key(service: &Service, scopes: &[Scope]) -> String {
    create(&service.store, &new_key(scopes)).await
}

/// A database for one test.
struct Harness {
    store: Store,
    clock: ManualClock,
    _lives: Box<dyn std::any::Any + Send + Sync>,
}

impl Harness {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/visage.db", folder.path().display());
        Self::new(url, Box::new(folder)).await
    }

    async fn postgres() -> Self {
        let database = TestDatabase::create().await;
        Self::new(database.url(), Box::new(database)).await
    }

    async fn new(url: String, lives: Box<dyn std::any::Any + Send + Sync>) -> Self {
        let mut database = Settings::defaults().unwrap().database;
        database.url = Secret::new(url);
        let store = Store::open(&database).await.unwrap();
        Self { store, clock: ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap()), _lives: lives }
    }

    async fn find(&self, text: &str) -> Option<ApiKey> {
        self.store.key(text, self.clock.now()).await.unwrap()
    }
}

/// Runs each test on both databases.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Harness::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Harness::postgres().await).await;
            })*
        }
    };
}

on_both! {
    quotas_are_counted_by_day_and_month,
    a_key_is_found_only_by_its_exact_text,
    a_key_is_invalid_after_it_is_revoked_or_expired,
    the_last_use_of_a_key_is_known_to_the_minute,
    a_request_is_remembered_for_a_day,
    only_one_of_many_simultaneous_requests_is_new,
    the_request_log_can_be_read_with_every_filter,
    old_entries_of_the_request_log_are_deleted,
}

async fn a_key_is_found_only_by_its_exact_text(h: Harness) {
    let wanted =
        NewKey { rate_per_minute: Some(7), max_concurrent: Some(2), ..new_key(&[Scope::Analyze, Scope::Logs]) };
    let text = create(&h.store, &wanted).await;
    let other = create(&h.store, &new_key(&[Scope::Read])).await;
    let key = h.find(&text).await.unwrap();
    assert!(text.starts_with(&format!("vis_{}_", key.id)), "{text}");
    assert_eq!((key.rate_per_minute, key.max_concurrent, key.last_used_at), (Some(7), Some(2), None));
    assert_eq!(key.scopes, [Scope::Analyze, Scope::Logs]);
    assert_eq!(h.store.keys().await.unwrap().len(), 2);
    // The id of one key with the secret of the other, and texts with a small difference.
    let secret = other.splitn(3, '_').last().unwrap();
    for wrong in [format!("vis_{}_{secret}", key.id), text[..text.len() - 1].to_owned(), format!("{text}x"), key.id] {
        assert_eq!(h.find(&wrong).await, None, "{wrong}");
    }
}

async fn a_key_is_invalid_after_it_is_revoked_or_expired(h: Harness) {
    let until = h.clock.now() + jiff::SignedDuration::from_hours(1);
    let short = create(&h.store, &NewKey { expires_at: Some(until), ..new_key(&[Scope::Read]) }).await;
    let revoked = create(&h.store, &new_key(&[Scope::Read])).await;
    let id = h.find(&revoked).await.unwrap().id;
    assert!(h.find(&short).await.is_some());
    h.clock.advance(Duration::from_secs(3600));
    assert_eq!(h.find(&short).await, None);
    assert!(h.store.revoke_key(&id, h.clock.now()).await.unwrap());
    assert!(!h.store.revoke_key(&id, h.clock.now()).await.unwrap(), "a second revocation has no effect");
    assert!(!h.store.revoke_key("0123456789ab", h.clock.now()).await.unwrap());
    assert_eq!(h.find(&revoked).await, None);
}

async fn the_last_use_of_a_key_is_known_to_the_minute(h: Harness) {
    let text = create(&h.store, &new_key(&[Scope::Read])).await;
    let first = h.clock.now();
    h.store.key_used(&h.find(&text).await.unwrap(), first).await.unwrap();
    assert_eq!(h.find(&text).await.unwrap().last_used_at, Some(first));
    h.clock.advance(Duration::from_secs(59));
    h.store.key_used(&h.find(&text).await.unwrap(), h.clock.now()).await.unwrap();
    assert_eq!(h.find(&text).await.unwrap().last_used_at, Some(first), "the last use is written at most once a minute");
    h.clock.advance(Duration::from_secs(1));
    h.store.key_used(&h.find(&text).await.unwrap(), h.clock.now()).await.unwrap();
    assert_eq!(h.find(&text).await.unwrap().last_used_at, Some(h.clock.now()));
}

fn ask(service: &Service, method: Method, path: &str, key: Option<&str>) -> RequestBuilder {
    let request = service.http.request(method, format!("{}{path}", service.base));
    match key {
        Some(key) => request.bearer_auth(key),
        None => request,
    }
}

async fn get(service: &Service, path: &str, key: Option<&str>) -> Response {
    ask(service, Method::GET, path, key).send().await.unwrap()
}

async fn send(service: &Service, form: Form, key: Option<&str>) -> Response {
    ask(service, Method::POST, "/analyze-video", key).multipart(form).send().await.unwrap()
}

async fn sent(service: &Service, key: Option<&str>) -> Uuid {
    let response = send(service, video_form(clip()), key).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let body: Value = response.json().await.unwrap();
    body["token"].as_str().unwrap().parse().unwrap()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn if_keys_are_required_calls_without_one_are_refused_except_health_checks() {
    let service = Service::start(|settings| settings.auth.required = true).await;
    let token = RandomTokens.next();
    for path in [format!("/results/{token}"), format!("/results/{token}/report"), format!("/results/{token}/events")] {
        let response = get(&service, &path, None).await;
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"visage\"");
        assert_eq!(code(response).await, (401, "key_required".to_owned()), "{path}");
    }
    assert_eq!(code(send(&service, video_form(clip()), None).await).await, (401, "key_required".to_owned()));
    for path in ["/", "/healthz", "/readyz", "/healthz/"] {
        assert_eq!(get(&service, path, None).await.status(), StatusCode::OK, "{path}");
    }
    service.is_clean().await;
}

#[tokio::test]
async fn a_key_gives_access_according_to_its_scopes() {
    let service = Service::start(|settings| settings.auth.required = true).await;
    let analyze = key(&service, &[Scope::Analyze]).await;
    let read = key(&service, &[Scope::Read]).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let refused = send(&service, video_form(clip()), Some(&read)).await;
    let challenge = refused.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned();
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    assert_eq!(code(refused).await, (403, "scope_required".to_owned()));
    let token = sent(&service, Some(&analyze)).await;
    let path = format!("/results/{token}");
    assert_eq!(code(get(&service, &path, Some(&analyze)).await).await, (403, "scope_required".to_owned()));
    assert_eq!(get(&service, &path, Some(&admin)).await.status(), StatusCode::OK);
    let response =
        service.http.get(format!("{}{path}", service.base)).header("x-api-key", &admin).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(ask(&service, Method::DELETE, &path, Some(&analyze)).send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_wrong_key_is_refused_even_if_none_is_needed() {
    let service = Service::start(|_| {}).await;
    let good = key(&service, &[Scope::Analyze, Scope::Read]).await;
    let token = sent(&service, None).await;
    let path = format!("/results/{token}");
    for wrong in ["nonsense", "", &format!("{good}x"), &good[..good.len() - 2]] {
        let response =
            service.http.get(format!("{}{path}", service.base)).header("x-api-key", wrong).send().await.unwrap();
        assert_eq!(code(response).await, (401, "wrong_key".to_owned()), "{wrong}");
    }
    // Basic authentication is for proxies and is ignored.
    let basic = service.http.get(format!("{}{path}", service.base)).basic_auth("u", Some("p")).send().await.unwrap();
    assert_eq!(basic.status(), StatusCode::OK);
    let id = service.store.keys().await.unwrap()[0].id.clone();
    assert_eq!(get(&service, &path, Some(&good)).await.status(), StatusCode::OK);
    assert!(service.store.revoke_key(&id, SystemClock.now()).await.unwrap());
    assert_eq!(code(get(&service, &path, Some(&good)).await).await, (401, "wrong_key".to_owned()));
}

#[tokio::test]
async fn an_analysis_sent_with_a_key_is_unknown_to_all_others() {
    let service = Service::start(|_| {}).await;
    let scopes = [Scope::Analyze, Scope::Read];
    let (ann, bob) = (key(&service, &scopes).await, key(&service, &scopes).await);
    let admin = key(&service, &[Scope::Admin]).await;
    let hers = sent(&service, Some(&ann)).await;
    let free = sent(&service, None).await;
    for other in [Some(bob.as_str()), None] {
        for suffix in ["", "/report", "/events"] {
            let path = format!("/results/{hers}{suffix}");
            assert_eq!(code(get(&service, &path, other).await).await, (404, "unknown_token".to_owned()), "{path}");
        }
        let erased = ask(&service, Method::DELETE, &format!("/results/{hers}"), other).send().await.unwrap();
        assert_eq!(erased.status(), StatusCode::NOT_FOUND);
    }
    for (token, key) in [(hers, Some(&ann)), (hers, Some(&admin)), (free, Some(&bob)), (free, None)] {
        let response = get(&service, &format!("/results/{token}"), key.map(String::as_str)).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
    let erased = ask(&service, Method::DELETE, &format!("/results/{hers}"), Some(&ann)).send().await.unwrap();
    assert_eq!(erased.status(), StatusCode::NO_CONTENT);
}

async fn repeat(service: &Service, name: &str, form: Form, key: Option<&str>) -> Response {
    let request = ask(service, Method::POST, "/analyze-video", key).header("Idempotency-Key", name);
    request.multipart(form).send().await.unwrap()
}

async fn accepted(response: Response) -> Value {
    let (status, body) = (response.status(), response.json().await.unwrap());
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    body
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_queues_no_job() {
    let service = Service::start(|_| {}).await;
    let clip = clip();
    let form = || video_form(clip.clone()).text("email", "ann@example.org");
    let first = accepted(repeat(&service, "one", form(), None).await).await;
    assert_eq!(accepted(repeat(&service, "one", form(), None).await).await, first);
    assert_eq!((service.store.video_count().await.unwrap(), service.stored().len()), (1, 1));
    // A request with another idempotency key, or without one, is a new request.
    for name in ["two", "ONE"] {
        assert_ne!(accepted(repeat(&service, name, form(), None).await).await["token"], first["token"]);
    }
    assert_ne!(accepted(service.upload(form()).await).await["token"], first["token"]);
    assert_eq!(service.stored().len(), 4);
}

#[tokio::test]
async fn an_idempotency_key_used_for_another_request_is_refused() {
    let service = Service::start(|_| {}).await;
    let clip = clip();
    let mut other = clip.clone();
    *other.last_mut().unwrap() ^= 1;
    accepted(repeat(&service, "one", video_form(clip.clone()), None).await).await;
    for form in [video_form(other), video_form(clip.clone()).text("max_faces", "3")] {
        let refused = repeat(&service, "one", form, None).await;
        assert_eq!(code(refused).await, (422, "idempotency_key_reused".to_owned()));
    }
    assert_eq!((service.store.video_count().await.unwrap(), service.stored().len()), (1, 1));
    for name in [String::new(), "x".repeat(256)] {
        let refused = repeat(&service, &name, video_form(clip.clone()), None).await;
        assert_eq!(code(refused).await, (400, "bad_idempotency_key".to_owned()));
    }
}

#[tokio::test]
async fn simultaneous_repetitions_share_one_job() {
    let service = Service::start(|_| {}).await;
    let clip = clip();
    let tries = (0..6).map(|_| repeat(&service, "one", video_form(clip.clone()), None));
    let mut tokens = std::collections::HashSet::new();
    for response in futures_util::future::join_all(tries).await {
        tokens.insert(accepted(response).await["token"].as_str().unwrap().to_owned());
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!((service.store.video_count().await.unwrap(), service.stored().len()), (1, 1));
}

#[tokio::test]
async fn refused_and_erased_requests_are_not_remembered() {
    let service = Service::start(|_| {}).await;
    let clip = clip();
    let refused = repeat(&service, "one", video_form(b"no video".to_vec()), None).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let first = accepted(repeat(&service, "one", video_form(clip.clone()), None).await).await;
    let token = first["token"].as_str().unwrap();
    let erased = ask(&service, Method::DELETE, &format!("/results/{token}"), None).send().await.unwrap();
    assert_eq!(erased.status(), StatusCode::NO_CONTENT);
    assert_ne!(accepted(repeat(&service, "one", video_form(clip), None).await).await["token"], first["token"]);
}

#[tokio::test]
async fn each_api_key_has_its_own_idempotency_keys() {
    let service = Service::start(|_| {}).await;
    let clip = clip();
    let (ann, bob) = (key(&service, &[Scope::Analyze]).await, key(&service, &[Scope::Analyze]).await);
    let mut tokens = std::collections::HashSet::new();
    for key in [Some(ann.as_str()), Some(bob.as_str()), None] {
        let body = accepted(repeat(&service, "one", video_form(clip.clone()), key).await).await;
        tokens.insert(body["token"].as_str().unwrap().to_owned());
    }
    assert_eq!(tokens.len(), 3);
}

fn request(name: &str, body: &str) -> Repeatable {
    Repeatable { name_sha256: name.to_owned(), body_sha256: body.to_owned() }
}

impl Harness {
    /// Queues a job for a request, and returns its token and the outcome.
    async fn enqueue(&self, owner: Option<&str>, request: &Repeatable) -> (Uuid, Enqueued) {
        let token = RandomTokens.next();
        let options = Options::new(7, 3);
        let job = NewJob {
            token,
            video: JobVideo::Stored(token.to_string()),
            options,
            recipients: vec![],
            webhook: None,
            origin: Origin::default(),
            notice: None,
            priority: Priority::Normal,
        };
        (token, self.store.enqueue_once(owner, Some(request), &job, self.clock.now()).await.unwrap())
    }
}

async fn a_request_is_remembered_for_a_day(h: Harness) {
    let (first, was) = h.enqueue(None, &request("one", "body")).await;
    assert_eq!(was, Enqueued::New);
    h.clock.advance(REMEMBERED - Duration::from_millis(1));
    assert_eq!(h.enqueue(None, &request("one", "body")).await.1, Enqueued::Before(first));
    assert_eq!(h.enqueue(None, &request("one", "other")).await.1, Enqueued::Reused);
    assert_eq!(h.enqueue(Some("ann"), &request("one", "other")).await.1, Enqueued::New);
    assert_eq!(h.store.forget_requests(h.clock.now()).await.unwrap(), 0);
    h.clock.advance(Duration::from_millis(1));
    assert_eq!(h.enqueue(None, &request("one", "other")).await.1, Enqueued::New);
    h.clock.advance(REMEMBERED);
    assert_eq!(h.store.forget_requests(h.clock.now()).await.unwrap(), 2);
}

async fn only_one_of_many_simultaneous_requests_is_new(h: Harness) {
    let request = request("one", "body");
    let tries = futures_util::future::join_all((0..8).map(|_| h.enqueue(Some("ann"), &request))).await;
    let new: Vec<_> = tries.iter().filter(|(_, was)| *was == Enqueued::New).collect();
    assert_eq!(new.len(), 1, "{tries:?}");
    let before = tries.iter().filter(|(_, was)| *was == Enqueued::Before(new[0].0)).count();
    assert_eq!(before, 7, "{tries:?}");
    assert_eq!(h.store.video_count().await.unwrap(), 1);
    assert_eq!(h.store.job(new[0].0).await.unwrap().unwrap().owner.as_deref(), Some("ann"));
}

fn entry(h: &Harness, status_code: u16) -> LogEntry {
    LogEntry {
        answered_at: h.clock.now(),
        method: "POST".to_owned(),
        endpoint: "/predict".to_owned(),
        status_code,
        latency_ms: 41,
        client_id: None,
        key_id: None,
        prediction: None,
        confidence: None,
        error_message: None,
    }
}

async fn the_request_log_can_be_read_with_every_filter(h: Harness) {
    let happy = LogEntry {
        client_id: Some("app".to_owned()),
        key_id: Some("0123456789ab".to_owned()),
        prediction: Some("Happy".to_owned()),
        confidence: Some(0.92),
        ..entry(&h, 200)
    };
    h.clock.advance(Duration::from_secs(10));
    let moved = entry(&h, 399);
    h.clock.advance(Duration::from_secs(10));
    let failed = LogEntry { error_message: Some("too few frames".to_owned()), ..entry(&h, 400) };
    let entries = [happy.clone(), moved.clone(), failed.clone()];
    h.store.log_requests(&entries, || RandomTokens.next()).await.unwrap();
    let none = LogFilter::default();
    let (from, before) = (Some(moved.answered_at), Some(failed.answered_at));
    for (filter, found) in [
        (none.clone(), vec![&failed, &moved, &happy]),
        (LogFilter { from, ..none.clone() }, vec![&failed, &moved]),
        (LogFilter { before, ..none.clone() }, vec![&moved, &happy]),
        (LogFilter { from, before, ..none.clone() }, vec![&moved]),
        (LogFilter { status_code: Some(399), ..none.clone() }, vec![&moved]),
        (LogFilter { success: Some(true), ..none.clone() }, vec![&moved, &happy]),
        (LogFilter { success: Some(false), ..none.clone() }, vec![&failed]),
        (LogFilter { success: Some(false), status_code: Some(200), ..none.clone() }, vec![]),
        (LogFilter { client_id: happy.client_id.clone(), ..none.clone() }, vec![&happy]),
        (LogFilter { key_id: happy.key_id.clone(), ..none.clone() }, vec![&happy]),
        (LogFilter { client_id: Some("APP".to_owned()), ..none.clone() }, vec![]),
    ] {
        let read = h.store.logged_requests(&filter, 10).await.unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), found, "{filter:?}");
    }
    assert_eq!(h.store.logged_requests(&none, 2).await.unwrap(), [failed, moved]);
}

async fn old_entries_of_the_request_log_are_deleted(h: Harness) {
    for status in [200, 201, 202] {
        h.store.log_requests(&[entry(&h, status)], || RandomTokens.next()).await.unwrap();
        h.clock.advance(Duration::from_secs(60));
    }
    let until = h.clock.now() - jiff::SignedDuration::from_secs(120);
    assert_eq!(h.store.forget_log(until, 1).await.unwrap(), 1);
    assert_eq!(h.store.forget_log(until, 10).await.unwrap(), 1);
    assert_eq!(h.store.forget_log(until, 10).await.unwrap(), 0);
    assert_eq!(h.store.logged_requests(&LogFilter::default(), 10).await.unwrap()[0].status_code, 202);
}

#[tokio::test]
async fn a_key_lists_its_analyses_page_by_page() {
    let service = Service::start(|_| {}).await;
    let ann = key(&service, &[Scope::Analyze, Scope::Read]).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let clip = clip();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let body = accepted(send(&service, video_form(clip.clone()), Some(&ann)).await).await;
        tokens.insert(0, body["token"].as_str().unwrap().to_owned());
    }
    accepted(send(&service, video_form(clip), None).await).await;
    let list = async |key: &str, query: &str| {
        let response = get(&service, &format!("/v1/analyses{query}"), Some(key)).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        let body: Value = response.json().await.unwrap();
        let found = body["analyses"].as_array().unwrap().iter().map(|job| job["token"].as_str().unwrap().to_owned());
        (found.collect::<Vec<_>>(), body["next"].as_str().map(str::to_owned))
    };
    assert_eq!(list(&ann, "").await, (tokens.clone(), None));
    assert_eq!(list(&admin, "").await.0.len(), 4);
    let (first, next) = list(&ann, "?limit=2").await;
    assert_eq!(first, tokens[..2]);
    // New analyses do not shift the pages.
    sent(&service, Some(&ann)).await;
    assert_eq!(list(&ann, &format!("?limit=2&cursor={}", next.unwrap())).await, (tokens[2..].to_vec(), None));
    assert_eq!(list(&ann, "?status=queued&created_from=2000-01-01T00:00:00Z").await.0.len(), 4);
    for query in ["?status=done", "?created_from=2999-01-01T00:00:00Z", "?created_before=2000-01-01T00:00:00Z"] {
        assert_eq!(list(&ann, query).await, (vec![], None), "{query}");
    }
    for query in ["?status=finished", "?limit=0", "?limit=101", "?cursor=x", "?created_from=today"] {
        let refused = get(&service, &format!("/v1/analyses{query}"), Some(&ann)).await;
        assert_eq!(code(refused).await, (422, "bad_parameter".to_owned()), "{query}");
    }
    assert_eq!(code(get(&service, "/v1/analyses", None).await).await, (401, "key_required".to_owned()));
}

#[tokio::test]
async fn a_key_can_send_as_many_videos_as_its_quota_without_the_refused_ones() {
    let service = Service::start(|settings| settings.limits.change(|limits| limits.videos_per_month_key = 2)).await;
    let key = create(&service.store, &NewKey { videos_per_day: Some(0), ..new_key(&[Scope::Analyze]) }).await;
    let send = |video: Vec<u8>| {
        let upload = service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&key);
        upload.multipart(video_form(video)).send()
    };
    assert_eq!(send(clip()).await.unwrap().status(), StatusCode::ACCEPTED);
    // The uploads are sequential, so that a refused one no longer counts when the next begins.
    let sent = async {
        loop {
            assert_eq!(send(b"just some text".to_vec()).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
            if send(clip()).await.unwrap().status() == StatusCode::ACCEPTED {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sent).await.expect("refused videos count");
    let refused = send(clip()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() <= 31 * 24 * 3600);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!((&refused["code"], &refused["limit"]), (&serde_json::json!("quota_used_up"), &serde_json::json!(2)));
    let without = service.upload(video_form(clip())).await;
    assert_eq!(without.status(), StatusCode::ACCEPTED, "callers without a key have no quota");
}

async fn quotas_are_counted_by_day_and_month(h: Harness) {
    let day = visage::store::Quotas { per_day: 2, per_month: 3 };
    let count =
        async || h.store.count_videos("k", 1, day, h.clock.now()).await.unwrap().map(|used| (used.period, used.limit));
    assert_eq!((count().await, count().await, count().await), (None, None, Some((Period::Day, 2))));
    assert_eq!(h.store.count_videos("other", 1, day, h.clock.now()).await.unwrap(), None);
    let used_up = h.store.count_videos("k", 1, day, h.clock.now()).await.unwrap().unwrap();
    // It is 03:04:05 of the second of January.
    assert_eq!(used_up.wait_s, 24 * 3600 - (3 * 3600 + 4 * 60 + 5) + 1);
    h.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!((count().await, count().await), (None, Some((Period::Month, 3))));
    h.store.uncount_videos("k", 1, h.clock.now()).await.unwrap();
    assert_eq!((count().await, count().await), (None, Some((Period::Month, 3))));
    h.clock.advance(Duration::from_secs(31 * 24 * 3600));
    assert_eq!(count().await, None);
    assert_eq!(h.store.forget_usage(h.clock.now()).await.unwrap(), 0);
    h.clock.advance(Duration::from_secs(60 * 24 * 3600));
    assert_eq!(h.store.forget_usage(h.clock.now()).await.unwrap(), 4);
}

#[tokio::test]
async fn only_keys_with_the_scope_urgent_send_videos_that_go_first() {
    let service = Service::start(|_| {}).await;
    let clip = clip();
    let (ann, bob) =
        (key(&service, &[Scope::Analyze]).await, key(&service, &[Scope::Analyze, Scope::Read, Scope::Urgent]).await);
    let send = async |priority: &'static str, key: Option<&str>| {
        let form = video_form(clip.clone()).text("priority", priority);
        let mut request = service.http.post(format!("{}/analyze-video", service.base)).multipart(form);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        request.send().await.unwrap()
    };
    let refused = send("high", None).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "key_required");
    let refused = send("high", Some(&ann)).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["scope"]), (&"scope_required".into(), &"urgent".into()));
    let unknown = send("soon", Some(&bob)).await;
    assert_eq!(unknown.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = unknown.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["field"]), (&"bad_option".into(), &"priority".into()));
    for (priority, key, shown) in [
        ("high", Some(bob.as_str()), "high"),
        ("low", None, "low"),
        ("", Some(&ann), "normal"),
        ("normal", None, "normal"),
    ] {
        let accepted = send(priority, key).await;
        assert_eq!(accepted.status(), StatusCode::ACCEPTED, "{priority}");
        let token: Uuid = accepted.json::<Value>().await.unwrap()["token"].as_str().unwrap().parse().unwrap();
        assert_eq!(service.store.job(token).await.unwrap().unwrap().priority.name(), shown);
    }
}
