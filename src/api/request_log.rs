//! The request log: every answer becomes a row, written in batches beside the requests, which never wait for it. While
//! the database is slower than the requests come, entries are dropped and counted.
//!
//! Health checks are left out: they would be most of it and say nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::mpsc;

use super::AppState;
use crate::store::LogEntry;

/// Entries that wait at most; one more is dropped.
const WAITING: usize = 4096;
/// Entries written in one transaction.
const BATCH: usize = 256;
/// Between two writes, so that a steady trickle does not mean a transaction a request; none where a whole batch waits.
const PAUSE: Duration = Duration::from_millis(250);
/// Most characters of a client's name.
const CLIENT_ID: usize = 64;

/// What a handler knows of its answer that the log wants; put into the extensions of the response.
#[derive(Debug, Clone, Default)]
pub struct LogDetails {
    /// The emotion that was answered.
    pub prediction: Option<String>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// For an error with a shape of its own: what is wrong, without anything that the client sent.
    pub error_message: Option<String>,
}

/// Takes entries from requests.
#[derive(Clone)]
pub struct RequestLog {
    entries: mpsc::Sender<LogEntry>,
    dropped: Arc<AtomicU64>,
}

impl RequestLog {
    /// Starts the writer; it ends with the last clone.
    pub fn start(app: &AppState) -> Self {
        let (entries, waiting) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(write(app.clone(), waiting, dropped.clone()));
        Self { entries, dropped }
    }

    /// Hands an entry over, without waiting.
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
            tracing::warn!(entries = dropped, "the request log could not keep up; entries were dropped");
        }
        // At the end there is no time to lose, and nothing more to wait for.
        if !is_full {
            app.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Whether requests of this route are logged.
pub fn wants(route: &str) -> bool {
    !matches!(route, "/healthz" | "/readyz" | "/metrics")
}

/// What the client calls itself (`X-Client-ID`): up to 64 letters, digits and `.`, `_`, `:`, `-`, so that neither a mail
/// address nor a forged line can stand in the log; and no key, should one be sent here by mistake.
pub fn client_id(headers: &HeaderMap) -> Option<String> {
    let name = headers.get("x-client-id")?.to_str().ok()?.trim();
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    let takes = (1..=CLIENT_ID).contains(&name.len()) && name.bytes().all(sane) && !name.starts_with("vis_");
    takes.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_called_by_what_cannot_be_an_address_or_a_key() {
        let of =
            |name: &str| client_id(&HeaderMap::from_iter([("x-client-id".parse().unwrap(), name.parse().unwrap())]));
        assert_eq!(of("ios-app:1.2"), Some("ios-app:1.2".to_owned()));
        for name in ["", "ann@example.org", "a b", "vis_0123456789ab_secret", &"x".repeat(65)] {
            assert_eq!(of(name), None, "{name}");
        }
        assert_eq!(client_id(&HeaderMap::new()), None);
    }
}
