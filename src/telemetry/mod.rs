//! The log, the [`metrics`] and the [traces](trace) of the program.
//!
//! `tracing` writes the log to standard error, as text or JSON. Names of fields end in their unit. A field never
//! contains an address, a key or a token.

mod export;
mod metrics;
pub mod trace;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Metadata;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat, Tracing};

pub use metrics::{Metrics, ModelMeter, Queues, metrics};

/// The target of the spans that [`step!`] makes. Without traces they are disabled.
const STEPS: &str = "visage::step";
/// The target of spans that are for the log only.
pub const LOG_ONLY: &str = "visage::log_only";
/// Time in which the last spans are sent when the program ends.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes a span of a step for [`trace`].
#[macro_export]
macro_rules! step {
    ($name:literal) => {
        tracing::info_span!(target: "visage::step", $name)
    };
}
pub use step;

/// Replaces the filter of the log.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Sends traces until it is dropped.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends the last spans, and waits for that up to `timeout`.
    pub fn end(mut self, timeout: Duration) {
        self.end_within(timeout);
    }

    fn end_within(&mut self, timeout: Duration) {
        if let Some(provider) = self.provider.take() {
            // The exporter has logged what it could not send.
            let _ = provider.shutdown_with_timeout(timeout);
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.end_within(LAST_SPANS_TIMEOUT);
    }
}

/// Starts logging for the whole process, and traces if `tracing` is given and names a collector. The variable
/// `VISAGE_LOG` overrides the setting `log.filter`.
pub fn start(log: &Log, tracing: Option<&Tracing>) -> Result<Telemetry, String> {
    let export = tracing.filter(|tracing| tracing.is_on()).map(export::start).transpose()?;
    let (filter, handle) = reload::Layer::new(filter(log, export.is_some())?);
    let lines = layer().with_writer(std::io::stderr);
    // Drop lines that cannot be written, for example because the disk is full. Reporting that on standard error would
    // panic.
    let lines = lines.log_internal_errors(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // The list of spans has the current span too.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let (provider, tracer) = export.unzip();
    let traces = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // Spans have the parents that they have in the log, also in other threads.
            .with_context_activation(false)
            .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::INFO))
            .boxed()
    });
    // A list, because beside an absent layer (`None`) the spans exist that the filter switches off (findings/).
    let layers = traces.into_iter().chain([lines.with_filter(filter).boxed()]).collect::<Vec<_>>();
    tracing_subscriber::registry().with(layers).try_init().map_err(|error| error.to_string())?;
    let _ = FILTER.set(handle);
    if provider.is_some() {
        trace::switch_on();
    }
    Ok(Telemetry { provider })
}

/// Filters the log by a changed `log.filter` from now on.
pub fn filter_again(log: &Log) -> Result<(), String> {
    let filter = filter(log, trace::is_on())?;
    FILTER.get().map_or(Ok(()), |handle| handle.reload(filter)).map_err(|error| error.to_string())
}

/// The filter of the log. It also switches off the spans of steps, unless they are traced.
fn filter(log: &Log, is_traced: bool) -> Result<Targets, String> {
    let text = std::env::var("VISAGE_LOG").unwrap_or_else(|_| (*log.filter.get()).clone());
    let filter: Targets = text.parse().map_err(|error| format!("log.filter = {text:?}: {error}"))?;
    Ok(if is_traced { filter } else { filter.with_target(STEPS, LevelFilter::OFF) })
}

/// Whether this is a span of visage that is part of traces. Lines of the log are not: they may hold texts of errors.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let (root, _) = metadata.target().split_once("::").unwrap_or((metadata.target(), ""));
    metadata.is_span() && matches!(root, "visage" | "visage_core") && metadata.target() != LOG_ONLY
}
