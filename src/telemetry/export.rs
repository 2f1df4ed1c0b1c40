//! Sends the spans of traces to an OpenTelemetry collector (OTLP over HTTP).
//!
//! A thread of the library takes spans from a queue of bounded length and sends them in batches. If the collector does
//! not answer, spans are lost, and nothing else waits or fails. A warning says so from time to time.

use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanKind, TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use parking_lot::Mutex;
use reqwest::redirect;
use tokio::runtime::Runtime;

use crate::config::Tracing;

/// The only attributes that leave the process. Their values are methods, route templates, numbers and stable codes.
const ATTRIBUTES: [&str; 12] = [
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "visage.busy_ms",
    "visage.job.attempt",
    "visage.job.id",
    "visage.message.attempt",
    "visage.message.kind",
    "visage.outcome",
    "visage.video.bytes",
    "visage.video.frames",
];
/// Time limit of one request to the collector, and of its repetitions together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes that are read of an answer.
const MAX_ANSWER: usize = 64 << 10;
/// Time between two warnings that the collector takes no spans.
const WARN_INTERVAL: Duration = Duration::from_secs(300);

/// Starts the thread that sends spans. Returns what ends it, and the source of spans.
pub fn start(settings: &Tracing) -> Result<(SdkTracerProvider, SdkTracer), String> {
    let failed = |error: &dyn std::fmt::Display| format!("tracing.endpoint: {error}");
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new().map_err(|error| failed(&error))?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", settings.endpoint.trim_end_matches('/')))
        .with_headers(settings.header_list().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| failed(&error))?;
    let resource = Resource::builder_empty()
        .with_service_name(settings.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio))))
        .with_batch_exporter(Exporter { inner: exporter, losses: Mutex::default() })
        .build();
    let tracer = provider.tracer("visage");
    Ok((provider, tracer))
}

/// Sends batches of spans, and warns if that fails.
#[derive(Debug)]
struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    losses: Mutex<Losses>,
}

/// The spans that were not sent.
#[derive(Debug, Default)]
struct Losses {
    /// The number since the last line of the log.
    spans: usize,
    warned: Option<Instant>,
}

impl Losses {
    /// Counts lost spans. Returns the number for a warning, if it is time for one.
    fn add(&mut self, spans: usize, now: Instant) -> Option<usize> {
        self.spans += spans;
        if self.warned.is_some_and(|warned| now.duration_since(warned) < WARN_INTERVAL) {
            return None;
        }
        self.warned = Some(now);
        Some(std::mem::take(&mut self.spans))
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch.into_iter().map(outgoing).collect()).await;
        // The lines of the log are not part of a trace, so a warning causes no further request.
        if let Err(error) = &result
            && let Some(spans) = self.losses.lock().add(spans, Instant::now())
        {
            tracing::warn!(%error, spans, "the collector of traces takes no spans; these are lost");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Returns a span in the form in which it is sent: with its kind, and without the fields that are for the log.
fn outgoing(mut span: SpanData) -> SpanData {
    span.attributes.retain(|attribute| ATTRIBUTES.contains(&attribute.key.as_str()));
    let is_request = span.attributes.iter().any(|attribute| attribute.key.as_str() == "http.route");
    span.span_kind = match &*span.name {
        _ if is_request => SpanKind::Server,
        "enqueue" => SpanKind::Producer,
        "job" | "fetch" => SpanKind::Consumer,
        "send mail" | "send webhook" => SpanKind::Client,
        _ => SpanKind::Internal,
    };
    span
}

/// Sends the requests of the exporter. Its runtime is driven by the thread that exports, which belongs to no other one.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Runtime,
}

impl Client {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        crate::tls::use_ring();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .user_agent(concat!("visage/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, runtime })
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.block_on(async {
            let mut answer = self.http.execute(request.try_into()?).await?;
            let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER {
                    return Err("the answer of the collector is too long".into());
                }
            }
            let mut response = Response::new(Bytes::from(body));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_spans_are_told_at_once_and_then_now_and_then() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        assert_eq!(losses.add(3, start), Some(3));
        assert_eq!(losses.add(2, start + WARN_INTERVAL / 2), None);
        assert_eq!(losses.add(4, start + WARN_INTERVAL), Some(6));
        assert_eq!(losses.add(1, start + WARN_INTERVAL + Duration::from_secs(1)), None);
    }
}
