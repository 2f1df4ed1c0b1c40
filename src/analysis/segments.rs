//! Runs of one emotion in what a person showed.
//!
//! The rule: samples belong to the emotion that comes out on top, and a run needs two samples and half a second (about the
//! shortest that an expression lasts: Ekman 2003, "Emotions Revealed"). Neighbouring runs that are too short are taken together
//! under the emotion with the highest mean; what is still too short goes to the run before it, or at the beginning to the
//! one after. Where the face is not seen for longer than a sample's usual distance (and 2 seconds), a run ends and another
//! begins.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Emotion, Observation, rounding};

/// Fewer samples are a flicker ...
const LEAST_SAMPLES: usize = 2;
/// ... and so is less time, in seconds.
const LEAST_S: f64 = 0.5;
/// A face that is not seen for longer is away, in seconds; and in times between samples.
const AWAY_S: f64 = 2.0;
const AWAY_SAMPLES: f64 = 2.5;

/// A run of one emotion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    pub emotion: Emotion,
    #[serde(serialize_with = "rounding::three")]
    pub start_s: f64,
    #[serde(serialize_with = "rounding::three")]
    pub end_s: f64,
    pub samples: u32,
    /// Mean probability of the emotion over these, 0 to 1.
    #[serde(serialize_with = "rounding::three")]
    pub confidence: f64,
}

/// Neighbouring samples.
#[derive(Clone, Copy)]
struct Run {
    /// The first, and the one after the last.
    from: usize,
    to: usize,
    emotion: Emotion,
}

/// The runs of one person, in order of time. `reach` is the time that each observation stands for, from and to, in seconds;
/// `interval_s` the usual time between samples.
pub(super) fn segments(seen: &[Observation], reach: &[(f64, f64)], interval_s: f64) -> Vec<Segment> {
    let away_s = AWAY_S.max(AWAY_SAMPLES * interval_s);
    let mut found = Vec::new();
    let mut from = 0;
    for to in 1..=seen.len() {
        if to == seen.len() || seen[to].time_s - seen[to - 1].time_s > away_s {
            found.extend(stretch(&seen[from..to], &reach[from..to]));
            from = to;
        }
    }
    found
}

/// The runs of a stretch in which the face was never away.
fn stretch(seen: &[Observation], reach: &[(f64, f64)]) -> Vec<Segment> {
    let is_short = |run: &Run| run.to - run.from < LEAST_SAMPLES || reach[run.to - 1].1 - reach[run.from].0 < LEAST_S;
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
    // Short neighbours together.
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
    // A stretch so short that nothing else is in it.
    merged.extend(early);
    let segment = |run: &Run| {
        let seen = &seen[run.from..run.to];
        let sum: f64 = seen.iter().map(|seen| f64::from(seen.emotions.of(run.emotion))).sum();
        #[expect(clippy::cast_precision_loss, reason = "samples of a video")]
        let confidence = sum / seen.len() as f64;
        let samples = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        Segment { emotion: run.emotion, start_s: reach[run.from].0, end_s: reach[run.to - 1].1, samples, confidence }
    };
    merged.iter().map(segment).collect()
}
