//! Sums over samples, from which every figure follows. Those of the parts of a video add up to those of the whole, which
//! is what makes it cheap to draw videos from the parts of one ([`super::intervals`]).

use super::contact::Contact;
use super::scores::strain;
use super::{Emotion, Observation};

/// Places of the sums.
const SCREEN: usize = 0;
const READABLE: usize = 1;
const MET: usize = 2;
const SHUT: usize = 3;
const LANDMARKS: usize = 4;
const EYES_COVERED: usize = 5;
const MOUTH_COVERED: usize = 6;
/// From here on weighted by time and quality.
const WEIGHT: usize = 7;
const EMOTIONS: usize = 8;
const STIRRED: usize = 15;
const DISPLEASED: usize = 16;
const CONFIDENCE: usize = 17;
const POSED: usize = 18;
const STEADY: usize = 19;
const SUMS: usize = 20;

/// What some samples add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tally([f64; SUMS]);

impl Default for Tally {
    fn default() -> Self {
        Self([0.0; SUMS])
    }
}

impl Tally {
    /// Of one sample that stands for `span_s` seconds; `steadiness` 0 to 100, `None` where it could not be told.
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
        let weight = span_s * f64::from(seen.quality);
        sums[WEIGHT] = weight;
        for emotion in Emotion::ALL {
            sums[EMOTIONS + emotion.index()] = weight * f64::from(seen.emotions.of(emotion));
        }
        let (stirred, displeased) = strain(&seen.emotions);
        sums[STIRRED] = weight * stirred;
        sums[DISPLEASED] = weight * displeased;
        sums[CONFIDENCE] = weight * f64::from(seen.emotions.top().1);
        if let Some(steadiness) = steadiness {
            sums[POSED] = weight;
            sums[STEADY] = weight * steadiness;
        }
        Self(sums)
    }

    /// Adds another so many times.
    pub fn add(&mut self, other: &Self, times: f64) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += times * more;
        }
    }

    /// Of one person, as it counts among several: by time on screen, and not by quality, which would let the person
    /// nearest to the camera speak for all.
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

    /// Time on screen, in seconds.
    pub const fn screen_s(&self) -> f64 {
        self.0[SCREEN]
    }

    /// Time with shut eyes, in seconds.
    pub const fn shut_s(&self) -> f64 {
        self.0[SHUT]
    }

    /// Time in which the camera was not met, in seconds.
    pub fn missed_s(&self) -> f64 {
        self.0[READABLE] - self.0[MET]
    }

    /// Mean quality over the time, 0 to 1.
    pub fn quality(&self) -> f64 {
        ratio(self.0[WEIGHT], self.0[SCREEN]).unwrap_or(0.0)
    }

    /// The figures of these samples; `None` if there are none.
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
        let (stirred, displeased) = (100.0 * sums[STIRRED] / weight, 100.0 * sums[DISPLEASED] / weight);
        Some(Figures {
            emotions,
            stirred,
            displeased,
            calmness: (100.0 - stirred - displeased).max(0.0),
            confidence: sums[CONFIDENCE] / weight,
            valence,
            arousal,
            eye_contact: ratio(sums[MET], sums[READABLE]).map(|share| 100.0 * share),
            eye_contact_coverage: ratio(sums[READABLE], sums[SCREEN]).map(|share| share.min(1.0)),
            eyes_covered: ratio(sums[EYES_COVERED], sums[LANDMARKS]),
            mouth_covered: ratio(sums[MOUTH_COVERED], sums[LANDMARKS]),
            steadiness: ratio(sums[STEADY], sums[POSED]),
        })
    }
}

/// `None` where there is nothing to divide by.
fn ratio(part: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| part / all)
}

/// The figures of a person or a video, exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// Summing to 1.
    pub emotions: [f64; 7],
    /// What arousal and displeasure take from calmness, in points.
    pub stirred: f64,
    pub displeased: f64,
    pub calmness: f64,
    pub confidence: f64,
    pub valence: f64,
    pub arousal: f64,
    pub eye_contact: Option<f64>,
    pub eye_contact_coverage: Option<f64>,
    pub eyes_covered: Option<f64>,
    pub mouth_covered: Option<f64>,
    pub steadiness: Option<f64>,
}
