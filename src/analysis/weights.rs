//! The weights of the parts of presence and overall score, and the computation of these scores.
//!
//! The weights are a choice of this project and not based on a study. Eye contact has the largest weight, because
//! viewers notice it first. The quality of the recording is a part of the overall score only, because it does not
//! describe the people. A part that could not be measured is left out, and its weight is distributed over the other
//! parts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rounding;
use super::tally::Figures;

/// Parts and weights of [`super::Summary::presence`].
pub const PRESENCE: [(PartName, f64); 4] =
    [(PartName::EyeContact, 0.40), (PartName::Calmness, 0.25), (PartName::Fluency, 0.20), (PartName::Steadiness, 0.15)];

/// Parts and weights of [`super::Summary::overall_score`].
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
    /// Points that visible arousal subtracts from calmness.
    Arousal,
    /// Points that visible displeasure subtracts from calmness.
    Displeasure,
}

/// A part of a score, with its value and weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Part)]
pub struct WeightedPart {
    pub part: PartName,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::one")]
    pub value: f64,
    /// The factor of the value. The weights of the measured parts sum to 1. In calmness each weight is -1.
    #[serde(serialize_with = "rounding::three")]
    pub weight: f64,
}

/// The parts of the scores. `presence` and `overall_score` are the sums of value times weight. `calmness` is 100
/// plus that sum; its weights are -1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Parts {
    pub calmness: Vec<WeightedPart>,
    pub presence: Vec<WeightedPart>,
    /// Null for a single person, because only the whole video has this score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overall_score: Vec<WeightedPart>,
}

/// The figures of speech that are parts of scores, each 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct SpeechScores {
    pub fluency: Option<f64>,
    pub clarity: Option<f64>,
}

/// Scores with their parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scores {
    /// 0 to 100, or `None` if none of its parts could be measured.
    pub presence: Option<f64>,
    /// 0 to 100, or `None` if none of its parts could be measured.
    pub overall: Option<f64>,
    pub parts: Parts,
}

impl Scores {
    pub fn of(figures: &Figures, speech_scores: SpeechScores) -> Self {
        let lost = |part, value| WeightedPart { part, value, weight: -1.0 };
        let calmness =
            vec![lost(PartName::Arousal, figures.arousal_loss), lost(PartName::Displeasure, figures.displeasure_loss)];
        let value = |part| match part {
            PartName::EyeContact => figures.eye_contact,
            PartName::Calmness => Some(figures.calmness),
            PartName::Steadiness => figures.steadiness,
            PartName::Fluency => speech_scores.fluency,
            _ => None,
        };
        let presence = weigh(&PRESENCE, value);
        let score = sum(&presence);
        let overall = weigh(&OVERALL, |part| match part {
            PartName::Presence => score,
            PartName::SpeechClarity => speech_scores.clarity,
            _ => None,
        });
        Self { presence: score, overall: sum(&overall), parts: Parts { calmness, presence, overall_score: overall } }
    }
}

/// Returns the parts that could be measured, with weights that sum to 1.
fn weigh(weights: &[(PartName, f64)], value: impl Fn(PartName) -> Option<f64>) -> Vec<WeightedPart> {
    let measured = weights.iter().filter_map(|&(part, weight)| {
        let value = value(part)?.clamp(0.0, 100.0);
        Some(WeightedPart { part, value, weight })
    });
    let mut parts: Vec<WeightedPart> = measured.collect();
    let all: f64 = parts.iter().map(|part| part.weight).sum();
    for part in &mut parts {
        part.weight /= all;
    }
    parts
}

