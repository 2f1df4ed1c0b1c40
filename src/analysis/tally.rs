//! Sums over samples, from which all figures are computed. The sums of the parts of a video add up to those of the
//! whole, so drawing videos from the blocks of one is cheap ([`super::intervals`]).

use super::contact::Contact;
use super::scores::calmness_loss;
use super::{Covered, Emotion, Observation};

/// Indices of the sums. These are weighted by time.
const SCREEN: usize = 0;
const READABLE: usize = 1;
const MET: usize = 2;
const SHUT: usize = 3;
const LANDMARKS: usize = 4;
const EYES_COVERED: usize = 5;
const MOUTH_COVERED: usize = 6;
const PART_COVERED: usize = 7;
/// The sums from this index on are weighted by time and quality.
const WEIGHT: usize = 8;
const EMOTIONS: usize = 9;
const AROUSAL_LOSS: usize = 16;
const DISPLEASURE_LOSS: usize = 17;
const CONFIDENCE: usize = 18;
const POSED: usize = 19;
const STEADY: usize = 20;
const SUMS: usize = 21;

/// Sums over some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tally([f64; SUMS]);

impl Default for Tally {
    fn default() -> Self {
        Self([0.0; SUMS])
    }
}

impl Tally {
    /// Returns the sums of one sample that stands for `span_s` seconds. `steadiness` is 0 to 100, or `None` if it is
    /// unknown.
    pub fn of(seen: &Observation, contact: Contact, steadiness: Option<f64>, span_s: f64) -> Self {
        let mut sums = [0.0; SUMS];
        let seconds = |counts: bool| if counts { span_s } else { 0.0 };
        sums[SCREEN] = span_s;
        sums[READABLE] = seconds(contact.met.is_some());
        sums[MET] = seconds(contact.met == Some(true));
        sums[SHUT] = seconds(contact.eyes_shut == Some(true));
        sums[LANDMARKS] = seconds(seen.covered.is_some());
        sums[EYES_COVERED] = seconds(seen.covered.is_some_and(|covered| covered.eyes));
        sums[MOUTH_COVERED] = seconds(seen.covered.is_some_and(|covered| covered.mouth));
        sums[PART_COVERED] = seconds(seen.covered.is_some_and(Covered::any));
        let weight = span_s * f64::from(seen.quality);
        sums[WEIGHT] = weight;
        for emotion in Emotion::ALL {
            sums[EMOTIONS + emotion.index()] = weight * f64::from(seen.emotions.of(emotion));
        }
        let (arousal_loss, displeasure_loss) = calmness_loss(&seen.emotions);
        sums[AROUSAL_LOSS] = weight * arousal_loss;
        sums[DISPLEASURE_LOSS] = weight * displeasure_loss;
        sums[CONFIDENCE] = weight * f64::from(seen.emotions.top().1);
        if let Some(steadiness) = steadiness {
            sums[POSED] = weight;
            sums[STEADY] = weight * steadiness;
        }
        Self(sums)
    }

    /// Adds another tally, multiplied by `times`.
    pub fn add(&mut self, other: &Self, times: f64) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += times * more;
        }
    }

    /// Returns the sums of one person for use in sums over several people. People are weighted by time on screen and
    /// not by quality. Otherwise the person nearest to the camera would dominate.
    pub fn among_others(&self) -> Self {
        let mut sums = self.0;
        if sums[WEIGHT] > 0.0 {
            let by_time = sums[SCREEN] / sums[WEIGHT];
            for sum in &mut sums[WEIGHT..] {
                *sum *= by_time;
            }
        }
        Self(sums)
    }

    /// Returns the time on screen in seconds.
    pub const fn screen_s(&self) -> f64 {
        self.0[SCREEN]
    }

    /// Returns the time with shut eyes in seconds.
    pub const fn shut_s(&self) -> f64 {
        self.0[SHUT]
    }

    /// Returns the time without eye contact in seconds.
    pub fn missed_s(&self) -> f64 {
        self.0[READABLE] - self.0[MET]
    }

    /// Returns the mean quality over time, 0 to 1.
    pub fn quality(&self) -> f64 {
        ratio(self.0[WEIGHT], self.0[SCREEN]).unwrap_or(0.0)
    }

    /// Returns the figures of these samples, or `None` without samples.
    pub fn figures(&self) -> Option<Figures> {
        let sums = &self.0;
        let weight = sums[WEIGHT];
        if weight <= 0.0 {
            return None;
        }
        let all: f64 = sums[EMOTIONS..EMOTIONS + 7].iter().sum();
        let emotions = Emotion::ALL.map(|emotion| sums[EMOTIONS + emotion.index()] / all);
        let (valence, arousal) = Emotion::ALL.into_iter().fold((0.0, 0.0), |(valence, arousal), emotion| {
            let (v, a) = emotion.valence_arousal();
            let p = emotions[emotion.index()];
            (valence + p * v, arousal + p * a)
        });
        let (arousal_loss, displeasure_loss) =
            (100.0 * sums[AROUSAL_LOSS] / weight, 100.0 * sums[DISPLEASURE_LOSS] / weight);
        Some(Figures {
            emotions,
            arousal_loss,
            displeasure_loss,
            calmness: (100.0 - arousal_loss - displeasure_loss).max(0.0),
            confidence: sums[CONFIDENCE] / weight,
            valence,
            arousal,
            eye_contact: ratio(sums[MET], sums[READABLE]).map(|share| 100.0 * share),
            eye_contact_coverage: ratio(sums[READABLE], sums[SCREEN]).map(|share| share.min(1.0)),
            eyes_covered: ratio(sums[EYES_COVERED], sums[LANDMARKS]),
            mouth_covered: ratio(sums[MOUTH_COVERED], sums[LANDMARKS]),
            bare: ratio((sums[LANDMARKS] - sums[PART_COVERED]).max(0.0), sums[SCREEN]).map(|share| share.min(1.0)),
            steadiness: ratio(sums[STEADY], sums[POSED]),
        })
    }
}

/// Divides `part` by `all`. Returns `None` if `all` is 0.
fn ratio(part: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| part / all)
}

/// The figures of a person or a video, before rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// Shares that sum to 1.
    pub emotions: [f64; 7],
    /// Loss of calmness by arousal, in points.
    pub arousal_loss: f64,
    /// Loss of calmness by displeasure, in points.
    pub displeasure_loss: f64,
    pub calmness: f64,
    pub confidence: f64,
    pub valence: f64,
    pub arousal: f64,
    pub eye_contact: Option<f64>,
    pub eye_contact_coverage: Option<f64>,
    pub eyes_covered: Option<f64>,
    pub mouth_covered: Option<f64>,
    /// Share of the time on screen with landmarks and without covered parts.
    pub bare: Option<f64>,
    pub steadiness: Option<f64>,
}
