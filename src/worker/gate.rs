//! Stops a worker from claiming jobs while the storage does not answer or has the wrong identity: every claimed job
//! would have to be handed back. Jobs are claimed again as soon as a check succeeds.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::backoff::backoff;
use crate::blob::{BlobError, BlobStore};
use crate::fault::Part;
use crate::identity::StorageIdentity;
use crate::telemetry::metrics;

/// A successful check is valid for this long.
const CHECK_VALIDITY: Duration = Duration::from_secs(10);
/// The time limit of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest and the longest wait between two checks while the storage is unavailable.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The state of the storage, shared by the tasks of one worker.
#[derive(Debug, Default)]
pub(super) struct StorageGate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Time of the last success; `None` if there was none, or if a job failed because of the storage since.
    last_success: Option<Instant>,
    /// The number of consecutive failed checks.
    failed: u32,
    /// No check is made before this time.
    retry_at: Option<Instant>,
}

/// The storage is unavailable: claim no job for this long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed(pub Duration);

impl StorageGate {
    /// Returns whether the last check failed. In this case, call [`StorageGate::check`] before claiming a job.
    pub async fn is_closed(&self) -> bool {
        self.0.lock().await.failed > 0
    }

    /// Checks the storage, unless the last success is recent. One task checks; the others wait for its result.
    pub async fn check(&self, blobs: &dyn BlobStore, identity: StorageIdentity) -> Result<(), Closed> {
        let mut state = self.0.lock().await;
        if state.last_success.is_some_and(|at| at.elapsed() < CHECK_VALIDITY) {
            return Ok(());
        }
        if let Some(retry_at) = state.retry_at.filter(|retry_at| *retry_at > Instant::now()) {
            return Err(Closed(retry_at.saturating_duration_since(Instant::now())));
        }
        match verify(blobs, identity).await {
            Ok(()) => {
                if state.failed > 0 {
                    tracing::info!(part = Part::Storage.name(), "the storage answers again; claiming jobs");
                }
                *state = State { last_success: Some(Instant::now()), failed: 0, retry_at: None };
                metrics().paused(Part::Storage, false);
                Ok(())
            }
            Err(error) => {
                state.last_success = None;
                state.failed = state.failed.saturating_add(1);
                let wait = backoff(state.failed, RETRY.0, RETRY.1);
                state.retry_at = Some(Instant::now() + wait);
                let part = Part::Storage.name();
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::error!(part, %error, wait_ms, "the storage fails its check; claiming no jobs");
                metrics().paused(Part::Storage, true);
                Err(Closed(wait))
            }
        }
    }

    /// Forces a check before the next job is claimed. Call it after a job failed because of the storage.
    pub async fn invalidate(&self) {
        self.0.lock().await.last_success = None;
    }

    /// Records that the storage answered. Call it after a job read its video.
    pub async fn record_success(&self) {
        self.0.lock().await.last_success = Some(Instant::now());
    }
}

async fn verify(blobs: &dyn BlobStore, identity: StorageIdentity) -> Result<(), BlobError> {
    timeout(CHECK_TIMEOUT, identity.verify(blobs)).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", CHECK_TIMEOUT.as_secs());
        Err(BlobError::Remote { action: "check", reason })
    })
}
