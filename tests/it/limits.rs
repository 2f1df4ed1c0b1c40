//! The request log, and the limits of rate and concurrency.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use sqlx::Connection;
use visage::clock::{RandomTokens, Tokens};
use visage::store::Scope;

use crate::keys::{clip, key};
use crate::support::service::{Service, video_form};

async fn logs(service: &Service, key: &str, query: &str) -> Value {
    let request = service.http.get(format!("{}/logs{query}", service.base)).header("x-api-key", key);
    let response = request.send().await.unwrap();
    let (status, body) = (response.status(), response.json().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// Waits until the log has so many entries for this query, because it is written in the background. Returns them.
async fn logged(service: &Service, key: &str, query: &str, count: usize) -> Vec<Value> {
    let waiting = async {
        loop {
            let body = logs(service, key, query).await;
            if body["count"].as_u64().unwrap() >= count as u64 {
                return body["logs"].as_array().unwrap().clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the log was not written")
}

#[tokio::test]
async fn every_answer_is_logged_without_addresses_keys_and_tokens() {
    let service = Service::start(|_| {}).await;
    let (admin, app) = (key(&service, &[Scope::Admin]).await, key(&service, &[Scope::Analyze, Scope::Read]).await);
    let form = video_form(clip()).text("email", "ann@example.org");
    let upload = service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&app);
    let sent = upload.header("X-Client-ID", "ios-app").multipart(form).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::ACCEPTED);
    let sent: Value = sent.json().await.unwrap();
    let token = sent["token"].as_str().unwrap();
    let read = service.http.get(format!("{}/results/{token}", service.base)).bearer_auth(&app).send().await.unwrap();
    assert_eq!(read.status(), StatusCode::OK);
    assert_eq!(service.get(&format!("/results/{}", RandomTokens.next())).await.status(), 404);
    assert_eq!(service.get("/nowhere?email=ann@example.org").await.status(), 404);
    let wrong = service.http.get(format!("{}/results/{token}", service.base)).bearer_auth(format!("{app}x"));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    assert_eq!(service.get("/healthz").await.status(), 200);

    let entries = logged(&service, &admin, "?end_date=2999-01-01", 5).await;
    let of = |endpoint: &str, status: u16| {
        let found = entries.iter().find(|entry| entry["endpoint"] == endpoint && entry["status_code"] == status);
        found.unwrap_or_else(|| panic!("{endpoint} {status} is not in {entries:?}"))
    };
    let upload = of("/analyze-video", 202);
    assert_eq!((&upload["request_method"], &upload["client_id"]), (&json!("POST"), &json!("ios-app")));
    assert_eq!((&upload["success"], &upload["error_message"]), (&json!(true), &Value::Null));
    assert!(upload["latency_ms"].is_u64() && upload["timestamp"].as_str().unwrap().ends_with('Z'), "{upload}");
    of("/results/{token}", 200);
    of("/results/{token}", 401);
    of("none", 404);
    let unknown = of("/results/{token}", 404);
    assert_eq!((&unknown["success"], &unknown["error_message"]), (&json!(false), &json!("No such analysis")));
    assert!(entries.iter().all(|entry| entry["endpoint"] != "/healthz"));
    let text = serde_json::to_string(&entries).unwrap();
    let secret = app.splitn(3, '_').last().unwrap();
    for forbidden in [token, secret, "ann@", "127.0.0.1"] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
}

#[tokio::test]
async fn a_key_reads_the_log_of_its_own_requests_and_an_admin_key_all() {
    let service = Service::start(|_| {}).await;
    let (ann, bob) = (key(&service, &[Scope::Logs, Scope::Read]).await, key(&service, &[Scope::Logs]).await);
    let admin = key(&service, &[Scope::Admin]).await;
    let path = format!("{}/results/{}", service.base, RandomTokens.next());
    for request in [service.http.get(&path).bearer_auth(&ann), service.http.get(&path)] {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    logged(&service, &admin, "?status_code=404", 2).await;
    assert_eq!(logs(&service, &ann, "?status_code=404").await["count"], 1);
    assert_eq!(logs(&service, &bob, "?status_code=404").await["count"], 0);
}

async fn shape(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn the_log_needs_its_scope_and_has_its_own_error_format() {
    let service = Service::start(|_| {}).await;
    let (good, other) = (key(&service, &[Scope::Logs]).await, key(&service, &[Scope::Analyze]).await);
    let get = |key: &str| service.http.get(format!("{}/logs", service.base)).header("x-api-key", key).send();
    assert_eq!(shape(service.get("/logs").await).await, (401, json!({"error": "Unauthorized"})));
    assert_eq!(shape(get("wrong").await.unwrap()).await, (401, json!({"error": "Unauthorized"})));
    assert_eq!(shape(get(&other).await.unwrap()).await, (403, json!({"error": "Forbidden"})));
    let first = shape(get(&good).await.unwrap()).await;
    assert_eq!(
        (first.0, &first.1["logs"], &first.1["count"], &first.1["more"]),
        (200, &json!([]), &json!(0), &json!(false))
    );
    assert!(first.1["latency_ms"].is_u64());
    let path = format!("{}/logs?success=maybe", service.base);
    let refused = service.http.get(path).header("x-api-key", &good).send().await.unwrap();
    assert_eq!(shape(refused).await, (400, json!({"error": "success is neither True nor False."})));
}

#[tokio::test]
async fn filters_may_be_query_parameters_or_the_body_of_a_get() {
    let service = Service::start(|_| {}).await;
    let admin = key(&service, &[Scope::Admin]).await;
    for client in ["one", "two", "two"] {
        let path = format!("{}/results/{}", service.base, RandomTokens.next());
        service.http.get(path).header("X-Client-ID", client).send().await.unwrap();
    }
    logged(&service, &admin, "?status_code=404", 3).await;
    let by_body = async |query: &str, body: Value| {
        let request = service.http.request(Method::GET, format!("{}/logs{query}", service.base));
        let response = request.header("x-api-key", &admin).json(&body).send().await.unwrap();
        shape(response).await
    };
    let (status, found) = by_body("", json!({"client_id": "two", "success": "False", "status_code": 404})).await;
    assert_eq!((status, &found["count"]), (200, &json!(2)));
    assert_eq!(by_body("?client_id=one", json!({"client_id": "two"})).await.1["count"], 2, "the body has priority");
    assert_eq!(by_body("?client_id=one", json!({"status_code": "404"})).await.1["count"], 1);
    assert_eq!(by_body("", json!(["two"])).await.0, 400);
    assert_eq!(logs(&service, &admin, "?client_id=one&success=False").await["count"], 1);
    assert_eq!(logs(&service, &admin, "?client_id=one&success=True").await["count"], 0);
    let page = logs(&service, &admin, "?client_id=two&limit=1").await;
    assert_eq!((&page["count"], &page["more"]), (&json!(1), &json!(true)));
    assert_eq!(logs(&service, &admin, "?client_id=two&start_date=2999-01-01").await["count"], 0);
    assert_eq!(logs(&service, &admin, "?client_id=two&end_date=2000-01-01").await["count"], 0);
}

#[tokio::test]
async fn addresses_and_keys_have_separate_rates_and_answers_give_the_rest() {
    let service = Service::start(|settings| {
        settings.limits.change(|limits| limits.rate_per_minute_address = 2);
        settings.limits.change(|limits| limits.rate_per_minute_key = 3);
    })
    .await;
    let key = key(&service, &[Scope::Read]).await;
    let path = format!("/results/{}", RandomTokens.next());
    for left in ["\"address\";r=1;t=30", "\"address\";r=0;t=60"] {
        let response = service.get(&path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["ratelimit-policy"], "\"address\";q=2;w=60");
        assert_eq!(response.headers()["ratelimit"], left);
    }
    let refused = service.get(&path).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert!(refused.headers()["ratelimit"].to_str().unwrap().starts_with("\"address\";r=0;"));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "rate_limited");
    // The forwarding proxy is not trusted.
    let forged = service.http.get(format!("{}{path}", service.base)).header("x-forwarded-for", "192.0.2.1");
    assert_eq!(forged.send().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    // A key has a separate rate, and health checks have none.
    let with_key = || service.http.get(format!("{}{path}", service.base)).bearer_auth(&key).send();
    for status in [404, 404, 404, 429] {
        assert_eq!(with_key().await.unwrap().status(), status);
    }
    assert_eq!(service.get("/healthz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_is_the_one_it_names() {
    let service = Service::start(|settings| {
        settings.limits.change(|limits| limits.rate_per_minute_address = 1);
        settings.http.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    let ask = async |from: &str| {
        let request = service.http.get(format!("{}/results/x", service.base)).header("x-forwarded-for", from);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask("192.0.2.1").await, ask("192.0.2.2").await, ask("192.0.2.1").await), (404, 404, 429));
    assert_eq!(ask("192.0.2.9, 192.0.2.1").await, 429, "an address written by the client does not count");
}

#[tokio::test]
async fn the_number_of_simultaneous_requests_of_a_key_is_limited() {
    let service = Service::start(|settings| settings.limits.change(|limits| limits.max_concurrent_key = 1)).await;
    let key = key(&service, &[Scope::Analyze, Scope::Read]).await;
    let sent = service.http.post(format!("{}/analyze-video", service.base)).bearer_auth(&key);
    let sent: Value = sent.multipart(video_form(clip())).send().await.unwrap().json().await.unwrap();
    let path = format!("{}/results/{}", service.base, sent["token"].as_str().unwrap());
    let ask = || service.http.get(&path).bearer_auth(&key).send();
    // Takes the only place, possibly after one of the requests below has freed it.
    let long = service.http.get(format!("{path}?wait=60")).bearer_auth(&key);
    let waiting = tokio::spawn(async move {
        while long.try_clone().unwrap().send().await.unwrap().status() == StatusCode::TOO_MANY_REQUESTS {}
    });
    let refused = async {
        loop {
            let response = ask().await.unwrap();
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                return response;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_at_once");
    // A client that disconnects frees its place.
    waiting.abort();
    let taken = async { while ask().await.unwrap().status() != StatusCode::OK {} };
    tokio::time::timeout(Duration::from_secs(30), taken).await.unwrap();
}

#[tokio::test]
async fn only_pages_of_the_named_origins_may_call() {
    let origin = "https://app.example.org";
    let service = Service::start(|settings| {
        settings.cors.origins = vec![origin.to_owned()];
        settings.auth.required = true;
    })
    .await;
    let preflight = async |from: &str| {
        let request = service.http.request(Method::OPTIONS, format!("{}/analyze-video", service.base));
        let request = request.header(header::ORIGIN, from).header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization").send().await.unwrap()
    };
    let asked = preflight(origin).await;
    assert_eq!(asked.status(), StatusCode::OK);
    assert_eq!(asked.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);
    let takes = asked.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
    assert!(takes.contains("authorization") && takes.contains("x-api-key"), "{takes}");
    assert!(!preflight("https://evil.example").await.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    // A page can read an error as well.
    let request = service.http.get(format!("{}/results/x", service.base)).header(header::ORIGIN, origin);
    let refused = request.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);

    let closed = Service::start(|_| {}).await;
    let request = closed.http.get(format!("{}/healthz", closed.base)).header(header::ORIGIN, origin);
    assert!(!request.send().await.unwrap().headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn pages_may_read_the_ratelimit_and_retry_after_headers() {
    let origin = "https://app.example.org";
    let service = Service::start(|settings| {
        settings.cors.origins = vec![origin.to_owned()];
        settings.limits.change(|limits| limits.rate_per_minute_address = 1);
    })
    .await;
    let ask = async || {
        let request = service.http.get(format!("{}/results/x", service.base)).header(header::ORIGIN, origin);
        request.send().await.unwrap()
    };
    ask().await;
    let refused = ask().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let shown = refused.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap().to_lowercase();
    for name in ["ratelimit", "ratelimit-policy", "retry-after", "x-request-id", "location", "etag"] {
        assert!(shown.split(',').any(|shown| shown.trim() == name), "{name} is not in {shown}");
    }
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let service = Service::start(|settings| settings.limits.change(|limits| limits.rate_per_minute_address = 4)).await;
    let page = service.http.get(format!("{}/", service.base)).header(header::ACCEPT, "text/html").send().await.unwrap();
    let mut answers = vec![page, service.get("/").await, service.get("/healthz").await, service.get("/nowhere").await];
    answers.push(service.get("/logs").await);
    answers.push(service.upload(reqwest::multipart::Form::new().text("x", "y")).await);
    for _ in 0..3 {
        answers.push(service.get("/results/x").await);
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 401, 422, 404, 404, 429]);
    for answer in &answers {
        let of = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(of("x-content-type-options"), Some("nosniff"), "{answer:?}");
        assert_eq!(of("x-frame-options"), Some("DENY"), "{answer:?}");
        assert_eq!(of("referrer-policy"), Some("no-referrer"), "{answer:?}");
        assert!(of("x-request-id").is_some_and(|id| !id.is_empty()), "{answer:?}");
    }
    let policy = answers[0].headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
}

#[tokio::test]
async fn a_problem_has_the_request_id_of_its_header() {
    let service = Service::start(|_| {}).await;
    let request = service.http.get(format!("{}/results/x", service.base)).header("x-request-id", "from-a-proxy-7");
    let refused = request.send().await.unwrap();
    assert_eq!(refused.headers()["x-request-id"], "from-a-proxy-7");
    assert_eq!(refused.json::<Value>().await.unwrap()["request_id"], "from-a-proxy-7");
}

/// More entries than one transaction of the request log has.
const MANY: usize = 300;

#[tokio::test]
async fn requests_do_not_wait_for_the_request_log_which_is_written_in_batches() {
    let service = Service::start(|_| {}).await;
    let admin = key(&service, &[Scope::Admin]).await;
    let url = format!("sqlite://{}/visage.db", service.folder.path().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    // This transaction blocks all other writers until it ends.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let asking = async {
        for _ in 0..MANY {
            assert_eq!(service.get("/nowhere").await.status(), StatusCode::NOT_FOUND);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("answers waited for the log");
    // One write per entry, with the pause between two writes, would exceed the time limit.
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    logged(&service, &admin, "?status_code=404", MANY).await;
}
