//! Warnings about a result, as data. [`crate::report`] turns them into sentences.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rounding;

/// A limit of a result. `code` names the variant in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Warning {
    /// No face was found.
    NoFace,
    /// The frames were rotated clockwise before faces were read.
    VideoTurned {
        degrees: u16,
    },
    /// Faces smaller than this cannot be found in a video of this size.
    SmallFaces {
        pixels: u32,
    },
    /// Like `small_faces`. Faces smaller than `rarely` were searched in only some of the frames.
    SmallFacesRarelySought {
        pixels: u32,
        rarely: u32,
    },
    /// The video has no sound track.
    NoSound,
    /// Eye contact was judged by the head pose, because the landmark model is not installed.
    EyeContactByHead,
    /// Share of the time on screen in which the eyes could be read, 0 to 1.
    EyesRarelyRead {
        #[serde(serialize_with = "rounding::three")]
        share: f64,
    },
    /// Share of the time in which both eyes were covered, 0 to 1.
    EyesCovered {
        #[serde(serialize_with = "rounding::three")]
        share: f64,
    },
    /// Share of the time in which the mouth was covered, 0 to 1.
    MouthCovered {
        #[serde(serialize_with = "rounding::three")]
        share: f64,
    },
    /// The request switched the analysis of sound off.
    SpeechLeftOut,
    /// A setting of the service switches the analysis of sound off.
    SpeechDisabled,
    /// The analysis of sound failed.
    SpeechFailed,
    SoundUnreadable,
    SoundUndecodable,
    SoundEncrypted,
    /// There is a decoder for the sound, but the service does not use it.
    SoundCodecNotAllowed {
        codec: String,
    },
    /// The default sound track is silent. The stream with this index was analyzed instead.
    OtherSoundTrack {
        stream: usize,
    },
    /// The default sound track is encrypted or cannot be decoded. The stream of this index was heard instead.
    ReadableSoundTrack {
        stream: usize,
    },
    SpeechModelMissing {
        model: String,
    },
    SpeechModelFailed,
    /// Quality and clarity of speech were not measured.
    SpeechQualityMissing {
        model: String,
    },
    SpeechQualityUnusable {
        model: String,
    },
    /// No speech was found.
    NoSpeech,
    /// There is too little speech to rate its quality.
    LittleSpeech,
    /// Movements of the face were requested, but a setting of the service switches landmarks off.
    ExpressionsDisabled,
    ExpressionsModelMissing {
        model: String,
    },
    ExpressionsModelUnusable {
        model: String,
    },
    /// The file is damaged or cut off.
    VideoCutOff {
        #[serde(serialize_with = "rounding::two")]
        expected_s: f64,
        #[serde(serialize_with = "rounding::two")]
        end_s: f64,
    },
    /// Damaged frames were left out.
    PicturesDamaged {
        damaged: u64,
        /// Number of frames that were to be analyzed, including the damaged ones.
        sought: u64,
        #[serde(serialize_with = "rounding::two")]
        from_s: f64,
        #[serde(serialize_with = "rounding::two")]
        to_s: f64,
    },
    /// The duration in the header differs from that of the streams.
    WrongDuration {
        #[serde(serialize_with = "rounding::two")]
        said_s: f64,
        #[serde(serialize_with = "rounding::two")]
        found_s: f64,
    },
    /// Time stamps restart, for the first time at this time.
    TimeStampsRestart {
        #[serde(serialize_with = "rounding::two")]
        at_s: f64,
    },
    /// Pictures of a live session that were passed over or could not be read.
    LivePicturesLost {
        lost: u64,
        received: u64,
    },
    /// A warning that a newer version stored and this version does not know.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
impl Warning {
    /// Returns an example of each warning that this version gives.
    pub fn examples() -> Vec<Self> {
        let model = || "some_model".to_owned();
        vec![
            Self::NoFace,
            Self::VideoTurned { degrees: 90 },
            Self::SmallFaces { pixels: 36 },
            Self::SmallFacesRarelySought { pixels: 27, rarely: 72 },
            Self::NoSound,
            Self::EyeContactByHead,
            Self::EyesRarelyRead { share: 0.384 },
            Self::EyesCovered { share: 1.0 },
            Self::MouthCovered { share: 0.5 },
            Self::SpeechLeftOut,
            Self::SpeechDisabled,
            Self::SpeechFailed,
            Self::SoundUnreadable,
            Self::SoundUndecodable,
            Self::SoundEncrypted,
            Self::SoundCodecNotAllowed { codec: "dts".to_owned() },
            Self::OtherSoundTrack { stream: 2 },
            Self::ReadableSoundTrack { stream: 2 },
            Self::SpeechModelMissing { model: model() },
            Self::SpeechModelFailed,
            Self::SpeechQualityMissing { model: model() },
            Self::SpeechQualityUnusable { model: model() },
            Self::NoSpeech,
            Self::LittleSpeech,
            Self::ExpressionsDisabled,
            Self::ExpressionsModelMissing { model: model() },
            Self::ExpressionsModelUnusable { model: model() },
            Self::VideoCutOff { expected_s: 19.69, end_s: 4.0 },
            Self::PicturesDamaged { damaged: 3, sought: 40, from_s: 1.0, to_s: 2.5 },
            Self::WrongDuration { said_s: 3.0, found_s: 19.7 },
            Self::TimeStampsRestart { at_s: 4.0 },
            Self::LivePicturesLost { lost: 30, received: 90 },
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_of_a_warning_has_a_code_and_numbers() {
        let turned = Warning::VideoTurned { degrees: 90 };
        assert_eq!(serde_json::to_value(&turned).unwrap(), json!({"code": "video_turned", "degrees": 90}));
        let share = Warning::EyesCovered { share: 1.0 / 3.0 };
        assert_eq!(serde_json::to_value(&share).unwrap(), json!({"code": "eyes_covered", "share": 0.333}));
        assert_eq!(serde_json::to_value(Warning::NoSound).unwrap(), json!({"code": "no_sound"}));
        let back: Warning = serde_json::from_value(json!({"code": "video_turned", "degrees": 90})).unwrap();
        assert_eq!(back, turned);
    }

    #[test]
    fn a_warning_of_a_newer_version_is_read_as_unknown() {
        let newer: Warning = serde_json::from_value(json!({"code": "moon_too_bright", "lux": 3})).unwrap();
        assert_eq!(newer, Warning::Unknown);
    }
}
