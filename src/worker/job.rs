//! One job: analyze, save, clean up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::analyzer::Trouble;
use super::backoff::backoff;
use super::heartbeat::Meter;
use super::{Desk, Worker};
use crate::analysis::{FailureReason, Findings, Language};
use crate::blob::BlobError;
use crate::config::S3Read;
use crate::fault::{Fault, Part};
use crate::media::Source;
use crate::pipeline::Cancel;
use crate::report;
use crate::store::{Claim, Failure, Held, JobProgress, NewMail, StoreError};
use crate::telemetry::metrics;

/// An analysis that is told to stop gets this long before its worker turns to the next job.
const LET_GO: Duration = Duration::from_secs(30);
/// Between two tries to save the end of a run, at most.
const LONGEST_SAVE_WAIT: Duration = Duration::from_secs(5);

/// How a run of a job ended, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    WillRunAgain,
    /// A part of the service broke the run off: it does not count.
    SetBack,
    HandedBack,
    /// Another has the job, or it was erased.
    Lost,
    /// The process was told to stop before the database took the end: the job runs again when its lease is over.
    NotSaved,
}

impl End {
    /// As it is counted.
    const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::WillRunAgain => "will_run_again",
            Self::SetBack => "set_back",
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
    /// Another run, after a wait, and this one does not count.
    SetBack,
}

