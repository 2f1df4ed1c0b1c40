//! Analyzes a long video together with other workers.
//!
//! The worker that has claimed the job plans its pieces, does some of them, and joins the results. A worker without a job
//! of its own does a piece of another one's job. If a worker dies, the worker of the job does the piece itself. If the
//! worker of the job dies, the next one continues with the pieces that are left.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;

use super::analyzer::{AnalysisError, Analyzer, Splitter};
use super::backoff::backoff;
use super::heartbeat::MIN_INTERVAL;
use super::job::{LONGEST_SAVE_WAIT, STOP_TIMEOUT, Work, join_trace};
use super::parts::{KeptPart, KeptParts, Run, pack, unpack};
use super::{SharedState, Worker};
use crate::analysis::{FailureReason, Findings, Options};
use crate::config::{S3Read, StorageKind};
use crate::fault::Fault;
use crate::media::Source;
use crate::pipeline::{
    Again, AnalyzedPiece, BegunPiece, Cancel, CancelOnDrop, Joined, Piece, PieceProgress, Progress, SoundResult,
};
use crate::store::{Claim, ClaimState, JobVideo, PieceClaim, StoreError, Wake};

/// After so many deaths of the worker of a job, its video is analyzed as a whole, in a child process.
const MOST_DEATHS: u32 = 1;

/// Which worker does a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doer {
    /// The worker of the job.
    Own,
    Other,
}

impl Worker {
    /// Analyzes a long video together with other workers. Returns `None` if it has to be analyzed as a whole.
    pub(super) async fn analyze_together(
        &self,
        job: &Claim,
        shared: &SharedState,
        run: &Run,
    ) -> Result<Option<Findings>, AnalysisError> {
        let from_s = self.settings.queue.split_from_s;
        #[expect(clippy::cast_precision_loss, reason = "seconds of a video")]
        let may_be_long = job.cost.is_none_or(|cost| Options::longest_s(cost) >= from_s as f64);
        let storage = &self.settings.storage;
        let is_in_bucket = storage.kind == StorageKind::S3 || matches!(job.video, JobVideo::Object(_));
        // Each piece would copy the whole video.
        let copies = is_in_bucket && storage.s3.read == S3Read::Download;
        if from_s == 0 || !may_be_long || copies {
            return Ok(None);
        }
        let Some(pieces) = self.pieces(job, shared, run).await? else { return Ok(None) };
        let frames_total = pieces.first().map_or(0, Piece::frames_total);
        let pictures = async {
            tokio::select! {
                done = self.do_all_pieces(job, shared, run) => done,
                () = self.follow_progress(job, run, frames_total) => Ok(()),
            }
        };
        let (sound, ()) = tokio::try_join!(self.hear(job, shared, run), pictures)?;
        let sound = Arc::new(sound);
        loop {
            if let Some(findings) = self.join(job, &sound, shared, run).await? {
                return Ok(Some(findings));
            }
            self.do_all_pieces(job, shared, run).await?;
        }
    }

    /// Analyzes the sound of a video. Only the worker of the job does, and begins anew in each run.
    async fn hear(&self, job: &Claim, shared: &SharedState, run: &Run) -> Result<SoundResult, AnalysisError> {
        let (analyzer, options, cancel) = (self.analyzer.clone(), job.options, run.cancel.clone());
        let hear = move |source: &Source, _| splitter(analyzer.as_ref())?.hear(source, options, &cancel);
        self.with_video(job, shared, &Work::new(run, hear)).await
    }

