//! Queues jobs again whose leases have run out because their workers were killed, frozen or cut off from the database.
//! Live sessions that were lost in the same way fail, because their pictures are not stored. The worker processes take
//! turns.
//!
//! While the database is down, no worker can renew its lease. So after an error of the database, and after a pause of
//! this process itself, the reaper waits for the length of a lease, to let every worker renew first.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::analyzer::AnalysisError;
use super::{SharedState, Worker};
use crate::analysis::FailureReason;
use crate::fault::Fault;
use crate::store::{Backoff, StoreError};
use crate::telemetry::metrics;

/// Checks during the time of a lease.
const CHECKS_PER_LEASE: u32 = 6;
/// The shortest time between two checks.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(worker: Worker, shared: Arc<SharedState>, stop: CancellationToken) {
    let queue = &worker.settings.queue;
    let (lease, every) = (queue.lease(), (queue.lease() / CHECKS_PER_LEASE).max(MIN_INTERVAL));
    let backoff =
        Backoff { base: Duration::from_secs(queue.backoff_base_s), max: Duration::from_secs(queue.backoff_max_s) };
    // When the last error or pause ended.
    let mut returned: Option<Instant> = None;
    let mut checked = Instant::now();
    loop {
        if checked.elapsed() > every + lease / 2 {
            returned = Some(Instant::now());
        }
        checked = Instant::now();
        let is_settled = returned.is_none_or(|returned| returned.elapsed() >= lease);
        let answer = if is_settled { look(&worker, &shared, every, backoff).await } else { worker.store.ping().await };
        if let Err(error) = answer {
            tracing::warn!(%error, "cannot look for lost jobs now");
            returned = Some(Instant::now());
        }
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return;
        }
    }
}

/// Looks for lost jobs if it is the turn of this process.
async fn look(worker: &Worker, shared: &SharedState, every: Duration, backoff: Backoff) -> Result<(), StoreError> {
    let now = worker.clock.now();
    if !worker.store.takes_turn_at_lost_jobs(now, every).await? {
        return Ok(());
    }
    for run in worker.store.release_lost(now, backoff).await? {
        metrics().run_lost();
        tracing::warn!(
            job = run.id,
            request_id = run.request_id,
            deaths = run.deaths,
            "the lease of a job ran out; the job is queued again"
        );
    }
    while let Some(claim) = worker.store.claim_lost_live(&worker.name, now, worker.settings.queue.lease()).await? {
        metrics().run_lost();
        tracing::warn!(job = claim.id, request_id = claim.request_id, "a live session was lost");
        let lost = AnalysisError::new(Fault::Video, FailureReason::LiveSessionLost, "its process no longer keeps it");
        worker.fail(&claim, &lost, shared).await;
    }
    Ok(())
}
