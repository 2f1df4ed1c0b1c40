//! The statements of the feedback, as data. [`super::feedback`] chooses them, and [`crate::report`] makes sentences of
//! them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Certainty, Emotion, Interval, PartName, rounding};

/// One statement of the feedback. `kind` names the variant in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Remark {
    /// Faces were seen for a short time only.
    LittleMaterial {
        samples: u32,
        #[serde(serialize_with = "rounding::one")]
        seen_s: f64,
    },
    /// What follows is about this many people together. Only results of earlier versions have it.
    SeveralPeople { people: u32 },
    /// The remarks about one of several people.
    Person {
        /// `id` of the face.
        face: u32,
        #[schema(no_recursion)]
        remarks: Vec<Remark>,
    },
    /// The most frequent emotion, and the second one if it was frequent too.
    Showed { shown: Vec<Shown> },
    /// The most frequent emotion may be the look of this face at rest: it is unpleasant, it was the usual one, and it never
    /// rose clearly above its usual level.
    MayBeAtRest { emotion: Emotion },
    /// The part of the scores with the highest value.
    Strongest(#[schema(inline)] Finding),
    /// The part of the scores with the lowest value.
    Weakest(#[schema(inline)] Finding),
    /// All parts have about the same value.
    Even {
        parts: Vec<PartName>,
        #[serde(serialize_with = "rounding::one")]
        value: f64,
    },
    /// The only part that could be measured.
    Only(#[schema(inline)] Finding),
    /// A piece of advice.
    Try { advice: Advice },
}

/// An emotion with its share and its longest segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    pub emotion: Emotion,
    #[serde(serialize_with = "rounding::one")]
    pub percent: f64,
    /// Start and end of the longest segment, in seconds. Null if there is no segment of this emotion.
    #[schema(value_type = Option<Vec<f64>>, min_items = 2, max_items = 2)]
    pub longest_s: Option<[f64; 2]>,
}

/// The value of a part, with its certainty and reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub part: PartName,
    /// 0 to 100.
    #[serde(serialize_with = "rounding::one")]
    pub value: f64,
    pub certainty: Certainty,
    /// Null if the spread of the value is unknown.
    pub interval: Option<Interval>,
    /// The time in which the value was clearly higher (strongest part) or lower (weakest part) than its mean.
    #[serde(rename = "stretch")]
    pub span: Option<FindingSpan>,
    /// The cause of a low value, if known.
    pub reason: Option<Reason>,
}

/// A time span of the video in which a figure differs from its mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Stretch)]
pub struct FindingSpan {
    #[serde(serialize_with = "rounding::one")]
    pub start_s: f64,
    #[serde(serialize_with = "rounding::one")]
    pub end_s: f64,
    /// Mean of the figure in this time, 0 to 100.
    #[serde(serialize_with = "rounding::one")]
    pub value: f64,
}

/// The cause of a low value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// Eyes were shut or cast down.
    EyesShut,
    /// The eyes were open and did not look into the camera.
    LookedAway,
    /// The head was turned away. The gaze is unknown.
    HeadTurned,
    /// The expression that lowered calmness most.
    Expression { emotion: Emotion },
    Pauses {
        pauses: u32,
        #[serde(serialize_with = "rounding::one")]
        longest_s: f64,
    },
    SlowPace {
        #[serde(serialize_with = "rounding::one")]
        syllables_per_s: f64,
    },
    FastPace {
        #[serde(serialize_with = "rounding::one")]
        syllables_per_s: f64,
    },
    /// Quality of the recording: an opinion score from 1 to 5.
    Recording {
        #[serde(serialize_with = "rounding::one")]
        ovr: f64,
    },
}

/// A piece of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    LookIntoTheLens,
    KeepEyesUp,
    FaceTheCamera,
    RelaxTheFace,
    HoldTheHeadStill,
    ShortenPauses,
    SpeakFaster,
    SpeakSlower,
    BetterSound,
    /// Also read from `quieter_face`, the advice to lively faces in results of `metrics_version` 1.
    #[serde(alias = "quieter_face")]
    KeepItUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_of_earlier_versions_to_smile_less_is_read_as_another_one() {
        let json = serde_json::json!({"kind": "try", "advice": "quieter_face"});
        assert_eq!(serde_json::from_value::<Remark>(json).unwrap(), Remark::Try { advice: Advice::KeepItUp });
    }
}
