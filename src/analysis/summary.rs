//! The result of an analysis, which is stored and rendered. [`super::summarise`] computes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Emotion, Intervals, Parts, Relative, Remark, Segment, Story, Timeline, Warning, rounding};

/// Name of the landmark model, from which the gaze is computed. An analysis that lists it judges eye contact by the
/// eyes.
pub const LANDMARK_MODEL: &str = "face_landmarks";

/// The version of the definitions of the figures, as docs/METRICS.md lists them. It changes if a figure of the same
/// video changes its meaning.
///
/// 1. Calmness fell with arousal and with displeasure, so that a smile lowered it.
/// 2. Calmness falls with tense arousal: activation with displeasure.
pub const METRICS_VERSION: u32 = 2;

/// The version of results that state none.
const fn first_metrics_version() -> u32 {
    1
}

/// The output of the pipeline for one video: the result, and one row for each face in each sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub analysis: Analysis,
    pub timeline: Timeline,
}

/// The result of an analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Analysis {
    pub video: VideoFacts,
    pub summary: Summary,
    /// Null if speech was not analyzed, for example because there is no sound track. A warning gives the reason.
    pub speech: Option<Speech>,
    /// One entry for each person, in order of first appearance.
    pub faces: Vec<FaceSummary>,
    pub models: Vec<ModelUsed>,
    /// The version of the definitions by which the figures were computed. Results without one are of version 1.
    #[serde(default = "first_metrics_version")]
    pub metrics_version: u32,
    /// Limits of the result, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The warnings as codes with their numbers, in the same order. Empty in results of older versions.
    #[serde(default)]
    pub warning_codes: Vec<Warning>,
}

impl Analysis {
    /// Returns the analysis with its figures rounded as in JSON. Report and mail show these, so that they agree with
    /// the JSON and with the page to the digit, even before the result is stored.
    #[must_use]
    pub fn rounded(&self) -> Self {
        serde_json::to_value(self).and_then(serde_json::from_value).unwrap_or_else(|_| self.clone())
    }

    /// Whether eye contact was judged by the eyes instead of the head alone.
    pub fn sees_eyes(&self) -> bool {
        sees_eyes(&self.models)
    }
}

pub(super) fn sees_eyes(models: &[ModelUsed]) -> bool {
    models.iter().any(|model| model.name == LANDMARK_MODEL)
}

/// Properties of the video file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VideoFacts {
    #[serde(serialize_with = "rounding::three")]
    pub duration_s: f64,
    /// Seconds from time stamp 0 of the file to time 0 of this result; 0 in most files. Live streams and cut recordings
    /// begin later. A browser that keeps the time stamps of a file shows time `t` of this result at `currentTime` =
    /// `start_s` + `t`.
    #[serde(default, serialize_with = "rounding::three")]
    pub start_s: f64,
    /// Mean number of frames per second.
    #[serde(serialize_with = "rounding::three")]
    pub fps: f64,
    /// Width of the first frame as players show it: upright and with square pixels. Boxes are in these pixels.
    pub width: u32,
    /// Height of the first frame as players show it.
    pub height: u32,
    /// FFmpeg's short name of the video codec (`h264`, `hevc`, `vp9`, ...).
    pub codec: String,
    /// Number of frames in the file, as counted by the analysis.
    pub frames_total: u64,
    pub frames_analyzed: u64,
    pub has_audio: bool,
    /// Clockwise rotation in degrees that was applied before faces were read: 90, 180 or 270 if the faces were
    /// sideways or upside down, otherwise 0. Boxes refer to the frame as players show it. Head pose and gaze refer to
    /// the rotated frame.
    #[serde(default)]
    pub turned: u16,
    /// The orientation that the video stream gives where the container gives none. It was applied before faces were
    /// read, and boxes refer to the upright frame. Chromium ignores it. Left out in all other videos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_orientation: Option<StreamOrientation>,
}

/// How a frame is made upright: first it is mirrored left to right, then turned clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamOrientation {
    pub mirrored: bool,
    /// 0, 90, 180 or 270.
    pub degrees: u16,
}

