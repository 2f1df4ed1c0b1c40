//! What a caller may ask of one analysis.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Language;

/// Options of one analysis, as stored with the job. Those that an older job does not have are read as what it ran with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Options {
    /// Look at every n-th frame, from 1.
    pub sample_every: u32,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
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
    /// The usual analysis.
    pub const fn new(sample_every: u32, max_faces: u32) -> Self {
        Self { sample_every, max_faces, gaze: true, speech: true, detail: None, language: None }
    }

    /// Whether movements of the face are asked for, and asked for in vain: they are read from the landmarks.
    pub fn is_contradiction(&self) -> bool {
        self.detail == Some(Detail::Expressions) && !self.gaze
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_older_jobs_read_as_what_they_ran_with() {
        let old: Options = serde_json::from_str(r#"{"sample_every": 5, "max_faces": 3}"#).unwrap();
        assert_eq!(old, Options::new(5, 3));
        let asked = Options { speech: false, detail: Some(Detail::Expressions), ..old };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text, r#"{"sample_every":5,"max_faces":3,"gaze":true,"speech":false,"detail":"expressions"}"#);
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), asked);
    }
}
