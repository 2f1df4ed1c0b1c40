//! Analyzes the inputs that have no result yet, several at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::failed::Failed;
use super::folder::ResultFolder;
use super::identity::{Identity, Setup};
use super::inputs::Input;
use super::progress::Board;
use crate::analysis::{Detail, Language, Options};
use crate::cli::Failure;
use crate::cli::analyze::picture::{self, Picture};
use crate::config::Settings;
use crate::media::Source;
use crate::pipeline::{Cancel, PictureError, Pipeline, PipelineError, Progress};
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

/// Everything that the threads share.
pub struct Work<'a> {
    pub inputs: &'a [Input],
    pub folder: &'a ResultFolder,
    pub setup: &'a Setup,
    pub options: Options,
    pub settings: &'a Settings,
    pub board: &'a Board,
}

impl Work<'_> {
    /// Analyzes the inputs with these indices, `jobs` at a time. Returns the completed outcomes, and the failure that
    /// ended the work early. Without a pipeline, only inputs that have a problem already are waiting.
    pub fn run(
        &self,
        pipeline: Option<&Pipeline>,
        outcomes: Vec<Outcome>,
        waiting: Vec<usize>,
        jobs: usize,
        cancel: &Cancel,
    ) -> (Vec<Outcome>, Option<Failure>) {
        let (outcomes, failure) = (Mutex::new(outcomes), Mutex::new(None));
        let next = AtomicUsize::new(0);
        let work = |thread: usize| {
            while !cancel.is_cancelled() {
                let Some(at) = waiting.get(next.fetch_add(1, Ordering::Relaxed)).copied() else { break };
                let (input, started) = (&self.inputs[at], Instant::now());
                let analyzed = catch_unwind(AssertUnwindSafe(|| self.analyze(pipeline, thread, input, cancel)));
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
            for thread in 0..jobs.min(waiting.len()) {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
        (outcomes.into_inner(), failure.into_inner())
    }

    fn analyze(&self, pipeline: Option<&Pipeline>, thread: usize, input: &Input, cancel: &Cancel) -> Result<(), Stop> {
        let (Some(pipeline), None) = (pipeline, &input.problem) else {
            let failed = input.problem.clone();
            return Err(Stop::Failed(failed.unwrap_or_else(|| PipelineError::StageFailed("load").into())));
        };
        let identity = Identity::of(&input.path, self.setup)?;
        let expressions = self.options.detail == Some(Detail::Expressions);
        if picture::is_picture(&input.path, self.settings) {
            let bytes = picture::bytes(&input.path, self.settings).map_err(|error| Failed::unreadable(&error))?;
            let Picture { printed, rows } = Picture::read(pipeline, &bytes, self.options, self.settings)?;
            self.check_unchanged(input, &identity)?;
            return self.folder.write(&input.result, &identity, &printed, &rows, expressions).map_err(Stop::Unwritten);
        }
        let show = |progress: Progress| self.board.advance(thread, progress.frames_done, progress.frames_total);
        let mut found = pipeline.analyze(&Source::File(input.path.clone()), self.options, &show, cancel)?;
        report::tell(&mut found.analysis, Language::EN);
        self.check_unchanged(input, &identity)?;
        let rows = &found.timeline.rows;
        self.folder.write(&input.result, &identity, &found.analysis, rows, expressions).map_err(Stop::Unwritten)
    }

    fn check_unchanged(&self, input: &Input, before: &Identity) -> Result<(), Failed> {
        if Identity::of(&input.path, self.setup)? == *before { Ok(()) } else { Err(Failed::changed()) }
    }
}