/// Figures of the whole video: means over all people, weighted by their time on screen. Null if no face was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    pub dominant_emotion: Option<Emotion>,
    /// The headline as data. Null if no face was found, and in results of older versions.
    #[serde(default)]
    pub story: Option<Story>,
    /// Share of each emotion in percent. The shares sum to 100.
    #[serde(serialize_with = "rounding::maybe_percent")]
    pub emotions: Option<BTreeMap<Emotion, f64>>,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::maybe_one")]
    pub calmness: Option<f64>,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::maybe_one")]
    pub eye_contact: Option<f64>,
    /// Share of the time on screen in which eye contact could be measured, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eye_contact_coverage: Option<f64>,
    /// Share of the time with landmarks in which both eyes were covered, for example by sunglasses, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eyes_covered: Option<f64>,
    /// Share of the time with landmarks in which the mouth was covered, for example by a mask, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub mouth_covered: Option<f64>,
    /// Share of the time on screen in which the landmark model saw a whole face with bare eyes and a bare mouth, 0 to 1.
    /// Other expressions are uncertain and count little. Null without the landmark model, and in results of older
    /// versions.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub emotions_coverage: Option<f64>,
    /// Blinks per minute. Null if the eyes were readable for less than 10 seconds, or if samples were more than an
    /// eighth of a second apart.
    #[serde(default, serialize_with = "rounding::maybe_one")]
    pub blinks_per_minute: Option<f64>,
    /// Mean of the highest probability in each sample, 0 to 1.
    #[serde(serialize_with = "rounding::maybe_three")]
    pub model_confidence: Option<f64>,
    /// -1 (unpleasant) to 1 (pleasant).
    #[serde(serialize_with = "rounding::maybe_three")]
    pub valence: Option<f64>,
    /// -1 (passive) to 1 (active).
    #[serde(serialize_with = "rounding::maybe_three")]
    pub arousal: Option<f64>,
    /// How present the people appear before the camera, 0 to 100. `parts` has its parts and weights.
    #[serde(default, serialize_with = "rounding::maybe_whole")]
    pub presence: Option<f64>,
    /// 0 to 100. `parts` has its parts and weights.
    #[serde(default, serialize_with = "rounding::maybe_whole")]
    pub overall_score: Option<f64>,
    /// The parts and weights of the scores.
    #[serde(default)]
    pub parts: Option<Parts>,
    /// 95 % intervals of the figures.
    #[serde(default)]
    pub intervals: Option<Intervals>,
    /// Feedback on the recording, as sentences.
    #[serde(default)]
    pub feedback: Vec<String>,
    /// The feedback as data, in the same order.
    #[serde(default)]
    pub remarks: Vec<Remark>,
}

/// Figures of the sound track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Speech {
    /// Share of the sound track with speech, 0 to 1.
    #[serde(serialize_with = "rounding::three")]
    pub ratio: f64,
    /// How easy the speech is to understand, 0 to 100. Null if its quality was not measured.
    #[serde(serialize_with = "rounding::maybe_one")]
    pub clarity: Option<f64>,
    /// Null if there is too little speech, or if the model is not installed.
    pub quality_mos: Option<SpeechQuality>,
    /// Syllables per second of speech, without pauses. Null if there is too little speech.
    #[serde(serialize_with = "rounding::maybe_two")]
    pub syllables_per_s: Option<f64>,
    /// Evenness of the speech, 0 to 100, from its pauses and its pace. Null if there is too little speech.
    #[serde(default, serialize_with = "rounding::maybe_one")]
    pub fluency: Option<f64>,
    /// Number of pauses: silences of at least 0.25 seconds between speech.
    pub pauses: u32,
    #[serde(serialize_with = "rounding::two")]
    pub longest_pause_s: f64,
    /// Times with speech, in order, at most 240. If a video has more, the nearest ones are merged. `ratio` and `pauses`
    /// are computed before that.
    #[serde(default)]
    pub spans: Vec<Span>,
}

/// A time span of the video, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Span {
    #[serde(serialize_with = "rounding::two")]
    pub start_s: f64,
    #[serde(serialize_with = "rounding::two")]
    pub end_s: f64,
}

