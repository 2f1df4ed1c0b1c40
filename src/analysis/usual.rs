//! How far the expressions of a person are above the usual ones of the same person in the video.
//!
//! A face can look sad or angry at rest because of its shape, and a faint smile may never be the most probable
//! expression. Both show in the difference from what is usual for this face. The level of an expression is the logarithm
//! of its odds, and the usual level is the median over the video (a robust baseline: up to half of the samples may
//! differ). So an expression that is shown most of the time is the usual one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Covered, Emotion, Observation, Probabilities, rounding};

/// A person has a usual level from so many samples and so many seconds on screen on.
pub const USUAL_SAMPLES: usize = 30;
pub const USUAL_S: f64 = 30.0;
/// Added to both probabilities of the odds. It hides differences between probabilities far below it.
const FLOOR: f64 = 0.01;
/// An expression is clearly above the usual level by this much: its odds are 2.7 times as high.
const CLEAR: f64 = 1.0;
/// If the level varies much, it has to be above by this many standard deviations, ...
const DEVIATIONS: f64 = 3.0;
/// ... but by no more than this: odds 12 times as high.
const MOST: f64 = 2.5;
/// The standard deviation of a normal distribution, divided by its median absolute deviation.
const BY_MAD: f64 = 1.4826;
/// A rise goes on while the expression is above the usual level by this share of what is clear.
const GOES_ON: f64 = 0.5;
/// A rise needs this many samples and seconds that are clearly above the usual level.
const RISE_SAMPLES: usize = 2;
const RISE_S: f64 = 1.0;

/// The expressions of a person against the usual ones of the same person in this video. `kind` names the variant in
/// JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Relative {
    /// The person was seen for less than 30 seconds, or in less than 30 samples.
    TooBrief,
    Compared {
        /// The usual probability of each emotion, 0 to 1: the median over the video. The seven need not sum to 1.
        #[serde(serialize_with = "rounding::map_of_three")]
        usual: BTreeMap<Emotion, f64>,
        /// Spans in which an expression was clearly above its usual level, in order of time. Never `neutral`.
        rises: Vec<Rise>,
    },
}

/// A span in which an expression was clearly above its usual level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rise {
    pub emotion: Emotion,
    #[serde(serialize_with = "rounding::three")]
    pub start_s: f64,
    #[serde(serialize_with = "rounding::three")]
    pub end_s: f64,
    pub samples: u32,
    /// Mean of `relative` of this emotion in these samples.
    #[serde(serialize_with = "rounding::two")]
    pub relative: f64,
}

/// How an expression compares with the usual level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgainstUsual {
    Less,
    Same,
    More,
}

impl AgainstUsual {
    pub fn of(relative: f64) -> Self {
        if relative >= CLEAR {
            Self::More
        } else if relative <= -CLEAR {
            Self::Less
        } else {
            Self::Same
        }
    }
}

/// The usual level of each emotion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usual {
    level: [f64; 7],
    /// What is clearly above it.
    clear: [f64; 7],
}

impl Usual {
    /// Returns the usual levels of a person, or `None` if the person was seen too briefly. `spans` are the times that
    /// the observations stand for, from and to, in seconds.
    pub fn of(seen: &[Observation], spans: &[(f64, f64)]) -> Option<Self> {
        let screen_s: f64 = spans.iter().map(|(from, to)| to - from).sum();
        if seen.len() < USUAL_SAMPLES || screen_s < USUAL_S {
            return None;
        }
        let weight = |(seen, (from, to)): (&Observation, &(f64, f64))| f64::from(seen.quality) * (to - from);
        let weights: Vec<f64> = seen.iter().zip(spans).map(weight).collect();
        let levels: Vec<[f64; 7]> = seen.iter().map(|seen| levels(&seen.emotions)).collect();
        let median_of =
            |value: &dyn Fn(&[f64; 7]) -> f64| median(levels.iter().map(value).zip(weights.iter().copied()).collect());
        let level = Emotion::ALL.map(|emotion| median_of(&|levels| levels[emotion.index()]));
        let clear = Emotion::ALL.map(|emotion| {
            let at = emotion.index();
            let deviation = BY_MAD * median_of(&|levels| (levels[at] - level[at]).abs());
            (DEVIATIONS * deviation).clamp(CLEAR, MOST)
        });
        Some(Self { level, clear })
    }

