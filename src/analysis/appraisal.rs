//! One score and one sentence for a whole video: the figures of [`super::Summary`] and the speech, weighed.
//!
//! What is weighed is what the figures measure, visible behaviour; neither the score nor the sentence says anything
//! about a person.

use std::collections::BTreeMap;

use super::{Analysis, Emotion, rounding};

/// Weight of each part in [`Appraisal::overall_score`]. A part that could not be measured is left out, and the others
/// count for its share. The weights are a choice of this project, with no study behind them: looking at the camera
/// counts most because it is what a viewer notices first.
const WEIGHTS: [(Part, f64); 3] = [(Part::EyeContact, 0.40), (Part::Calmness, 0.35), (Part::SpeechClarity, 0.25)];

/// A part of the overall score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    EyeContact,
    Calmness,
    SpeechClarity,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::EyeContact => "eye contact",
            Self::Calmness => "calmness",
            Self::SpeechClarity => "clarity of speech",
        }
    }

    /// One thing to try, for a part that is the weakest.
    const fn advice(self) -> &'static str {
        match self {
            Self::EyeContact => "Try to turn to the camera more often",
            Self::Calmness => "Try a take with a relaxed face",
            Self::SpeechClarity => "Try a closer microphone or a quieter room",
        }
    }

    /// 0 to 100; `None` where it could not be measured.
    fn of(self, analysis: &Analysis) -> Option<f64> {
        match self {
            Self::EyeContact => analysis.summary.eye_contact,
            Self::Calmness => analysis.summary.calmness,
            Self::SpeechClarity => speech_clarity(analysis),
        }
    }
}

/// A video's figures as whole numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// How sure the classifier was: [`super::Summary::model_confidence`] as 0 to 100.
    pub confidence: u8,
    /// Percent for each of the seven labels, summing to exactly 100.
    pub emotions: BTreeMap<Emotion, u8>,
    /// 0 to 100; 0 as well where no face was turned far enough towards the camera to be read.
    pub eye_contact: u8,
    /// 0 to 100; `None` without a sound track or without speech in it.
    pub speech_clarity: Option<u8>,
    /// 0 to 100: the weighted mean of eye contact (0.40), calmness (0.35) and clarity of speech (0.25); what could not
    /// be measured is left out.
    pub overall_score: u8,
    /// Names the strongest and the weakest part with their figures, and one thing to try.
    pub feedback: String,
}

/// The appraisal of an analysis; `None` if no face was found.
pub fn appraise(analysis: &Analysis) -> Option<Appraisal> {
    let summary = &analysis.summary;
    let emotions = rounding::whole_percentages(summary.emotions.as_ref()?);
    let measured: Vec<(Part, f64, f64)> = WEIGHTS
        .into_iter()
        .filter_map(|(part, weight)| Some((part, weight, part.of(analysis)?.clamp(0.0, 100.0))))
        .collect();
    let weights: f64 = measured.iter().map(|(_, weight, _)| weight).sum();
    let score = measured.iter().map(|(_, weight, value)| weight * value).sum::<f64>() / weights;
    Some(Appraisal {
        confidence: whole(100.0 * summary.model_confidence?),
        emotions: emotions.into_iter().map(|(emotion, percent)| (emotion, whole(percent))).collect(),
        eye_contact: summary.eye_contact.map_or(0, whole),
        speech_clarity: speech_clarity(analysis).map(whole),
        overall_score: whole(score),
        feedback: feedback(&measured.iter().map(|(part, _, value)| (*part, whole(*value))).collect::<Vec<_>>()),
    })
}

fn speech_clarity(analysis: &Analysis) -> Option<f64> {
    analysis.speech.as_ref().filter(|speech| speech.ratio > 0.0).and_then(|speech| speech.clarity)
}

/// In the order of [`WEIGHTS`]; the earlier part on a tie.
fn feedback(parts: &[(Part, u8)]) -> String {
    let Some((first, rest)) = parts.split_first() else {
        return "Nothing could be measured but the emotions.".to_owned();
    };
    let strongest = rest.iter().fold(first, |best, part| if part.1 > best.1 { part } else { best });
    let weakest = rest.iter().fold(first, |worst, part| if part.1 < worst.1 { part } else { worst });
    let (part, value) = weakest;
    if rest.is_empty() {
        return format!("Only {} could be measured: {value} of 100. {}.", part.name(), part.advice());
    }
    if strongest.1 == *value {
        let names: Vec<_> = parts.iter().map(|(part, _)| part.name()).collect();
        return format!("Equally strong: {}, {value} of 100 each.", names.join(", "));
    }
    format!(
        "Strongest was {} with {} of 100, weakest {} with {value} of 100. {}.",
        strongest.0.name(),
        strongest.1,
        part.name(),
        part.advice()
    )
}

