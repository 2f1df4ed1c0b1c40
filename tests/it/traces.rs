//! Traces: every step of an upload is a span under the trace id of its client, in whichever process it runs. No span has
//! personal data. A collector that is away disturbs nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::keys::clip;
use crate::support::clips::{self, Models};
use crate::support::collector::{Collector, Received};
use crate::support::http;
use crate::support::postgres::TestDatabase;
use crate::support::program::{Process, visage};
use crate::support::service::{Service, video_form};
use crate::support::smtp::SmtpServer;
use crate::support::web::{OUTSIDE, WebServer};
use crate::webhooks::{Receiver, SECRET, open, work};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";
const EMAIL: &str = "ann.private@example.org";
const FILE: &str = "my-private-interview.mp4";
/// Time limit on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn traceparent() -> String {
    format!("00-{TRACE}-{CLIENT}-01")
}

/// Processes of one installation.
struct Installation {
    home: tempfile::TempDir,
    models: Models,
    variables: Vec<(&'static str, String)>,
}

impl Installation {
    fn new(variables: Vec<(&'static str, String)>) -> Self {
        Self { home: tempfile::tempdir().unwrap(), models: clips::models(), variables }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.log"))
    }

    fn text_of_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        self.text_of_log(name).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Starts a process whose log has this name.
    fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let mut command: Command = visage(self.home.path(), &self.models, arguments);
        let variables = self.variables.iter().map(|(name, value)| (format!("VISAGE_{name}"), value));
        command.envs(variables).env("VISAGE_LOG__FORMAT", "json");
        command.stderr(File::create(self.log(name)).unwrap());
        Process(command.spawn().unwrap())
    }

