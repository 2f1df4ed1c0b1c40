//! The step in the middle: a video in, findings out. A trait, so that the way of a job can be tested without models.

use crate::analysis::{Findings, Options};
use crate::media::Source;
use crate::pipeline::{Cancel, Pipeline, PipelineError, Progress};
use crate::store::Failure;

/// Turns a video into findings.
pub trait Analyzer: Send + Sync + 'static {
    /// Analyzes one video. Blocks until done, failed or cancelled; is called on a thread of its own and may panic.
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, Trouble>;
}

/// Why there are no findings.
#[derive(Debug)]
pub enum Trouble {
    Cancelled,
    /// The video is at fault: another run cannot help.
    Permanent(Failure),
    /// The source could not be read: another way to it, or another run, may help.
    Unreadable {
        failure: Failure,
        reason: String,
    },
    /// Another run may help.
    Transient {
        failure: Failure,
        reason: String,
    },
}

impl Trouble {
    /// Trouble of this service's own making.
    pub(super) fn transient(code: &str, detail: &str, reason: impl std::fmt::Display) -> Self {
        Self::Transient { failure: failure(code, detail), reason: reason.to_string() }
    }
}

/// A reason for the person who sent the video.
pub(super) fn failure(code: &str, detail: &str) -> Failure {
    Failure { code: code.to_owned(), detail: detail.to_owned() }
}

/// The code of [`crate::media::ProbeError::Unreadable`], which passes through the pipeline.
const UNREADABLE: &str = "source_unreadable";

impl Analyzer for Pipeline {
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, Trouble> {
        Self::analyze(self, source, options, progress, cancel).map_err(|error| {
            if matches!(error, PipelineError::Cancelled) {
                return Trouble::Cancelled;
            }
            let failure = Failure { code: error.code().to_owned(), detail: error.detail() };
            if error.is_permanent() {
                Trouble::Permanent(failure)
            } else if error.code() == UNREADABLE {
                Trouble::Unreadable { failure, reason: error.to_string() }
            } else {
                Trouble::Transient { failure, reason: error.to_string() }
            }
        })
    }
}
