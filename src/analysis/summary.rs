//! The result of an analysis, which is stored and rendered. [`super::summarise`] computes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Emotion, Intervals, Parts, Remark, Segment, Story, Timeline, Warning, rounding};

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

/// The result of an analysis: the thing that is stored and rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Analysis {
    pub video: VideoFacts,
    pub summary: Summary,
    /// `None` where there is no sound track or speech is not analyzed; a warning says which.
    pub speech: Option<Speech>,
    /// One entry a person, in order of first appearance.
    pub faces: Vec<FaceSummary>,
    pub models: Vec<ModelUsed>,
    /// The version of the definitions by which the figures were computed. Results without one are of version 1.
    #[serde(default = "first_metrics_version")]
    pub metrics_version: u32,
    /// What a reader should know before trusting the figures, in sentences: `warning_codes` in words.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The same as codes with their numbers, in the same order. Results of older versions have none.
    #[serde(default)]
    pub warning_codes: Vec<Warning>,
}

impl Analysis {
    /// Returns the analysis with its figures rounded as in JSON. Report and mail show these, so that they agree with the
    /// JSON and with the page to the digit, even before the result is stored.
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

/// Facts of the video itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VideoFacts {
    #[serde(serialize_with = "rounding::three")]
    pub duration_s: f64,
    /// Mean frames a second.
    #[serde(serialize_with = "rounding::three")]
    pub fps: f64,
    /// Width of the first picture as players show it: upright and with square pixels. Boxes are in pixels of that picture.
    pub width: u32,
    /// Height of the first picture as players show it.
    pub height: u32,
    /// FFmpeg's short name of the video codec (`h264`, `hevc`, `vp9`, ...).
    pub codec: String,
    /// Frames in the file, counted while decoding.
    pub frames_total: u64,
    pub frames_analyzed: u64,
    pub has_audio: bool,
    /// Degrees clockwise by which the pictures were turned before faces were read, because the faces lay on their side or stood
    /// on their head: 90, 180 or 270; 0 where they were not. Boxes are in pixels of the picture as players show it, unturned;
    /// orientation of the head and direction of the eyes are those in the turned picture.
    #[serde(default)]
    pub turned: u16,
}

/// Figures of the whole video, all people together, each weighted by time on screen. `None` where no face was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    pub dominant_emotion: Option<Emotion>,
    /// The headline, without words. `None` where no face was found, and in results of versions that did not have it.
    #[serde(default)]
    pub story: Option<Story>,
    /// Percent a label, 0 to 100, summing to 100.
    #[serde(serialize_with = "rounding::maybe_percent")]
    pub emotions: Option<BTreeMap<Emotion, f64>>,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::maybe_one")]
    pub calmness: Option<f64>,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::maybe_one")]
    pub eye_contact: Option<f64>,
    /// Share of the time on screen in which eye contact could be read, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eye_contact_coverage: Option<f64>,
    /// Share of the time in which landmarks were seen and both eyes were covered, by sunglasses for example, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eyes_covered: Option<f64>,
    /// Share of the time in which landmarks were seen and the mouth was covered, by a mask for example, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub mouth_covered: Option<f64>,
    /// Blinks a minute. `None` where eyes were not seen, samples were more than an eighth of a second apart, or the eyes
    /// could be read for less than 10 s.
    #[serde(default, serialize_with = "rounding::maybe_one")]
    pub blinks_per_minute: Option<f64>,
    /// Mean top probability, 0 to 1.
    #[serde(serialize_with = "rounding::maybe_three")]
    pub model_confidence: Option<f64>,
    /// -1 (unpleasant) to 1 (pleasant).
    #[serde(serialize_with = "rounding::maybe_three")]
    pub valence: Option<f64>,
    /// -1 (passive) to 1 (active).
    #[serde(serialize_with = "rounding::maybe_three")]
    pub arousal: Option<f64>,
    /// How present the people were before the camera, 0 to 100: [`super::PRESENCE`].
    #[serde(default, serialize_with = "rounding::maybe_whole")]
    pub presence: Option<f64>,
    /// 0 to 100: [`super::OVERALL`].
    #[serde(default, serialize_with = "rounding::maybe_whole")]
    pub overall_score: Option<f64>,
    /// What the scores are made of.
    #[serde(default)]
    pub parts: Option<Parts>,
    /// How sure the figures are.
    #[serde(default)]
    pub intervals: Option<Intervals>,
    /// What a coach would say, in sentences: `remarks` in words.
    #[serde(default)]
    pub feedback: Vec<String>,
    /// The same without words.
    #[serde(default)]
    pub remarks: Vec<Remark>,
}

