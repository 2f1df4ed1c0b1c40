//! Chooses the headline of page, report and mail, as data without words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Emotion, Segment, percentages};

/// Minimum share of [`Story::Mostly`], in percent.
const MOSTLY: f64 = 50.0;
/// Minimum share of the second expression of [`Story::InTurn`], in percent.
const LESSER: f64 = 20.0;
/// Minimum share of both expressions of [`Story::InTurn`] together, in percent.
const TOGETHER: f64 = 65.0;

/// The headline of a video or a person. `kind` names the variant in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Story {
    /// One person showed two expressions, one after the other, and little else.
    InTurn { first: Emotion, then: Emotion },
    /// One expression was seen for at least half of the time.
    Mostly { emotion: Emotion },
    /// Several expressions were seen, this one most often.
    Mixed { emotion: Emotion },
}

impl Story {
    /// Chooses the headline from shares in percent and the segments of one person. Without segments (for several
    /// people) it is never [`Story::InTurn`]. Returns `None` without shares.
    pub fn of(emotions: &BTreeMap<Emotion, f64>, runs: &[Segment]) -> Option<Self> {
        // Uses the rounded figures that readers see.
        let mut shares: Vec<(Emotion, f64)> = percentages(emotions).into_iter().collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (emotion, share) = *shares.first()?;
        if let [(_, most), (next, lesser), ..] = *shares
            && lesser >= LESSER
            && most + lesser >= TOGETHER
            && let (Some(a), Some(b)) = (shown_span(runs, emotion), shown_span(runs, next))
        {
            if a.1 <= b.0 {
                return Some(Self::InTurn { first: emotion, then: next });
            }
            if b.1 <= a.0 {
                return Some(Self::InTurn { first: next, then: emotion });
            }
        }
        Some(if share >= MOSTLY { Self::Mostly { emotion } } else { Self::Mixed { emotion } })
    }
}

/// Returns the start of the first and the end of the last long segment of an emotion, in seconds. Segments shorter
/// than half of the longest are ignored.
fn shown_span(runs: &[Segment], emotion: Emotion) -> Option<(f64, f64)> {
    let length_s = |run: &Segment| run.end_s - run.start_s;
    let own = || runs.iter().filter(|run| run.emotion == emotion);
    let longest_s = own().map(length_s).max_by(f64::total_cmp)?;
    let long = || own().filter(|run| length_s(run) >= longest_s / 2.0);
    Some((long().next()?.start_s, long().next_back()?.end_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sad: f64, happy: f64) -> BTreeMap<Emotion, f64> {
        let rest = 100.0 - sad - happy;
        BTreeMap::from([(Emotion::Sad, sad), (Emotion::Happy, happy), (Emotion::Neutral, rest)])
    }

    fn run(emotion: Emotion, start_s: f64, end_s: f64) -> Segment {
        Segment { emotion, start_s, end_s, samples: 4, confidence: 0.8, relative: None }
    }

    #[test]
    fn two_long_runs_one_after_the_other_are_in_turn() {
        let runs = [run(Emotion::Happy, 0.0, 1.0), run(Emotion::Sad, 1.0, 8.0), run(Emotion::Happy, 8.0, 19.0)];
        let in_turn = Some(Story::InTurn { first: Emotion::Sad, then: Emotion::Happy });
        assert_eq!(Story::of(&shares(35.0, 60.0), &runs), in_turn);
        // The share of the second is too small, the second has no run, or the share of both is too small.
        let mostly = Some(Story::Mostly { emotion: Emotion::Happy });
        assert_eq!(Story::of(&shares(19.9, 70.0), &runs), mostly);
        assert_eq!(Story::of(&shares(35.0, 60.0), &runs[2..]), mostly);
        assert_eq!(Story::of(&shares(25.0, 39.0), &runs), Some(Story::Mixed { emotion: Emotion::Happy }));
        // An emotion that is shown before and after the other one is not in turn.
        let twice = [run(Emotion::Sad, 0.0, 7.0), run(Emotion::Happy, 7.0, 18.0), run(Emotion::Sad, 18.0, 23.0)];
        assert_eq!(Story::of(&shares(35.0, 60.0), &twice), mostly);
        // For several people there are no runs.
        assert_eq!(Story::of(&shares(35.0, 60.0), &[]), mostly);
    }

    #[test]
    fn the_headline_uses_rounded_shares() {
        assert_eq!(Story::of(&shares(10.04, 49.96), &[]), Some(Story::Mostly { emotion: Emotion::Happy }));
        assert_eq!(Story::of(&shares(10.1, 49.9), &[]), Some(Story::Mixed { emotion: Emotion::Happy }));
        assert_eq!(Story::of(&BTreeMap::new(), &[]), None);
    }

    #[test]
    fn json_has_the_kind() {
        let story = Story::InTurn { first: Emotion::Sad, then: Emotion::Happy };
        let json = serde_json::json!({"kind": "in_turn", "first": "sad", "then": "happy"});
        assert_eq!(serde_json::to_value(story).unwrap(), json);
    }
}
