//! Says from time to time that this process works, for the operator's eyes. The queue does not depend on it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;

/// Between two words, in seconds.
const EVERY_S: u64 = 10;
/// A worker that has said nothing for so long, in seconds, is taken for dead.
pub const SILENT_S: i64 = 30;

pub(super) async fn run(worker: Worker, stop: CancellationToken) {
    let concurrency = worker.settings.queue.concurrency();
    loop {
        if let Err(error) = worker.store.worker_seen(&worker.name, concurrency, worker.clock.now()).await {
            tracing::warn!(%error, "that this worker lives cannot be said");
        }
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(EVERY_S))).await.is_none() {
            break;
        }
    }
    if let Err(error) = worker.store.worker_left(&worker.name).await {
        tracing::warn!(%error, "that this worker stops cannot be said");
    }
}
