//! Keeps a worker from taking jobs while storage does not answer, or is another than the database knows: whatever it
//! took would have to be put back. Jobs are taken again as soon as a check succeeds.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::backoff::backoff;
use crate::blob::{BlobError, BlobStore};
use crate::fault::Part;
use crate::identity::StorageIdentity;
use crate::telemetry::metrics;

/// An answer of storage is believed for this long.
const FRESH: Duration = Duration::from_secs(10);
/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two checks while storage is away: the first wait, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// What the tasks of one worker know of its storage.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When storage last answered; `None` if it has not, or if a job had trouble with it since.
    proven: Option<Instant>,
    /// Checks that failed in succession, and when the next may be made.
    failed: u32,
    retry_at: Option<Instant>,
}

/// Storage is away: no job may be taken before this time has passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed(pub Duration);

impl Gate {
    /// Whether the last check failed; whoever asks checks first and takes a job afterwards.
    pub async fn is_closed(&self) -> bool {
        self.0.lock().await.failed > 0
    }

    /// Checks storage, unless it answered just now. One task checks, the others wait for its answer.
    pub async fn check(&self, blobs: &dyn BlobStore, identity: StorageIdentity) -> Result<(), Closed> {
        let mut state = self.0.lock().await;
        if state.proven.is_some_and(|proven| proven.elapsed() < FRESH) {
            return Ok(());
        }
        if let Some(retry_at) = state.retry_at.filter(|retry_at| *retry_at > Instant::now()) {
            return Err(Closed(retry_at.saturating_duration_since(Instant::now())));
        }
        match answer(blobs, identity).await {
            Ok(()) => {
                if state.failed > 0 {
                    tracing::info!(part = Part::Storage.name(), "storage answers again; taking jobs");
                }
                *state = State { proven: Some(Instant::now()), failed: 0, retry_at: None };
                metrics().paused(Part::Storage, false);
                Ok(())
            }
            Err(error) => {
                state.proven = None;
                state.failed = state.failed.saturating_add(1);
                let wait = backoff(state.failed, RETRY.0, RETRY.1);
                state.retry_at = Some(Instant::now() + wait);
                let (part, wait_ms) = (Part::Storage.name(), wait.as_millis());
                tracing::error!(part, %error, wait_ms, "no jobs are taken: storage fails its check");
                metrics().paused(Part::Storage, true);
                Err(Closed(wait))
            }
        }
    }

    /// A job had trouble with storage: the next one is taken only after a check.
    pub async fn doubt(&self) {
        self.0.lock().await.proven = None;
    }

    /// A job read its video from storage.
    pub async fn proven(&self) {
        self.0.lock().await.proven = Some(Instant::now());
    }
}

async fn answer(blobs: &dyn BlobStore, identity: StorageIdentity) -> Result<(), BlobError> {
    timeout(PATIENCE, identity.verify(blobs)).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", PATIENCE.as_secs());
        Err(BlobError::Remote { action: "check", reason })
    })
}
