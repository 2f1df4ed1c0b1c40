//! The analysis of a video, as a trait, so that tests can run jobs without models.

use crate::analysis::{FailureReason, Findings, Language, Options};
use crate::fault::Fault;
use crate::media::Source;
use crate::pipeline::{
    AnalysisParts, AnalyzedPiece, Cancel, Joined, LazyPipeline, Piece, PieceProgress, Pipeline, PipelineError,
    Progress, SoundResult,
};
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

    /// Returns what analyzes long videos in pieces, if this can. Blocks.
    fn splitter(&self) -> Result<Option<Box<dyn Splitter>>, AnalysisError> {
        Ok(None)
    }
}

/// Analyzes long videos in pieces, see [`Pipeline`]. All calls block.
pub trait Splitter {
    /// Returns the pieces of a video of at least `from_s` seconds; `None` if it has to be analyzed as a whole.
    fn pieces(
        &self,
        source: &Source,
        options: Options,
        from_s: u64,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Piece>>, AnalysisError>;

    /// Analyzes one piece. Continues an earlier run if it can, and may keep what it reads.
    fn analyze_piece(
        &self,
        source: &Source,
        options: Options,
        piece: Piece,
        earlier: PieceProgress<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<AnalyzedPiece, AnalysisError>;

    /// Analyzes the sound.
    fn hear(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<SoundResult, AnalysisError>;

    /// Joins all pieces and the sound.
    fn join(
        &self,
        source: &Source,
        options: Options,
        pieces: &[AnalyzedPiece],
        sound: &SoundResult,
        cancel: &Cancel,
    ) -> Result<Joined, AnalysisError>;
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

    fn splitter(&self) -> Result<Option<Box<dyn Splitter>>, AnalysisError> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl Splitter for Pipeline {
    fn pieces(
        &self,
        source: &Source,
        options: Options,
        from_s: u64,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Piece>>, AnalysisError> {
        Ok(self.pieces(source, options, from_s, cancel)?)
    }

    fn analyze_piece(
        &self,
        source: &Source,
        options: Options,
        piece: Piece,
        earlier: PieceProgress<'_>,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<AnalyzedPiece, AnalysisError> {
        Ok(self.analyze_piece(source, options, piece, earlier, progress, cancel)?)
    }

    fn hear(&self, source: &Source, options: Options, cancel: &Cancel) -> Result<SoundResult, AnalysisError> {
        Ok(self.hear(source, options, cancel)?)
    }

    fn join(
        &self,
        source: &Source,
        options: Options,
        pieces: &[AnalyzedPiece],
        sound: &SoundResult,
        cancel: &Cancel,
    ) -> Result<Joined, AnalysisError> {
        let mut joined = self.join(source, options, pieces, sound, cancel)?;
        if let Joined::Findings(findings) = &mut joined {
            report::tell(&mut findings.analysis, Language::EN);
        }
        Ok(joined)
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

    fn splitter(&self) -> Result<Option<Box<dyn Splitter>>, AnalysisError> {
        self.get()?.splitter()
    }
}
