//! The request log: stores a row for every answer. A background task writes the rows in batches, so requests never wait
//! for it. If the database is too slow, entries are dropped and counted.
//!
//! Health checks and static files are not logged, because they would be most of the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::mpsc;

use super::AppState;
use crate::store::LogEntry;

/// Maximum number of entries that wait to be written. Further entries are dropped.
const CAPACITY: usize = 4096;
/// Maximum number of entries of one transaction.
const BATCH: usize = 256;
/// Pause between two writes, so that few requests share a transaction. There is no pause after a full batch.
const PAUSE: Duration = Duration::from_millis(250);
/// Maximum number of characters of `X-Client-ID`.
const MAX_CLIENT_ID: usize = 64;

/// Details of an answer for the request log. A handler puts them into the extensions of its response.
#[derive(Debug, Clone, Default)]
pub struct LogDetails {
    /// The emotion in the answer.
    pub prediction: Option<String>,
    /// The confidence in the answer, 0 to 1.
    pub confidence: Option<f64>,
    /// The error, without any text that the client sent.
    pub error_message: Option<String>,
}

/// Passes entries to the writer.
#[derive(Clone)]
pub struct RequestLog {
    entries: mpsc::Sender<LogEntry>,
    dropped: Arc<AtomicU64>,
}

impl RequestLog {
    /// Starts the writer. It ends when the last clone is dropped.
    pub fn start(app: &AppState) -> Self {
        let (entries, waiting) = mpsc::channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(write(app.clone(), waiting, dropped.clone()));
        Self { entries, dropped }
    }

    /// Queues an entry without waiting. Drops it if the queue is full.
    pub fn put(&self, entry: LogEntry) {
        if self.entries.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn write(app: AppState, mut waiting: mpsc::Receiver<LogEntry>, dropped: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(error) = app.store.log_requests(&batch, || app.tokens.next()).await {
            tracing::warn!(%error, entries = batch.len(), "entries of the request log were lost");
        }
        let is_full = batch.len() == BATCH;
        batch.clear();
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                entries = dropped,
                "entries of the request log were dropped, because the database was too slow"
            );
        }
        // A shutdown ends the pause.
        if !is_full {
            app.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Whether requests of this route are logged.
pub fn is_logged(route: &str) -> bool {
    !matches!(route, "/healthz" | "/readyz" | "/metrics" | "/favicon.ico" | "/assets/{version}/{file}" | "/docs/{file}")
}

/// The name of the client (`X-Client-ID`): up to 64 letters, digits and `.`, `_`, `:`, `-`. Other names are not logged,
/// because they could contain a mail address or forge a log line. A key sent by mistake is not logged either.
pub fn client_id(headers: &HeaderMap) -> Option<String> {
    let name = headers.get("x-client-id")?.to_str().ok()?.trim();
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    let is_valid = (1..=MAX_CLIENT_ID).contains(&name.len()) && name.bytes().all(sane) && !name.starts_with("vis_");
    is_valid.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_that_could_be_an_address_or_a_key_is_not_logged() {
        let of =
            |name: &str| client_id(&HeaderMap::from_iter([("x-client-id".parse().unwrap(), name.parse().unwrap())]));
        assert_eq!(of("ios-app:1.2"), Some("ios-app:1.2".to_owned()));
        for name in ["", "ann@example.org", "a b", "vis_0123456789ab_secret", &"x".repeat(65)] {
            assert_eq!(of(name), None, "{name}");
        }
        assert_eq!(client_id(&HeaderMap::new()), None);
    }
}
