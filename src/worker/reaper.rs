//! Puts jobs back whose workers went silent: killed, cut off from the database, or frozen. Every worker process does it.
//!
//! Silence is judged by leases, and while the database is away nobody can renew one. So after trouble with the database,
//! and after a pause of this very process, the reaper first leaves every worker the time of a lease to speak up.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::store::Backoff;
use crate::telemetry::metrics;

/// Looks a lease, and the shortest time between two.
const LOOKS: u32 = 6;
const SHORTEST: Duration = Duration::from_secs(1);

pub(super) async fn run(worker: Worker, stop: CancellationToken) {
    let queue = &worker.settings.queue;
    let (lease, every) = (queue.lease(), (queue.lease() / LOOKS).max(SHORTEST));
    let backoff =
        Backoff { base: Duration::from_secs(queue.backoff_base_s), max: Duration::from_secs(queue.backoff_max_s) };
    // When the database was last seen to come back.
    let mut returned: Option<Instant> = None;
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() > every + lease / 2 {
            returned = Some(Instant::now());
        }
        looked = Instant::now();
        let is_settled = returned.is_none_or(|returned| returned.elapsed() >= lease);
        let answer = if is_settled {
            worker.store.release_lost(worker.clock.now(), backoff).await.map(|lost| {
                for run in lost {
                    metrics().run_lost();
                    tracing::warn!(job = run.id, deaths = run.deaths, "a worker went silent; its job waits again");
                }
            })
        } else {
            worker.store.ping().await
        };
        if let Err(error) = answer {
            tracing::warn!(%error, "lost jobs cannot be looked for now");
            returned = Some(Instant::now());
        }
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return;
        }
    }
}
