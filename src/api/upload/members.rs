//! The options of an analysis as members of a JSON body.

use std::ops::RangeInclusive;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::error::OptionError;
use super::form::{MAX_FACES, SAMPLE_EVERY, SAMPLES_PER_SECOND};
use crate::analysis::{Detail, Language, Options, Sampling};
use crate::api::json_body;
use crate::config::Video;

/// The options that a JSON body gives. The settings have the others.
pub struct OptionMembers {
    pub sample_every: Option<u32>,
    pub samples_per_second: Option<u32>,
    pub sampling: Option<Sampling>,
    pub max_faces: Option<u32>,
    pub language: Option<Language>,
    pub gaze: Option<bool>,
    pub speech: Option<bool>,
    pub detail: Option<Detail>,
}

impl OptionMembers {
    /// Checks the members and adds the defaults.
    pub fn options(&self, video: &Video) -> Result<Options, OptionError> {
        let number = |field, given: Option<u32>, range: RangeInclusive<u32>| match given {
            Some(number) if !range.contains(&number) => {
                Err(OptionError::OutOfRange { field, least: *range.start(), most: *range.end() })
            }
            given => Ok(given),
        };
        let options = Options {
            sample_every: number("sample_every", self.sample_every, SAMPLE_EVERY)?.unwrap_or(video.sample_every),
            samples_per_second: number("samples_per_second", self.samples_per_second, SAMPLES_PER_SECOND)?,
            sampling: self.sampling.unwrap_or(video.sampling),
            max_faces: number("max_faces", self.max_faces, MAX_FACES)?.unwrap_or(video.max_faces),
            language: self.language,
            gaze: self.gaze.unwrap_or(true),
            speech: self.speech.unwrap_or(true),
            detail: self.detail,
        };
        if options.is_contradiction() { Err(OptionError::Contradiction) } else { Ok(options) }
    }
}

pub fn sample_every() -> RefOr<Schema> {
    json_body::whole_schema(SAMPLE_EVERY, "^([1-9][0-9]{0,3}|10000)$", "Analyze every n-th frame.")
}

pub fn samples_per_second() -> RefOr<Schema> {
    let description = "Analyze about this many frames a second, instead of every n-th.";
    json_body::whole_schema(SAMPLES_PER_SECOND, "^([1-9]|[1-5][0-9]|60)$", description)
}

pub fn gaze() -> RefOr<Schema> {
    json_body::switch_schema("`false` skips the landmarks. Eye contact then depends on the head pose only.")
}

pub fn speech() -> RefOr<Schema> {
    json_body::switch_schema("`false` skips the sound track.")
}

pub fn max_faces() -> RefOr<Schema> {
    json_body::whole_schema(MAX_FACES, "^([1-9][0-9]?|100)$", "Most faces to read in each frame.")
}
