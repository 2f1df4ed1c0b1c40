//! `GET /metrics`, at the address of the service and at a separate one.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use reqwest::StatusCode;
use visage::store::Scope;

use crate::keys;
use crate::support::clips;
use crate::support::program::{Process, visage};
use crate::support::service::Service;

/// Returns the value of a metric, or 0 if it is missing. Other tests in the same process increase it as well.
fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().unwrap())
}

async fn told(service: &Service) -> String {
    let response = service.get("/metrics").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    response.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_analysis_is_counted_as_cancelled() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let cancelled = r#"visage_jobs_ended_total{end="cancelled"}"#;
    let before = value(&told(&service).await, cancelled);
    let token = service.accept(std::fs::read(clips::shared("sad_then_happy.mp4")).unwrap()).await;
    let working = service.work().await;
    let counted = async {
        while service.store.queue_depth().await.unwrap() != (0, 1) {
            tokio::task::yield_now().await;
        }
        let erased = service.http.delete(format!("{}/results/{token}", service.base)).send().await.unwrap();
        assert_eq!(erased.status(), StatusCode::NO_CONTENT);
        while value(&told(&service).await, cancelled) <= before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), counted).await.expect("the job was not counted");
    drop(working);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_is_counted_without_its_token() {
    let models = clips::models();
    let service = Service::start(models.select()).await;
    let before = told(&service).await;
    let working = service.work().await;
    let clip = clips::shared("single_face.mp4");
    let token = service.accept(std::fs::read(clip).unwrap()).await;
    let result = service.finished(token).await;
    let frames = result["analysis"]["video"]["frames_analyzed"].as_f64().unwrap();
    assert!(frames > 0.0, "{result}");
    let duration_s = result["analysis"]["video"]["duration_s"].as_f64().unwrap();
    let counters = [
        (r#"visage_jobs_ended_total{end="done"}"#, 1.0),
        (r#"visage_http_answers_total{method="POST",route="/analyze-video",status="202"}"#, 1.0),
        (r#"visage_http_answer_seconds_count{route="/analyze-video"}"#, 1.0),
        ("visage_frames_analyzed_total", frames),
        ("visage_videos_analyzed_seconds_total", duration_s),
        (r#"visage_model_call_rows_sum{model="emotion"}"#, frames),
        (r#"visage_model_call_seconds_sum{model="emotion"}"#, 2e-6),
    ];
    // The run is counted shortly after its result is stored, one counter after another, and jobs of other tests are
    // counted in between.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let text = loop {
        let text = told(&service).await;
        let missing = counters.iter().find(|(line, least)| value(&text, line) - value(&before, line) < least - 1e-6);
        let Some(missing) = missing else { break text };
        assert!(tokio::time::Instant::now() < deadline, "{missing:?} was not counted\n{text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(value(&text, "visage_workers") >= 1.0, "{text}");
    assert!(!text.contains(&token.to_string()));
    service.stop.cancel();
    working.await.unwrap();
}

#[tokio::test]
async fn queue_lengths_are_read_from_the_database() {
    let service = Service::start(|_| {}).await;
    for _ in 0..3 {
        service.accept(keys::clip()).await;
    }
    let text = told(&service).await;
    assert_eq!((value(&text, "visage_jobs_waiting"), value(&text, "visage_jobs_running")), (3.0, 0.0), "{text}");
}

#[tokio::test]
async fn methods_and_paths_made_up_by_clients_are_not_labels() {
    let service = Service::start(|_| {}).await;
    let method = reqwest::Method::from_bytes(b"MADEUP").unwrap();
    service.http.request(method, format!("{}/made-up-path", service.base)).send().await.unwrap();
    let text = told(&service).await;
    assert!(value(&text, r#"visage_http_answers_total{method="other",route="none",status="404"}"#) >= 1.0, "{text}");
    assert!(!text.contains("MADEUP") && !text.contains("made-up-path"));
}

#[tokio::test]
async fn if_keys_are_required_metrics_need_the_scope_logs() {
    let service = Service::start(|settings| settings.auth.required = true).await;
    assert_eq!(service.get("/metrics").await.status(), StatusCode::UNAUTHORIZED);
    for (scope, status) in [(Scope::Read, StatusCode::FORBIDDEN), (Scope::Logs, StatusCode::OK)] {
        let key = keys::key(&service, &[scope]).await;
        let response = service.http.get(format!("{}/metrics", service.base)).bearer_auth(key).send().await.unwrap();
        assert_eq!(response.status(), status, "{scope:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_serves_metrics_at_a_separate_address() {
    let models = clips::models();
    let folder = tempfile::tempdir().unwrap();
    let mut worker = visage(folder.path(), &models, &["work"]);
    let worker =
        worker.env("VISAGE_METRICS__LISTEN", "127.0.0.1:0").env("VISAGE_LOG__FORMAT", "json").stderr(Stdio::piped());
    let mut process = Process(worker.spawn().unwrap());
    // The reader is kept, because a closed pipe would end the process.
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = log.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        (line["message"] == "serving metrics").then(|| line["address"].as_str().unwrap().to_owned())
    });
    let address = address.expect("the log has no address");
    let http = crate::support::http();
    let get = async |path: &str| http.get(format!("http://{address}{path}")).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(get("/readyz").await.json::<serde_json::Value>().await.unwrap()["status"], "ready");
    assert!(get("/metrics").await.text().await.unwrap().contains("visage_jobs_waiting 0"));
    assert_eq!(get("/results/x").await.status(), StatusCode::NOT_FOUND);
    // Without its storage, the worker is not ready. The last answer holds for a second.
    std::fs::remove_dir_all(folder.path().join("videos")).unwrap();
    let lost = async {
        while get("/readyz").await.status() == StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        get("/readyz").await
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), lost).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["down"], serde_json::json!(["storage"]));
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
}

/// The rules of `deploy/prometheus` and the dashboard of `deploy/grafana` use names that exist, and the handbook says what
/// to do for each alert.
#[tokio::test(flavor = "multi_thread")]
async fn alerts_use_metrics_that_exist_and_are_explained() {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(repository.join("deploy/prometheus/rules.yml")).unwrap();
    let dashboard = std::fs::read_to_string(repository.join("deploy/grafana/visage.json")).unwrap();
    let handbook = std::fs::read_to_string(repository.join("docs/OPERATIONS.md")).unwrap();
    let service = Service::start(|_| {}).await;
    // A family without values is not told, so one video is analyzed.
    let token = service.accept(keys::clip()).await;
    service.work().await;
    service.finished(token).await;
    let text = told(&service).await;
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut used = 0;
    let both = format!("{rules}\n{dashboard}");
    for name in both.split(|c| !is_name(c)).filter(|name| name.starts_with("visage_")) {
        let family = ["_total", "_sum", "_count", "_bucket"].iter().find_map(|end| name.strip_suffix(end));
        assert!(families.contains(&family.unwrap_or(name)), "{name} is not among {families:?}");
        used += 1;
    }
    assert!(used >= 40, "{used}");
    let own: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    for name in both.split(|c| !is_name(c)).filter(|name| name.starts_with("visage:")) {
        assert!(own.contains(&name), "{name} is not recorded");
    }
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 12);
    for alert in alerts {
        assert!(handbook.contains(&format!("\n**{alert}.** ")), "docs/OPERATIONS.md does not explain {alert}");
    }
}

#[tokio::test]
async fn the_age_of_the_oldest_waiting_job_is_told() {
    let service = Service::start(|_| {}).await;
    let age = "visage_oldest_waiting_job_seconds";
    assert_eq!(value(&told(&service).await, age), 0.0);
    service.accept(keys::clip()).await;
    let grown = async {
        while value(&told(&service).await, age) < 1.0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), grown).await.expect("the age does not grow");
}
