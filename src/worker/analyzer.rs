//! The analysis of a video, as a trait, so that tests can run jobs without models.

use crate::analysis::{FailureReason, Findings, Language, Options};
use crate::fault::Fault;
use crate::media::Source;
use crate::pipeline::{AnalysisParts, Cancel, LazyPipeline, Pipeline, PipelineError, Progress};
use crate::report;

/// Analyzes videos.
pub trait Analyzer: Send + Sync + 'static {
    /// Analyzes one video. Blocks until it is done, failed or cancelled. It runs on a thread of its own and may panic.
    /// Continues after earlier parts if it can, and may keep parts.
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        parts: AnalysisParts<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, AnalysisError>;
}

/// The error of an analysis.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("{cause}")]
pub struct AnalysisError {
    /// Decides whether the job fails or runs again.
    pub fault: Fault,
    /// The reason that the user is told if the job fails.
    pub reason: FailureReason,
    /// The text for the log.
    pub cause: String,
}

impl AnalysisError {
    pub fn new(fault: Fault, reason: FailureReason, cause: impl std::fmt::Display) -> Self {
        Self { fault, reason, cause: cause.to_string() }
    }

    /// The error of a cancelled analysis.
    pub fn cancelled() -> Self {
        PipelineError::Cancelled.into()
    }
}

impl From<PipelineError> for AnalysisError {
    fn from(error: PipelineError) -> Self {
        Self::new(error.fault(), error.reason(), &error)
    }
}

impl Analyzer for Pipeline {
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        parts: AnalysisParts<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        let mut findings = self.analyze_in_parts(source, options, parts, progress, cancel)?;
        report::tell(&mut findings.analysis, Language::EN);
        Ok(findings)
    }
}

impl Analyzer for LazyPipeline {
    fn analyze(
        &self,
        source: &Source,
        options: Options,
        parts: AnalysisParts<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Findings, AnalysisError> {
        Analyzer::analyze(&self.get()?, source, options, parts, progress, cancel)
    }
}
