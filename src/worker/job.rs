//! Runs one job: analyzes the video, saves the result, cleans up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::analyzer::AnalysisError;
use super::backoff::backoff;
use super::parts::Run;
use super::{SharedState, Worker};
use crate::analysis::{FailureReason, Findings, Language};
use crate::blob::BlobError;
use crate::config::{Retention, S3Read};
use crate::fault::{Fault, Part};
use crate::media::Source;
use crate::pipeline::{AnalysisPart, AnalysisParts, CancelOnDrop};
use crate::report;
use crate::store::{Claim, ClaimState, JobFailure, JobProgress, JobVideo, NewMail, StoreError};
use crate::telemetry::{metrics, step, trace};

/// How long a worker waits for a cancelled analysis to stop before it claims the next job.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker that shuts down waits for a cancelled analysis to stop. Then it hands the job back.
const ABORT_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest wait between two attempts to save the outcome of a run.
pub(super) const LONGEST_SAVE_WAIT: Duration = Duration::from_secs(5);

/// How a run of a job ended, for log and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    /// The video is stored, and the job waits for its analysis.
    Fetched,
    Failed,
    WillRunAgain,
    /// A part of the service failed. The run does not count as an attempt.
    SetBack,
    HandedBack,
    /// A client erased the job while it ran.
    Cancelled,
    /// The claim was lost: the lease ran out, and another worker may have the job.
    Lost,
    /// The database refused the outcome, or the process stopped before the database accepted it. The job runs again
    /// when its lease has run out.
    NotSaved,
}

impl End {
    /// The label in the metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Fetched => "fetched",
            Self::Failed => "failed",
            Self::WillRunAgain => "will_run_again",
            Self::SetBack => "set_back",
            Self::HandedBack => "handed_back",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::NotSaved => "not_saved",
        }
    }
}

