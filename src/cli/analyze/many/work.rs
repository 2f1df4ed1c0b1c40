//! Analyzes the inputs that have no result yet, several at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::Batch;
use super::failed::Failed;
use super::folder::ResultFolder;
use super::identity::{Identity, Setup};
use super::inputs::Input;
use super::progress::Board;
use crate::analysis::{Detail, Language};
use crate::cli::Failure;
use crate::cli::analyze::overlay;
use crate::cli::analyze::part::Part;
use crate::cli::analyze::picture::{self, Picture};
use crate::config::Settings;
use crate::isolation::{Decoders, VideoFile};
use crate::media::{Source, WriteError};
use crate::overlay::OverlayError;
use crate::pipeline::{Analyzed, Cancel, PendingAnalysis, PictureError, Pipeline, PipelineError, Progress};
use crate::report;

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its result was there before.
    DoneBefore,
    Done,
    Failed(Failed),
    /// The command was stopped before.
    NotReached,
}

impl Outcome {
    pub const fn failed(&self) -> Option<&Failed> {
        match self {
            Self::Failed(failed) => Some(failed),
            _ => None,
        }
    }
}

/// Why an input was not analyzed to its end.
enum Stop {
    /// This input alone fails.
    Failed(Failed),
    /// The command was stopped.
    Cancelled,
    /// A result cannot be written, nor could any other.
    Unwritten(std::io::Error),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<PipelineError> for Stop {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Cancelled => Self::Cancelled,
            error => Self::Failed(error.into()),
        }
    }
}

impl From<PictureError> for Stop {
    fn from(error: PictureError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<OverlayError> for Stop {
    fn from(error: OverlayError) -> Self {
        match error {
            OverlayError::Frames(error) => PipelineError::from(error).into(),
            OverlayError::Write(WriteError::File(error)) => Self::Unwritten(error),
            error => Self::Failed(Failed::no_overlay(&error)),
        }
    }
}

/// The models, and the processes that decode.
pub struct Tools {
    pub pipeline: Pipeline,
    pub decoders: Decoders,
}

/// Everything that the threads share.
pub struct Work<'a> {
    pub inputs: &'a [Input],
    pub folder: &'a ResultFolder,
    pub setup: &'a Setup,
    pub batch: &'a Batch,
    pub settings: &'a Settings,
    pub board: &'a Board,
}

impl Work<'_> {
    /// Analyzes the inputs with these indices, several at a time. Returns the completed outcomes, and the failure that
    /// ended the work early. Without tools, only inputs that have a problem already are waiting.
    pub fn run(
        &self,
        tools: Option<&Tools>,
        outcomes: Vec<Outcome>,
        waiting: Vec<usize>,
        cancel: &Cancel,
    ) -> (Vec<Outcome>, Option<Failure>) {
        let (outcomes, failure) = (Mutex::new(outcomes), Mutex::new(None));
        let next = AtomicUsize::new(0);
        let work = |thread: usize| {
            while !cancel.is_cancelled() {
                let Some(at) = waiting.get(next.fetch_add(1, Ordering::Relaxed)).copied() else { break };
                let (input, started) = (&self.inputs[at], Instant::now());
                let analyzed = catch_unwind(AssertUnwindSafe(|| self.analyze(tools, thread, input, cancel)));
                let outcome = match analyzed.unwrap_or_else(|_| Err(Failed::panicked().into())) {
                    Ok(()) => Outcome::Done,
                    Err(Stop::Failed(failed)) => Outcome::Failed(failed),
                    Err(Stop::Cancelled) => break,
                    Err(Stop::Unwritten(error)) => {
                        let text = format!("the result of {} was not written: {error}", input.path.display());
                        failure.lock().get_or_insert(Failure::Run(text));
                        cancel.cancel();
                        break;
                    }
                };
                self.board.finished(thread, &input.path, outcome.failed(), started.elapsed());
                outcomes.lock()[at] = outcome;
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..self.batch.jobs.min(waiting.len()) {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
        (outcomes.into_inner(), failure.into_inner())
    }

    fn analyze(&self, tools: Option<&Tools>, thread: usize, input: &Input, cancel: &Cancel) -> Result<(), Stop> {
        let (Some(Tools { pipeline, decoders }), None) = (tools, &input.problem) else {
            let failed = input.problem.clone();
            return Err(Stop::Failed(failed.unwrap_or_else(|| PipelineError::StageFailed("load").into())));
        };
        let identity = Identity::of(&input.path, self.setup)?;
        let options = self.batch.options;
        let expressions = options.detail == Some(Detail::Expressions);
        if picture::is_picture(&input.path, self.settings) {
            let bytes = picture::bytes(&input.path, self.settings).map_err(|error| Failed::unreadable(&error))?;
            let Picture { printed, rows } = Picture::read(pipeline, &bytes, options, self.settings)?;
            self.check_unchanged(input, &identity)?;
            let written = self.folder.write(&input.result, &identity, &printed, &rows, expressions, None);
            return written.map_err(Stop::Unwritten);
        }
        // An overlay takes the second half of the progress.
        let parts = if self.batch.overlays { 2 } else { 1 };
        let show = |progress: Progress| self.board.advance(thread, progress.frames_done, parts * progress.frames_total);
        let video = decoders.video(&Source::File(input.path.clone()));
        let pending = PendingAnalysis::new(video.clone(), options)?;
        let mut analyzed = pipeline.finish(pending, &show, cancel)?;
        report::tell(&mut analyzed.findings.analysis, Language::EN);
        let overlay = match self.batch.overlays {
            true => Some(self.write_overlay(input, &analyzed, &video, thread, cancel)?),
            false => None,
        };
        self.check_unchanged(input, &identity)?;
        let (analysis, rows) = (&analyzed.findings.analysis, &analyzed.findings.timeline.rows);
        let written = self.folder.write(&input.result, &identity, analysis, rows, expressions, overlay);
        written.map_err(Stop::Unwritten)
    }

    /// Writes the overlay of a video under a temporary name.
    fn write_overlay(
        &self,
        input: &Input,
        analyzed: &Analyzed,
        video: &VideoFile,
        thread: usize,
        cancel: &Cancel,
    ) -> Result<Part, Stop> {
        let frames = analyzed.findings.analysis.video.frames_total;
        let part = self.folder.create_overlay(&input.result).map_err(Stop::Unwritten)?;
        let show = |done: u64| self.board.advance(thread, frames + done, 2 * frames);
        if let Some(error) = overlay::write(analyzed, video, part.file(), self.batch.jobs, &show, cancel)? {
            self.board.note(&input.path, &overlay::without_sound(&error));
        }
        part.file().sync_all().map_err(Stop::Unwritten)?;
        Ok(part)
    }

    fn check_unchanged(&self, input: &Input, before: &Identity) -> Result<(), Failed> {
        if Identity::of(&input.path, self.setup)? == *before { Ok(()) } else { Err(Failed::changed()) }
    }
}
