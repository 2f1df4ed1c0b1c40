//! Fetches the videos that clients gave by address into the blob store, beside the analyses, so that slow servers delay
//! no analysis.
//!
//! Fetching is a run of the job with a claim and a lease, like its analysis. When the video is stored, the job is queued
//! again for its analysis. If the process is killed before, the lease runs out, and another run fetches the video again,
//! under another key: of two runs of one job, neither can overwrite or delete what the other has stored.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::analyzer::AnalysisError;
use super::backoff::backoff;
use super::gate::Closed;
use super::heartbeat::SharedProgress;
use super::job::{End, LONGEST_SAVE_WAIT, join_trace, trace_end};
use super::{SharedState, Worker, wait_for_all};
use crate::analysis::FailureReason;
use crate::config::ByteSize;
use crate::fault::{Fault, Part};
use crate::media;
use crate::pipeline::PipelineError;
use crate::sources::{Download, DownloadError, Downloads};
use crate::store::{Claim, ClaimState, JobVideo, StoreError, Wake};
use crate::telemetry::{metrics, step, trace};

/// The longest time between two renewals of a lease. A download has no progress that would be stored, and should end
/// soon after its job was erased.
const RENEWAL: Duration = Duration::from_secs(3);

/// A video that was fetched and is in the blob store.
struct Fetched {
    key: String,
    size_bytes: u64,
}

/// Fetches videos until `stop`, at most `sources.max_concurrent` at the same time. Then it waits for those that are
/// being fetched.
pub(super) async fn run(worker: Worker, shared: Arc<SharedState>, downloads: Downloads, stop: CancellationToken) {
    let (most, poll) = (worker.settings.sources.max_concurrent, Duration::from_secs(worker.settings.queue.poll_s));
    let mut wakes = worker.store.subscribe();
    let mut running: JoinSet<()> = JoinSet::new();
    while !stop.is_cancelled() {
        // The set is never empty here, so `join_next` waits.
        if running.len() >= most {
            stop.run_until_cancelled(log_panic(&mut running)).await;
            continue;
        }
        let wait = match worker.next_to_fetch(&shared).await {
            Ok(Next::Claimed(claim)) => {
                let request_id = claim.request_id.as_deref();
                let span =
                    tracing::info_span!("fetch", job = claim.id, attempt = claim.attempt, request_id, trace_id = Empty);
                join_trace(&span, &claim);
                let (worker, shared, downloads) = (worker.clone(), shared.clone(), downloads.clone());
                running.spawn(async move { worker.run_fetch(&claim, &downloads, &shared).await }.instrument(span));
                continue;
            }
            Ok(Next::NoJob) => poll,
            Ok(Next::Paused(wait)) => wait,
            Err(error) => {
                tracing::warn!(%error, "cannot claim a video to fetch now");
                poll
            }
        };
        // When a fetch ends, another video of the same client may be next.
        let woken = async {
            tokio::select! {
                _ = wakes.wait(Wake::Work, wait) => {}
                () = log_panic(&mut running), if !running.is_empty() => {}
            }
        };
        stop.run_until_cancelled(woken).await;
    }
    wait_for_all(&mut running).await;
}

/// Waits until one task has ended.
async fn log_panic(running: &mut JoinSet<()>) {
    if let Some(Err(error)) = running.join_next().await {
        tracing::error!(%error, "a task that fetches a video failed");
    }
}

enum Next {
    Claimed(Box<Claim>),
    NoJob,
    /// The storage is unavailable: claim no job for this long.
    Paused(Duration),
}

impl Worker {
    /// Claims the next job whose video has to be fetched.
    async fn next_to_fetch(&self, shared: &SharedState) -> Result<Next, StoreError> {
        let check = || shared.gate.check(self.blobs.as_ref(), self.identity);
        if shared.gate.is_closed().await
            && let Err(Closed(wait)) = check().await
        {
            return Ok(Next::Paused(wait));
        }
        let (most, lease) = (self.settings.sources.max_concurrent_client, self.settings.queue.lease());
        let claim = self.store.claim_unfetched(&self.name, most, self.clock.now(), lease).await?;
        let Some(claim) = claim else { return Ok(Next::NoJob) };
        if let Err(Closed(wait)) = check().await {
            self.hand_back(&claim).await;
            return Ok(Next::Paused(wait));
        }
        Ok(Next::Claimed(Box::new(claim)))
    }