    /// Returns the pieces of a job: those that an earlier run has stored, or new ones. `None` if the video has to be
    /// analyzed as a whole.
    async fn pieces(&self, job: &Claim, shared: &SharedState, run: &Run) -> Result<Option<Vec<Piece>>, AnalysisError> {
        if job.parts == 0 {
            return if job.deaths > MOST_DEATHS { Ok(None) } else { self.plan(job, shared, run).await };
        }
        let stored = self.stored(&shared.abort, || self.store.pieces(job.token)).await?;
        let pieces: Result<Vec<Piece>, _> = stored.iter().map(|piece| serde_json::from_str(piece)).collect();
        match pieces {
            // An earlier run has begun to analyze it as a whole.
            Ok(pieces) if pieces.is_empty() => return Ok(None),
            Ok(pieces) if job.deaths <= MOST_DEATHS => return Ok(Some(pieces)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot read the pieces of a video; it is analyzed as a whole"),
        }
        self.stored(&shared.abort, || self.store.drop_pieces(job)).await?;
        Ok(None)
    }

    /// Cuts a video into pieces, and stores them for all workers.
    async fn plan(&self, job: &Claim, shared: &SharedState, run: &Run) -> Result<Option<Vec<Piece>>, AnalysisError> {
        let (analyzer, options, cancel) = (self.analyzer.clone(), job.options, run.cancel.clone());
        let from_s = self.settings.queue.split_from_s;
        let plan = Work::new(run, move |source, _| match analyzer.splitter()? {
            Some(splitter) => splitter.pieces(source, options, from_s, &cancel),
            None => Ok(None),
        });
        let Some(pieces) = self.with_video(job, shared, &plan).await? else { return Ok(None) };
        tracing::info!(pieces = pieces.len(), "the video is long; workers without a job do some of its pieces");
        let texts = pieces.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
        // A lost claim is noticed by the heartbeat.
        self.stored(&shared.abort, || self.store.put_pieces(job, &texts)).await?;
        Ok(Some(pieces))
    }

    /// Does the pieces of a job that no other worker does, until all are done.
    async fn do_all_pieces(&self, job: &Claim, shared: &SharedState, run: &Run) -> Result<(), AnalysisError> {
        let lease = self.settings.queue.lease();
        let mut wakes = self.store.subscribe();
        loop {
            let claim = || self.store.claim_own_piece(job, self.clock.now(), lease);
            if let Some(piece) = self.stored(&shared.abort, claim).await? {
                self.do_piece(job, &piece, Doer::Own, shared, &run.cancel).await?;
                continue;
            }
            let counts = self.stored(&shared.abort, || self.store.piece_counts(job.token)).await?;
            if counts.done == counts.all {
                return Ok(());
            }
            if run.cancel.is_cancelled() {
                return Err(AnalysisError::cancelled());
            }
            wakes.wait(Wake::Job(job.token), MIN_INTERVAL).await;
        }
    }

    /// Keeps the progress of a job at the sum of those of its pieces. Does not return.
    async fn follow_progress(&self, job: &Claim, run: &Run, frames_total: u64) {
        loop {
            match self.store.piece_counts(job.token).await {
                Ok(counts) => {
                    let frames_done = counts.frames_done;
                    // A total that is too low counts as unknown.
                    let frames_total = if frames_done < frames_total { frames_total } else { 0 };
                    run.progress.set(Progress { frames_done, frames_total });
                }
                Err(error) => tracing::debug!(%error, "cannot read the progress of the pieces of a job"),
            }
            tokio::time::sleep(MIN_INTERVAL).await;
        }
    }

    /// Joins all pieces. Returns `None` if some of them have to be done again.
    async fn join(
        &self,
        job: &Claim,
        sound: &Arc<SoundResult>,
        shared: &SharedState,
        run: &Run,
    ) -> Result<Option<Findings>, AnalysisError> {
        let stored = self.stored(&shared.abort, || self.store.piece_results(job.token)).await?;
        // If one is missing, it was claimed again meanwhile.
        let Some(stored) = stored else { return Ok(None) };
        let mut pieces: Vec<AnalyzedPiece> = Vec::with_capacity(stored.len());
        for (number, content) in (0..).zip(&stored) {
            match unpack(content) {
                Ok(piece) => pieces.push(piece),
                Err(error) => {
                    tracing::warn!(%error, piece = number, "cannot read a stored piece; it is analyzed again");
                    self.stored(&shared.abort, || self.store.redo_piece(job, number, None, false)).await?;
                    return Ok(None);
                }
            }
        }
        let (analyzer, options, cancel, sound) =
            (self.analyzer.clone(), job.options, run.cancel.clone(), sound.clone());
        let joining = Work::new(run, move |source, _| {
            splitter(analyzer.as_ref())?.join(source, options, &pieces, &sound, &cancel)
        });
        match self.with_video(job, shared, &joining).await? {
            Joined::Findings(findings) => Ok(Some(*findings)),
            Joined::Again(Again { pieces, is_shared }) => {
                tracing::info!(pieces = pieces.len(), is_shared, "some pieces of a job have to be done again");
                for (number, piece) in pieces {
                    let (number, piece) = (u32::try_from(number).unwrap_or(u32::MAX), to_json(&piece)?);
                    let redo = || self.store.redo_piece(job, number, Some(&piece), is_shared);
                    self.stored(&shared.abort, redo).await?;
                }
                Ok(None)
            }
        }
    }

    /// Does a piece of another worker's job. Returns whether there was one.
    pub(super) async fn help(&self, shared: &SharedState) -> Result<bool, StoreError> {
        if self.settings.queue.split_from_s == 0 {
            return Ok(false);
        }
        let piece = self.store.claim_shared_piece(self.clock.now(), self.settings.queue.lease()).await?;
        let Some(piece) = piece else { return Ok(false) };
        let job = match self.store.job_of_piece(piece.token).await {
            Ok(Some(job)) => job,
            // It was erased, and its pieces with it.
            Ok(None) => return Ok(true),
            Err(error) => {
                self.store.release_piece(&piece, false).await?;
                return Err(error);
            }
        };
        let request_id = job.request_id.as_deref();
        let (number, trace_id) = (piece.number, Empty);
        let span = tracing::info_span!("piece", job = job.id, piece = number, request_id, trace_id);
        join_trace(&span, &job);
        let cancel = Cancel::default();
        let _cancel_on_drop = CancelOnDrop(cancel.clone());
        let doing = self.do_piece(&job, &piece, Doer::Other, shared, &cancel).instrument(span);
        tokio::pin!(doing);
        let ended = tokio::select! {
            ended = &mut doing => ended,
            () = shared.abort.cancelled() => {
                cancel.cancel();
                doing.await
            }
        };
        if let Err(error) = ended {
            // The worker of the job does it, and its run fails if it fails again.
            tracing::warn!(job = job.id, piece = piece.number, cause = %error, "a piece of another worker's job failed");
        }
        Ok(true)
    }

    /// Does a claimed piece, and saves its result or gives it back.
    async fn do_piece(
        &self,
        job: &Claim,
        piece: &PieceClaim,
        doer: Doer,
        shared: &SharedState,
        cancel: &Cancel,
    ) -> Result<(), AnalysisError> {
        let started = tokio::time::Instant::now();
        let (run, mut begun) = Run::of_piece(cancel.clone(), &self.settings.queue);
        let result = self.result_of(job, piece, doer, shared, &run, &mut begun).await;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let store = &self.store;
        match result {
            Ok(result) => {
                let content = pack(&result).map_err(|error| internal(&error))?;
                let saved = self.stored(&shared.abort, || store.finish_piece(piece, &content)).await?;
                tracing::info!(
                    piece = piece.number,
                    duration_ms,
                    bytes = content.len(),
                    ?doer,
                    ?saved,
                    "a piece of a job ended"
                );
                Ok(())
            }
            Err(error) => {
                while let Some(part) = begun.rest() {
                    self.keep_begun(piece, part).await;
                    begun.stored();
                }
                let is_shared = error.fault == Fault::Client;
                // If the database is away, the lease runs out.
                if let Err(error) = store.release_piece(piece, is_shared).await {
                    tracing::warn!(%error, "cannot give back a piece of a job");
                }
                Err(error)
            }
        }
    }

    async fn result_of(
        &self,
        job: &Claim,
        piece: &PieceClaim,
        doer: Doer,
        shared: &SharedState,
        run: &Run,
        begun: &mut KeptParts,
    ) -> Result<AnalyzedPiece, AnalysisError> {
        let todo: Piece = serde_json::from_str(&piece.piece).map_err(|error| internal(&error))?;
        let earlier: Option<BegunPiece> = piece.begun.as_ref().and_then(|begun| unpack(begun).ok());
        let (analyzer, options, in_run) = (self.analyzer.clone(), job.options, run.clone());
        let work = Work::new(run, move |source, _| {
            let progress = &|at| in_run.progress.set(at);
            let keep = |begun: BegunPiece| in_run.keep_begun(&begun);
            let earlier = PieceProgress {
                begun: earlier.clone(),
                every: in_run.keep_every().unwrap_or(Duration::MAX),
                keep: in_run.keep_every().map(|_| &keep as _),
            };
            splitter(analyzer.as_ref())?.analyze_piece(source, options, todo, earlier, progress, &in_run.cancel)
        });
        let working = self.with_video(job, shared, &work);
        tokio::pin!(working);
        tokio::select! {
            result = &mut working => result,
            () = self.keep_piece(piece, run, begun) => {
                if doer == Doer::Own {
                    // Another run of the job may do it. The heartbeat of the job says so.
                    return working.await;
                }
                run.cancel.cancel();
                let stopped = tokio::time::timeout(STOP_TIMEOUT, &mut working).await;
                stopped.unwrap_or_else(|_| {
                    tracing::warn!("a cancelled piece does not stop");
                    Err(AnalysisError::cancelled())
                })
            }
        }
    }

    /// Renews the lease of a piece and stores what was read of it. Returns when the claim is lost.
    async fn keep_piece(&self, piece: &PieceClaim, run: &Run, begun: &mut KeptParts) {
        let lease = self.settings.queue.lease();
        let mut renewals = tokio::time::interval((lease / 3).min(MIN_INTERVAL));
        loop {
            tokio::select! {
                Some(part) = begun.next() => {
                    self.keep_begun(piece, part).await;
                    begun.stored();
                    continue;
                }
                _ = renewals.tick() => {}
            }
            let frames_done = run.progress.frames_done();
            match self.store.renew_piece(piece, frames_done, self.clock.now(), lease).await {
                Ok(ClaimState::Held) => {}
                Ok(ClaimState::Lost) => return,
                Err(error) => tracing::warn!(%error, "cannot renew the lease of a piece"),
            }
        }
    }

    /// Stores what was read of a piece. If that fails, it is read again later.
    async fn keep_begun(&self, piece: &PieceClaim, begun: &KeptPart) {
        if let Err(error) = self.store.keep_begun(piece, &begun.content).await {
            tracing::warn!(%error, "cannot keep what was read of a piece");
        }
    }

    /// Repeats a call of the store until the database answers, or until the process has to stop.
    async fn stored<T, F: Future<Output = Result<T, StoreError>> + Send>(
        &self,
        abort: &CancellationToken,
        call: impl Fn() -> F + Send,
    ) -> Result<T, AnalysisError> {
        for tried in 1_u32.. {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) if matches!(error.fault(), Fault::Ours(_)) => {
                    tracing::warn!(tried, %error, "the database does not answer");
                }
                Err(error) => return Err(internal(&error)),
            }
            let wait = backoff(tried, Duration::from_millis(500), LONGEST_SAVE_WAIT);
            if abort.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        Err(AnalysisError::cancelled())
    }
}

fn splitter(analyzer: &dyn Analyzer) -> Result<Box<dyn Splitter>, AnalysisError> {
    analyzer.splitter()?.ok_or_else(|| internal(&"this worker cannot analyze pieces"))
}

fn to_json(piece: &Piece) -> Result<String, AnalysisError> {
    serde_json::to_string(piece).map_err(|error| internal(&error))
}

fn internal(cause: &dyn std::fmt::Display) -> AnalysisError {
    AnalysisError::new(Fault::Unclear, FailureReason::InternalError, cause)
}
