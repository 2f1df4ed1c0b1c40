//! The figures that are compared: those of a person that have an interval.

use serde::{Serialize, Serializer};

use crate::analysis::{Emotion, FaceSummary, Interval, Intervals};

/// A figure of a person.
pub struct Figure {
    pub name: &'static str,
    /// The values that it can have.
    pub range: Interval,
    /// Decimals in the text for people.
    pub decimals: usize,
    /// Whether its definition depends on the version of the metrics.
    pub depends_on_version: bool,
    of: Of,
}

/// Where a figure is in a result.
enum Of {
    Emotion(Emotion),
    Other(fn(&FaceSummary, &Intervals) -> Option<(f64, Interval)>),
}

const PERCENT: Interval = Interval { low: 0.0, high: 100.0 };
const SHARE: Interval = Interval { low: 0.0, high: 1.0 };
const SIGNED: Interval = Interval { low: -1.0, high: 1.0 };

const fn emotion(emotion: Emotion) -> Figure {
    Figure { name: emotion.label(), range: PERCENT, decimals: 1, depends_on_version: false, of: Of::Emotion(emotion) }
}

const fn other(
    name: &'static str,
    range: Interval,
    depends_on_version: bool,
    of: fn(&FaceSummary, &Intervals) -> Option<(f64, Interval)>,
) -> Figure {
    let decimals = if range.high > 1.0 { 1 } else { 2 };
    Figure { name, range, decimals, depends_on_version, of: Of::Other(of) }
}

pub static FIGURES: [Figure; 13] = [
    emotion(Emotion::Angry),
    emotion(Emotion::Disgust),
    emotion(Emotion::Fear),
    emotion(Emotion::Happy),
    emotion(Emotion::Sad),
    emotion(Emotion::Surprise),
    emotion(Emotion::Neutral),
    other("valence", SIGNED, false, |face, intervals| Some((face.valence, intervals.valence))),
    other("arousal", SIGNED, false, |face, intervals| Some((face.arousal, intervals.arousal))),
    other("calmness", PERCENT, true, |face, intervals| Some((face.calmness, intervals.calmness))),
    other("eye_contact", PERCENT, false, |face, intervals| face.eye_contact.zip(intervals.eye_contact)),
    other("presence", PERCENT, true, |face, intervals| face.presence.zip(intervals.presence)),
    other("model_confidence", SHARE, false, |face, intervals| {
        face.model_confidence.map(|value| (value, intervals.model_confidence))
    }),
];

/// A value for each of the [`FIGURES`], in their order. In JSON, an object with the names of those that are there.
#[derive(Debug, Clone)]
pub struct ByFigure<T>(pub Vec<Option<T>>);

impl<T: Serialize> Serialize for ByFigure<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = FIGURES.iter().zip(&self.0);
        serializer.collect_map(named.filter_map(|(figure, value)| Some((figure.name, value.as_ref()?))))
    }
}

impl Figure {
    /// Returns the figure of a person and its interval, if it was measured.
    pub fn of(&self, face: &FaceSummary) -> Option<(f64, Interval)> {
        let intervals = face.intervals.as_ref()?;
        match self.of {
            Of::Emotion(emotion) => face.emotions.get(&emotion).copied().zip(intervals.emotions.get(&emotion).copied()),
            Of::Other(of) => of(face, intervals),
        }
    }
}
