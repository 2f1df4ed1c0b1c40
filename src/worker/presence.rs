//! Records regularly that this process is alive, for the operator's page. The queue does not depend on it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;

/// Seconds between two records. After [`SILENT_S`](crate::store::SILENT_S) without one, the worker counts as dead.
const INTERVAL_S: u64 = 10;

pub(super) async fn run(worker: Worker, stop: CancellationToken) {
    let concurrency = worker.settings.queue.concurrency();
    loop {
        if let Err(error) = worker.store.worker_seen(&worker.name, concurrency, worker.clock.now()).await {
            tracing::warn!(%error, "cannot record that this worker is alive");
        }
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(INTERVAL_S))).await.is_none() {
            break;
        }
    }
    if let Err(error) = worker.store.worker_left(&worker.name).await {
        tracing::warn!(%error, "cannot record that this worker stops");
    }
}