/// Opinion scores of DNSMOS P.835, each from 1 (bad) to 5 (excellent).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpeechQuality {
    /// Quality of the speech signal.
    #[serde(serialize_with = "rounding::two")]
    pub sig: f64,
    /// Quality of the background. 5 means that no noise disturbs.
    #[serde(serialize_with = "rounding::two")]
    pub bak: f64,
    /// Overall quality.
    #[serde(serialize_with = "rounding::two")]
    pub ovr: f64,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaceSummary {
    /// Number of the person, from 1, in order of first appearance.
    pub id: u32,
    #[serde(serialize_with = "rounding::three")]
    pub first_s: f64,
    #[serde(serialize_with = "rounding::three")]
    pub last_s: f64,
    /// Number of samples in which the face was read.
    pub frames: u32,
    pub dominant_emotion: Emotion,
    /// The headline of this person as data. `None` in results of versions that did not have it.
    #[serde(default)]
    pub story: Option<Story>,
    /// Share of each emotion in percent. The shares sum to 100.
    #[serde(serialize_with = "rounding::percent")]
    pub emotions: BTreeMap<Emotion, f64>,
    /// Number of samples in which each emotion was the most probable one. Emotions with 0 are left out.
    pub emotion_counts: BTreeMap<Emotion, u32>,
    /// Mean probability of each emotion in the samples in which it was the most probable one, 0 to 1.
    #[serde(serialize_with = "rounding::map_of_three")]
    pub average_confidence: BTreeMap<Emotion, f64>,
    /// Shape of the probability vectors: `[frames, 7]`.
    pub embeddings_shape: [u32; 2],
    /// The probability vector of the first sample.
    #[serde(serialize_with = "rounding::vector")]
    pub example_embedding: [f32; 7],
    #[serde(serialize_with = "rounding::maybe_one")]
    pub eye_contact: Option<f64>,
    /// Share of the time on screen in which eye contact could be measured, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eye_contact_coverage: Option<f64>,
    /// Share of the time with landmarks in which both eyes were covered, for example by sunglasses, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eyes_covered: Option<f64>,
    /// Share of the time with landmarks in which the mouth was covered, for example by a mask, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub mouth_covered: Option<f64>,
    /// Share of the time on screen in which the landmark model saw a whole face with bare eyes and a bare mouth, 0 to 1.
    /// Other expressions are uncertain and count little. Null without the landmark model, and in results of older
    /// versions.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub emotions_coverage: Option<f64>,
    /// Blinks per minute. Null if the eyes were readable for less than 10 seconds, or if samples were more than an
    /// eighth of a second apart.
    #[serde(default, serialize_with = "rounding::maybe_one")]
    pub blinks_per_minute: Option<f64>,
    #[serde(serialize_with = "rounding::one")]
    pub calmness: f64,
    #[serde(serialize_with = "rounding::three")]
    pub valence: f64,
    #[serde(serialize_with = "rounding::three")]
    pub arousal: f64,
    /// Mean of the highest probability in each sample, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub model_confidence: Option<f64>,
    /// 0 to 100. Speech is a part of it only if nobody else was seen, because the speaker is otherwise unknown.
    #[serde(default, serialize_with = "rounding::maybe_whole")]
    pub presence: Option<f64>,
    #[serde(default)]
    pub parts: Option<Parts>,
    #[serde(default)]
    pub intervals: Option<Intervals>,
    /// Runs of samples with the same emotion, in order of time.
    #[serde(default)]
    pub segments: Vec<Segment>,
    /// The expressions against the usual ones of this person in this video. Null in results of older versions.
    #[serde(default)]
    pub relative: Option<Relative>,
}

/// A model that the analysis used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsed {
    pub name: String,
    /// SHA-256 of the model file, in lower-case hexadecimal.
    pub sha256: String,
}

impl FaceSummary {
    /// Returns the emotion that is most probable in the largest number of samples. On a tie it is the one with the
    /// highest mean.
    pub fn most_common_emotion(&self) -> Emotion {
        let rank = |emotion: &Emotion| {
            let count = self.emotion_counts.get(emotion).copied().unwrap_or(0);
            (count, self.emotions.get(emotion).copied().unwrap_or(0.0))
        };
        Emotion::ALL.into_iter().fold(
            self.dominant_emotion,
            |best, emotion| {
                if rank(&emotion) > rank(&best) { emotion } else { best }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_most_common_emotion_is_the_one_of_most_samples() {
        let face = |counts: serde_json::Value| -> FaceSummary {
            let face = json!({
                "id": 1, "first_s": 0.0, "last_s": 1.0, "frames": 5, "dominant_emotion": "happy",
                "emotions": {"angry": 0.0, "disgust": 0.0, "fear": 0.0, "happy": 60.0, "sad": 40.0, "surprise": 0.0,
                             "neutral": 0.0},
                "emotion_counts": counts, "average_confidence": {}, "embeddings_shape": [5, 7],
                "example_embedding": [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], "eye_contact": null,
                "calmness": 50.0, "valence": 0.0, "arousal": 0.0,
            });
            serde_json::from_value(face).unwrap()
        };
        assert_eq!(face(json!({"happy": 2, "sad": 3})).most_common_emotion(), Emotion::Sad);
        assert_eq!(face(json!({"angry": 2, "happy": 2})).most_common_emotion(), Emotion::Happy);
    }
}