    /// Returns how far each emotion is above its usual level: the natural logarithm of the ratio of its odds.
    pub fn relative(&self, emotions: &Probabilities) -> [f32; 7] {
        let levels = levels(emotions);
        #[expect(clippy::cast_possible_truncation, reason = "at most 10")]
        Emotion::ALL.map(|emotion| (levels[emotion.index()] - self.level[emotion.index()]) as f32)
    }

    /// Returns the usual probabilities, and the rises. `away_s`: a rise ends if the face is not seen for longer.
    pub fn compared(&self, seen: &[Observation], spans: &[(f64, f64)], away_s: f64) -> Relative {
        let probability = |level: f64| {
            let odds = level.exp();
            ((odds * (1.0 + FLOOR) - FLOOR) / (1.0 + odds)).clamp(0.0, 1.0)
        };
        let usual = Emotion::ALL.map(|emotion| (emotion, probability(self.level[emotion.index()])));
        let expressions = Emotion::ALL.into_iter().filter(|emotion| *emotion != Emotion::Neutral);
        let mut rises: Vec<Rise> = expressions.flat_map(|emotion| self.rises(emotion, seen, spans, away_s)).collect();
        rises.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        Relative::Compared { usual: usual.into(), rises }
    }

    fn rises(&self, emotion: Emotion, seen: &[Observation], spans: &[(f64, f64)], away_s: f64) -> Vec<Rise> {
        let clear = self.clear[emotion.index()];
        // A mask that is put on changes the level as well.
        let above = |seen: &Observation| {
            let is_read = !seen.covered.is_some_and(Covered::any);
            if is_read { f64::from(self.relative(&seen.emotions)[emotion.index()]) } else { f64::MIN }
        };
        let above: Vec<f64> = seen.iter().map(above).collect();
        let mut found = Vec::new();
        let mut from = 0;
        while from < seen.len() {
            let goes_on = |at: usize| above[at] >= GOES_ON * clear;
            let mut to = from;
            while to < seen.len() && goes_on(to) && (to == from || seen[to].time_s - seen[to - 1].time_s <= away_s) {
                to += 1;
            }
            let clearly: Vec<usize> = (from..to).filter(|at| above[*at] >= clear).collect();
            let clear_s: f64 = clearly.iter().map(|at| spans[*at].1 - spans[*at].0).sum();
            if clearly.len() >= RISE_SAMPLES && clear_s >= RISE_S {
                #[expect(clippy::cast_precision_loss, reason = "samples of a video")]
                let relative = above[from..to].iter().sum::<f64>() / (to - from) as f64;
                let samples = u32::try_from(to - from).unwrap_or(u32::MAX);
                found.push(Rise { emotion, start_s: spans[from].0, end_s: spans[to - 1].1, samples, relative });
            }
            from = to.max(from + 1);
        }
        found
    }
}

/// Returns the logarithm of the odds of each emotion.
fn levels(emotions: &Probabilities) -> [f64; 7] {
    Emotion::ALL.map(|emotion| {
        let p = f64::from(emotions.of(emotion)).clamp(0.0, 1.0);
        ((p + FLOOR) / (1.0 - p + FLOOR)).ln()
    })
}