fn whole(value: f64) -> u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    {
        value.round().clamp(0.0, 100.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::analysis::Probabilities;
    use crate::analysis::testing::probabilities;

    const NEUTRAL: Probabilities = Probabilities([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);

    fn analysis(
        emotions: &Probabilities,
        eye_contact: Option<f64>,
        calmness: f64,
        clarity: Option<f64>,
        confidence: f64,
    ) -> Analysis {
        let sum: f64 = emotions.0.iter().map(|p| f64::from(*p)).sum();
        let percent = |emotion: Emotion| 100.0 * f64::from(emotions.of(emotion)) / sum;
        let percentages: BTreeMap<_, _> = Emotion::ALL.into_iter().map(|e| (e, percent(e))).collect();
        let speech = clarity.map(|clarity| {
            json!({
                "ratio": 0.5, "clarity": clarity, "quality_mos": {"sig": 3.0, "bak": 3.0, "ovr": 3.0},
                "pauses": 1, "longest_pause_s": 0.5,
            })
        });
        let analysis = json!({
            "video": {
                "duration_s": 1.0, "fps": 25.0, "width": 64, "height": 48, "codec": "h264",
                "frames_total": 25, "frames_analyzed": 5, "has_audio": clarity.is_some(),
            },
            "summary": {
                "dominant_emotion": emotions.top().0, "emotions": percentages, "calmness": calmness,
                "eye_contact": eye_contact, "model_confidence": confidence, "valence": 0.0, "arousal": 0.0,
            },
            "speech": speech, "faces": [], "models": [], "warnings": [],
        });
        serde_json::from_value(analysis).unwrap()
    }

    #[test]
    fn the_weights_sum_to_one() {
        assert!((WEIGHTS.iter().map(|(_, weight)| weight).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_score_is_the_weighted_mean_of_what_was_measured() {
        let score = |eyes, calm, clarity| {
            appraise(&analysis(&NEUTRAL, eyes, calm, clarity, 0.9)).map(|appraisal| appraisal.overall_score)
        };
        assert_eq!(score(Some(50.0), 40.0, Some(80.0)), Some(54));
        assert_eq!(score(Some(50.0), 40.0, None), Some(45));
        assert_eq!(score(None, 40.0, None), Some(40));
    }

    #[test]
    fn the_feedback_names_the_strongest_and_the_weakest_part_with_their_figures() {
        let feedback = |eyes, calm, clarity| {
            appraise(&analysis(&NEUTRAL, eyes, calm, clarity, 0.9)).map(|appraisal| appraisal.feedback).unwrap()
        };
        assert_eq!(
            feedback(Some(22.4), 41.0, Some(72.0)),
            "Strongest was clarity of speech with 72 of 100, weakest eye contact with 22 of 100. \
             Try to turn to the camera more often."
        );
        assert_eq!(
            feedback(None, 41.0, None),
            "Only calmness could be measured: 41 of 100. Try a take with a relaxed face."
        );
        assert_eq!(feedback(Some(50.0), 50.0, None), "Equally strong: eye contact, calmness, 50 of 100 each.");
    }

    #[test]
    fn without_a_face_there_is_nothing_to_appraise() {
        let mut none = analysis(&NEUTRAL, None, 0.0, None, 0.0);
        none.summary.emotions = None;
        assert_eq!(appraise(&none), None);
    }

    #[test]
    fn speech_that_nobody_spoke_has_no_clarity() {
        let mut silent = analysis(&NEUTRAL, Some(50.0), 50.0, Some(80.0), 0.9);
        silent.speech.as_mut().unwrap().ratio = 0.0;
        assert_eq!(appraise(&silent).unwrap().speech_clarity, None);
    }

    proptest! {
        #[test]
        fn every_figure_is_whole_and_in_range_and_the_emotions_sum_to_a_hundred(
            emotions in probabilities(),
            eyes in proptest::option::of(0.0..=100.0),
            calm in 0.0..=100.0,
            clarity in proptest::option::of(0.0..=100.0),
            confidence in 0.0..=1.0,
        ) {
            let appraisal = appraise(&analysis(&emotions, eyes, calm, clarity, confidence)).unwrap();
            prop_assert_eq!(appraisal.emotions.len(), 7);
            prop_assert_eq!(appraisal.emotions.values().map(|percent| u32::from(*percent)).sum::<u32>(), 100);
            for value in [appraisal.confidence, appraisal.eye_contact, appraisal.overall_score] {
                prop_assert!(value <= 100);
            }
            prop_assert_eq!(appraisal.speech_clarity.is_some(), clarity.is_some());
            prop_assert!(appraisal.feedback.ends_with('.'));
        }

        #[test]
        fn more_of_any_part_never_lowers_the_score(
            low in [0.0..=100.0, 0.0..=100.0, 0.0..=100.0],
            more in 0.0..=100.0,
            which in 0_usize..3,
            speaks in any::<bool>(),
        ) {
            let mut high = low;
            high[which] = f64::min(high[which] + more, 100.0);
            let score = |[eyes, calm, clarity]: [f64; 3]| {
                let analysis = analysis(&NEUTRAL, Some(eyes), calm, speaks.then_some(clarity), 0.5);
                appraise(&analysis).unwrap().overall_score
            };
            prop_assert!(score(high) >= score(low));
        }
    }
}
