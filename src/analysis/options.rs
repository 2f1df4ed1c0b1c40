//! The options of an analysis.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Language;

/// Options of one analysis, as stored with the job. A missing option means the behaviour before the option existed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Options {
    /// Analyze every n-th frame; at least 1.
    pub sample_every: u32,
    /// Analyze about this many frames per second. Replaces `sample_every` if the frame rate of the video is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<u32>,
    /// Which frames are analyzed.
    #[serde(default)]
    pub sampling: Sampling,
    /// Largest number of faces to read in a frame. The largest faces are read first.
    pub max_faces: u32,
    /// Read landmarks, and eye contact from the eyes, if the service has the models.
    #[serde(default = "on")]
    pub gaze: bool,
    /// Analyze the sound track, if the service has the models.
    #[serde(default = "on")]
    pub speech: bool,
    /// Additional details of each sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// Language of the report and the mail. Null: the language of the reader's browser, or English.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "Language::stored")]
    pub language: Option<Language>,
}

/// Which frames are analyzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Exactly every n-th frame.
    #[default]
    Exact,
    /// Frames near every n-th frame that are faster to decode, at slightly lower picture quality. The result has their
    /// times. Faces are searched near their last positions, and in the whole frame in every fourth sample, so a new
    /// person is seen up to three samples later.
    Fast,
}

impl Sampling {
    /// Parses the name that requests and settings use: `exact` or `fast`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "exact" => Some(Self::Exact),
            "fast" => Some(Self::Fast),
            _ => None,
        }
    }
}

/// An additional detail of each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// The 52 movements of the face in each sample.
    Expressions,
}

/// Decoding a second of video takes about as long as analyzing this many samples with one face (docs/PERFORMANCE.md).
const SAMPLES_PER_DECODED_SECOND: f64 = 4.0;

const fn on() -> bool {
    true
}

impl Options {
    /// Returns options with these values and the defaults of all others.
    pub const fn new(sample_every: u32, max_faces: u32) -> Self {
        Self {
            sample_every,
            samples_per_second: None,
            sampling: Sampling::Exact,
            max_faces,
            gaze: true,
            speech: true,
            detail: None,
            language: None,
        }
    }

    /// Returns the options for a video with this frame rate: `sample_every` follows from `samples_per_second`. The rate
    /// is 0 if it is unknown.
    #[must_use]
    pub fn for_frame_rate(self, fps: f64) -> Self {
        match self.samples_per_second {
            Some(wanted) if fps > 0.0 => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a frame rate")]
                let sample_every = (fps / f64::from(wanted.max(1))).round().max(1.0) as u32;
                Self { sample_every, ..self }
            }
            _ => self,
        }
    }

    /// Returns the expected cost of the analysis of a video: the number of samples, and [`SAMPLES_PER_DECODED_SECOND`]
    /// for each second. `None` if the length or the frame rate of the video is unknown.
    pub fn cost(self, duration_s: f64, fps: f64) -> Option<u64> {
        let is_known = duration_s > 0.0 && duration_s.is_finite() && fps > 0.0 && fps.is_finite();
        let samples = duration_s * fps / f64::from(self.for_frame_rate(fps).sample_every.max(1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and the cast saturates")]
        is_known.then(|| (samples + duration_s * SAMPLES_PER_DECODED_SECOND).ceil() as u64)
    }

    /// Returns the longest duration in seconds that a video can have whose analysis has this cost.
    pub fn longest_s(cost: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let cost = cost as f64;
        cost / SAMPLES_PER_DECODED_SECOND
    }

    /// Whether movements of the face are requested without the landmarks from which they are computed.
    pub fn is_contradiction(&self) -> bool {
        self.detail == Some(Detail::Expressions) && !self.gaze
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_that_this_version_no_longer_has_is_read_as_none() {
        let read = |language: &str| {
            let json = format!(r#"{{"sample_every": 20, "max_faces": 10, "language": {language}}}"#);
            serde_json::from_str::<Options>(&json).unwrap().language
        };
        assert_eq!((read("\"de\"").map(Language::tag), read("\"tlh\""), read("null")), (Some("de"), None, None));
    }

    #[test]
    fn samples_per_second_are_converted_to_every_nth_frame() {
        let every = |wanted, fps| {
            let options = Options { samples_per_second: wanted, ..Options::new(20, 10) };
            options.for_frame_rate(fps).sample_every
        };
        assert_eq!((every(Some(5), 30.0), every(Some(5), 23.976), every(Some(5), 240.0)), (6, 5, 48));
        assert_eq!(every(Some(60), 25.0), 1, "there are no more frames than that");
        assert_eq!((every(Some(5), 0.0), every(None, 30.0)), (20, 20));
    }

    #[test]
    fn the_cost_grows_with_the_length_and_with_the_number_of_samples() {
        let cost = |per_second, duration_s, fps| {
            Options { samples_per_second: per_second, ..Options::new(20, 10) }.cost(duration_s, fps)
        };
        // A minute of 30 frames a second: 240 for decoding, and 90, 300 or 900 samples.
        assert_eq!(cost(None, 60.0, 30.0), Some(330));
        assert_eq!((cost(Some(5), 60.0, 30.0), cost(Some(15), 60.0, 30.0)), (Some(540), Some(1140)));
        assert_eq!(cost(Some(5), 600.0, 30.0), Some(5400));
        assert_eq!(cost(None, 0.01, 25.0), Some(1), "no job is without cost");
        for (duration_s, fps) in [(0.0, 30.0), (60.0, 0.0), (f64::INFINITY, 30.0), (f64::NAN, 30.0)] {
            assert_eq!(cost(None, duration_s, fps), None, "{duration_s} {fps}");
        }
    }

    #[test]
    fn missing_options_of_older_jobs_get_the_values_that_were_used_then() {
        let old: Options = serde_json::from_str(r#"{"sample_every": 5, "max_faces": 3}"#).unwrap();
        assert_eq!(old, Options::new(5, 3));
        let asked = Options { speech: false, detail: Some(Detail::Expressions), ..old };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(
            text,
            r#"{"sample_every":5,"sampling":"exact","max_faces":3,"gaze":true,"speech":false,"detail":"expressions"}"#
        );
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), asked);
    }
}
