//! One person in one result.

use serde::Serialize;
use utoipa::ToSchema;

use super::figures::FIGURES;
use crate::analysis::{Analysis, FaceSummary, Interval};

/// One person in one result.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Take {
    /// The token of the result, or its file.
    pub result: String,
    /// The number of the person in the result.
    pub person: u32,
    /// Number of people in the result.
    pub people: usize,
    /// In the order of [`FIGURES`].
    #[serde(skip)]
    pub figures: Vec<Option<(f64, Interval)>>,
    #[serde(skip)]
    pub metrics_version: u32,
}

/// Why a result cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTake {
    NoFace,
    NoSuchPerson(u32),
    /// The result was made by a version before 0.2.0.
    NoIntervals,
}

impl Take {
    /// Takes the person with this number, or the one that was seen in most samples.
    pub fn new(result: String, analysis: &Analysis, person: Option<u32>) -> Result<Self, NoTake> {
        let face = match person {
            Some(person) => {
                let face = analysis.faces.iter().find(|face| face.id == person);
                face.ok_or(NoTake::NoSuchPerson(person))?
            }
            None => main_face(&analysis.faces).ok_or(NoTake::NoFace)?,
        };
        if face.intervals.is_none() {
            return Err(NoTake::NoIntervals);
        }
        let figures = FIGURES.iter().map(|figure| figure.of(face)).collect();
        let (person, people, metrics_version) = (face.id, analysis.faces.len(), analysis.metrics_version);
        Ok(Self { result, person, people, figures, metrics_version })
    }
}

/// Returns the person who was seen in most samples, of several the first.
fn main_face(faces: &[FaceSummary]) -> Option<&FaceSummary> {
    faces.iter().rev().max_by_key(|face| face.frames)
}
