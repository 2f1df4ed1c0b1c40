//! The log and the [`metrics`] of the program.
//!
//! `tracing` writes the log to standard error, as text or JSON. Names of fields end in their unit. A field never
//! contains an address, a key or a token.

mod metrics;

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

pub use metrics::{Metrics, ModelMeter, Queues, metrics};

/// Starts logging for the whole process. The variable `VISAGE_LOG` overrides the setting `log.filter`.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = std::env::var("VISAGE_LOG").unwrap_or_else(|_| log.filter.clone());
    let filter: Targets = filter.parse().map_err(|error| format!("log.filter = {filter:?}: {error}"))?;
    let lines = layer().with_writer(std::io::stderr);
    // Drop lines that cannot be written, for example because the disk is full. Reporting that on standard error would
    // panic.
    let lines = lines.log_internal_errors(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // The list of spans has the current span too.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().map_err(|error| error.to_string())
}
