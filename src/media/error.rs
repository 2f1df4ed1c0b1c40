//! The errors of opening and decoding a video.

use std::borrow::Cow;

use ffmpeg_next as ffmpeg;
use serde::{Deserialize, Serialize};

use crate::analysis::Resource;
use crate::fault::{Fault, Part};

/// Why a file is not accepted as a video.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum ProbeError {
    /// The container is unknown, or it has no video stream or no frame.
    #[error("not a video")]
    NotAVideo,
    #[error("the video lasts {duration_s:.0} s; the limit is {limit_s} s")]
    TooLong { duration_s: f64, limit_s: u64 },
    #[error("the picture has {width} x {height} pixels; the limit is {limit} pixels")]
    TooLarge { width: u32, height: u32, limit: u64 },
    /// Decoding would take, or took, more than the limit: bytes of memory, pixels, or seconds of CPU time.
    #[error("decoding needs {needed} ({resource:?}); the limit is {limit}")]
    TooCostly { resource: Resource, needed: u64, limit: u64 },
    /// FFmpeg has no decoder for the video stream.
    #[error("there is no decoder for {codec}")]
    NoDecoder { codec: String },
    /// FFmpeg has a decoder, but this codec is not one of those that are decoded.
    #[error("the codec {codec} is not allowed")]
    CodecNotAllowed { codec: String },
    #[error("the container {container} is not allowed")]
    ContainerNotAllowed { container: Cow<'static, str> },
    /// FFmpeg has a decoder, but it returned no frame.
    #[error("no picture of {codec} could be decoded")]
    Undecodable { codec: String },
    #[error("the video is encrypted")]
    Encrypted,
    /// The file is a still image of this format.
    #[error("a picture ({format}) and no video")]
    Picture { format: Cow<'static, str> },
    /// The file or the server could not be read. The video may be fine, and a retry may help.
    #[error("the source cannot be read: {0}")]
    Unreadable(String),
    /// The process that decoded the video ended. It is unclear whether the video is the cause.
    #[error("the decoder process ended: {0}")]
    DecoderEnded(String),
    /// Something outside killed the process that decoded the video, such as the kernel when memory ran out.
    #[error("the decoder process was killed: {0}")]
    DecoderKilled(String),
}

impl ProbeError {
    /// Whether the video or the storage caused the error.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NotAVideo
            | Self::TooLong { .. }
            | Self::TooLarge { .. }
            | Self::TooCostly { .. }
            | Self::NoDecoder { .. }
            | Self::CodecNotAllowed { .. }
            | Self::ContainerNotAllowed { .. }
            | Self::Undecodable { .. }
            | Self::Encrypted
            | Self::Picture { .. } => Fault::Video,
            Self::Unreadable(_) => Fault::Ours(Part::Storage),
            Self::DecoderEnded(_) => Fault::Unclear,
            Self::DecoderKilled(_) => Fault::Ours(Part::Memory),
        }
    }
}

/// The error for a source that cannot be read, from FFmpeg's error.
pub(super) fn unreadable(error: ffmpeg::Error) -> ProbeError {
    ProbeError::Unreadable(match error {
        ffmpeg::Error::Exit => "no answer in time".to_owned(),
        ffmpeg::Error::Other { errno } => std::io::Error::from_raw_os_error(errno).to_string(),
        ffmpeg::Error::HttpBadRequest => "the server answered 400".to_owned(),
        ffmpeg::Error::HttpUnauthorized => "the server answered 401".to_owned(),
        ffmpeg::Error::HttpForbidden => "the server answered 403".to_owned(),
        ffmpeg::Error::HttpNotFound => "the server answered 404".to_owned(),
        ffmpeg::Error::HttpServerError => "the server failed".to_owned(),
        _ => "the server refused".to_owned(),
    })
}

/// The GPU of the setting `video.hwaccel` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error(
    "video.hwaccel = {requested:?}, but it cannot be used: {reason}; fix this, or set video.hwaccel to auto or none"
)]
pub struct NoHwaccel {
    pub(super) requested: Cow<'static, str>,
    pub(super) reason: String,
}

/// Why decoding ended before the end of the video.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum FramesError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Video(#[from] ProbeError),
    #[error(transparent)]
    NoHwaccel(#[from] NoHwaccel),
    #[error("decoder: {0}")]
    Decoder(String),
}