fn sum(parts: &[WeightedPart]) -> Option<f64> {
    (!parts.is_empty()).then(|| parts.iter().map(|part| part.value * part.weight).sum::<f64>().clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::Pose;
    use crate::analysis::contact::Contact;
    use crate::analysis::tally::Tally;
    use crate::analysis::testing::{probabilities, seen};
    use crate::analysis::{Observation, Probabilities};

    fn figures(calmness: f64, eye_contact: Option<f64>, steadiness: Option<f64>) -> Figures {
        Figures {
            emotions: [1.0 / 7.0; 7],
            arousal_loss: 100.0 - calmness,
            displeasure_loss: 0.0,
            calmness,
            confidence: 0.5,
            valence: 0.0,
            arousal: 0.0,
            eye_contact,
            eyes_covered: None,
            mouth_covered: None,
            bare: None,
            eye_contact_coverage: None,
            steadiness,
        }
    }

    #[test]
    fn the_weights_of_each_score_sum_to_one() {
        for weights in [PRESENCE.as_slice(), &OVERALL] {
            assert!((weights.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_weight_of_a_missing_part_is_distributed_over_the_others() {
        let speech_scores = SpeechScores { fluency: Some(90.0), clarity: Some(80.0) };
        let all = Scores::of(&figures(40.0, Some(50.0), Some(60.0)), speech_scores);
        assert!((all.presence.unwrap() - (0.4 * 50.0 + 0.25 * 40.0 + 0.2 * 90.0 + 0.15 * 60.0)).abs() < 1e-9);
        assert!((all.overall.unwrap() - (0.75 * all.presence.unwrap() + 0.25 * 80.0)).abs() < 1e-9);
        let few = Scores::of(&figures(40.0, Some(50.0), None), SpeechScores::default());
        assert!((few.presence.unwrap() - (0.4 * 50.0 + 0.25 * 40.0) / 0.65).abs() < 1e-9);
        assert_eq!(few.overall, few.presence);
        assert_eq!(
            few.parts.presence.iter().map(|part| part.part).collect::<Vec<_>>(),
            [PartName::EyeContact, PartName::Calmness]
        );
    }

    /// One sample of a person: emotions, eye contact, steadiness and quality.
    type SampleValues = (Probabilities, Option<bool>, Option<f64>, f32);

    fn tally(samples: &[SampleValues]) -> Tally {
        let mut all = Tally::default();
        for (n, (emotions, met, steadiness, quality)) in (0..).zip(samples) {
            let seen = Observation {
                emotions: *emotions,
                quality: *quality,
                pose: Some(Pose::default()),
                ..seen(n, f64::from(n), (100.0, 100.0), 80.0)
            };
            let contact = Contact { met: *met, eyes_shut: met.map(|met| !met) };
            all.add(&Tally::of(&seen, contact, *steadiness, 1.0), 1.0);
        }
        all
    }

    fn samples() -> impl Strategy<Value = Vec<SampleValues>> {
        let met = prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
        let one = (probabilities(), met, proptest::option::of(0.0..=100.0), 0.05_f32..=1.0);
        prop::collection::vec(one, 1..20)
    }

    proptest! {
        #[test]
        fn a_higher_value_of_a_part_never_lowers_a_score(
            low in [0.0..=100.0, 0.0..=100.0, 0.0..=100.0, 0.0..=100.0, 0.0..=100.0],
            more in 0.0..=100.0,
            which in 0_usize..5,
            (looks, steady, speaks, heard) in any::<(bool, bool, bool, bool)>(),
        ) {
            let mut high = low;
            high[which] = f64::min(high[which] + more, 100.0);
            let score = |[eyes, calm, steadiness, fluency, clarity]: [f64; 5]| {
                let figures = figures(calm, looks.then_some(eyes), steady.then_some(steadiness));
                let (fluency, clarity) = (speaks.then_some(fluency), heard.then_some(clarity));
                Scores::of(&figures, SpeechScores { fluency, clarity })
            };
            let (low, high) = (score(low), score(high));
            prop_assert!(high.presence >= low.presence.map(|score| score - 1e-9));
            prop_assert!(high.overall >= low.overall.map(|score| score - 1e-9));
        }

        #[test]
        fn less_eye_contact_never_raises_presence(mut samples in samples(), which in any::<prop::sample::Index>()) {
            let before = Scores::of(&tally(&samples).figures().unwrap(), SpeechScores::default());
            let looked = which.get_mut(&mut samples);
            if looked.1 == Some(true) {
                looked.1 = Some(false);
            }
            let after = Scores::of(&tally(&samples).figures().unwrap(), SpeechScores::default());
            prop_assert!(after.presence <= before.presence.map(|score| score + 1e-9));
            prop_assert!(after.overall <= before.overall.map(|score| score + 1e-9));
        }

        #[test]
        fn a_score_is_the_weighted_sum_of_its_parts(
            samples in samples(), clarity in proptest::option::of(0.0..=100.0),
        ) {
            let figures = tally(&samples).figures().unwrap();
            let scores = Scores::of(&figures, SpeechScores { fluency: clarity, clarity });
            let sum = |parts: &[WeightedPart]| parts.iter().map(|part| part.value * part.weight).sum::<f64>();
            let weights = |parts: &[WeightedPart]| parts.iter().map(|part| part.weight).sum::<f64>();
            prop_assert!((sum(&scores.parts.presence) - scores.presence.unwrap()).abs() < 1e-9);
            prop_assert!((sum(&scores.parts.overall_score) - scores.overall.unwrap()).abs() < 1e-9);
            prop_assert!((100.0 + sum(&scores.parts.calmness) - figures.calmness).abs() < 1e-9);
            prop_assert!((weights(&scores.parts.presence) - 1.0).abs() < 1e-9);
            prop_assert!((weights(&scores.parts.overall_score) - 1.0).abs() < 1e-9);
        }
    }
}
