//! What the program tells of itself. The log: `tracing` to standard error, as text or JSON; fields carry units in their names;
//! no address, key or token is ever a field. And its [`metrics`].

mod metrics;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

pub use metrics::{Metrics, ModelMeter, Queues, metrics};

/// Starts logging for the whole process. `VISAGE_LOG` goes before the setting.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = std::env::var("VISAGE_LOG").unwrap_or_else(|_| log.filter.clone());
    let filter = EnvFilter::try_new(&filter).map_err(|error| format!("log.filter = {filter:?}: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written, as on a full disk, is lost; told on standard error it would be a panic.
    let builder = builder.log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
