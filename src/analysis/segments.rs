//! Divides the samples of a person into segments: runs of samples with the same emotion.
//!
//! Each sample has its most probable emotion. A run needs two samples and half a second, which is about the shortest
//! duration of an expression (Ekman 2003, "Emotions Revealed"). Consecutive runs that are too short are merged, and
//! get the emotion with the highest mean. A merged run that is still too short is added to the run before it, or to
//! the run after it at the beginning. A run also ends if the face is not seen for 2 seconds and 2.5 sampling
//! intervals.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::usual::Usual;
use super::{Emotion, Observation, rounding};

/// Minimum number of samples of a run.
const LEAST_SAMPLES: usize = 2;
/// Shortest run in seconds.
const LEAST_S: f64 = 0.5;
/// A face is away if it is not seen for longer than this, in seconds, and longer than [`AWAY_SAMPLES`].
const AWAY_S: f64 = 2.0;
/// In sampling intervals.
const AWAY_SAMPLES: f64 = 2.5;

/// Returns for how long a face may be out of sight within a segment, in seconds. `interval_s` is the usual time between
/// samples.
pub(super) fn away_s(interval_s: f64) -> f64 {
    AWAY_S.max(AWAY_SAMPLES * interval_s)
}

/// A run of samples with the same emotion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    pub emotion: Emotion,
    #[serde(serialize_with = "rounding::three")]
    pub start_s: f64,
    #[serde(serialize_with = "rounding::three")]
    pub end_s: f64,
    pub samples: u32,
    /// Mean probability of the emotion in these samples, 0 to 1.
    #[serde(serialize_with = "rounding::three")]
    pub confidence: f64,
    /// How far the emotion is above the usual level of this person in this video: the mean of `relative` in the timeline.
    /// Null if the person was seen too briefly, and in results of older versions.
    #[serde(default, serialize_with = "rounding::maybe_two")]
    pub relative: Option<f64>,
}

/// Consecutive samples.
#[derive(Clone, Copy)]
struct Run {
    /// Index of the first sample.
    from: usize,
    /// Index after the last sample.
    to: usize,
    emotion: Emotion,
}

/// Returns the segments of one person, in order of time. `spans` are the times that the observations stand for, from
/// and to, in seconds. A segment ends if the face is not seen for longer than `away_s`.
pub(super) fn segments(seen: &[Observation], spans: &[(f64, f64)], away_s: f64, usual: Option<&Usual>) -> Vec<Segment> {
    let mut found = Vec::new();
    let mut from = 0;
    for to in 1..=seen.len() {
        if to == seen.len() || seen[to].time_s - seen[to - 1].time_s > away_s {
            found.extend(segments_without_gap(&seen[from..to], &spans[from..to], usual));
            from = to;
        }
    }
    found
}

