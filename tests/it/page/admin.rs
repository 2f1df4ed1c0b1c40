//! The operator's page and its calls.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use visage::analysis::Options;
use visage::clock::{Clock, RandomTokens, SystemClock, Tokens};
use visage::store::{ClaimState, JobFailure, JobProgress, JobVideo, NewJob, NewMail, Origin, Priority, Scope};

use crate::keys::key;
use crate::support::browser::Browser;
use crate::support::clips::Clips;
use crate::support::service::Service;

const TROUBLE: &str = "The video could not be read from storage. Upload it again later.";

/// Adds a failed job whose video still exists. Returns its token.
async fn failed(service: &Service) -> uuid::Uuid {
    let token = service.accept(std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let now = SystemClock.now();
    let claim = service.store.claim("w", now, Duration::from_secs(60)).await.unwrap().unwrap();
    let failure = JobFailure { code: "storage_unavailable".to_owned(), detail: TROUBLE.to_owned(), reason: None };
    service.store.give_up(&claim, &failure, &[], now, None).await.unwrap();
    token
}

async fn overview(service: &Service, key: &str) -> Value {
    let call = service.http.get(format!("{}/v1/admin/overview", service.base)).bearer_auth(key);
    call.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_calls_need_the_scope_admin() {
    let service = Service::start(|_| ()).await;
    let other = key(&service, &[Scope::Read, Scope::Logs, Scope::Analyze]).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let nil = uuid::Uuid::nil();
    for (method, path, allowed) in [
        (Method::GET, "/v1/admin/overview".to_owned(), 200),
        (Method::POST, format!("/v1/admin/jobs/{nil}/retry"), 404),
        (Method::GET, "/v1/admin/jobs".to_owned(), 200),
        (Method::GET, "/v1/admin/messages".to_owned(), 200),
        (Method::POST, format!("/v1/admin/messages/{nil}/retry"), 404),
        (Method::GET, "/v1/admin/keys".to_owned(), 200),
        (Method::POST, "/v1/admin/keys".to_owned(), 415),
        (Method::DELETE, "/v1/admin/keys/000000000000".to_owned(), 404),
        (Method::GET, "/v1/admin/system".to_owned(), 200),
    ] {
        let asked = |key: Option<&str>| {
            let call = service.http.request(method.clone(), format!("{}{path}", service.base));
            let call = key.into_iter().fold(call, RequestBuilder::bearer_auth);
            async { call.send().await.unwrap().status().as_u16() }
        };
        let answers = (asked(None).await, asked(Some(&other)).await, asked(Some(&admin)).await);
        assert_eq!(answers, (401, 403, allowed), "{method} {path}");
    }
}

/// Calls the service with a key, and returns status and body.
async fn ask(service: &Service, method: Method, path: &str, key: &str, body: Option<Value>) -> (u16, Value) {
    let call = service.http.request(method, format!("{}{path}", service.base)).bearer_auth(key);
    let answer = body.into_iter().fold(call, |call, body| call.json(&body)).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_creates_lists_and_revokes_keys() {
    let service = Service::start(|_| ()).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let wanted = json!({"name": " Ann ", "scopes": ["read", "analyze", "read"], "expires_in_days": 3});
    let (status, made) = ask(&service, Method::POST, "/v1/admin/keys", &admin, Some(wanted)).await;
    assert_eq!(status, 201);
    let made = made["key"].as_str().unwrap();
    assert_eq!(ask(&service, Method::GET, "/v1/analyses", made, None).await.0, 200, "the key is valid");
    let (_, list) = ask(&service, Method::GET, "/v1/admin/keys", &admin, None).await;
    let [_, listed] = &list["keys"].as_array().unwrap()[..] else { panic!("two keys") };
    assert_eq!(
        (&listed["name"], &listed["scopes"], &listed["state"]),
        (&"Ann".into(), &json!(["analyze", "read"]), &"good".into())
    );
    assert!(!list.to_string().contains(made.rsplit_once('_').unwrap().1), "the secret is not listed");

    let path = format!("/v1/admin/keys/{}", listed["id"].as_str().unwrap());
    assert_eq!(ask(&service, Method::DELETE, &path, &admin, None).await.0, 204);
    assert_eq!(ask(&service, Method::GET, "/v1/analyses", made, None).await.0, 401, "the key is revoked");
    assert_eq!(ask(&service, Method::DELETE, &path, &admin, None).await.1["code"], "unknown_key");
    let own = format!("/v1/admin/keys/{}", admin.split('_').nth(1).unwrap());
    assert_eq!(ask(&service, Method::DELETE, &own, &admin, None).await.1["code"], "own_key");
    for wrong in [
        json!({"name": " ", "scopes": ["read"]}),
        json!({"name": "a", "scopes": []}),
        json!({"name": "a", "scopes": ["all"]}),
        json!({"name": "a", "scopes": ["read"], "expires_in_days": 0}),
        json!({"name": "a", "scopes": ["read"], "rate_per_minute": 0}),
        json!({"name": "a", "scopes": ["read"], "rights": 1}),
    ] {
        let (status, problem) = ask(&service, Method::POST, "/v1/admin/keys", &admin, Some(wrong.clone())).await;
        assert_eq!((status, &problem["code"]), (422, &"bad_body".into()), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_analyses_by_token_name_state_and_key_and_cancels_one() {
    let service = Service::start(|_| ()).await;
    let (admin, sender) = (key(&service, &[Scope::Admin]).await, key(&service, &[Scope::Analyze]).await);
    let video = std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap();
    let mut tokens = Vec::new();
    for (name, key) in [("Holiday_1.mp4", None), ("holiday21.mp4", None), ("work.mp4", Some(&sender))] {
        let form = Form::new().part("video", Part::bytes(video.clone()).file_name(name));
        let call = service.http.post(format!("{}/analyze-video", service.base)).multipart(form);
        let call = key.into_iter().fold(call, RequestBuilder::bearer_auth);
        let accepted: Value = call.send().await.unwrap().json().await.unwrap();
        tokens.push(accepted["token"].as_str().unwrap().to_owned());
    }
    let now = SystemClock.now();
    let claim = service.store.claim("w", now, Duration::from_secs(60)).await.unwrap().unwrap();
    let found = async |query: &str| {
        let (status, page) = ask(&service, Method::GET, &format!("/v1/admin/jobs?{query}"), &admin, None).await;
        assert_eq!(status, 200, "{query}");
        let names =
            page["analyses"].as_array().unwrap().iter().map(|job| job["file_name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(found("").await, ["work.mp4", "holiday21.mp4", "Holiday_1.mp4"]);
    assert_eq!(found("search=HOLIDAY").await, ["holiday21.mp4", "Holiday_1.mp4"]);
    assert_eq!(found("search=day_1").await, ["Holiday_1.mp4"], "an underscore is no wildcard");
    assert_eq!(found(&format!("search={}", &tokens[1][..8])).await, ["holiday21.mp4"]);
    assert_eq!(found(&format!("search={}", tokens[2].to_uppercase())).await, ["work.mp4"]);
    assert_eq!(found("status=running").await, ["Holiday_1.mp4"]);
    let own = sender.split('_').nth(1).unwrap();
    assert_eq!(found(&format!("key={own}&search=")).await, ["work.mp4"]);
    for wrong in ["lost", ""] {
        let path = format!("/v1/admin/jobs?status={wrong}");
        assert_eq!(ask(&service, Method::GET, &path, &admin, None).await.0, 422, "{wrong}");
    }

    assert_eq!(ask(&service, Method::DELETE, &format!("/results/{}", tokens[0]), &admin, None).await.0, 204);
    let beat = service.store.heartbeat(&claim, JobProgress::default(), now, Duration::from_secs(60)).await.unwrap();
    assert_eq!(beat, ClaimState::Lost, "the running analysis is cancelled");
    assert_eq!(ask(&service, Method::DELETE, &format!("/results/{}", tokens[2]), &admin, None).await.0, 204);
    assert_eq!(found("").await, ["holiday21.mp4"]);
}

/// Adds a failed job with a report mail and a webhook: the mail was given up, the webhook will be tried again.
async fn failed_messages(service: &Service) -> (uuid::Uuid, uuid::Uuid) {
    let now = SystemClock.now();
    let job = NewJob {
        token: RandomTokens.next(),
        video: JobVideo::Stored("none".to_owned()),
        options: Options::new(5, 10),
        recipients: vec!["ann@example.org".to_owned()],
        webhook: Some("https://example.org/hook".to_owned()),
        notice: None,
        priority: Priority::Normal,
        origin: Origin::default(),
    };
    service.store.enqueue(&job, now).await.unwrap();
    let lease = Duration::from_secs(60);
    let claim = service.store.claim("w", now, lease).await.unwrap().unwrap();
    let failure = JobFailure { code: "not_a_video".to_owned(), detail: "No video.".to_owned(), reason: None };
    let mail = NewMail { id: RandomTokens.next(), recipient: "ann@example.org".to_owned() };
    service.store.give_up(&claim, &failure, &[mail], now, None).await.unwrap();
    let mail = service.store.claim_mail(now, lease).await.unwrap().unwrap();
    service.store.mail_given_up(&mail, "550 no such user", now).await.unwrap();
    let hook = service.store.claim_webhook(now, lease).await.unwrap().unwrap();
    service.store.mail_failed(&hook, "connection refused", now + lease * 60, true).await.unwrap();
    (mail.id, hook.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_why_messages_failed_and_sends_them_again() {
    let service = Service::start(|_| ()).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let (mail, hook) = failed_messages(&service).await;
    let (_, list) = ask(&service, Method::GET, "/v1/admin/messages", &admin, None).await;
    let [first, second] = &list["messages"].as_array().unwrap()[..] else { panic!("two messages: {list}") };
    assert_eq!(first["id"], mail.to_string());
    assert_eq!(
        (&first["kind"], &first["state"], &first["error"]),
        (&"failure".into(), &"given_up".into(), &"550 no such user".into())
    );
    assert_eq!(
        (&second["kind"], &second["state"], &second["attempts"]),
        (&"webhook".into(), &"waiting".into(), &1.into())
    );
    assert!(first["can_retry"] == true && list["kept_h"] == 24, "{list}");
    assert!(!list.to_string().contains("example.org"), "addresses are not shown");

    let now = SystemClock.now();
    assert!(service.store.claim_webhook(now, Duration::from_secs(60)).await.unwrap().is_none(), "it is not due yet");
    for id in [mail, hook] {
        let path = format!("/v1/admin/messages/{id}/retry");
        assert_eq!(ask(&service, Method::POST, &path, &admin, None).await.0, 202);
    }
    let now = SystemClock.now();
    let again = service.store.claim_mail(now, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((again.id, again.recipient.as_str()), (mail, "ann@example.org"));
    assert_eq!(service.store.claim_webhook(now, Duration::from_secs(60)).await.unwrap().unwrap().id, hook);
    service.store.mail_sent(&again, now).await.unwrap();
    let path = format!("/v1/admin/messages/{mail}/retry");
    assert_eq!(ask(&service, Method::POST, &path, &admin, None).await.1["code"], "not_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_versions_and_the_space_of_videos() {
    let service = Service::start(|_| ()).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let video = std::fs::read(Clips::new().moving("a.mp4", 1.0, "-c:v libx264")).unwrap();
    let size = video.len();
    service.accept(video).await;
    let (_, system) = ask(&service, Method::GET, "/v1/admin/system", &admin, None).await;
    assert_eq!(system["version"], env!("CARGO_PKG_VERSION"));
    let migrations = std::fs::read_dir("migrations").unwrap();
    let number = |name: std::ffi::OsString| name.to_str().unwrap()[..4].parse::<u64>().unwrap();
    let last = migrations.map(|file| number(file.unwrap().file_name())).max().unwrap();
    assert_eq!(system["database"], json!({"kind": "SQLite", "migration": last}));
    assert_eq!((&system["storage"]["videos"], &system["storage"]["video_bytes"]), (&1.into(), &size.into()));
    assert!(system["storage"]["free_bytes"].as_u64().unwrap() <= system["storage"]["disk_bytes"].as_u64().unwrap());
    let libraries = system["libraries"].as_array().unwrap();
    assert_eq!(libraries.len(), 4);
    assert!(
        libraries.iter().all(|library| library["version"].as_str().is_some_and(|text| text.contains('.'))),
        "{system}"
    );
    assert_eq!((&system["models"], &system["metrics_version"]), (&json!([]), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_page_finds_erases_sends_again_and_makes_keys() {
    let service = Service::start(|_| ()).await;
    let admin = key(&service, &[Scope::Admin]).await;
    failed_messages(&service).await;
    let token = service.accept(std::fs::read(Clips::new().moving("b.mp4", 1.0, "-c:v libx264")).unwrap()).await;
    let browser = Browser::open(390, 844, &[]).await;
    browser.goto(&format!("{}/admin", service.base)).await;
    browser.write("#key", &admin).await;
    browser.click(".signin .main").await;
    for part in ["#found table", "#messages table", "#keys table", "#system dl", "#log table"] {
        browser.until(part, &format!("document.querySelector({part:?})")).await;
    }
    let messages = browser.text("#messages").await;
    assert!(messages.contains("550 no such user") && messages.contains("given up"), "{messages}");
    assert!(browser.text("#system").await.contains("SQLite, migration"));
    browser.picture("admin-all-phone").await;
    browser.check_accessibility("all parts of the operator's page").await;
    assert_eq!(browser.eval("return document.documentElement.scrollWidth <= innerWidth").await, true);
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.devtools("Emulation.setEmulatedMedia", dark).await;
    browser.picture("admin-all-phone-dark").await;
    browser.check_accessibility("the operator's page in the dark").await;

    browser.write("#search input[name=search]", &token.to_string()[..8]).await;
    browser.click("#search .button").await;
    browser.until("one analysis", "document.querySelectorAll('#found tbody tr').length === 1").await;
    browser.click("#found td .button").await;
    assert!(service.store.job(token).await.unwrap().is_some(), "the first click only asks");
    browser.click("#found td .button.danger").await;
    browser
        .until("the empty list", "document.querySelector('#found').textContent.includes('No analysis matches')")
        .await;
    assert!(service.store.job(token).await.unwrap().is_none());

    browser.click("#messages td .button").await;
    browser
        .until("the queued mail", "!document.querySelector('#messages tbody').textContent.includes('given up')")
        .await;

    browser.write("#new-key input[name=name]", "Bob").await;
    browser.click("#new-key .button").await;
    browser.until("the key", "document.querySelector('#created code')?.textContent.startsWith('vis_')").await;
    let made = browser.text("#created code").await;
    assert_eq!(ask(&service, Method::GET, "/v1/analyses", &made, None).await.0, 200);
    browser.until("the list", "document.querySelectorAll('#keys tbody tr').length === 2").await;
    browser.click("#keys tbody tr:last-child .button").await;
    browser.click("#keys tbody tr:last-child .button.danger").await;
    browser
        .until("revoked", "document.querySelector('#keys tbody tr:last-child').textContent.includes('revoked')")
        .await;
    assert_eq!(ask(&service, Method::GET, "/v1/analyses", &made, None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_can_run_again_while_its_video_exists() {
    let service = Service::start(|_| ()).await;
    let (token, admin) = (failed(&service).await, key(&service, &[Scope::Admin]).await);
    let before = overview(&service, &admin).await;
    assert_eq!(before["failures"][0]["can_retry"], true);
    assert_eq!(before["failures"][0]["code"], "storage_unavailable");
    assert_eq!(before["throughput"].as_array().unwrap().len(), 24);
    assert_eq!(before["throughput"][23]["failed"], 1);
    let retry = format!("{}/v1/admin/jobs/{token}/retry", service.base);
    let again = async || service.http.post(&retry).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(again().await.status(), StatusCode::ACCEPTED);
    let after = overview(&service, &admin).await;
    assert_eq!((&after["queue"]["queued"], after["failures"].as_array().unwrap().len()), (&1.into(), 0));
    let refused = again().await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "not_failed");

    let claim = service.store.claim("w", SystemClock.now(), Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((claim.token, claim.attempt), (token, 1), "the number of runs starts again");
    let failure = JobFailure { code: "storage_unavailable".to_owned(), detail: TROUBLE.to_owned(), reason: None };
    service.store.give_up(&claim, &failure, &[], SystemClock.now(), None).await.unwrap();
    service.store.video_deleted(token).await.unwrap();
    let refused = again().await;
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "video_gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_page_shows_jobs_workers_and_requests() {
    let service = Service::start(|settings| settings.retention.failed_videos_h = 24).await;
    let gone = failed(&service).await;
    service.store.video_deleted(gone).await.unwrap();
    let token = failed(&service).await;
    let other = service.accept(std::fs::read(Clips::new().moving("b.mp4", 2.0, "-c:v libx264")).unwrap()).await;
    service.store.claim("host-1", SystemClock.now(), Duration::from_secs(600)).await.unwrap().unwrap();
    service.store.worker_seen("host-1", 2, SystemClock.now()).await.unwrap();
    service.store.worker_seen("host-0", 2, SystemClock.now() - Duration::from_secs(3600)).await.unwrap();
    let admin = key(&service, &[Scope::Admin]).await;
    let browser = Browser::open(1280, 900, &[]).await;
    browser.goto(&format!("{}/admin", service.base)).await;
    browser.until("the form", "document.querySelector('#key')").await;
    browser.picture("admin-sign-in").await;
    browser.check_accessibility("signing in").await;
    browser.write("#key", "vis_wrong_key").await;
    browser.click(".signin .main").await;
    browser.until("the refusal", "document.querySelector('.signin .bad')?.textContent.includes('not valid')").await;
    browser.write("#key", &admin).await;
    browser.click(".signin .main").await;
    browser.until("the operator's page", "document.querySelector('#log table')").await;
    let now = browser.text("#now").await;
    assert!(now.contains(TROUBLE) && now.contains("host-1") && now.contains("silent"), "{now}");
    assert!(now.contains("kept for 24 hours") && now.contains("video erased"), "{now}");
    let buttons = browser.eval("return document.querySelectorAll('#now td .button').length").await;
    assert_eq!(buttons, 1, "only a job whose video exists can run again");
    assert!(now.contains(&other.to_string()[..8]) && now.contains(&token.to_string()[..8]), "{now}");
    browser.picture("admin").await;
    browser.check_accessibility("the operator's page").await;

    browser.write("input[name=status_code]", "202").await;
    browser.click("#log-filters button").await;
    let shown = "[...document.querySelectorAll('#log tbody tr')].length && [...document.querySelectorAll('#log tbody \
                 tr')].every((row) => row.cells[3].textContent === '202' && row.cells[2].textContent === \
                 '/analyze-video')";
    browser.until("the filtered log", shown).await;

    browser.click("#now td .button").await;
    browser
        .until("the job in the queue", "document.querySelector('#toast').textContent.includes('back in the queue')")
        .await;
    assert_eq!(service.store.queue_depth().await.unwrap(), (1, 1));
    assert_eq!(browser.eval("return document.cookie").await, "", "no cookie is set");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_explains_why_jobs_without_videos_cannot_run_again() {
    let service = Service::start(|_| ()).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let browser = Browser::open(390, 844, &[]).await;
    browser.goto(&format!("{}/admin", service.base)).await;
    browser.write("#key", &admin).await;
    browser.click(".signin .main").await;
    browser.until("the operator's page", "document.querySelector('#log table')").await;
    browser.picture("admin-empty-phone").await;
    assert!(browser.text("#now").await.contains("Nothing has failed"));
    let token = failed(&service).await;
    service.store.video_deleted(token).await.unwrap();
    // The page refreshes itself.
    browser
        .until("the reason", "document.querySelector('#retries')?.textContent.includes('retention.failed_videos_h')")
        .await;
    assert_eq!(overview(&service, &admin).await["failed_videos_h"], 0);
    assert!(!browser.is_shown("#now td .button").await);
    browser.picture("admin-phone").await;
    browser.check_accessibility("the operator's page on a phone").await;
    assert_eq!(browser.eval("return document.documentElement.scrollWidth <= innerWidth").await, true);
}