    /// Fetches the video of a claimed job, and queues the job for its analysis.
    async fn run_fetch(&self, claim: &Claim, downloads: &Downloads, shared: &SharedState) {
        let (started, progress) = (Instant::now(), SharedProgress::default());
        // Dropping it closes the connection, and discards what was written.
        let result = tokio::select! {
            result = self.fetch(claim, downloads).instrument(step!("download")) => Some(result),
            () = self.keep_alive(claim, &progress, RENEWAL) => None,
            () = shared.abort.cancelled() => Some(Err(AnalysisError::cancelled())),
        };
        let (end, size_bytes, error) = match result {
            Some(Ok(fetched)) => (self.save_fetched(claim, &fetched, shared).await, Some(fetched.size_bytes), None),
            Some(Err(error)) => (self.fail(claim, &error, shared).await, None, Some(error)),
            None => (self.after_lost_claim(claim).await, None, None),
        };
        trace_end(end, error.as_ref());
        if let Some(bytes) = size_bytes {
            trace::attribute(&Span::current(), "visage.video.bytes", i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        metrics().fetch_ended(end.label());
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(duration_ms, size_bytes, ?end, "fetch ended");
    }

    /// Streams the video into the blob store.
    async fn fetch(&self, claim: &Claim, downloads: &Downloads) -> Result<Fetched, AnalysisError> {
        let JobVideo::Remote(url) = &claim.video else {
            return Err(AnalysisError::new(
                Fault::Unclear,
                FailureReason::InternalError,
                "the video is fetched already",
            ));
        };
        let storage = |error: crate::blob::BlobError| {
            AnalysisError::new(Fault::Ours(Part::Storage), FailureReason::StorageUnavailable, error)
        };
        self.check_quota(claim, 0).await?;
        let mut download = downloads.open(url.expose()).await.map_err(failure_of)?;
        self.check_quota(claim, download.announced().unwrap_or_default()).await?;
        let head = self.head(&mut download).await?;
        let key = self.tokens.next().to_string();
        let mut upload = self.blobs.begin(&key).await.map_err(storage)?;
        upload.write(head).await.map_err(storage)?;
        while let Some(chunk) = download.chunk().await.map_err(failure_of)? {
            upload.write(chunk).await.map_err(storage)?;
        }
        let size_bytes = upload.finish().await.map_err(storage)?;
        let fetched = Fetched { key, size_bytes };
        if let Err(error) = self.check_quota(claim, size_bytes).await {
            self.discard(&fetched).await;
            return Err(error);
        }
        tracing::info!(host = download.host(), size_bytes, "a video was fetched");
        Ok(fetched)
    }

    /// Reads the first bytes, and refuses the file at once if they are not those of a video.
    async fn head(&self, download: &mut Download) -> Result<Bytes, AnalysisError> {
        let (limits, mut head) = (&self.settings.video, BytesMut::new());
        while media::needs_more(&head, limits) {
            let Some(chunk) = download.chunk().await.map_err(failure_of)? else { break };
            head.extend_from_slice(&chunk);
        }
        media::sniff(&head, limits).map_err(|error| AnalysisError::from(PipelineError::from(error)))?;
        Ok(head.freeze())
    }

    /// Refuses `more` bytes that would exceed `storage.quota` or `storage.quota_client`.
    async fn check_quota(&self, claim: &Claim, more: u64) -> Result<(), AnalysisError> {
        let quotas = &self.settings.storage;
        if quotas.quota.0 == 0 && quotas.quota_client.0 == 0 {
            return Ok(());
        }
        let client = claim.client.as_deref().unwrap_or_default();
        let stored = self.store.stored_bytes(client, self.clock.now()).await.map_err(|error| {
            AnalysisError::new(Fault::Ours(Part::Database), FailureReason::StorageUnavailable, error)
        })?;
        let is_over = |quota: ByteSize, stored: u64| quota.0 > 0 && stored.saturating_add(more) > quota.0;
        if is_over(quotas.quota, stored.total) || is_over(quotas.quota_client, stored.client) {
            let cause = "the stored videos reach storage.quota or storage.quota_client";
            return Err(AnalysisError::new(Fault::Video, FailureReason::StorageFull, cause));
        }
        Ok(())
    }

    /// Records the stored video, and retries until the database answers. If the claim was lost, deletes the video. A lease
    /// that runs out meanwhile does no harm, unless another worker claims the job.
    async fn save_fetched(&self, claim: &Claim, fetched: &Fetched, shared: &SharedState) -> End {
        let lease = self.settings.queue.lease();
        for tried in 1_u32.. {
            match self.store.fetched(claim, &fetched.key, fetched.size_bytes).await {
                Ok(ClaimState::Held) => return End::Fetched,
                Ok(ClaimState::Lost) => {
                    self.discard(fetched).await;
                    return self.after_lost_claim(claim).await;
                }
                Err(error) => tracing::warn!(tried, %error, "cannot record yet that a video was fetched"),
            }
            let wait = backoff(tried, Duration::from_millis(500), (lease / 3).min(LONGEST_SAVE_WAIT));
            if shared.abort.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        // The database may have recorded it, so the video stays. If it did not, the sweep deletes it.
        End::NotSaved
    }

    /// Deletes a stored video that no job needs.
    async fn discard(&self, fetched: &Fetched) {
        if let Err(error) = self.blobs.delete(&fetched.key).await {
            tracing::warn!(%error, "cannot delete a fetched video yet; the sweep tries again");
        }
    }
}

/// The error of a run for an error of the download.
fn failure_of(error: DownloadError) -> AnalysisError {
    use DownloadError as E;
    let cause = error.to_string();
    let (fault, reason) = match error {
        E::Refused { host, .. } => (Fault::Video, FailureReason::AddressRefused { host }),
        E::TooManyRedirects { host, limit } => {
            let limit = u64::try_from(limit).unwrap_or(u64::MAX);
            (Fault::Video, FailureReason::TooManyRedirects { host, limit })
        }
        E::Unreachable { host, .. } => (Fault::Unclear, FailureReason::VideoUnreachable { host }),
        E::Status { host, status } => {
            // The server may be restarting or busy.
            let is_temporary = status >= 500 || matches!(status, 408 | 425 | 429);
            let fault = if is_temporary { Fault::Unclear } else { Fault::Video };
            (fault, FailureReason::VideoRefused { host, status })
        }
        E::TooLarge { limit } => (Fault::Video, FailureReason::VideoTooLarge { limit }),
        E::TooSlow { host, limit_s } => (Fault::Video, FailureReason::VideoTooSlow { host, limit_s }),
    };
    AnalysisError::new(fault, reason, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_may_pass_are_tried_again() {
        let host = || "example.org".to_owned();
        let status = |status| DownloadError::Status { host: host(), status };
        for (error, code, is_final) in [
            (DownloadError::Unreachable { host: host(), cause: "reset".to_owned() }, "video_unreachable", false),
            (status(404), "video_refused", true),
            (status(403), "video_refused", true),
            (status(429), "video_refused", false),
            (status(503), "video_refused", false),
            (DownloadError::TooLarge { limit: 5 }, "video_too_large", true),
            (DownloadError::TooSlow { host: host(), limit_s: 5 }, "video_too_slow", true),
            (DownloadError::TooManyRedirects { host: host(), limit: 5 }, "too_many_redirects", true),
        ] {
            let failure = failure_of(error);
            assert_eq!((failure.reason.code(), failure.fault == Fault::Video), (code, is_final), "{failure}");
        }
    }
}
