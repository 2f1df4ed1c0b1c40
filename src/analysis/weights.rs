//! What counts how much in the scores that are made of others: all weights of the project are here.
//!
//! The weights are a choice of this project with no study behind them. Looking at the camera counts most because it is
//! what a viewer notices first; quality of the recording counts in the overall score alone, because it says nothing of
//! who is seen. A part that could not be measured is left out, and the others count for its share.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rounding;
use super::tally::Figures;

/// What [`super::Summary::presence`] is made of.
pub const PRESENCE: [(PartName, f64); 4] =
    [(PartName::EyeContact, 0.40), (PartName::Calmness, 0.25), (PartName::Fluency, 0.20), (PartName::Steadiness, 0.15)];

/// What [`super::Summary::overall_score`] is made of.
pub const OVERALL: [(PartName, f64); 2] = [(PartName::Presence, 0.75), (PartName::SpeechClarity, 0.25)];

/// A part of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// [`super::Summary::eye_contact`].
    EyeContact,
    /// [`super::Summary::calmness`].
    Calmness,
    /// How still the head is held, 0 to 100.
    Steadiness,
    /// [`super::Speech::fluency`].
    Fluency,
    /// [`super::Summary::presence`].
    Presence,
    /// [`super::Speech::clarity`].
    SpeechClarity,
    /// Visible arousal, in points that it takes from calmness.
    Arousal,
    /// Visible displeasure, in points that it takes from calmness.
    Displeasure,
}

/// A part of a score, and what it counts there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    pub part: PartName,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::one")]
    pub value: f64,
    /// What it is multiplied with: its share among the parts that could be measured, or -1 for what calmness loses.
    #[serde(serialize_with = "rounding::three")]
    pub weight: f64,
}

/// What the scores are made of. `presence` and `overall_score` are the sums of value times weight; `calmness` is 100 and
/// that sum, whose weights are -1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Parts {
    pub calmness: Vec<Part>,
    pub presence: Vec<Part>,
    /// Of the whole video alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overall_score: Vec<Part>,
}

/// What was heard, as far as scores count it; 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Voice {
    pub fluency: Option<f64>,
    pub clarity: Option<f64>,
}

/// Scores with their parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scores {
    /// 0 to 100; `None` if nothing of it could be measured.
    pub presence: Option<f64>,
    pub overall: Option<f64>,
    pub parts: Parts,
}

impl Scores {
    pub fn of(figures: &Figures, voice: Voice) -> Self {
        let lost = |part, value| Part { part, value, weight: -1.0 };
        let calmness = vec![lost(PartName::Arousal, figures.stirred), lost(PartName::Displeasure, figures.displeased)];
        let value = |part| match part {
            PartName::EyeContact => figures.eye_contact,
            PartName::Calmness => Some(figures.calmness),
            PartName::Steadiness => figures.steadiness,
            PartName::Fluency => voice.fluency,
            _ => None,
        };
        let presence = weigh(&PRESENCE, value);
        let score = sum(&presence);
        let overall = weigh(&OVERALL, |part| match part {
            PartName::Presence => score,
            PartName::SpeechClarity => voice.clarity,
            _ => None,
        });
        Self { presence: score, overall: sum(&overall), parts: Parts { calmness, presence, overall_score: overall } }
    }
}

/// The parts that could be measured, their weights summing to 1.
fn weigh(weights: &[(PartName, f64)], value: impl Fn(PartName) -> Option<f64>) -> Vec<Part> {
    let measured = weights.iter().filter_map(|&(part, weight)| {
        let value = value(part)?.clamp(0.0, 100.0);
        Some(Part { part, value, weight })
    });
    let mut parts: Vec<Part> = measured.collect();
    let all: f64 = parts.iter().map(|part| part.weight).sum();
    for part in &mut parts {
        part.weight /= all;
    }
    parts
}

fn sum(parts: &[Part]) -> Option<f64> {
    (!parts.is_empty()).then(|| parts.iter().map(|part| part.value * part.weight).sum::<f64>().clamp(0.0, 100.0))
}