/// Returns the weighted median, or 0 without values.
fn median(mut values: Vec<(f64, f64)>) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let middle = values.iter().find(|(_, weight)| {
        sum += weight;
        sum >= half
    });
    middle.map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::{probabilities, seen};

    /// A face that looks neutral with this probability of another expression.
    fn with(emotion: Emotion, p: f32) -> Probabilities {
        let mut values = [0.0; 7];
        values[emotion.index()] = p;
        values[Emotion::Neutral.index()] += 1.0 - p;
        Probabilities(values)
    }

    /// Two samples a second, and the times that they stand for.
    fn observed(shown: &[Probabilities]) -> (Vec<Observation>, Vec<(f64, f64)>) {
        let times: Vec<f64> = (0..shown.len()).map(|n| n as f64 / 2.0).collect();
        let one = |(n, (time_s, emotions)): (u32, (&f64, &Probabilities))| Observation {
            emotions: *emotions,
            ..seen(n, *time_s, (100.0, 100.0), 80.0)
        };
        let spans = times.iter().map(|time_s| (time_s - 0.25, time_s + 0.25)).collect();
        ((0..).zip(times.iter().zip(shown)).map(one).collect(), spans)
    }

    /// What is usual, and the rises.
    struct Found {
        usual: BTreeMap<Emotion, f64>,
        rises: Vec<Rise>,
    }

    fn found(seen: &[Observation], spans: &[(f64, f64)]) -> Option<Found> {
        match Usual::of(seen, spans)?.compared(seen, spans, 2.0) {
            Relative::Compared { usual, rises } => Some(Found { usual, rises }),
            Relative::TooBrief => panic!("it was compared"),
        }
    }

    fn compared(shown: &[Probabilities]) -> Option<Found> {
        let (seen, spans) = observed(shown);
        found(&seen, &spans)
    }

    /// A minute of a face with this expression at all times, and with another probability of it from 20 to 24 s.
    fn minute(emotion: Emotion, usually: f32, then: f32) -> Vec<Probabilities> {
        (0..120).map(|n| with(emotion, if (40..48).contains(&n) { then } else { usually })).collect()
    }

    #[test]
    fn a_faint_smile_is_above_the_usual_level_though_never_the_most_probable() {
        let found = compared(&minute(Emotion::Happy, 0.02, 0.2)).unwrap();
        assert!((found.usual[&Emotion::Happy] - 0.02).abs() < 1e-6, "{:?}", found.usual);
        assert!((found.usual[&Emotion::Neutral] - 0.98).abs() < 1e-6, "{:?}", found.usual);
        let [rise] = found.rises[..] else { panic!("{:?}", found.rises) };
        assert_eq!((rise.emotion, rise.start_s, rise.end_s, rise.samples), (Emotion::Happy, 19.75, 23.75, 8));
        // ln((0.2 + 0.01) / (0.8 + 0.01)) - ln((0.02 + 0.01) / (0.98 + 0.01)).
        assert!((rise.relative - 2.1465).abs() < 1e-3, "{rise:?}");
    }

    #[test]
    fn a_face_that_looks_sad_at_rest_has_no_rise_of_sadness_until_it_looks_sadder() {
        assert_eq!(compared(&minute(Emotion::Sad, 0.7, 0.7)).unwrap().rises, []);
        assert_eq!(compared(&minute(Emotion::Sad, 0.7, 0.8)).unwrap().rises, []);
        let sadder = compared(&minute(Emotion::Sad, 0.7, 0.97)).unwrap();
        assert_eq!(sadder.rises.iter().map(|rise| rise.emotion).collect::<Vec<_>>(), [Emotion::Sad]);
        assert!((sadder.usual[&Emotion::Sad] - 0.7).abs() < 1e-6);
    }

    #[test]
    fn a_single_sample_and_a_person_seen_briefly_have_no_rise() {
        let mut shown = minute(Emotion::Happy, 0.02, 0.02);
        shown[50] = with(Emotion::Happy, 0.99);
        assert_eq!(compared(&shown).unwrap().rises, []);
        assert!(compared(&shown[..59]).is_none(), "29.5 s");
        assert!(compared(&shown[..60]).is_some());
        let (seen, _) = observed(&shown[..29]);
        let long: Vec<(f64, f64)> = (0..29).map(|n| (f64::from(n) * 2.0, f64::from(n) * 2.0 + 2.0)).collect();
        assert!(Usual::of(&seen, &long).is_none(), "29 samples");
    }

    #[test]
    fn a_rise_ends_while_the_face_is_away() {
        let (mut seen, mut spans) = observed(&minute(Emotion::Happy, 0.02, 0.6));
        for (seen, span) in seen[44..].iter_mut().zip(&mut spans[44..]) {
            seen.time_s += 10.0;
            *span = (span.0 + 10.0, span.1 + 10.0);
        }
        let found = found(&seen, &spans).unwrap();
        let times: Vec<(f64, f64)> = found.rises.iter().map(|rise| (rise.start_s, rise.end_s)).collect();
        assert_eq!(times, [(19.75, 21.75), (31.75, 33.75)]);
    }

    #[test]
    fn a_face_with_covered_parts_has_no_rise() {
        let (mut seen, spans) = observed(&minute(Emotion::Surprise, 0.02, 0.6));
        for seen in &mut seen[40..48] {
            seen.covered = Some(Covered { eyes: false, mouth: true });
        }
        assert_eq!(found(&seen, &spans).unwrap().rises, []);
        seen[44].covered = Some(Covered::default());
        seen[45].covered = Some(Covered::default());
        assert_eq!(found(&seen, &spans).unwrap().rises.len(), 1);
    }

    #[test]
    fn the_level_must_rise_further_if_it_always_varies() {
        let varying = |n: usize| with(Emotion::Happy, [0.02, 0.08, 0.2][n % 3]);
        let mut shown: Vec<Probabilities> = (0..120).map(varying).collect();
        for smile in &mut shown[40..48] {
            *smile = with(Emotion::Happy, 0.3);
        }
        assert_eq!(compared(&shown).unwrap().rises, [], "against 0.02 it would be clear");
        // However much it varies, odds 12 times as high are a rise.
        for smile in &mut shown[40..48] {
            *smile = with(Emotion::Happy, 0.7);
        }
        assert_eq!(compared(&shown).unwrap().rises.len(), 1);
    }

    #[test]
    fn heavier_samples_decide_what_is_usual() {
        let (mut seen, spans) = observed(&minute(Emotion::Sad, 0.9, 0.9));
        for seen in &mut seen[..70] {
            (seen.emotions, seen.quality) = (with(Emotion::Happy, 0.9), 0.1);
        }
        let found = found(&seen, &spans).unwrap();
        assert!((found.usual[&Emotion::Sad] - 0.9).abs() < 1e-6, "{:?}", found.usual);
        assert_eq!(median(vec![(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)]), 2.0);
        assert_eq!(median(vec![(3.0, 5.0), (1.0, 1.0), (2.0, 1.0)]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    proptest! {
        #[test]
        fn rises_lie_in_the_video_and_are_above_half_of_what_is_clear(
            shown in prop::collection::vec(probabilities(), 60..140),
        ) {
            let (seen, spans) = observed(&shown);
            let found = compared(&shown).unwrap();
            let usual = Usual::of(&seen, &spans).unwrap();
            for rise in &found.rises {
                prop_assert!(rise.emotion != Emotion::Neutral && rise.samples >= 2);
                prop_assert!(rise.start_s >= spans[0].0 && rise.end_s <= spans[spans.len() - 1].1);
                prop_assert!(rise.end_s - rise.start_s >= RISE_S && rise.relative >= GOES_ON * CLEAR);
            }
            for seen in &seen {
                prop_assert!(usual.relative(&seen.emotions).iter().all(|it| it.abs() <= 10.0));
            }
        }

        #[test]
        fn a_face_that_never_changes_is_always_as_usual(shown in probabilities()) {
            let found = compared(&vec![shown; 80]).unwrap();
            prop_assert!(found.rises.is_empty());
            for (emotion, usual) in found.usual {
                prop_assert!((usual - f64::from(shown.of(emotion))).abs() < 1e-6);
            }
        }
    }
}
