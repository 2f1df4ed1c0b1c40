//! The figures of a video as whole numbers and one paragraph, for compatible calls whose answers have no decimals.

use std::collections::BTreeMap;

use super::{Analysis, Emotion, rounding};

/// The figures of a video as whole numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// [`super::Summary::presence`].
    pub confidence: u8,
    /// Percent for each of the seven labels, summing to exactly 100.
    pub emotions: BTreeMap<Emotion, u8>,
    /// 0 to 100. It is also 0 if it could not be read.
    pub eye_contact: u8,
    /// 0 to 100, or `None` without a sound track or without speech.
    pub speech_clarity: Option<u8>,
    /// [`super::Summary::overall_score`].
    pub overall_score: u8,
    /// [`super::Summary::feedback`] as one text.
    pub feedback: String,
}

/// Returns the figures of an analysis, or `None` if no face was found.
pub fn appraise(analysis: &Analysis) -> Option<Appraisal> {
    let summary = &analysis.summary;
    let emotions = rounding::whole_percentages(summary.emotions.as_ref()?);
    let clarity = analysis.speech.as_ref().filter(|speech| speech.ratio > 0.0).and_then(|speech| speech.clarity);
    Some(Appraisal {
        confidence: whole(summary.presence?),
        emotions: emotions.into_iter().map(|(emotion, percent)| (emotion, whole(percent))).collect(),
        eye_contact: summary.eye_contact.map_or(0, whole),
        speech_clarity: clarity.map(whole),
        overall_score: whole(summary.overall_score?),
        feedback: summary.feedback.join(" "),
    })
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

    use super::*;
    use crate::analysis::testing::{facts, probabilities, track};
    use crate::analysis::{Probabilities, Speech, SpeechQuality, summarise};

    fn speech(clarity: f64, fluency: f64) -> Speech {
        Speech {
            ratio: 0.5,
            clarity: Some(clarity),
            quality_mos: Some(SpeechQuality { sig: 3.0, bak: 3.0, ovr: 3.0 }),
            syllables_per_s: Some(4.0),
            fluency: Some(fluency),
            pauses: 1,
            longest_pause_s: 0.5,
            spans: Vec::new(),
        }
    }

    fn analysis(shown: &[Probabilities], speech: Option<Speech>) -> Analysis {
        let times: Vec<f64> = (0..shown.len()).map(|n| n as f64).collect();
        summarise(
            facts(times.len() as f64, speech.is_some()),
            &times,
            &[track(1, &times, shown)],
            speech,
            vec![],
            vec![],
        )
        .analysis
    }

    #[test]
    fn an_analysis_without_a_face_has_no_appraisal() {
        let none = summarise(facts(2.0, true), &[0.0, 1.0], &[], Some(speech(80.0, 80.0)), vec![], vec![]);
        assert_eq!(appraise(&none.analysis), None);
    }

    #[test]
    fn a_silent_sound_track_has_no_clarity() {
        let shown = [Probabilities([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]); 4];
        let silent = Speech { ratio: 0.0, fluency: None, ..speech(80.0, 0.0) };
        let found = analysis(&shown, Some(silent));
        assert_eq!(appraise(&found).unwrap().speech_clarity, None);
        assert!(found.summary.parts.unwrap().overall_score.iter().all(|part| part.weight == 1.0));
        assert_eq!(appraise(&analysis(&shown, Some(speech(80.2, 50.0)))).unwrap().speech_clarity, Some(80));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn figures_are_those_of_the_analysis_rounded_and_emotions_sum_to_a_hundred(
            shown in prop::collection::vec(probabilities(), 1..20),
            heard in proptest::option::of((0.0..=100.0, 0.0..=100.0)),
        ) {
            let mut found = analysis(&shown, heard.map(|(clarity, fluency)| speech(clarity, fluency)));
            found.summary.feedback = vec!["First.".to_owned(), "Second.".to_owned()];
            let appraisal = appraise(&found).unwrap();
            prop_assert_eq!(appraisal.emotions.len(), 7);
            prop_assert_eq!(appraisal.emotions.values().map(|percent| u32::from(*percent)).sum::<u32>(), 100);
            prop_assert_eq!(f64::from(appraisal.confidence), found.summary.presence.unwrap().round());
            prop_assert_eq!(f64::from(appraisal.overall_score), found.summary.overall_score.unwrap().round());
            prop_assert_eq!(appraisal.speech_clarity.is_some(), heard.is_some());
            prop_assert_eq!(appraisal.feedback, "First. Second.");
        }
    }
}
