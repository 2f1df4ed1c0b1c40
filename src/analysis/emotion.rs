//! The seven emotions: their labels and their order.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One of the seven emotions. All arrays and tables use this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Emotion {
    Angry,
    Disgust,
    Fear,
    Happy,
    Sad,
    Surprise,
    Neutral,
}

impl Emotion {
    /// All seven, in order.
    pub const ALL: [Self; 7] =
        [Self::Angry, Self::Disgust, Self::Fear, Self::Happy, Self::Sad, Self::Surprise, Self::Neutral];

    /// Returns the label in JSON, CSV and configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Angry => "angry",
            Self::Disgust => "disgust",
            Self::Fear => "fear",
            Self::Happy => "happy",
            Self::Sad => "sad",
            Self::Surprise => "surprise",
            Self::Neutral => "neutral",
        }
    }

    /// Returns the index in [`Emotion::ALL`] and in [`Probabilities`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the emotion with this label, or `None` if it is not one of the seven.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|emotion| emotion.label() == label)
    }

    /// Returns valence and arousal of the emotion word, each -1 to 1. These are the mean ratings of Russell &
    /// Mehrabian (1977), "Evidence for a three-factor theory of emotions", Journal of Research in Personality 11,
    /// 273-294 (angry, disgusted, fearful, happy, sad, surprised), who call valence pleasure. Neutral is the origin.
    pub const fn valence_arousal(self) -> (f64, f64) {
        match self {
            Self::Angry => (-0.51, 0.59),
            Self::Disgust => (-0.60, 0.35),
            Self::Fear => (-0.64, 0.60),
            Self::Happy => (0.81, 0.51),
            Self::Sad => (-0.63, -0.27),
            Self::Surprise => (0.40, 0.67),
            Self::Neutral => (0.0, 0.0),
        }
    }
}

impl std::fmt::Display for Emotion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

/// Seven probabilities in the order of [`Emotion::ALL`], summing to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probabilities(pub [f32; 7]);

impl Probabilities {
    /// Returns the probability of one emotion, 0 to 1.
    pub fn of(&self, emotion: Emotion) -> f32 {
        self.0[emotion.index()]
    }

    /// Returns the most probable emotion and its probability. On a tie, the first in order wins.
    pub fn top(&self) -> (Emotion, f32) {
        Emotion::ALL.into_iter().fold((Emotion::Angry, f32::MIN), |best, emotion| {
            let p = self.of(emotion);
            if p > best.1 { (emotion, p) } else { best }
        })
    }

    /// Returns the probabilities at this share of the way from these to others.
    #[must_use]
    pub fn towards(&self, others: &Self, share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1")]
        let share = share as f32;
        Self(std::array::from_fn(|at| self.0[at] + share * (others.0[at] - self.0[at])))
    }

    /// Returns the expected valence and arousal over the probabilities, each -1 to 1.
    pub fn valence_arousal(&self) -> (f64, f64) {
        Emotion::ALL.into_iter().fold((0.0, 0.0), |(v, a), emotion| {
            let (ev, ea) = emotion.valence_arousal();
            let p = f64::from(self.of(emotion));
            (v + p * ev, a + p * ea)
        })
    }
}
