//! The options of an analysis.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Language;

/// Options of one analysis, as stored with the job. Those that an older job does not have are read as what it ran with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Options {
    /// Look at every n-th frame, from 1.
    pub sample_every: u32,
    /// How the frames between are passed over.
    #[serde(default)]
    pub sampling: Sampling,
    /// Read at most this many faces a frame, the largest first.
    pub max_faces: u32,
    /// Read landmarks, and eye contact by the eyes, where the service can.
    #[serde(default = "on")]
    pub gaze: bool,
    /// Listen to the sound track, where the service can.
    #[serde(default = "on")]
    pub speech: bool,
    /// More of each sample than is usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// Of report and mail; `None`: as the reader's browser asks, and English where nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "Language::stored")]
    pub language: Option<Language>,
}

/// Which frames are looked at, of those that could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Every n-th frame, the very ones.
    #[default]
    Exact,
    /// Frames near those that cost less to decode, at the times that the result says, and a little rougher. Faces are looked
    /// for where they were, and in the whole frame every fourth time: somebody new is seen up to three looks later.
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

/// What a caller may ask for on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// The 52 movements of the face in each sample ([`super::Expressions`]).
    Expressions,
}

const fn on() -> bool {
    true
}

impl Options {
    /// Returns the default options.
    pub const fn new(sample_every: u32, max_faces: u32) -> Self {
        Self {
            sample_every,
            sampling: Sampling::Exact,
            max_faces,
            gaze: true,
            speech: true,
            detail: None,
            language: None,
        }
    }

    /// Whether movements of the face are asked for without the landmarks that they are read from.
    pub fn is_contradiction(&self) -> bool {
        self.detail == Some(Detail::Expressions) && !self.gaze
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_that_is_no_longer_there_is_left_out() {
        let read = |language: &str| {
            let json = format!(r#"{{"sample_every": 20, "max_faces": 10, "language": {language}}}"#);
            serde_json::from_str::<Options>(&json).unwrap().language
        };
        assert_eq!((read("\"de\"").map(Language::tag), read("\"tlh\""), read("null")), (Some("de"), None, None));
    }

    #[test]
    fn options_of_older_jobs_read_as_what_they_ran_with() {
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
