//! One result, of which one person is compared.

use std::path::Path;

use serde_json::Value;

use super::figures::FIGURES;
use crate::analysis::{Analysis, FaceSummary, Interval};
use crate::cli::Failure;

/// One person in one result.
pub struct Take {
    pub file: String,
    pub person: u32,
    /// Number of people in the result.
    pub people: usize,
    /// In the order of [`FIGURES`].
    pub figures: Vec<Option<(f64, Interval)>>,
    pub metrics_version: u32,
}

impl Take {
    /// Reads a result. Takes the person with this number, or the one that was seen in most samples.
    pub fn read(file: &Path, person: Option<u32>) -> Result<Self, Failure> {
        let shown = file.display().to_string();
        let bytes = std::fs::read(file).map_err(|error| Failure::Input(format!("{shown} cannot be read: {error}")))?;
        Self::of_json(shown, &bytes, person)
    }

    fn of_json(file: String, bytes: &[u8], person: Option<u32>) -> Result<Self, Failure> {
        let refused = |reason: &str| Failure::Input(format!("{file} {reason}"));
        let not_a_result = |_| refused("is no result of visage analyze in JSON");
        let mut json: Value = serde_json::from_slice(bytes).map_err(not_a_result)?;
        // The service puts the result into the member `analysis`.
        if let Some(analysis) = json.get_mut("analysis") {
            json = analysis.take();
        }
        if json.get("video").is_none() && json.get("width").is_some() {
            return Err(refused("is the result of a picture, whose figures have no intervals"));
        }
        let analysis: Analysis = serde_json::from_value(json).map_err(not_a_result)?;
        let face = match person {
            Some(person) => analysis.faces.iter().find(|face| face.id == person),
            None => main_face(&analysis.faces),
        };
        let face = face.ok_or_else(|| match person {
            Some(person) => refused(&format!("has no person {person}")),
            None => refused("has no person: no face was found"),
        })?;
        if face.intervals.is_none() {
            return Err(refused("has no intervals: it was made by an older version, so analyze the video again"));
        }
        let figures = FIGURES.iter().map(|figure| figure.of(face)).collect();
        let (person, people, metrics_version) = (face.id, analysis.faces.len(), analysis.metrics_version);
        Ok(Self { file, person, people, figures, metrics_version })
    }
}

/// Returns the person who was seen in most samples, of several the first.
fn main_face(faces: &[FaceSummary]) -> Option<&FaceSummary> {
    faces.iter().rev().max_by_key(|face| face.frames)
}
