//! The five emotions of the Journaling thumbnails API. They are here and not in `api/compat`, because `vision` and
//! `pipeline` compute them: a classifier of five emotions can be configured.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Emotion, Probabilities};

/// One of the five emotions of the Journaling thumbnails API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Five {
    Anger,
    Happy,
    Shock,
    Neutral,
    Sad,
}

impl Five {
    /// All five, in order.
    pub const ALL: [Self; 5] = [Self::Anger, Self::Happy, Self::Shock, Self::Neutral, Self::Sad];

    /// Returns the label that the API uses.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Anger => "Anger",
            Self::Happy => "Happy",
            Self::Shock => "Shock",
            Self::Neutral => "Neutral",
            Self::Sad => "Sad",
        }
    }

    /// Returns the emotion with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|five| five.label() == label)
    }

    /// Maps one of the seven emotions to one of the five: surprise and fear to shock, anger and disgust to anger.
    const fn of(emotion: Emotion) -> Self {
        match emotion {
            Emotion::Angry | Emotion::Disgust => Self::Anger,
            Emotion::Happy => Self::Happy,
            Emotion::Surprise | Emotion::Fear => Self::Shock,
            Emotion::Sad => Self::Sad,
            Emotion::Neutral => Self::Neutral,
        }
    }
}

/// The emotion of a clip as one of the five.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub emotion: Five,
    /// Its share of all five, 0 to 1.
    pub confidence: f64,
}

impl Verdict {
    /// Returns the largest of five shares in the order of [`Five::ALL`], the earlier one on a tie. Returns `None` if
    /// the shares are negative, not finite or all 0.
    pub fn of_shares(shares: [f64; 5]) -> Option<Self> {
        let sum: f64 = shares.iter().sum();
        if !(sum.is_finite() && sum > 0.0 && shares.iter().all(|share| *share >= 0.0)) {
            return None;
        }
        let best = Five::ALL.into_iter().zip(shares).reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(emotion, share)| Self { emotion, confidence: share / sum })
    }

    /// Returns the emotion of a clip from the probabilities in its frames, each with a weight. Returns `None` if there
    /// are no frames.
    pub fn of_frames(frames: &[(Probabilities, f32)]) -> Option<Self> {
        let mut shares = [0.0; 5];
        for (probabilities, weight) in frames {
            for emotion in Emotion::ALL {
                shares[Five::of(emotion) as usize] += f64::from(probabilities.of(emotion)) * f64::from(*weight);
            }
        }
        Self::of_shares(shares)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::probabilities;

    fn one(values: [(Emotion, f32); 2]) -> Verdict {
        let mut seven = [0.0; 7];
        for (emotion, value) in values {
            seven[emotion.index()] = value;
        }
        Verdict::of_frames(&[(Probabilities(seven), 1.0)]).unwrap()
    }

    #[test]
    fn emotions_that_map_to_the_same_one_are_added() {
        // 0.3 + 0.3 of 1.0 against 0.4.
        let mut seven = [0.0; 7];
        (seven[Emotion::Surprise.index()], seven[Emotion::Fear.index()], seven[Emotion::Sad.index()]) = (0.3, 0.3, 0.4);
        let verdict = Verdict::of_frames(&[(Probabilities(seven), 1.0)]).unwrap();
        assert_eq!(verdict.emotion, Five::Shock);
        assert!((verdict.confidence - 0.6).abs() < 1e-6);
        assert_eq!(one([(Emotion::Angry, 0.5), (Emotion::Disgust, 0.5)]).emotion, Five::Anger);
        assert_eq!(one([(Emotion::Happy, 0.9), (Emotion::Sad, 0.1)]).emotion, Five::Happy);
    }

    #[test]
    fn frames_count_by_weight_and_no_frame_gives_no_verdict() {
        let happy = Probabilities([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let sad = Probabilities([0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        let verdict = Verdict::of_frames(&[(happy, 0.1), (sad, 0.3)]).unwrap();
        assert_eq!((verdict.emotion, (verdict.confidence * 100.0).round()), (Five::Sad, 75.0));
        assert_eq!(Verdict::of_frames(&[]), None);
        assert_eq!(Verdict::of_shares([f64::NAN; 5]), None);
    }

    proptest! {
        #[test]
        fn the_confidence_is_between_a_fifth_and_one(frames in prop::collection::vec(probabilities(), 1..20)) {
            let frames: Vec<_> = frames.into_iter().map(|frame| (frame, 1.0)).collect();
            let verdict = Verdict::of_frames(&frames).unwrap();
            prop_assert!((0.2 - 1e-6..=1.0 + 1e-6).contains(&verdict.confidence));
        }
    }
}
