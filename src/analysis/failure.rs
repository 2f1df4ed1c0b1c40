//! Reasons for failed analyses, as data. [`crate::report`] turns them into sentences.

use serde::{Deserialize, Serialize};

/// A resource that is limited for the decoding of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Memory of the decoders, in bytes.
    Memory,
    /// Number of frames times pixels per frame.
    Pixels,
    /// CPU time of the decoders, in seconds.
    CpuTime,
}

/// Reason why there is no result. In JSON the variant is the field `code`, which clients see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum FailureReason {
    Cancelled,
    NotAVideo,
    /// There is no decoder for the pictures.
    CodecUnknown {
        codec: String,
    },
    /// There is a decoder for the pictures, but the service does not use it.
    CodecNotAllowed {
        codec: String,
    },
    ContainerNotAllowed {
        container: String,
    },
    /// No picture could be decoded.
    Undecodable {
        codec: String,
    },
    Encrypted,
    StillPicture {
        format: String,
    },
    VideoTooLong {
        duration_s: f64,
        limit_s: f64,
    },
    PictureTooLarge {
        width: u32,
        height: u32,
        /// Maximum number of pixels.
        limit: u64,
    },
    /// Decoding the video needs more of a resource than the limit allows.
    VideoTooCostly {
        resource: Resource,
        /// In the unit of the resource.
        needed: u64,
        limit: u64,
    },
    /// The storage failed while the video was read.
    SourceUnreadable,
    DecoderFailed,
    VisionFailed,
    /// A library, a device or a model file is missing.
    NotReady,
    InternalError,
    /// The video is no longer in storage.
    VideoGone,
    StorageUnavailable,
    /// The address of the video, or one to which it redirects, is not allowed.
    AddressRefused {
        host: String,
    },
    TooManyRedirects {
        host: String,
        limit: u64,
    },
    /// The server of the video does not answer, or the connection breaks.
    VideoUnreachable {
        host: String,
    },
    /// The server of the video answers with an error.
    VideoRefused {
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// The server of the video sends too slowly.
    VideoTooSlow {
        host: String,
        limit_s: u64,
    },
    /// The video at the address is larger than an upload may be.
    VideoTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// There is no room for the video at the address.
    StorageFull,
    /// The process crashed or was killed in every run.
    AnalysisCrashed,
    /// The process of a live session ended, or could not reach the database.
    LiveSessionLost,
    /// No picture of a live session could be read.
    LiveWithoutPictures,
    /// The database refused the result.
    ResultNotStored,
}

impl FailureReason {
    /// Returns the stable snake_case code for clients, such as `not_a_video`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::NotAVideo => "not_a_video",
            Self::CodecUnknown { .. } => "codec_unknown",
            Self::CodecNotAllowed { .. } => "codec_not_allowed",
            Self::ContainerNotAllowed { .. } => "container_not_allowed",
            Self::Undecodable { .. } => "undecodable",
            Self::Encrypted => "encrypted",
            Self::StillPicture { .. } => "still_picture",
            Self::VideoTooLong { .. } => "video_too_long",
            Self::PictureTooLarge { .. } => "picture_too_large",
            Self::VideoTooCostly { .. } => "video_too_costly",
            Self::SourceUnreadable => "source_unreadable",
            Self::DecoderFailed => "decoder_failed",
            Self::VisionFailed => "vision_failed",
            Self::NotReady => "not_ready",
            Self::InternalError => "internal_error",
            Self::VideoGone => "video_gone",
            Self::StorageUnavailable => "storage_unavailable",
            Self::AddressRefused { .. } => "address_refused",
            Self::TooManyRedirects { .. } => "too_many_redirects",
            Self::VideoUnreachable { .. } => "video_unreachable",
            Self::VideoRefused { .. } => "video_refused",
            Self::VideoTooSlow { .. } => "video_too_slow",
            Self::VideoTooLarge { .. } => "video_too_large",
            Self::StorageFull => "storage_full",
            Self::AnalysisCrashed => "analysis_crashed",
            Self::LiveSessionLost => "live_session_lost",
            Self::LiveWithoutPictures => "live_without_pictures",
            Self::ResultNotStored => "result_not_stored",
        }
    }

    /// Returns examples of each variant.
    #[cfg(test)]
    pub fn examples() -> Vec<Self> {
        let text = || "x".to_owned();
        vec![
            Self::Cancelled,
            Self::NotAVideo,
            Self::CodecUnknown { codec: text() },
            Self::CodecNotAllowed { codec: text() },
            Self::ContainerNotAllowed { container: text() },
            Self::Undecodable { codec: text() },
            Self::Encrypted,
            Self::StillPicture { format: text() },
            Self::VideoTooLong { duration_s: 10_801.0, limit_s: 90.0 },
            Self::PictureTooLarge { width: 9000, height: 9000, limit: 36_000_000 },
            Self::VideoTooCostly { resource: Resource::Memory, needed: 2_000_000_000, limit: 1_000_000_000 },
            Self::VideoTooCostly { resource: Resource::Pixels, needed: 3_000_000_000_000, limit: 2_000_000_000_000 },
            Self::VideoTooCostly { resource: Resource::CpuTime, needed: 7201, limit: 7200 },
            Self::SourceUnreadable,
            Self::DecoderFailed,
            Self::VisionFailed,
            Self::NotReady,
            Self::InternalError,
            Self::VideoGone,
            Self::StorageUnavailable,
            Self::AddressRefused { host: text() },
            Self::TooManyRedirects { host: text(), limit: 5 },
            Self::VideoUnreachable { host: text() },
            Self::VideoRefused { host: text(), status: 404 },
            Self::VideoTooSlow { host: text(), limit_s: 1800 },
            Self::VideoTooLarge { limit: 2 << 30 },
            Self::StorageFull,
            Self::AnalysisCrashed,
            Self::LiveSessionLost,
            Self::LiveWithoutPictures,
            Self::ResultNotStored,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_code_and_is_read_back() {
        for reason in FailureReason::examples() {
            let json = serde_json::to_value(&reason).unwrap();
            assert_eq!(json["code"], reason.code());
            assert_eq!(serde_json::from_value::<FailureReason>(json).unwrap(), reason);
        }
    }
}
