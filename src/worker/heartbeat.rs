//! Renews the lease of a running job and stores its progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::pipeline::Progress;
use crate::store::{Claim, ClaimState, JobProgress};

/// The shortest time between two updates of the progress.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The progress of an analysis, set by its threads and read by the heartbeat.
#[derive(Debug, Default)]
pub(super) struct SharedProgress {
    frames_done: AtomicU64,
    frames_total: AtomicU64,
}

impl SharedProgress {
    pub fn set(&self, progress: Progress) {
        self.frames_done.store(progress.frames_done, Ordering::Relaxed);
        self.frames_total.store(progress.frames_total, Ordering::Relaxed);
    }

    pub fn frames_done(&self) -> u64 {
        self.frames_done.load(Ordering::Relaxed)
    }

    fn read(&self) -> JobProgress {
        JobProgress {
            frames_done: self.frames_done.load(Ordering::Relaxed),
            frames_total: self.frames_total.load(Ordering::Relaxed),
        }
    }
}

impl Worker {
    /// Renews the lease of a job after every third of its length, but at least once in `longest`, and sooner if there is
    /// progress to store. Returns when the claim is lost.
    pub(super) async fn keep_alive(&self, claim: &Claim, progress: &SharedProgress, longest: Duration) {
        let lease = self.settings.queue.lease();
        let renew = (lease / 3).min(longest);
        let mut stored = (Instant::now(), JobProgress::default());
        loop {
            tokio::time::sleep(renew.min(MIN_INTERVAL)).await;
            let current = progress.read();
            if current == stored.1 && stored.0.elapsed() < renew {
                continue;
            }
            match self.store.heartbeat(claim, current, self.clock.now(), lease).await {
                Ok(ClaimState::Held) => stored = (Instant::now(), current),
                Ok(ClaimState::Lost) => return,
                // Continues the analysis. If the claim was lost meanwhile, the next heartbeat reports it.
                Err(error) => tracing::warn!(%error, "cannot renew the lease of a job"),
            }
        }
    }
}
