//! One job: analyze, save, clean up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::analyzer::{Trouble, failure};
use super::backoff::backoff;
use super::heartbeat::Meter;
use super::scratch::Scratch;
use crate::analysis::Findings;
use crate::blob::BlobError;
use crate::config::S3Read;
use crate::media::Source;
use crate::pipeline::Cancel;
use crate::store::{Claim, Failure, Held, JobProgress, NewMail, StoreError};
use crate::telemetry::metrics;

/// An analysis that is told to stop gets this long before its worker turns to the next job.
const LET_GO: Duration = Duration::from_secs(30);
/// How often the end of a job is offered to a database that does not answer.
const SAVE_TRIES: u32 = 8;

/// How a run of a job ended, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    WillRunAgain,
    HandedBack,
    /// Another has the job, or it was erased.
    Lost,
    /// The database did not take the end: the job runs again when its lease is over.
    NotSaved,
}

impl End {
    /// As it is counted.
    const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::WillRunAgain => "will_run_again",
            Self::HandedBack => "handed_back",
            Self::Lost => "lost",
            Self::NotSaved => "not_saved",
        }
    }
}

/// What is to be written down.
#[derive(Debug, Clone, Copy)]
enum Outcome<'a> {
    Done(&'a Findings),
    Failed(&'a Failure),
    /// Another run, after a wait.
    Again,
}

/// Stops the analysis when whoever waits for it goes away.
struct StopOnDrop(Cancel);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Worker {
    /// Runs a job that was claimed, to whatever end.
    pub(super) async fn run_job(&self, claim: &Claim, scratch: &Scratch, cut: &CancellationToken) {
        let (started, cancel, meter) = (Instant::now(), Cancel::default(), Arc::new(Meter::default()));
        let _stop_on_drop = StopOnDrop(cancel.clone());
        let mut analysis = Box::pin(self.analyze(claim, scratch, &cancel, &meter));
        let result = tokio::select! {
            result = &mut analysis => Some(result),
            () = self.keep_alive(claim, &meter) => None,
            () = cut.cancelled() => Some(Err(Trouble::Cancelled)),
        };
        let end = match &result {
            Some(Ok(findings)) => self.save(claim, Outcome::Done(findings), cut).await,
            Some(Err(Trouble::Cancelled)) => {
                cancel.cancel();
                self.hand_back(claim).await
            }
            Some(Err(trouble)) => self.fail(claim, trouble, cut).await,
            None => {
                cancel.cancel();
                // Its threads and its copy are let go before the next job takes as many.
                if tokio::time::timeout(LET_GO, &mut analysis).await.is_err() {
                    tracing::warn!(job = claim.id, "the analysis does not stop");
                }
                End::Lost
            }
        };
        let taken = started.elapsed();
        metrics().job_ended(end.label(), taken);
        let video = result.and_then(Result::ok).map(|findings| findings.analysis.video);
        if let Some(video) = video.as_ref().filter(|_| end == End::Done) {
            metrics().analyzed(video.frames_analyzed, video.duration_s);
        }
        let duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        let frames = video.map(|video| video.frames_analyzed);
        tracing::info!(job = claim.id, attempt = claim.attempt, duration_ms, frames, ?end, "job ended");
    }

    /// Gives up a job whose workers died until its runs were used up.
    pub(super) async fn bury(&self, claim: &Claim) {
        let detail = "The analysis of this video broke off every time it was tried. Convert it to MP4 (H.264) and \
                      upload it again.";
        let outcome = failure("worker_died", detail);
        let end = self.save(claim, Outcome::Failed(&outcome), &CancellationToken::new()).await;
        tracing::warn!(job = claim.id, attempt = claim.attempt, ?end, "given up: its workers went silent");
    }

    /// The findings of a job, by whatever way its video can be read.
    async fn analyze(
        &self,
        claim: &Claim,
        scratch: &Scratch,
        cancel: &Cancel,
        meter: &Arc<Meter>,
    ) -> Result<Findings, Trouble> {
        let source = self.blobs.source(&claim.video_key).await.map_err(|error| storage_trouble(&error))?;
        match &source {
            Source::File(path) if !path.exists() => return Err(gone()),
            Source::Url(_) if self.settings.storage.s3.read == S3Read::Download => {}
            Source::File(_) => return self.on_thread(claim, source, cancel, meter).await,
            Source::Url(_) => match self.on_thread(claim, source, cancel, meter).await {
                Err(Trouble::Unreadable { reason, .. }) if !cancel.is_cancelled() => {
                    tracing::warn!(job = claim.id, reason, "the video cannot be streamed; copying it first");
                }
                result => return result,
            },
        }
        let copy = scratch.copy(self.tokens.next()).map_err(|error| storage_trouble(&error.into()))?;
        self.blobs.fetch(&claim.video_key, copy.path()).await.map_err(|error| storage_trouble(&error))?;
        self.on_thread(claim, Source::File(copy.path().to_owned()), cancel, meter).await
    }

    /// Runs the analysis on a thread of its own. A panic there is a failed try like any other.
    async fn on_thread(
        &self,
        claim: &Claim,
        source: Source,
        cancel: &Cancel,
        meter: &Arc<Meter>,
    ) -> Result<Findings, Trouble> {
        let (analyzer, cancel, meter, options) = (self.analyzer.clone(), cancel.clone(), meter.clone(), claim.options);
        let (answer, answered) = oneshot::channel();
        let detail = "The analysis broke off for a reason that does not lie in the video. Upload it again later.";
        let crashed = |reason: &str| Trouble::transient("analysis_crashed", detail, reason);
        std::thread::Builder::new()
            .name(format!("analyze-{}", claim.id))
            .spawn(move || {
                let analysis = || analyzer.analyze(&source, options, &|progress| meter.set(progress), &cancel);
                // Nobody waits any more: then nobody needs it.
                let _ = answer.send(catch_unwind(AssertUnwindSafe(analysis)));
            })
            .map_err(|error| crashed(&error.to_string()))?;
        match answered.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(crashed("the analysis panicked")),
        }
    }

    /// Puts the job back for another run, or gives it up if that cannot help or its runs are used up.
    async fn fail(&self, claim: &Claim, trouble: &Trouble, cut: &CancellationToken) -> End {
        match trouble {
            Trouble::Cancelled => self.hand_back(claim).await,
            Trouble::Permanent(failure) => {
                tracing::info!(job = claim.id, code = failure.code, "the video is at fault");
                self.save(claim, Outcome::Failed(failure), cut).await
            }
            Trouble::Unreadable { failure, reason } | Trouble::Transient { failure, reason } => {
                tracing::warn!(job = claim.id, attempt = claim.attempt, code = failure.code, reason, "a run failed");
                let last = claim.attempt >= self.settings.queue.max_attempts;
                self.save(claim, if last { Outcome::Failed(failure) } else { Outcome::Again }, cut).await
            }
        }
    }

    async fn hand_back(&self, claim: &Claim) -> End {
        match self.store.hand_back(claim).await {
            Ok(Held::Yes) => End::HandedBack,
            Ok(Held::Lost) => End::Lost,
            Err(error) => {
                tracing::warn!(job = claim.id, %error, "the job cannot be handed back");
                End::NotSaved
            }
        }
    }

    /// Writes down how a run ended, and deletes the video of a job that is over unless it is to be kept.
    async fn save(&self, claim: &Claim, outcome: Outcome<'_>, cut: &CancellationToken) -> End {
        let end = match (self.insist(claim, outcome, cut).await, outcome) {
            (None, _) => return End::NotSaved,
            (Some(Held::Lost), _) => return End::Lost,
            (Some(Held::Yes), Outcome::Again) => return End::WillRunAgain,
            (Some(Held::Yes), Outcome::Done(_)) => End::Done,
            (Some(Held::Yes), Outcome::Failed(_)) => End::Failed,
        };
        let retention = &self.settings.retention;
        let kept_h = if end == End::Failed { retention.failed_videos_h() } else { retention.videos_h };
        if kept_h == 0
            && let Err(reason) = self.delete_video(claim).await
        {
            // The next sweep does it.
            tracing::warn!(job = claim.id, reason, "the video is not deleted yet");
        }
        end
    }

    /// Offers a write to the database until it answers, for a while: an analysis that took an hour is not thrown away
    /// for a database that restarts. Meanwhile the lease is renewed. `None`: no answer.
    async fn insist(&self, claim: &Claim, outcome: Outcome<'_>, cut: &CancellationToken) -> Option<Held> {
        let mails = self.mails(claim);
        let lease = self.settings.queue.lease();
        for tried in 1..=SAVE_TRIES {
            match self.write(claim, outcome, &mails).await {
                Ok(held) => return Some(held),
                Err(error) => tracing::warn!(job = claim.id, tried, %error, "the end of the run cannot be saved"),
            }
            let wait = backoff(tried, Duration::from_millis(500), (lease / 3).min(Duration::from_secs(10)));
            if tried == SAVE_TRIES || cut.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            // Whether the job is still held is said by the write itself, which knows its own work again.
            if let Err(error) = self.store.heartbeat(claim, JobProgress::default(), self.clock.now(), lease).await {
                tracing::warn!(job = claim.id, %error, "no heartbeat");
            }
        }
        None
    }

    async fn write(&self, claim: &Claim, outcome: Outcome<'_>, mails: &[NewMail]) -> Result<Held, StoreError> {
        let (now, queue) = (self.clock.now(), &self.settings.queue);
        match outcome {
            Outcome::Done(findings) => self.store.complete(claim, findings, mails, now, self.expiry(now)).await,
            Outcome::Failed(failure) => self.store.give_up(claim, failure, mails, now, self.expiry(now)).await,
            Outcome::Again => {
                let (base, max) = (Duration::from_secs(queue.backoff_base_s), Duration::from_secs(queue.backoff_max_s));
                let due = now.saturating_add(backoff(claim.attempt, base, max)).unwrap_or(Timestamp::MAX);
                self.store.retry(claim, due).await
            }
        }
    }

    async fn delete_video(&self, claim: &Claim) -> Result<(), String> {
        self.blobs.delete(&claim.video_key).await.map_err(|error| error.to_string())?;
        self.store.video_deleted(claim.token).await.map_err(|error| error.to_string())
    }

    fn mails(&self, claim: &Claim) -> Vec<NewMail> {
        if self.post.is_none() {
            return Vec::new();
        }
        let mail = |recipient: &String| NewMail { id: self.tokens.next(), recipient: recipient.clone() };
        claim.recipients.iter().map(mail).collect()
    }

    /// When a result of `now` is to be erased.
    fn expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let days = i64::try_from(self.settings.retention.results_d).ok().filter(|&days| days > 0)?;
        now.checked_add(days.checked_mul(24)?.hours()).ok()
    }
}

fn gone() -> Trouble {
    Trouble::Permanent(failure("video_gone", "The video is no longer in storage. Upload it again."))
}

fn storage_trouble(error: &BlobError) -> Trouble {
    if matches!(error, BlobError::NotFound) {
        return gone();
    }
    Trouble::transient("storage_unavailable", "The video could not be read from storage. Upload it again later.", error)
}
