//! Why an analysis failed, as data. [`crate::report`] puts it into sentences.

use serde::{Deserialize, Serialize};

/// Why there is no result. JSON names it by `code`, which clients see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum FailureReason {
    Cancelled,
    NotAVideo,
    /// No decoder for the pictures.
    CodecUnknown {
        codec: String,
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
        /// Pixels in all.
        limit: u64,
    },
    /// Storage broke off.
    SourceUnreadable,
    DecoderFailed,
    VisionFailed,
    /// A library, a device or a model file is missing.
    NotReady,
    InternalError,
    /// The video is no longer in storage.
    VideoGone,
    StorageUnavailable,
    /// Every run broke off.
    AnalysisCrashed,
    /// The database refused the result.
    ResultNotStored,
}

impl FailureReason {
    /// Stable snake_case code for clients, such as `not_a_video`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::NotAVideo => "not_a_video",
            Self::CodecUnknown { .. } => "codec_unknown",
            Self::Undecodable { .. } => "undecodable",
            Self::Encrypted => "encrypted",
            Self::StillPicture { .. } => "still_picture",
            Self::VideoTooLong { .. } => "video_too_long",
            Self::PictureTooLarge { .. } => "picture_too_large",
            Self::SourceUnreadable => "source_unreadable",
            Self::DecoderFailed => "decoder_failed",
            Self::VisionFailed => "vision_failed",
            Self::NotReady => "not_ready",
            Self::InternalError => "internal_error",
            Self::VideoGone => "video_gone",
            Self::StorageUnavailable => "storage_unavailable",
            Self::AnalysisCrashed => "analysis_crashed",
            Self::ResultNotStored => "result_not_stored",
        }
    }

    /// One of each.
    #[cfg(test)]
    pub fn examples() -> Vec<Self> {
        let text = || "x".to_owned();
        vec![
            Self::Cancelled,
            Self::NotAVideo,
            Self::CodecUnknown { codec: text() },
            Self::Undecodable { codec: text() },
            Self::Encrypted,
            Self::StillPicture { format: text() },
            Self::VideoTooLong { duration_s: 10_801.0, limit_s: 90.0 },
            Self::PictureTooLarge { width: 9000, height: 9000, limit: 36_000_000 },
            Self::SourceUnreadable,
            Self::DecoderFailed,
            Self::VisionFailed,
            Self::NotReady,
            Self::InternalError,
            Self::VideoGone,
            Self::StorageUnavailable,
            Self::AnalysisCrashed,
            Self::ResultNotStored,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carries_the_code_and_comes_back() {
        for reason in FailureReason::examples() {
            let json = serde_json::to_value(&reason).unwrap();
            assert_eq!(json["code"], reason.code());
            assert_eq!(serde_json::from_value::<FailureReason>(json).unwrap(), reason);
        }
    }
}
