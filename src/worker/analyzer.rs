//! The step in the middle: a video in, findings out. A trait, so that the way of a job can be tested without models.

use crate::analysis::{FailureReason, Findings, Language, Options};
use crate::fault::Fault;
use crate::media::Source;
use crate::pipeline::{Cancel, Pipeline, PipelineError, Progress};
use crate::report;

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
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Trouble {
    /// Decides what becomes of the job.
    pub fault: Fault,
    /// For the person who sent the video, should the job fail.
    pub reason: FailureReason,
    /// For the log.
    pub cause: String,
}

impl Trouble {
    pub fn new(fault: Fault, reason: FailureReason, cause: impl std::fmt::Display) -> Self {
        Self { fault, reason, cause: cause.to_string() }
    }

    /// The analysis was told to stop.
    pub fn cancelled() -> Self {
        PipelineError::Cancelled.into()
    }
}

impl From<PipelineError> for Trouble {
    fn from(error: PipelineError) -> Self {
        Self::new(error.fault(), error.reason(), &error)
    }
}

impl Analyzer for Pipeline {
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, Trouble> {
        let mut findings = Self::analyze(self, source, options, progress, cancel)?;
        report::tell(&mut findings.analysis, Language::EN);
        Ok(findings)
    }
}