/// Returns the segments of observations between which the face was never away.
fn segments_without_gap(seen: &[Observation], spans: &[(f64, f64)], usual: Option<&Usual>) -> Vec<Segment> {
    let is_short = |run: &Run| run.to - run.from < LEAST_SAMPLES || spans[run.to - 1].1 - spans[run.from].0 < LEAST_S;
    let top = |from: usize, to: usize| {
        let sum =
            |emotion: Emotion| seen[from..to].iter().map(|seen| f64::from(seen.emotions.of(emotion))).sum::<f64>();
        let best = |best: (Emotion, f64), emotion: Emotion| {
            let sum = sum(emotion);
            if sum > best.1 { (emotion, sum) } else { best }
        };
        Emotion::ALL.into_iter().fold((Emotion::Angry, f64::MIN), best).0
    };

    let mut runs: Vec<Run> = Vec::new();
    for (at, seen) in seen.iter().enumerate() {
        let emotion = seen.emotions.top().0;
        match runs.last_mut().filter(|run| run.emotion == emotion) {
            Some(run) => run.to = at + 1,
            None => runs.push(Run { from: at, to: at + 1, emotion }),
        }
    }
    // Merges consecutive short runs.
    let groups = runs.chunk_by(|a, b| is_short(a) && is_short(b)).map(|group| {
        let (from, to) = (group[0].from, group[group.len() - 1].to);
        Run { from, to, emotion: if group.len() == 1 { group[0].emotion } else { top(from, to) } }
    });
    let mut merged: Vec<Run> = Vec::new();
    let mut early = None;
    for mut run in groups {
        if is_short(&run) {
            match merged.last_mut() {
                Some(before) => before.to = run.to,
                None => early = Some(run),
            }
            continue;
        }
        if let Some(early) = early.take() {
            run.from = early.from;
        }
        match merged.last_mut().filter(|before| before.emotion == run.emotion) {
            Some(before) => before.to = run.to,
            None => merged.push(run),
        }
    }
    // All runs together are too short, so they make one segment.
    merged.extend(early);
    let segment = |run: &Run| {
        let seen = &seen[run.from..run.to];
        let mean = |of: &dyn Fn(&Observation) -> f32| {
            let sum: f64 = seen.iter().map(|seen| f64::from(of(seen))).sum();
            #[expect(clippy::cast_precision_loss, reason = "samples of a video")]
            {
                sum / seen.len() as f64
            }
        };
        Segment {
            emotion: run.emotion,
            start_s: spans[run.from].0,
            end_s: spans[run.to - 1].1,
            samples: u32::try_from(seen.len()).unwrap_or(u32::MAX),
            confidence: mean(&|seen| seen.emotions.of(run.emotion)),
            relative: usual.map(|usual| mean(&|seen| usual.relative(&seen.emotions)[run.emotion.index()])),
        }
    };
    merged.iter().map(segment).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::{all, probabilities, seen};

    const A: Emotion = Emotion::Sad;
    const B: Emotion = Emotion::Happy;
    const C: Emotion = Emotion::Neutral;

    fn observe(times: &[f64], shown: &[Emotion]) -> Vec<Observation> {
        let one = |((n, time_s), emotion): ((u32, &f64), &Emotion)| Observation {
            emotions: all(*emotion),
            ..seen(n, *time_s, (100.0, 100.0), 80.0)
        };
        (0..).zip(times).zip(shown).map(one).collect()
    }

    /// Returns the segments of samples that are one second apart.
    fn runs(shown: &[Emotion]) -> Vec<(Emotion, f64, f64, u32)> {
        let times: Vec<f64> = (0..shown.len()).map(|n| n as f64).collect();
        let spans: Vec<(f64, f64)> = times.iter().map(|t| (t - 0.5, t + 0.5)).collect();
        let found = segments(&observe(&times, shown), &spans, away_s(1.0), None);
        found.iter().map(|run| (run.emotion, run.start_s, run.end_s, run.samples)).collect()
    }

    #[test]
    fn samples_with_the_same_emotion_make_a_run() {
        assert_eq!(runs(&[A, A, A, B, B]), [(A, -0.5, 2.5, 3), (B, 2.5, 4.5, 2)]);
        assert_eq!(runs(&[A]), [(A, -0.5, 0.5, 1)]);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn a_single_sample_between_others_makes_no_run() {
        assert_eq!(runs(&[A, A, B, A, A]), [(A, -0.5, 4.5, 5)]);
        assert_eq!(runs(&[A, A, B, C, C]), [(A, -0.5, 2.5, 3), (C, 2.5, 4.5, 2)]);
        assert_eq!(runs(&[B, A, A]), [(A, -0.5, 2.5, 3)]);
    }

    #[test]
    fn consecutive_short_runs_are_merged_under_their_most_frequent_emotion() {
        assert_eq!(runs(&[A, A, B, C, B, C, B]), [(A, -0.5, 1.5, 2), (B, 1.5, 6.5, 5)]);
    }

    #[test]
    fn a_run_of_dense_samples_needs_half_a_second() {
        let times: Vec<f64> = (0..60).map(|n| f64::from(n) / 30.0).collect();
        let spans: Vec<(f64, f64)> = times.iter().map(|t| (*t, t + 1.0 / 30.0)).collect();
        let shown: Vec<Emotion> = (0..60).map(|n| if (20..30).contains(&n) { B } else { A }).collect();
        assert_eq!(segments(&observe(&times, &shown), &spans, away_s(1.0 / 30.0), None).len(), 1);
        let shown: Vec<Emotion> = (0..60).map(|n| if (20..40).contains(&n) { B } else { A }).collect();
        assert_eq!(segments(&observe(&times, &shown), &spans, away_s(1.0 / 30.0), None).len(), 3);
    }

    #[test]
    fn a_run_ends_when_the_face_is_away() {
        let times = [0.0, 1.0, 2.0, 12.0, 13.0];
        let spans = times.map(|t| (t - 0.5, t + 0.5));
        let found = segments(&observe(&times, &[A; 5]), &spans, away_s(1.0), None);
        assert_eq!(found.iter().map(|run| (run.start_s, run.end_s)).collect::<Vec<_>>(), [(-0.5, 2.5), (11.5, 13.5)]);
    }

    proptest! {
        #[test]
        fn every_sample_is_in_one_run_and_consecutive_runs_differ(
            shown in prop::collection::vec(probabilities(), 1..80),
        ) {
            let times: Vec<f64> = (0..shown.len()).map(|n| n as f64 * 0.8).collect();
            let spans: Vec<(f64, f64)> = times.iter().map(|t| (t - 0.4, t + 0.4)).collect();
            let mut seen = observe(&times, &vec![A; shown.len()]);
            for (seen, emotions) in seen.iter_mut().zip(&shown) {
                seen.emotions = *emotions;
            }
            let found = segments(&seen, &spans, away_s(0.8), None);
            prop_assert_eq!(found.iter().map(|run| run.samples as usize).sum::<usize>(), shown.len());
            for pair in found.windows(2) {
                prop_assert!(pair[0].emotion != pair[1].emotion);
                prop_assert!((pair[0].end_s - pair[1].start_s).abs() < 1e-9);
            }
            prop_assert!(found.len() == 1 || found.iter().all(|run| run.samples >= 2));
            prop_assert!(found.iter().all(|run| (0.0..=1.0 + 1e-6).contains(&run.confidence)));
        }
    }
}