/// What is stored of a failure.
fn failure(reason: FailureReason) -> Failure {
    Failure { code: reason.code().to_owned(), detail: report::failure(&reason, Language::EN), reason: Some(reason) }
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
    pub(super) async fn run_job(&self, claim: &Claim, desk: &Desk) {
        let (started, cancel, meter) = (Instant::now(), Cancel::default(), Arc::new(Meter::default()));
        let _stop_on_drop = StopOnDrop(cancel.clone());
        let mut analysis = Box::pin(self.analyze(claim, desk, &cancel, &meter));
        let result = tokio::select! {
            result = &mut analysis => Some(result),
            () = self.keep_alive(claim, &meter) => None,
            () = desk.cut.cancelled() => Some(Err(Trouble::cancelled())),
        };
        let end = match &result {
            Some(Ok(findings)) => {
                desk.gate.proven().await;
                self.save(claim, Outcome::Done(findings), desk).await
            }
            Some(Err(trouble)) => {
                cancel.cancel();
                self.fail(claim, trouble, desk).await
            }
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

    /// The findings of a job, by whatever way its video can be read.
    async fn analyze(
        &self,
        claim: &Claim,
        desk: &Desk,
        cancel: &Cancel,
        meter: &Arc<Meter>,
    ) -> Result<Findings, Trouble> {
        let trouble = async |error: BlobError| self.storage_trouble(&error, desk).await;
        let source = match self.blobs.source(&claim.video_key).await {
            Ok(source) => source,
            Err(error) => return Err(trouble(error).await),
        };
        match &source {
            Source::Url(_) if self.settings.storage.s3.read == S3Read::Download => {}
            Source::File(path) => match tokio::fs::try_exists(path).await {
                Ok(true) => return self.on_thread(claim, source, cancel, meter).await,
                Ok(false) => return Err(trouble(BlobError::NotFound).await),
                Err(error) => return Err(trouble(error.into()).await),
            },
            Source::Url(_) => match self.on_thread(claim, source, cancel, meter).await {
                Err(Trouble { fault: Fault::Ours(Part::Storage), cause, .. }) if !cancel.is_cancelled() => {
                    tracing::warn!(job = claim.id, cause, "the video cannot be streamed; copying it first");
                }
                result => return result,
            },
        }
        let copy = match desk.scratch.copy(self.tokens.next()) {
            Ok(copy) => copy,
            Err(error) => return Err(trouble(error.into()).await),
        };
        if let Err(error) = self.blobs.fetch(&claim.video_key, copy.path()).await {
            return Err(trouble(error).await);
        }
        self.on_thread(claim, Source::File(copy.path().to_owned()), cancel, meter).await
    }

    /// What an error of storage means for a job. A video counts as not there only in the storage of the database.
    async fn storage_trouble(&self, error: &BlobError, desk: &Desk) -> Trouble {
        let fault = match error {
            BlobError::NotFound => {
                desk.gate.doubt().await;
                let is_ours = desk.gate.check(self.blobs.as_ref(), self.identity).await.is_ok();
                if is_ours { error.fault() } else { Fault::Ours(Part::Storage) }
            }
            _ => error.fault(),
        };
        if fault == Fault::Ours(Part::Storage) {
            return Trouble::new(fault, FailureReason::StorageUnavailable, error);
        }
        Trouble::new(fault, FailureReason::VideoGone, error)
    }

    /// Runs the analysis on a thread of its own, or in a process of its own if one died during it before. A panic is a
    /// run that broke off like any other.
    async fn on_thread(
        &self,
        claim: &Claim,
        source: Source,
        cancel: &Cancel,
        meter: &Arc<Meter>,
    ) -> Result<Findings, Trouble> {
        let confined = self.confined.as_ref().filter(|_| claim.deaths > 0);
        let analyzer = confined.unwrap_or(&self.analyzer).clone();
        let (cancel, meter, options) = (cancel.clone(), meter.clone(), claim.options);
        let (answer, answered) = oneshot::channel();
        let broke_off = |fault, reason: &str| Trouble::new(fault, FailureReason::AnalysisCrashed, reason);
        std::thread::Builder::new()
            .name(format!("analyze-{}", claim.id))
            .spawn(move || {
                let analysis = || analyzer.analyze(&source, options, &|progress| meter.set(progress), &cancel);
                // Nobody waits any more: then nobody needs it.
                let _ = answer.send(catch_unwind(AssertUnwindSafe(analysis)));
            })
            .map_err(|error| broke_off(Fault::Ours(Part::Memory), &error.to_string()))?;
        match answered.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(broke_off(Fault::Unclear, "the analysis panicked")),
        }
    }

    /// What becomes of a job without findings: that is decided by whose fault it is.
    async fn fail(&self, claim: &Claim, trouble: &Trouble, desk: &Desk) -> End {
        let Trouble { fault, reason, cause } = trouble;
        let failure = &failure(reason.clone());
        let (job, attempt, code) = (claim.id, claim.attempt, reason.code());
        match fault {
            Fault::Client => self.hand_back(claim).await,
            Fault::Video => {
                tracing::info!(job, code, "the video is at fault");
                self.save(claim, Outcome::Failed(failure), desk).await
            }
            Fault::Unclear => {
                tracing::warn!(job, attempt, code, cause, "a run failed");
                let last = claim.attempt >= self.settings.queue.max_attempts;
                self.save(claim, if last { Outcome::Failed(failure) } else { Outcome::Again }, desk).await
            }
            Fault::Ours(part) => {
                let (part_name, setbacks) = (part.name(), claim.setbacks + 1);
                tracing::error!(job, part = part_name, code, cause, setbacks, "a part of the service broke a run off");
                metrics().set_back(*part);
                if *part == Part::Storage {
                    desk.gate.doubt().await;
                }
                self.save(claim, Outcome::SetBack, desk).await
            }
        }
    }

    pub(super) async fn hand_back(&self, claim: &Claim) -> End {
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
    async fn save(&self, claim: &Claim, outcome: Outcome<'_>, desk: &Desk) -> End {
        let end = match (self.insist(claim, outcome, desk).await, outcome) {
            (None, _) => return End::NotSaved,
            (Some(Held::Lost), _) => return End::Lost,
            (Some(Held::Yes), Outcome::Again) => return End::WillRunAgain,
            (Some(Held::Yes), Outcome::SetBack) => return End::SetBack,
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

    /// Offers a write to the database until it answers: no other job can be taken without it, and an analysis that took
    /// an hour is not thrown away for a database that restarts. Meanwhile the lease is renewed. `None`: the process was
    /// told to stop before.
    async fn insist(&self, claim: &Claim, outcome: Outcome<'_>, desk: &Desk) -> Option<Held> {
        let mails = self.mails(claim);
        let (lease, job) = (self.settings.queue.lease(), claim.id);
        let unsaved = failure(FailureReason::ResultNotStored);
        let mut outcome = outcome;
        for tried in 1_u32.. {
            match self.write(claim, outcome, &mails).await {
                Ok(held) => return Some(held),
                Err(error) if matches!(error.fault(), Fault::Ours(_)) => {
                    tracing::warn!(job, tried, %error, "the end of the run cannot be saved yet");
                }
                // The database answers, and does not take this result.
                Err(error) if matches!(outcome, Outcome::Done(_)) => {
                    tracing::error!(job, %error, "the database refuses a result");
                    let last = claim.attempt >= self.settings.queue.max_attempts;
                    outcome = if last { Outcome::Failed(&unsaved) } else { Outcome::Again };
                    continue;
                }
                Err(error) => {
                    tracing::error!(job, %error, "the database refuses the end of a run");
                    return None;
                }
            }
            let wait = backoff(tried, Duration::from_millis(500), (lease / 3).min(LONGEST_SAVE_WAIT));
            if desk.cut.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            // Whether the job is still held is said by the write itself, which knows its own work again.
            if let Err(error) = self.store.heartbeat(claim, JobProgress::default(), self.clock.now(), lease).await {
                tracing::warn!(job, %error, "no heartbeat");
            }
        }
        None
    }

    async fn write(&self, claim: &Claim, outcome: Outcome<'_>, mails: &[NewMail]) -> Result<Held, StoreError> {
        let (now, queue) = (self.clock.now(), &self.settings.queue);
        let due = |tried| {
            let (base, max) = (Duration::from_secs(queue.backoff_base_s), Duration::from_secs(queue.backoff_max_s));
            now.saturating_add(backoff(tried, base, max)).unwrap_or(Timestamp::MAX)
        };
        match outcome {
            Outcome::Done(findings) => self.store.complete(claim, findings, mails, now, self.expiry(now)).await,
            Outcome::Failed(failure) => self.store.give_up(claim, failure, mails, now, self.expiry(now)).await,
            Outcome::Again => self.store.retry(claim, due(claim.attempt)).await,
            Outcome::SetBack => self.store.set_back(claim, due(claim.setbacks.saturating_add(1))).await,
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
