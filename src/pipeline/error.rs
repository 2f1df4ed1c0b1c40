//! Why a video gave no findings.

use std::time::Duration;

use super::stages::Broken;
use crate::analysis::FailureReason;
use crate::fault::{Fault, Part};
use crate::media::{FramesError, NoHwaccel, ProbeError};
use crate::vision::VisionError;

/// Why a video gave no findings.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("cancelled")]
    Cancelled,
    /// The video or its source.
    #[error(transparent)]
    Video(#[from] ProbeError),
    /// The decoder failed in a way that is not known to be the video's fault.
    #[error("decoder: {0}")]
    Decoder(String),
    /// A model failed while running.
    #[error("vision: {0}")]
    Vision(#[from] VisionError),
    /// Something that has to be put in place first: a library, a device, a model file.
    #[error("{0}")]
    Missing(String),
    /// A stage broke down: a bug.
    #[error("the stage {0} broke down")]
    Broken(&'static str),
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

impl From<Broken> for PipelineError {
    fn from(Broken(stage): Broken) -> Self {
        Self::Broken(stage)
    }
}

impl PipelineError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Cancelled => Fault::Client,
            Self::Video(error) => error.fault(),
            Self::Decoder(_) | Self::Broken(_) => Fault::Unclear,
            Self::Vision(error) => error.fault(),
            Self::Missing(_) => Fault::Ours(Part::Models),
        }
    }

    /// Whether something is missing on this machine that an operator has to put in place.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// The same for clients and readers.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Cancelled => FailureReason::Cancelled,
            Self::Video(error) => match error {
                ProbeError::NotAVideo => FailureReason::NotAVideo,
                ProbeError::NoDecoder { codec } => FailureReason::CodecUnknown { codec: codec.clone() },
                ProbeError::Undecodable { codec } => FailureReason::Undecodable { codec: codec.clone() },
                ProbeError::Encrypted => FailureReason::Encrypted,
                ProbeError::Picture { format } => FailureReason::StillPicture { format: (*format).to_owned() },
                ProbeError::TooLong { duration_s, limit_s } => {
                    let limit_s = Duration::from_secs(*limit_s).as_secs_f64();
                    FailureReason::VideoTooLong { duration_s: *duration_s, limit_s }
                }
                ProbeError::TooLarge { width, height, limit } => {
                    FailureReason::PictureTooLarge { width: *width, height: *height, limit: *limit }
                }
                ProbeError::Unreadable(_) => FailureReason::SourceUnreadable,
            },
            Self::Decoder(_) => FailureReason::DecoderFailed,
            Self::Vision(_) => FailureReason::VisionFailed,
            Self::Missing(_) => FailureReason::NotReady,
            Self::Broken(_) => FailureReason::InternalError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;

    #[test]
    fn every_error_says_whose_fault_it_is() {
        let unreadable = || ProbeError::Unreadable("/secret/path: the server answered 403".to_owned());
        let lost = EngineError::Run { model: "m".to_owned(), reason: "/secret/device".to_owned() };
        let storage = Fault::Ours(Part::Storage);
        for (error, fault, code) in [
            (PipelineError::Cancelled, Fault::Client, "cancelled"),
            (ProbeError::NotAVideo.into(), Fault::Video, "not_a_video"),
            (ProbeError::TooLong { duration_s: 10_801.0, limit_s: 7200 }.into(), Fault::Video, "video_too_long"),
            (ProbeError::TooLarge { width: 9, height: 9, limit: 80 }.into(), Fault::Video, "picture_too_large"),
            (ProbeError::NoDecoder { codec: "xyz1".to_owned() }.into(), Fault::Video, "codec_unknown"),
            (ProbeError::Undecodable { codec: "h264".to_owned() }.into(), Fault::Video, "undecodable"),
            (ProbeError::Encrypted.into(), Fault::Video, "encrypted"),
            (ProbeError::Picture { format: "JPEG" }.into(), Fault::Video, "still_picture"),
            (unreadable().into(), storage, "source_unreadable"),
            (FramesError::Video(unreadable()).into(), storage, "source_unreadable"),
            (VisionError::Engine(lost).into(), Fault::Ours(Part::Models), "vision_failed"),
            (PipelineError::Decoder("/secret/path".to_owned()), Fault::Unclear, "decoder_failed"),
            (Broken("read").into(), Fault::Unclear, "internal_error"),
        ] {
            let reason = error.reason();
            assert_eq!((error.fault(), reason.code()), (fault, code), "{error}");
            assert!(!format!("{reason:?}").contains("secret"), "{reason:?}");
        }
    }
}
