//! Errors of the analysis of a video.

use std::time::Duration;

use super::stages::StageFailed;
use crate::analysis::FailureReason;
use crate::fault::{Fault, Part};
use crate::media::{FramesError, NoHwaccel, ProbeError};
use crate::vision::VisionError;

/// Reason why an analysis failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("cancelled")]
    Cancelled,
    /// The video is unusable, or its source cannot be read.
    #[error(transparent)]
    Video(#[from] ProbeError),
    /// The decoder failed, and it is unclear whether the video is the cause.
    #[error("decoder: {0}")]
    Decoder(String),
    /// A model failed while running.
    #[error("vision: {0}")]
    Vision(#[from] VisionError),
    /// A library, a device or a model file is missing.
    #[error("{0}")]
    Missing(String),
    /// A stage panicked, or its thread did not start.
    #[error("the stage {0} panicked or did not start")]
    StageFailed(&'static str),
}

impl From<FramesError> for PipelineError {
    fn from(error: FramesError) -> Self {
        match error {
            FramesError::Cancelled => Self::Cancelled,
            FramesError::Video(error) => Self::Video(error),
            FramesError::Decoder(reason) => Self::Decoder(reason),
            FramesError::NoHwaccel(error) => error.into(),
        }
    }
}

impl From<NoHwaccel> for PipelineError {
    fn from(error: NoHwaccel) -> Self {
        Self::Missing(error.to_string())
    }
}

impl From<StageFailed> for PipelineError {
    fn from(StageFailed(stage): StageFailed) -> Self {
        Self::StageFailed(stage)
    }
}

impl PipelineError {
    /// Returns who caused the error.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Cancelled => Fault::Client,
            Self::Video(error) => error.fault(),
            Self::Decoder(_) | Self::StageFailed(_) => Fault::Unclear,
            Self::Vision(error) => error.fault(),
            Self::Missing(_) => Fault::Ours(Part::Models),
        }
    }

    /// Whether a library, a device or a model file is missing that the operator has to install.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// Returns the error in the form that clients and readers see, without internal details.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Cancelled => FailureReason::Cancelled,
            Self::Video(error) => match error {
                ProbeError::NotAVideo => FailureReason::NotAVideo,
                ProbeError::NoDecoder { codec } => FailureReason::CodecUnknown { codec: codec.clone() },
                ProbeError::CodecNotAllowed { codec } => FailureReason::CodecNotAllowed { codec: codec.clone() },
                ProbeError::ContainerNotAllowed { container } => {
                    FailureReason::ContainerNotAllowed { container: container.to_string() }
                }
                ProbeError::Undecodable { codec } => FailureReason::Undecodable { codec: codec.clone() },
                ProbeError::Encrypted => FailureReason::Encrypted,
                ProbeError::Picture { format } => FailureReason::StillPicture { format: format.to_string() },
                ProbeError::TooLong { duration_s, limit_s } => {
                    let limit_s = Duration::from_secs(*limit_s).as_secs_f64();
                    FailureReason::VideoTooLong { duration_s: *duration_s, limit_s }
                }
                ProbeError::TooLarge { width, height, limit } => {
                    FailureReason::PictureTooLarge { width: *width, height: *height, limit: *limit }
                }
                ProbeError::TooCostly { resource, needed, limit } => {
                    FailureReason::VideoTooCostly { resource: *resource, needed: *needed, limit: *limit }
                }
                ProbeError::Unreadable(_) => FailureReason::SourceUnreadable,
                ProbeError::DecoderEnded(_) | ProbeError::DecoderKilled(_) => FailureReason::DecoderFailed,
            },
            Self::Decoder(_) => FailureReason::DecoderFailed,
            Self::Vision(_) => FailureReason::VisionFailed,
            Self::Missing(_) => FailureReason::NotReady,
            Self::StageFailed(_) => FailureReason::InternalError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Resource;
    use crate::engine::EngineError;

    #[test]
    fn every_error_has_a_cause_and_a_code_and_keeps_details_secret() {
        let unreadable = || ProbeError::Unreadable("/secret/path: the server answered 403".to_owned());
        let lost = EngineError::Run { model: "m".to_owned(), reason: "/secret/device".to_owned() };
        let storage = Fault::Ours(Part::Storage);
        for (error, fault, code) in [
            (PipelineError::Cancelled, Fault::Client, "cancelled"),
            (ProbeError::NotAVideo.into(), Fault::Video, "not_a_video"),
            (ProbeError::TooLong { duration_s: 10_801.0, limit_s: 7200 }.into(), Fault::Video, "video_too_long"),
            (ProbeError::TooLarge { width: 9, height: 9, limit: 80 }.into(), Fault::Video, "picture_too_large"),
            (
                ProbeError::TooCostly { resource: Resource::Memory, needed: 9, limit: 8 }.into(),
                Fault::Video,
                "video_too_costly",
            ),
            (ProbeError::NoDecoder { codec: "xyz1".to_owned() }.into(), Fault::Video, "codec_unknown"),
            (ProbeError::CodecNotAllowed { codec: "wmv3".to_owned() }.into(), Fault::Video, "codec_not_allowed"),
            (ProbeError::ContainerNotAllowed { container: "Ogg".into() }.into(), Fault::Video, "container_not_allowed"),
            (ProbeError::Undecodable { codec: "h264".to_owned() }.into(), Fault::Video, "undecodable"),
            (ProbeError::Encrypted.into(), Fault::Video, "encrypted"),
            (ProbeError::Picture { format: "JPEG".into() }.into(), Fault::Video, "still_picture"),
            (unreadable().into(), storage, "source_unreadable"),
            (FramesError::Video(unreadable()).into(), storage, "source_unreadable"),
            (VisionError::Engine(lost).into(), Fault::Ours(Part::Models), "vision_failed"),
            (PipelineError::Decoder("/secret/path".to_owned()), Fault::Unclear, "decoder_failed"),
            (ProbeError::DecoderEnded("/secret/path".to_owned()).into(), Fault::Unclear, "decoder_failed"),
            (ProbeError::DecoderKilled("/secret/path".to_owned()).into(), Fault::Ours(Part::Memory), "decoder_failed"),
            (StageFailed("read").into(), Fault::Unclear, "internal_error"),
        ] {
            let reason = error.reason();
            assert_eq!((error.fault(), reason.code()), (fault, code), "{error}");
            assert!(!format!("{reason:?}").contains("secret"), "{reason:?}");
        }
    }
}
