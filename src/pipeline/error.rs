//! Why a video gave no findings.

use std::time::Duration;

use super::stages::Broken;
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

    /// Stable snake_case code for clients, such as `not_a_video`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Video(error) => error.code(),
            Self::Decoder(_) => "decoder_failed",
            Self::Vision(_) => "vision_failed",
            Self::Missing(_) => "not_ready",
            Self::Broken(_) => "internal_error",
        }
    }

    /// A sentence for the person who sent the video: what is wrong and what to do; no path, no library's words.
    pub fn detail(&self) -> String {
        match self {
            Self::Cancelled => "The analysis was cancelled.".to_owned(),
            Self::Video(ProbeError::NotAVideo) => "The file is not a video that can be read. Send an MP4, MOV, AVI, \
                 MKV or WebM file that plays on your own device."
                .to_owned(),
            Self::Video(ProbeError::NoDecoder { codec }) => format!(
                "The pictures of the video are coded as {codec}, which this service cannot decode. Send it as H.264, which \
                 every device can write."
            ),
            Self::Video(ProbeError::Undecodable { codec }) => format!(
                "No picture of the video could be decoded ({codec}): the file is damaged. Export it again and send that."
            ),
            Self::Video(ProbeError::Encrypted) => {
                "The video is encrypted. Send a copy that plays without a key.".to_owned()
            }
            Self::Video(ProbeError::Picture { format }) => {
                format!("The file is a single picture ({format}) and no video. Send a video.")
            }
            Self::Video(ProbeError::TooLong { duration_s, limit_s }) => format!(
                "The video lasts {} minutes; the limit is {} minutes. Cut it, or send it in parts.",
                minutes(*duration_s),
                minutes(Duration::from_secs(*limit_s).as_secs_f64())
            ),
            Self::Video(ProbeError::TooLarge { width, height, limit }) => format!(
                "The picture has {width} x {height} pixels; the limit is {limit} pixels in all. Send it scaled down."
            ),
            Self::Video(ProbeError::Unreadable(_)) => {
                "The video could not be read from storage. Send it again; if that does not help, try later.".to_owned()
            }
            Self::Decoder(_) | Self::Vision(_) | Self::Missing(_) | Self::Broken(_) => {
                "The analysis failed for a reason that lies with this service, not with the video. Try again later."
                    .to_owned()
            }
        }
    }
}

/// Seconds as minutes, with a decimal for short times.
fn minutes(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    if minutes < 10.0 { format!("{minutes:.1}") } else { format!("{minutes:.0}") }
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
            assert_eq!((error.fault(), error.code()), (fault, code), "{error}");
            let detail = error.detail();
            assert!(!detail.contains("secret") && detail.ends_with('.'), "{detail}");
        }
    }

    #[test]
    fn limits_are_told_in_units_that_people_use() {
        let detail = PipelineError::from(ProbeError::TooLong { duration_s: 10_801.0, limit_s: 90 }).detail();
        assert!(detail.contains("180 minutes") && detail.contains("1.5 minutes"), "{detail}");
    }
}