    /// Starts `visage serve`, and returns its address.
    async fn serve(&self, arguments: &[&str]) -> (Process, String) {
        let process = self.start("serve", &[&["serve"], arguments].concat());
        let listening = async {
            loop {
                let text = self.text_of_log("serve");
                let line = text.lines().find(|line| line.contains(r#""message":"listening""#));
                if let Some(line) = line.and_then(|line| serde_json::from_str::<Value>(line).ok()) {
                    return format!("http://{}", line["address"].as_str().unwrap());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let address = tokio::time::timeout(PATIENCE, listening).await;
        (process, address.unwrap_or_else(|_| panic!("it does not listen:\n{}", self.text_of_log("serve"))))
    }
}

/// Ends a process as a restart does. Returns the time that it took.
fn stop(mut process: Process) -> Duration {
    let since = Instant::now();
    kill(Pid::from_raw(process.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(process.0.wait().unwrap().success());
    since.elapsed()
}

/// Uploads a video with these fields, and returns its token.
async fn upload(base: &str, clip: &Path, fields: &[(&'static str, String)]) -> String {
    let video = Part::bytes(std::fs::read(clip).unwrap()).file_name(FILE);
    let form = fields.iter().fold(Form::new(), |form, (name, value)| form.text(*name, value.clone()));
    let request = http().post(format!("{base}/analyze-video")).multipart(form.part("video", video));
    let request = request.header("traceparent", traceparent()).header("tracestate", "client=1");
    let accepted = request.send().await.unwrap();
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    accepted.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

/// Waits until an analysis is done.
async fn done(base: &str, token: &str) {
    let waiting = async {
        loop {
            let result = http().get(format!("{base}/results/{token}?wait=30")).send().await.unwrap();
            let result: Value = result.json().await.unwrap();
            if result["finished_at"].is_string() {
                assert_eq!(result["status"], "done", "{result}");
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the analysis does not end");
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// The spans of the client's trace.
struct Tree(Vec<Received>);

impl Tree {
    fn new(spans: Vec<Received>) -> Self {
        Self(spans.into_iter().filter(|span| span.trace == TRACE).collect())
    }

    fn all(&self, name: &str) -> Vec<&Received> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the only span of this name.
    fn one(&self, name: &str) -> &Received {
        let found = self.all(name);
        assert_eq!(found.len(), 1, "{name} of {:?}", self.0.iter().map(|span| &span.name).collect::<Vec<_>>());
        found[0]
    }

    /// Checks that these are the only children of a span, and that steps lie within its time.
    fn assert_children(&self, parent: &Received, expected: &[&str]) {
        let children: Vec<&Received> = self.0.iter().filter(|span| span.parent == parent.id).collect();
        let mut names: Vec<&str> = children.iter().map(|span| span.name.as_str()).collect();
        let mut expected = expected.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected, "children of {}", parent.name);
        for child in children.iter().filter(|child| child.kind == 1 || child.name == "enqueue") {
            let is_within = parent.start_ns <= child.start_ns && child.end_ns <= parent.end_ns;
            assert!(is_within && child.start_ns <= child.end_ns, "{child:?} in {parent:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_from_the_request_to_the_mail_is_under_the_trace_of_the_client() {
    let (database, smtp, receiver, collector) =
        (TestDatabase::create().await, SmtpServer::start(), Receiver::default(), Collector::default());
    // The first attempt fails.
    let hook = format!("{}?private=1", receiver.start(&[500, 204]).await);
    let installation = Installation::new(vec![
        ("DATABASE__URL", database.url()),
        ("TRACING__ENDPOINT", collector.start().await),
        ("TRACING__HEADERS", "x-tenant=visage, authorization=Bearer collector-password".to_owned()),
        ("TRACING__SERVICE_NAME", "faces".to_owned()),
        ("MAIL__TRANSPORT", "smtp".to_owned()),
        ("MAIL__SMTP__HOST", "127.0.0.1".to_owned()),
        ("MAIL__SMTP__PORT", smtp.port().to_string()),
        ("MAIL__SMTP__SECURITY", "none".to_owned()),
        ("WEBHOOKS__SECRET", SECRET.to_owned()),
        ("WEBHOOKS__ALLOW_PRIVATE", "true".to_owned()),
        ("WEBHOOKS__BACKOFF_BASE_S", "0".to_owned()),
        ("QUEUE__POLL_S", "1".to_owned()),
    ]);
    let (api, base) = installation.serve(&["--no-workers"]).await;
    let worker = installation.start("work", &["work"]);
    let clip = clips::shared("single_face.mp4");
    let token = upload(&base, &clip, &[("email", EMAIL.to_owned()), ("webhook_url", hook.clone())]).await;
    done(&base, &token).await;
    let hooks = receiver.got(2).await;
    until("no mail came", async || !smtp.messages().is_empty()).await;
    let log = || installation.text_of_log("work");
    until("the end of the job, mail and webhook is not logged", async || {
        ["job ended", "mail sent", "webhook sent"].iter().all(|text| log().contains(text))
    })
    .await;
    // The last spans are sent when the processes end.
    stop(worker);
    stop(api);

    let tree = Tree::new(collector.spans());
    let request = tree.one("POST /analyze-video");
    assert_eq!((request.parent.as_str(), request.kind), (CLIENT, 2));
    assert_eq!(request.attributes["http.response.status_code"], "202");
    assert_eq!(request.attributes["http.route"], "/analyze-video");
    tree.assert_children(request, &["receive form", "finish storing", "probe video", "enqueue"]);
    let queued = tree.one("enqueue");
    tree.assert_children(queued, &["job", "send mail", "send webhook", "send webhook"]);
    let job = tree.one("job");
    assert_eq!((job.kind, job.is_failed), (5, false));
    assert_eq!((&*job.attributes["visage.job.attempt"], &*job.attributes["visage.outcome"]), ("1", "done"));
    tree.assert_children(job, &["analyze", "save outcome", "delete video"]);
    let stages = ["decode", "detect faces", "read details", "read emotions"];
    let others = ["open video", "load models", "analyze sound", "summarise"];
    tree.assert_children(tree.one("analyze"), &[others, stages].concat());
    for stage in stages {
        let stage = tree.one(stage);
        let (busy_ms, taken_ms) =
            (stage.attributes["visage.busy_ms"].parse::<u64>().unwrap(), (stage.end_ns - stage.start_ns) / 1_000_000);
        assert!(busy_ms <= taken_ms + 1, "{stage:?}");
    }
    let mail = tree.one("send mail");
    assert_eq!((&*mail.attributes["visage.message.kind"], &*mail.attributes["visage.outcome"]), ("report", "sent"));
    let attempts = tree.all("send webhook");
    assert_eq!(attempts.iter().map(|span| span.is_failed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(attempts[0].attributes["visage.outcome"], "will_be_sent_again");
    // The receiver can continue the trace.
    for ((headers, _), attempt) in hooks.iter().zip(&attempts) {
        assert_eq!(headers["traceparent"].to_str().unwrap(), format!("00-{TRACE}-{}-01", attempt.id));
        assert_eq!(headers["tracestate"], "client=1");
    }
    // Every span of the trace has a place in the tree, and the documentation names it and its attributes.
    let operations = include_str!("../../docs/OPERATIONS.md");
    let documented = operations.split("\n## ").find(|section| section.starts_with("Traces\n")).unwrap();
    for span in &tree.0 {
        for name in span.attributes.keys().chain([&span.name].into_iter().filter(|_| span.id != request.id)) {
            assert!(documented.contains(&format!("`{name}`")), "{name} is not documented");
        }
        let has_place = span.parent == CLIENT || tree.0.iter().any(|other| other.id == span.parent);
        assert!(has_place && span.resource["service.name"] == "faces", "{span:?}");
    }

    // Neither these nor those of other requests hold personal data or secrets.
    let id = token.replace('-', "");
    let port = base.rsplit(':').next().unwrap();
    let private = [&token, &id, EMAIL, "example.org", FILE, "private", "127.0.0.1", port, "collector-password"];
    for (headers, body) in collector.requests() {
        assert_eq!(headers["x-tenant"], "visage");
        assert_eq!(headers["authorization"], "Bearer collector-password");
        let text = String::from_utf8_lossy(&body);
        for private in private {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
    let polls: Vec<Received> =
        collector.spans().into_iter().filter(|span| span.name == "GET /results/{token}").collect();
    assert!(!polls.is_empty() && polls.iter().all(|span| span.trace != TRACE && span.parent.is_empty()));

    // The lines of the log have the id.
    for (process, message) in [("serve", "an upload was accepted"), ("work", "job ended"), ("work", "mail sent")] {
        let lines = installation.lines(process);
        let line = lines.iter().find(|line| line["message"] == message).expect(message);
        let ids = line["spans"].as_array().unwrap().iter().filter_map(|span| span["trace_id"].as_str());
        assert_eq!(ids.collect::<Vec<_>>(), [TRACE], "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lost_its_worker_has_another_run_in_the_same_trace() {
    let (database, collector) = (TestDatabase::create().await, Collector::default());
    let installation = Installation::new(vec![
        ("DATABASE__URL", database.url()),
        ("TRACING__ENDPOINT", collector.start().await),
        ("QUEUE__LEASE_S", "2".to_owned()),
        ("QUEUE__POLL_S", "1".to_owned()),
    ]);
    let (_api, base) = installation.serve(&["--no-workers"]).await;
    let token = upload(&base, &clips::shared("sad_then_happy.mp4"), &[]).await;
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let mut first = installation.start("first", &["work"]);
    until("no worker took the job", async || {
        sqlx::query("SELECT id FROM jobs WHERE status = 'running'").fetch_optional(&pool).await.unwrap().is_some()
    })
    .await;
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let second = installation.start("second", &["work"]);
    done(&base, &token).await;
    until("the end of the job is not logged", async || installation.text_of_log("second").contains("job ended")).await;
    stop(second);
    let tree = Tree::new(collector.spans());
    let job = tree.one("job");
    assert_eq!(job.attributes["visage.outcome"], "done");
    // The run is in a process of its own, which sends its spans itself.
    let analyze = tree.all("analyze").into_iter().find(|span| span.parent == job.id).expect("the analysis");
    tree.assert_children(analyze, &["run-job"]);
    let stages = [
        "load models",
        "analyze sound",
        "decode",
        "detect faces",
        "open video",
        "read details",
        "read emotions",
        "summarise",
    ];
    let in_process = tree.one("run-job");
    let inside = tree.0.iter().filter(|span| span.parent == in_process.id).map(|span| span.name.as_str());
    assert!(inside.clone().all(|name| stages.contains(&name)) && inside.count() >= 6, "{:?}", tree.0);
    collector.got("enqueue").await;
    let tree = Tree::new(collector.spans());
    assert_eq!(job.parent, tree.one("enqueue").id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_items_and_the_webhook_of_a_batch_are_under_the_trace_of_its_request() {
    let (receiver, collector) = (Receiver::default(), Collector::default());
    let server = WebServer::start(std::fs::read(clips::shared("single_face.mp4")).unwrap()).await;
    let installation = Installation::new(vec![
        ("TRACING__ENDPOINT", collector.start().await),
        ("SOURCES__PRIVATE_NETWORKS", OUTSIDE.to_string()),
        ("WEBHOOKS__SECRET", SECRET.to_owned()),
        ("WEBHOOKS__ALLOW_PRIVATE", "true".to_owned()),
        ("QUEUE__POLL_S", "1".to_owned()),
    ]);
    let (process, base) = installation.serve(&[]).await;
    let items = [json!({"video_url": server.url("/video.mp4")}), json!({"video_url": server.url("/missing.mp4")})];
    let body = json!({"items": items, "webhook_url": receiver.start(&[]).await});
    let request = http().post(format!("{base}/v1/batches")).json(&body).header("traceparent", traceparent());
    assert_eq!(request.send().await.unwrap().status(), StatusCode::ACCEPTED);
    let (headers, _) = receiver.got(1).await.remove(0);
    until("the webhook is not logged", async || installation.text_of_log("serve").contains("webhook sent")).await;
    stop(process);
    let tree = Tree::new(collector.spans());
    let request = tree.one("POST /v1/batches");
    assert_eq!(request.parent, CLIENT);
    tree.assert_children(request, &["enqueue"]);
    tree.assert_children(tree.one("enqueue"), &["fetch", "fetch", "job", "send webhook"]);
    let ends: BTreeSet<(&str, Option<&str>)> = tree
        .all("fetch")
        .iter()
        .map(|run| (&*run.attributes["visage.outcome"], run.attributes.get("error.type").map(String::as_str)))
        .collect();
    assert_eq!(ends, BTreeSet::from([("failed", Some("video_refused")), ("fetched", None)]));
    let hook = tree.one("send webhook");
    assert_eq!(hook.attributes["visage.message.kind"], "batch");
    assert_eq!(headers["traceparent"].to_str().unwrap(), format!("00-{TRACE}-{}-01", hook.id));
    for (_, body) in collector.requests() {
        let text = String::from_utf8_lossy(&body);
        assert!(!text.contains("127.0.0") && !text.contains(".mp4"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_valid_trace_begins_one_and_an_unsampled_one_is_not_sent() {
    let collector = Collector::default();
    let installation = Installation::new(vec![("TRACING__ENDPOINT", collector.start().await)]);
    let (api, base) = installation.serve(&["--no-workers"]).await;
    let unsampled = format!("00-{TRACE}-{CLIENT}-00");
    let malformed = format!("00-{TRACE}-{CLIENT}-01-more");
    for (path, parent) in [
        ("/v1/notice", ""),
        ("/results/53ad5531-4d06-4fb0-b8b3-d2a1f8a3a5f8?private=1", malformed.as_str()),
        ("/openapi.json", &unsampled),
        ("/healthz", ""),
        ("/readyz", ""),
        ("/private/nowhere", ""),
    ] {
        let request = http().get(format!("{base}{path}"));
        let request = if parent.is_empty() { request } else { request.header("traceparent", parent) };
        request.send().await.unwrap();
    }
    let other = reqwest::Method::from_bytes(b"PRIVATE").unwrap();
    http().request(other, format!("{base}/v1/notice")).send().await.unwrap();
    stop(api);
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["GET /v1/notice", "GET /results/{token}", "GET none", "HTTP /v1/notice"]);
    assert!(spans.iter().all(|span| span.parent.is_empty() && span.trace != TRACE), "{spans:?}");
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces.len(), spans.len());
    for (_, body) in collector.requests() {
        let text = String::from_utf8_lossy(&body).to_lowercase();
        assert!(!text.contains("private") && !text.contains("53ad5531"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nothing_is_sent_and_no_thread_runs() {
    let collector = Collector::default();
    let installation = Installation::new(Vec::new());
    let address = collector.start().await;
    let mut command = visage(installation.home.path(), &installation.models, &["serve", "--no-workers"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", address).env("VISAGE_LOG__FORMAT", "json");
    command.stderr(File::create(installation.log("serve")).unwrap());
    let process = Process(command.spawn().unwrap());
    until("it does not listen", async || installation.text_of_log("serve").contains("listening")).await;
    let lines = installation.lines("serve");
    let listening = lines.iter().find(|line| line["message"] == "listening").unwrap();
    let base = format!("http://{}", listening["address"].as_str().unwrap());
    let request = http().get(format!("{base}/v1/notice")).header("traceparent", traceparent());
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).unwrap();
    let names: Vec<String> =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with("OpenTelemetry")), "{names:?}");
    stop(process);
    assert!(collector.requests().is_empty());
    assert!(!installation.text_of_log("serve").contains("trace_id"));
}

#[tokio::test]
async fn without_traces_a_webhook_has_no_header_and_a_job_no_trace() {
    let (service, receiver) = (Service::start(open).await, Receiver::default());
    let form = video_form(clip()).text("webhook_url", receiver.start(&[]).await);
    let request = service.http.post(format!("{}/analyze-video", service.base)).multipart(form);
    let accepted = request.header("traceparent", traceparent()).send().await.unwrap();
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    work(&service);
    let (headers, _) = receiver.got(1).await.remove(0);
    assert!(!headers.contains_key("traceparent") && !headers.contains_key("tracestate"), "{headers:?}");
    let pool = sqlx::SqlitePool::connect(service.settings.database.url.expose()).await.unwrap();
    let stored: Option<String> = sqlx::query_scalar("SELECT trace FROM jobs").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_delays_no_job_and_fills_no_log() {
    // Accepts connections into its backlog, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), away] {
        let installation = Installation::new(vec![
            ("TRACING__ENDPOINT", format!("http://{address}")),
            ("QUEUE__POLL_S", "1".to_owned()),
        ]);
        let (process, base) = installation.serve(&[]).await;
        let token = upload(&base, &clips::shared("single_face.mp4"), &[]).await;
        done(&base, &token).await;
        let warning = "the collector of traces takes no spans";
        until("the log says nothing", async || installation.text_of_log("serve").contains(warning)).await;
        // More spans than a batch has.
        let client = http();
        for _ in 0..600 {
            let answer = client.get(format!("{base}/v1/notice")).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
        let taken = stop(process);
        assert!(taken < Duration::from_secs(30), "{taken:?}");
        let warnings = installation.text_of_log("serve").matches(warning).count();
        assert_eq!(warnings, 1, "{}", installation.text_of_log("serve"));
    }
}
