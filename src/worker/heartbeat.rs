//! Says that a job is alive and how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::pipeline::Progress;
use crate::store::{Claim, Held, JobProgress};

/// Progress is stored no more often than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// Where an analysis leaves its progress, from any thread.
#[derive(Debug, Default)]
pub(super) struct Meter {
    frames_done: AtomicU64,
    frames_total: AtomicU64,
}

impl Meter {
    pub fn set(&self, progress: Progress) {
        self.frames_done.store(progress.frames_done, Ordering::Relaxed);
        self.frames_total.store(progress.frames_total, Ordering::Relaxed);
    }

    fn read(&self) -> JobProgress {
        JobProgress {
            frames_done: self.frames_done.load(Ordering::Relaxed),
            frames_total: self.frames_total.load(Ordering::Relaxed),
        }
    }
}

impl Worker {
    /// Renews the lease of a job every third of it, and sooner where there is progress to tell. Returns when the job
    /// is lost.
    pub(super) async fn keep_alive(&self, claim: &Claim, meter: &Meter) {
        let lease = self.settings.queue.lease();
        let renew = lease / 3;
        let mut told = (Instant::now(), JobProgress::default());
        loop {
            tokio::time::sleep(renew.min(SHORTEST)).await;
            let progress = meter.read();
            if progress == told.1 && told.0.elapsed() < renew {
                continue;
            }
            match self.store.heartbeat(claim, progress, self.clock.now(), lease).await {
                Ok(Held::Yes) => told = (Instant::now(), progress),
                Ok(Held::Lost) => return,
                // The analysis goes on: if another took the job meanwhile, the next answer says so.
                Err(error) => tracing::warn!(job = claim.id, %error, "no heartbeat"),
            }
        }
    }
}