/// The outcome of a run, to be saved.
#[derive(Debug, Clone, Copy)]
enum RunOutcome<'a> {
    Done(&'a Findings),
    Failed(&'a JobFailure),
    /// The job runs again after a wait.
    Again,
    /// The job runs again after a wait, and this run does not count as an attempt.
    SetBack,
}

/// Returns the failure to store for a reason.
pub fn failure(reason: FailureReason) -> JobFailure {
    JobFailure { code: reason.code().to_owned(), detail: report::failure(&reason, Language::EN), reason: Some(reason) }
}

/// Puts the span of a run into the trace of the request that queued its job.
pub(super) fn join_trace(span: &Span, claim: &Claim) {
    trace::join(span, claim.trace.as_ref());
    trace::attribute(span, "visage.job.id", claim.id);
    trace::attribute(span, "visage.job.attempt", i64::from(claim.attempt));
}

/// Tells the current span, which is that of a run, how the run ended.
pub(super) fn trace_end(end: End, error: Option<&AnalysisError>) {
    let span = Span::current();
    trace::attribute(&span, "visage.outcome", end.label());
    // A run that a shutdown or a client breaks off has not failed.
    if let Some(error) = error.filter(|error| error.fault != Fault::Client) {
        trace::failed(&span, error.reason.code());
    }
}

type Doing<T> = dyn Fn(&Source, Vec<AnalysisPart>) -> Result<T, AnalysisError> + Send + Sync;

/// Work with a video. It gets the source of the video, and the parts that earlier runs have kept.
pub(super) struct Work<T> {
    run: Run,
    does: Arc<Doing<T>>,
}

impl<T> Work<T> {
    /// Work that is part of a run. It stops when the run is cancelled.
    pub fn new(
        run: &Run,
        does: impl Fn(&Source, Vec<AnalysisPart>) -> Result<T, AnalysisError> + Send + Sync + 'static,
    ) -> Self {
        Self { run: run.clone(), does: Arc::new(does) }
    }

    pub const fn run(&self) -> &Run {
        &self.run
    }
}

impl Worker {
    /// Runs a claimed job and saves its outcome.
    pub(super) async fn run_job(&self, claim: &Claim, shared: &SharedState) {
        let started = Instant::now();
        let (run, mut parts) = Run::new(claim, &self.settings.queue);
        let _cancel_on_drop = CancelOnDrop(run.cancel.clone());
        let mut analysis = Box::pin(self.analyze(claim, shared, &run));
        let result = tokio::select! {
            result = &mut analysis => Some(result),
            () = self.keep_alive(claim, &run.progress, Duration::MAX) => None,
            () = self.keep_parts(claim, &mut parts) => None,
            () = shared.abort.cancelled() => {
                run.cancel.cancel();
                // The analysis keeps its last part when it stops.
                let stopped = tokio::time::timeout(ABORT_TIMEOUT, &mut analysis).await;
                Some(stopped.unwrap_or_else(|_| Err(AnalysisError::cancelled())))
            }
        };
        let end = match &result {
            Some(Ok(findings)) => {
                shared.gate.record_success().await;
                self.save(claim, RunOutcome::Done(findings), shared).await
            }
            Some(Err(error)) => {
                run.cancel.cancel();
                self.keep_last_parts(claim, &mut parts).await;
                self.fail(claim, error, shared).await
            }
            None => {
                run.cancel.cancel();
                // Waits until its threads and its copy of the video are freed, since the next job needs the same.
                if tokio::time::timeout(STOP_TIMEOUT, &mut analysis).await.is_err() {
                    tracing::warn!("a cancelled analysis does not stop");
                }
                self.after_lost_claim(claim).await
            }
        };
        trace_end(end, result.as_ref().and_then(|result| result.as_ref().err()));
        let taken = started.elapsed();
        metrics().job_ended(end.label(), taken);
        let video = result.and_then(Result::ok).map(|findings| findings.analysis.video);
        if let Some(video) = video.as_ref().filter(|_| end == End::Done) {
            metrics().analyzed(video.frames_analyzed, video.duration_s);
            let frames = i64::try_from(video.frames_analyzed).unwrap_or(i64::MAX);
            trace::attribute(&Span::current(), "visage.video.frames", frames);
        }
        let duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        let frames = video.map(|video| video.frames_analyzed);
        tracing::info!(duration_ms, frames, ?end, "job ended");
    }

    /// Analyzes the video of a job, together with other workers if it is long.
    async fn analyze(&self, claim: &Claim, shared: &SharedState, run: &Run) -> Result<Findings, AnalysisError> {
        if let Some(findings) = Box::pin(self.analyze_together(claim, shared, run)).await? {
            return Ok(findings);
        }
        self.with_video(claim, shared, &self.whole_analysis(claim, run)).await
    }

    /// The analysis of a whole video, in a child process if a process died during an earlier run.
    fn whole_analysis(&self, claim: &Claim, run: &Run) -> Work<Findings> {
        let job_process = self.job_process.as_ref().filter(|_| claim.deaths > 0);
        let (analyzer, options, run) = (job_process.unwrap_or(&self.analyzer).clone(), claim.options, run.clone());
        Work::new(&run.clone(), move |source, earlier| {
            let keep = |part: AnalysisPart| run.keep(&part);
            let parts = AnalysisParts {
                earlier,
                every: run.keep_every().unwrap_or(Duration::MAX),
                keep: run.keep_every().map(|_| &keep as _),
            };
            let analyze = || analyzer.analyze(source, options, parts, &|at| run.progress.set(at), &run.cancel);
            step!("analyze").in_scope(analyze)
        })
    }

    /// Does some work with the video of a job, on a thread.
    pub(super) async fn with_video<T: Send + 'static>(
        &self,
        claim: &Claim,
        shared: &SharedState,
        work: &Work<T>,
    ) -> Result<T, AnalysisError> {
        match &claim.video {
            JobVideo::Stored(key) => self.with_stored(claim, key, shared, work).await,
            JobVideo::Object(object) => self.with_object(claim, object, shared, work).await,
            JobVideo::Remote(_) | JobVideo::Live => {
                let cause = "the video is not stored";
                Err(AnalysisError::new(Fault::Unclear, FailureReason::InternalError, cause))
            }
        }
    }

    /// Does some work with a stored video. Reads a file directly. Streams a video from a bucket, or copies it first if
    /// streaming is switched off or fails.
    async fn with_stored<T: Send + 'static>(
        &self,
        claim: &Claim,
        key: &str,
        shared: &SharedState,
        work: &Work<T>,
    ) -> Result<T, AnalysisError> {
        let failed = async |error: BlobError| self.storage_error(&error, shared).await;
        let source = match self.blobs.source(key).await {
            Ok(source) => source,
            Err(error) => return Err(failed(error).await),
        };
        match &source {
            Source::Url(_) if self.settings.storage.s3.read == S3Read::Download => {}
            Source::File(path) => match tokio::fs::try_exists(path).await {
                Ok(true) => return self.on_thread(claim, source, work).await,
                Ok(false) => return Err(failed(BlobError::NotFound).await),
                Err(error) => return Err(failed(error.into()).await),
            },
            Source::Url(_) | Source::Opened(_) => match self.on_thread(claim, source, work).await {
                Err(AnalysisError { fault: Fault::Ours(Part::Storage), cause, .. })
                    if !work.run.cancel.is_cancelled() =>
                {
                    tracing::warn!(cause, "cannot stream the video; copying it first");
                }
                result => return result,
            },
        }
        let copy = match shared.scratch.copy(self.tokens.next()) {
            Ok(copy) => copy,
            Err(error) => return Err(failed(error.into()).await),
        };
        if let Err(error) = self.blobs.fetch(key, copy.path()).instrument(step!("copy video")).await {
            return Err(failed(error).await);
        }
        self.on_thread(claim, Source::File(copy.path().to_owned()), work).await
    }

    /// Converts an error of the storage to an error of the analysis. A video counts as missing only if the storage has
    /// the identity that the database expects.
    async fn storage_error(&self, error: &BlobError, shared: &SharedState) -> AnalysisError {
        let fault = match error {
            BlobError::NotFound => {
                shared.gate.invalidate().await;
                let is_ours = shared.gate.check(self.blobs.as_ref(), self.identity).await.is_ok();
                if is_ours { error.fault() } else { Fault::Ours(Part::Storage) }
            }
            _ => error.fault(),
        };
        if fault == Fault::Ours(Part::Storage) {
            return AnalysisError::new(fault, FailureReason::StorageUnavailable, error);
        }
        AnalysisError::new(fault, FailureReason::VideoGone, error)
    }

    /// Does some work on a thread of its own. A panic is returned as an error.
    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        claim: &Claim,
        source: Source,
        work: &Work<T>,
    ) -> Result<T, AnalysisError> {
        let (does, earlier) = (work.does.clone(), self.earlier_parts(claim, &work.run).await);
        let (answer, answered) = oneshot::channel();
        let span = Span::current();
        let crashed = |fault, reason: &str| AnalysisError::new(fault, FailureReason::AnalysisCrashed, reason);
        std::thread::Builder::new()
            .name(format!("analyze-{}", claim.id))
            .spawn(move || {
                let _in_job = span.entered();
                // Ignores a closed channel: then the result is not needed.
                let _ = answer.send(catch_unwind(AssertUnwindSafe(|| does(&source, earlier))));
            })
            .map_err(|error| crashed(Fault::Ours(Part::Memory), &error.to_string()))?;
        match answered.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(crashed(Fault::Unclear, "the analysis panicked")),
        }
    }

    /// Ends a run without findings. The fault decides whether the job fails or runs again.
    pub(super) async fn fail(&self, claim: &Claim, error: &AnalysisError, shared: &SharedState) -> End {
        let AnalysisError { fault, reason, cause } = error;
        let failure = &failure(reason.clone());
        let code = reason.code();
        match fault {
            Fault::Client => self.hand_back(claim).await,
            Fault::Video => {
                tracing::info!(code, "the video cannot be analyzed");
                self.save(claim, RunOutcome::Failed(failure), shared).await
            }
            Fault::Unclear => {
                tracing::warn!(code, cause, "a run failed");
                let last = claim.attempt >= self.settings.queue.max_attempts;
                self.save(claim, if last { RunOutcome::Failed(failure) } else { RunOutcome::Again }, shared).await
            }
            Fault::Ours(part) => {
                let (part_name, setbacks) = (part.name(), claim.setbacks + 1);
                tracing::error!(
                    part = part_name,
                    code,
                    cause,
                    setbacks,
                    "a run failed because of a part of the service"
                );
                metrics().set_back(*part);
                if *part == Part::Storage {
                    shared.gate.invalidate().await;
                }
                self.save(claim, RunOutcome::SetBack, shared).await
            }
        }
    }

    pub(super) async fn hand_back(&self, claim: &Claim) -> End {
        match self.store.hand_back(claim).await {
            Ok(ClaimState::Held) => End::HandedBack,
            Ok(ClaimState::Lost) => self.after_lost_claim(claim).await,
            Err(error) => {
                tracing::warn!(%error, "cannot hand back a job");
                End::NotSaved
            }
        }
    }

    /// Returns why a claim is gone: a client erased the job, or another worker may have it.
    pub(super) async fn after_lost_claim(&self, claim: &Claim) -> End {
        match self.store.job(claim.token).await {
            Ok(None) => End::Cancelled,
            Ok(Some(_)) => End::Lost,
            Err(error) => {
                tracing::warn!(%error, "cannot read why the claim of a job is gone");
                End::Lost
            }
        }
    }

    /// Saves the outcome of a run, and deletes the video of a job that has ended, unless a setting keeps it.
    async fn save(&self, claim: &Claim, outcome: RunOutcome<'_>, shared: &SharedState) -> End {
        let saved = self.save_with_retries(claim, outcome, shared).instrument(step!("save outcome")).await;
        let end = match (saved, outcome) {
            (None, _) => return End::NotSaved,
            (Some(ClaimState::Lost), _) => return self.after_lost_claim(claim).await,
            (Some(ClaimState::Held), RunOutcome::Again) => return End::WillRunAgain,
            (Some(ClaimState::Held), RunOutcome::SetBack) => return End::SetBack,
            (Some(ClaimState::Held), RunOutcome::Done(_)) => End::Done,
            (Some(ClaimState::Held), RunOutcome::Failed(_)) => End::Failed,
        };
        let retention = &self.settings.retention;
        let kept_h = if end == End::Failed { retention.failed_videos_h() } else { retention.videos_h };
        if kept_h == 0
            && let Err(reason) = self.delete_video(claim, end, shared).instrument(step!("delete video")).await
        {
            // The next round of housekeeping deletes it.
            tracing::warn!(reason, "cannot delete a video yet");
        }
        end
    }

    /// Saves an outcome, and retries until the database answers. Without a database no other job can be claimed, and
    /// the result of a long analysis must survive a restart of the database. Meanwhile it renews the lease. Returns
    /// `None` if the process was told to stop before, or if the database refuses the outcome.
    async fn save_with_retries(
        &self,
        claim: &Claim,
        outcome: RunOutcome<'_>,
        shared: &SharedState,
    ) -> Option<ClaimState> {
        let mails = self.mails(claim);
        let lease = self.settings.queue.lease();
        let unsaved = failure(FailureReason::ResultNotStored);
        let mut outcome = outcome;
        for tried in 1_u32.. {
            match self.write(claim, outcome, &mails).await {
                Ok(held) => return Some(held),
                Err(error) if matches!(error.fault(), Fault::Ours(_)) => {
                    tracing::warn!(tried, %error, "cannot save the outcome of a run yet");
                }
                // The database answers, and refuses this result.
                Err(error) if matches!(outcome, RunOutcome::Done(_)) => {
                    tracing::error!(%error, "the database refuses a result");
                    let last = claim.attempt >= self.settings.queue.max_attempts;
                    outcome = if last { RunOutcome::Failed(&unsaved) } else { RunOutcome::Again };
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the database refuses the outcome of a run");
                    return None;
                }
            }
            let wait = backoff(tried, Duration::from_millis(500), (lease / 3).min(LONGEST_SAVE_WAIT));
            if shared.abort.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            // Ignores the returned claim state: the next write reports a lost claim, and recognizes an earlier write of
            // its own.
            if let Err(error) = self.store.heartbeat(claim, JobProgress::default(), self.clock.now(), lease).await {
                tracing::warn!(%error, "cannot renew the lease of a job");
            }
        }
        None
    }

    async fn write(&self, claim: &Claim, outcome: RunOutcome<'_>, mails: &[NewMail]) -> Result<ClaimState, StoreError> {
        let (now, queue) = (self.clock.now(), &self.settings.queue);
        let due = |tried| {
            let (base, max) = (Duration::from_secs(queue.backoff_base_s), Duration::from_secs(queue.backoff_max_s));
            now.saturating_add(backoff(tried, base, max)).unwrap_or(Timestamp::MAX)
        };
        let expiry = result_expiry(&self.settings.retention, now);
        match outcome {
            RunOutcome::Done(findings) => self.store.complete(claim, findings, mails, now, expiry).await,
            RunOutcome::Failed(failure) => self.store.give_up(claim, failure, mails, now, expiry).await,
            RunOutcome::Again => self.store.retry(claim, due(claim.attempt)).await,
            RunOutcome::SetBack => self.store.set_back(claim, due(claim.setbacks.saturating_add(1))).await,
        }
    }

    /// Deletes the stored video of a job that has ended, and forgets its address.
    async fn delete_video(&self, claim: &Claim, end: End, shared: &SharedState) -> Result<(), String> {
        match &claim.video {
            JobVideo::Stored(key) => self.blobs.delete(key).await.map_err(|error| error.to_string())?,
            JobVideo::Object(object) if end == End::Done && self.settings.sources.s3_delete => {
                let objects = self.objects(shared).await;
                self.delete_object(object, objects).await.map_err(|error| error.to_string())?;
            }
            JobVideo::Object(_) | JobVideo::Remote(_) | JobVideo::Live => {}
        }
        self.store.video_deleted(claim.token).await.map_err(|error| error.to_string())
    }

    fn mails(&self, claim: &Claim) -> Vec<NewMail> {
        if self.mail_sender.is_none() {
            return Vec::new();
        }
        let mail = |recipient: &String| NewMail { id: self.tokens.next(), recipient: recipient.clone() };
        claim.recipients.iter().map(mail).collect()
    }
}

/// Returns the time at which a result stored at `now` will be erased.
pub fn result_expiry(retention: &Retention, now: Timestamp) -> Option<Timestamp> {
    let days = i64::try_from(retention.results_d).ok().filter(|&days| days > 0)?;
    now.checked_add(days.checked_mul(24)?.hours()).ok()
}