/// What the sound track says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Speech {
    /// Share of the sound track in which somebody speaks, 0 to 1.
    #[serde(serialize_with = "rounding::three")]
    pub ratio: f64,
    /// How easy it is to follow, 0 to 100. `None` where the quality is not known.
    #[serde(serialize_with = "rounding::maybe_one")]
    pub clarity: Option<f64>,
    /// `None` where there is too little speech, or no model for it.
    pub quality_mos: Option<SpeechQuality>,
    /// Syllables a second of speech, pauses left out. `None` where there is too little speech.
    #[serde(serialize_with = "rounding::maybe_two")]
    pub syllables_per_s: Option<f64>,
    /// How evenly speech flows, 0 to 100: pauses and pace. `None` where there is too little speech.
    #[serde(default, serialize_with = "rounding::maybe_one")]
    pub fluency: Option<f64>,
    /// Silences between speech of [`super::PAUSE_S`] or longer.
    pub pauses: u32,
    #[serde(serialize_with = "rounding::two")]
    pub longest_pause_s: f64,
    /// When somebody speaks, in order of time; at most [`super::MOST_SPANS`], so those of a long video that are nearest to
    /// each other are put together. `ratio` and `pauses` are of what was heard before that.
    #[serde(default)]
    pub spans: Vec<Span>,
}

/// A part of the video's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Span {
    #[serde(serialize_with = "rounding::two")]
    pub start_s: f64,
    #[serde(serialize_with = "rounding::two")]
    pub end_s: f64,
}

/// DNSMOS P.835 opinion scores, each 1 (bad) to 5 (excellent).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpeechQuality {
    /// Of the speech itself.
    #[serde(serialize_with = "rounding::two")]
    pub sig: f64,
    /// Of the background: 5 is one that does not disturb.
    #[serde(serialize_with = "rounding::two")]
    pub bak: f64,
    /// Overall.
    #[serde(serialize_with = "rounding::two")]
    pub ovr: f64,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaceSummary {
    /// From 1, in order of first appearance.
    pub id: u32,
    #[serde(serialize_with = "rounding::three")]
    pub first_s: f64,
    #[serde(serialize_with = "rounding::three")]
    pub last_s: f64,
    /// Samples in which the face was read.
    pub frames: u32,
    pub dominant_emotion: Emotion,
    /// Percent a label, 0 to 100, summing to 100.
    #[serde(serialize_with = "rounding::percent")]
    pub emotions: BTreeMap<Emotion, f64>,
    /// Samples a top emotion; labels that never came out on top are left out.
    pub emotion_counts: BTreeMap<Emotion, u32>,
    /// Mean top probability of the samples a top emotion, 0 to 1.
    #[serde(serialize_with = "rounding::map_of_three")]
    pub average_confidence: BTreeMap<Emotion, f64>,
    /// `[frames, 7]`: shape of the per-sample probability vectors.
    pub embeddings_shape: [u32; 2],
    /// The first of those vectors.
    #[serde(serialize_with = "rounding::vector")]
    pub example_embedding: [f32; 7],
    #[serde(serialize_with = "rounding::maybe_one")]
    pub eye_contact: Option<f64>,
    /// Share of the time on screen in which eye contact could be read, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eye_contact_coverage: Option<f64>,
    /// Share of the time in which landmarks were seen and both eyes were covered, by sunglasses for example, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub eyes_covered: Option<f64>,
    /// Share of the time in which landmarks were seen and the mouth was covered, by a mask for example, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub mouth_covered: Option<f64>,
    /// Blinks a minute. `None` where eyes were not seen, samples were more than an eighth of a second apart, or the eyes
    /// could be read for less than 10 s.
    #[serde(default, serialize_with = "rounding::maybe_one")]
    pub blinks_per_minute: Option<f64>,
    #[serde(serialize_with = "rounding::one")]
    pub calmness: f64,
    #[serde(serialize_with = "rounding::three")]
    pub valence: f64,
    #[serde(serialize_with = "rounding::three")]
    pub arousal: f64,
    /// Mean top probability, 0 to 1.
    #[serde(default, serialize_with = "rounding::maybe_three")]
    pub model_confidence: Option<f64>,
    /// 0 to 100; with speech only where nobody else was seen, because nobody knows who speaks.
    #[serde(default, serialize_with = "rounding::maybe_whole")]
    pub presence: Option<f64>,
    #[serde(default)]
    pub parts: Option<Parts>,
    #[serde(default)]
    pub intervals: Option<Intervals>,
    /// Runs of one emotion, in order of time.
    #[serde(default)]
    pub segments: Vec<Segment>,
}

/// A model that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsed {
    pub name: String,
    /// Lower-case hexadecimal.
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
