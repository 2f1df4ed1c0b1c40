//! Why an immediate call has no result, and the answer that its client gets.

use axum::http::StatusCode;

use crate::analysis::FailureReason;
use crate::api::Problem;
use crate::api::file_source::FileSource;
use crate::api::problem::detail::{self, Detail};
use crate::api::upload::error::{BodyError, FormError, UploadError, VideoError};
use crate::api::upload_permits::NoPermit;
use crate::blob::BlobError;
use crate::fault::{Fault, Part};
use crate::media::{ClipFailure, ProbeError};
use crate::pipeline::{ClipError, PipelineError};
use crate::worker::AnalysisError;

/// Why a call was not answered with a result. The text of each error goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum ImmediateError {
    /// The upload was rejected or failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The service cannot run another analysis now.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The content of the request is wrong. The client gets this text.
    #[error("{0}")]
    Request(Detail),
    /// The video has too few frames for the call.
    #[error("the clip has {frames} frames, fewer than the call needs")]
    TooShort { frames: u64 },
    #[error("no face was found in the video")]
    NoFace,
    #[error("the call was not done within sync.deadline_s ({limit_s} s)")]
    Deadline { limit_s: u64 },
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// The thumbnail could not be written.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error("the thread of the analysis panicked or could not be started")]
    Thread,
}

/// Why the service cannot run another analysis now.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    #[error(transparent)]
    NoPermit(#[from] NoPermit),
    #[error("{free_bytes} bytes of memory are free, less than sync.min_memory")]
    Memory { free_bytes: u64 },
    #[error("no temporary file can be created: {0}")]
    TemporaryFile(std::io::Error),
}

/// Why a thumbnail could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    #[error("FFmpeg has no encoder {0}")]
    Missing(&'static str),
    #[error("encoding failed: {0}")]
    Failed(String),
}

impl From<BodyError> for ImmediateError {
    fn from(error: BodyError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<VideoError> for ImmediateError {
    fn from(error: VideoError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<BlobError> for ImmediateError {
    fn from(error: BlobError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<PipelineError> for ImmediateError {
    fn from(error: PipelineError) -> Self {
        AnalysisError::from(error).into()
    }
}

impl From<ClipError> for ImmediateError {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::TooShort { frames } => Self::TooShort { frames },
            ClipError::NoFace => Self::NoFace,
            ClipError::Pipeline(error) => Self::Analysis(error.into()),
        }
    }
}

impl From<ClipFailure> for ImmediateError {
    fn from(error: ClipFailure) -> Self {
        match error {
            ClipFailure::Frames(error) => PipelineError::from(error).into(),
            ClipFailure::Empty => PipelineError::Video(ProbeError::NotAVideo).into(),
            ClipFailure::NoEncoder(name) => EncoderError::Missing(name).into(),
            ClipFailure::Encode(reason) => EncoderError::Failed(reason).into(),
        }
    }
}

impl From<ImmediateError> for Problem {
    fn from(error: ImmediateError) -> Self {
        error.problem(FileSource::Field)
    }
}

/// A problem with status 503 and `Retry-After`.
fn try_later(detail: Detail) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(30)
}

impl ImmediateError {
    /// The answer of a call that receives its file from this source.
    pub fn problem(self, source: FileSource) -> Problem {
        match self {
            // The services whose calls visage takes over answer these with 400.
            Self::Upload(
                error @ (UploadError::Form(FormError::MissingVideo | FormError::NotMultipart)
                | UploadError::Video(VideoError::Empty)),
            ) => error.problem(source).with_status(StatusCode::BAD_REQUEST),
            Self::Upload(error) => error.problem(source),
            Self::Capacity(error) => error.problem(),
            Self::Request(detail) => Problem::new(StatusCode::BAD_REQUEST, detail),
            Self::TooShort { frames } => Problem::new(StatusCode::BAD_REQUEST, detail::too_few_frames(frames)),
            Self::NoFace => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::no_face()),
            Self::Deadline { limit_s } => {
                let detail = match source {
                    FileSource::Content => detail::deadline_content(limit_s),
                    _ => detail::deadline(limit_s),
                };
                Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
            }
            Self::Analysis(error) if error.reason == FailureReason::NotReady => {
                tracing::error!(%error, "an analysis needs something that is missing");
                try_later(detail::model_unavailable())
            }
            Self::Analysis(error) if error.fault == Fault::Ours(Part::Models) => {
                tracing::error!(%error, "a model failed");
                try_later(detail::model_unavailable_failed())
            }
            // A decoder that ended or failed may do so with the next try as well, so the client has to know.
            Self::Analysis(
                AnalysisError { fault: Fault::Video, reason, .. }
                | AnalysisError { fault: Fault::Unclear, reason: reason @ FailureReason::DecoderFailed, .. },
            ) => Problem::of_failure(StatusCode::UNPROCESSABLE_ENTITY, reason),
            Self::Analysis(error) => {
                tracing::error!(%error, "an analysis failed");
                Problem::internal().because(error.reason)
            }
            Self::Encoder(error) => {
                tracing::error!(%error, "a thumbnail could not be written");
                match error {
                    EncoderError::Missing(_) => try_later(detail::encoder_unavailable()),
                    EncoderError::Failed(_) => Problem::internal(),
                }
            }
            Self::Thread => Problem::internal(),
        }
    }
}

impl CapacityError {
    fn problem(self) -> Problem {
        match self {
            Self::NoPermit(NoPermit::Full { wait_s } | NoPermit::Client { wait_s, .. }) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail::too_busy(wait_s)).retry_after(wait_s)
            }
            Self::Memory { .. } => try_later(detail::too_little_memory()),
            Self::TemporaryFile(reason) => {
                tracing::error!(%reason, "no temporary file can be created");
                Problem::unavailable(detail::storage_unavailable())
            }
        }
    }
}
