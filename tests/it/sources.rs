//! Videos that clients give by address: a web server, or a bucket that is not visage's own.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Response;
use reqwest::multipart::Form;
use serde_json::Value;
use tokio::net::TcpListener;
use uuid::Uuid;
use visage::analysis::{Analysis, FailureReason, Findings, METRICS_VERSION, Options, Summary, Timeline, VideoFacts};
use visage::clock::{RandomTokens, SystemClock};
use visage::config::Settings;
use visage::fault::Fault;
use visage::media::Source;
use visage::pipeline::{AnalysisParts, Cancel, Progress};
use visage::sources::Names;
use visage::worker::{AnalysisError, Analyzer, Worker};

use crate::support::service::Service;
use crate::support::web::OUTSIDE;

mod buckets;
mod guard;
mod jobs;
pub mod killed;
mod requests;

/// Lets videos be fetched from the web server of the tests, and from no other address of this machine.
pub fn allow_outside(settings: &mut Settings) {
    settings.sources.private_networks = vec![OUTSIDE.to_string()];
}

/// Settings with which failed jobs run again soon, and for the last time at the second attempt.
pub fn quick(settings: &mut Settings) {
    allow_outside(settings);
    settings.queue.poll_s = 1;
    settings.queue.lease_s = 1;
    settings.queue.max_attempts = 2;
    settings.queue.backoff_base_s = 0;
    settings.http.idle_timeout_s = 1;
    settings.sources.max_concurrent_client = 0;
}

/// Counts the connections to this machine at one port, IPv4 and IPv6. There must be none.
struct Counter {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Counter {
    async fn start() -> Self {
        let all = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = all.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let mut listeners = vec![all];
        // A system without IPv6 has no address to reach.
        listeners.extend(TcpListener::bind(("::1", port)).await.ok());
        for listener in listeners {
            let counted = connections.clone();
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { port, connections }
    }

    async fn count(&self) -> usize {
        // A connection that was made is counted soon.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.connections.load(Ordering::SeqCst)
    }
}

/// A resolver that gives one answer after the other, and repeats the last one.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<(usize, Vec<Vec<IpAddr>>)>>);

impl Answers {
    fn new(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Self(Arc::new(Mutex::new((0, answers.iter().map(parse).collect()))))
    }

    fn lookups(&self) -> usize {
        self.0.lock().unwrap().0
    }
}

#[async_trait]
impl Names for Answers {
    async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        let last = state.1.len().checked_sub(1).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(state.1[(state.0 - 1).min(last)].clone())
    }
}

/// Records the bytes of the videos, and finds nothing in them.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Vec<u8>>>>);

impl Recorder {
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

impl Analyzer for Recorder {
    fn analyze(
        &self,
        source: &Source,
        _: Options,
        _: AnalysisParts<'_>,
        _: &(dyn Fn(Progress) + Sync),
        _: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        let Source::File(path) = source else {
            return Err(AnalysisError::new(Fault::Video, FailureReason::NotAVideo, "not a file"));
        };
        self.0.lock().unwrap().push(std::fs::read(path).unwrap());
        Ok(findings())
    }
}

fn findings() -> Findings {
    let video = VideoFacts {
        duration_s: 2.4,
        fps: 30.0,
        width: 640,
        height: 360,
        codec: "h264".to_owned(),
        frames_total: 72,
        frames_analyzed: 4,
        has_audio: false,
        start_s: 0.0,
        turned: 0,
        stream_orientation: None,
    };
    let analysis = Analysis {
        video,
        summary: Summary::default(),
        speech: None,
        faces: vec![],
        models: vec![],
        metrics_version: METRICS_VERSION,
        warnings: vec![],
        warning_codes: vec![],
    };
    Findings { analysis, timeline: Timeline::default() }
}

/// Starts a worker of a service. It ends with the service.
pub fn work(service: &Service, analyzer: impl Analyzer) -> tokio::task::JoinHandle<()> {
    tokio::spawn(worker(service, analyzer).run(service.stop.clone()))
}

fn worker(service: &Service, analyzer: impl Analyzer) -> Worker {
    Worker {
        name: "test".to_owned(),
        settings: service.settings.clone(),
        store: service.store.clone(),
        blobs: service.blobs.clone(),
        identity: service.identity,
        job_process: None,
        analyzer: Arc::new(analyzer),
        mail_sender: None,
        clock: Arc::new(SystemClock),
        tokens: Arc::new(RandomTokens),
    }
}

/// Sends the address of a video.
async fn send(service: &Service, address: &str) -> Response {
    service.upload(Form::new().text("video_url", address.to_owned())).await
}

/// Sends the address of a video, which must be accepted. Returns the token.
async fn accept(service: &Service, address: &str) -> Uuid {
    let answer = send(service, address).await;
    let (status, body): (_, Value) = (answer.status(), answer.json().await.unwrap());
    assert_eq!(status, 202, "{address}: {body}");
    body["token"].as_str().unwrap().parse().unwrap()
}

pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.unwrap_or_else(|_| panic!("timeout: {what}"));
}
