//! What was shown, in the fewest words: the headline of page, report and mail, without words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Emotion, Segment, percentages};

/// From this share on, in percent, one expression is what was shown mostly.
const MOSTLY: f64 = 50.0;
/// Two expressions tell a story if the lesser has this share ...
const LESSER: f64 = 20.0;
/// ... and both together have this one.
const TOGETHER: f64 = 65.0;

/// What a video or a person showed. JSON names it by `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Story {
    /// Two expressions of one person, one after the other, and not much else.
    InTurn { first: Emotion, then: Emotion },
    /// One expression for half of the time or more.
    Mostly { emotion: Emotion },
    /// Several; this one most often.
    Mixed { emotion: Emotion },
}

impl Story {
    /// Of shares in percent and the runs of one person; without runs (of several people) nothing is said to come in turn.
    /// `None` without shares.
    pub fn of(emotions: &BTreeMap<Emotion, f64>, runs: &[Segment]) -> Option<Self> {
        // The very figures that readers see.
        let mut shares: Vec<(Emotion, f64)> = percentages(emotions).into_iter().collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (emotion, share) = *shares.first()?;
        if let [(_, most), (next, lesser), ..] = *shares
            && lesser >= LESSER
            && most + lesser >= TOGETHER
            && let (Some(a), Some(b)) = (reach(runs, emotion), reach(runs, next))
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

/// From when to when an expression was shown, in seconds. Runs of less than half the longest are passing looks and do not
/// count.
fn reach(runs: &[Segment], emotion: Emotion) -> Option<(f64, f64)> {
    let long_s = |run: &Segment| run.end_s - run.start_s;
    let own = || runs.iter().filter(|run| run.emotion == emotion);
    let longest_s = own().map(long_s).max_by(f64::total_cmp)?;
    let told = || own().filter(|run| long_s(run) >= longest_s / 2.0);
    Some((told().next()?.start_s, told().next_back()?.end_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sad: f64, happy: f64) -> BTreeMap<Emotion, f64> {
        let rest = 100.0 - sad - happy;
        BTreeMap::from([(Emotion::Sad, sad), (Emotion::Happy, happy), (Emotion::Neutral, rest)])
    }

    fn run(emotion: Emotion, start_s: f64, end_s: f64) -> Segment {
        Segment { emotion, start_s, end_s, samples: 4, confidence: 0.8 }
    }

    #[test]
    fn two_long_runs_one_after_the_other_are_a_story() {
        let runs = [run(Emotion::Happy, 0.0, 1.0), run(Emotion::Sad, 1.0, 8.0), run(Emotion::Happy, 8.0, 19.0)];
        let in_turn = Some(Story::InTurn { first: Emotion::Sad, then: Emotion::Happy });
        assert_eq!(Story::of(&shares(35.0, 60.0), &runs), in_turn);
        // Too little of the second, too much of other things, or a second one without a run of its own.
        let mostly = Some(Story::Mostly { emotion: Emotion::Happy });
        assert_eq!(Story::of(&shares(19.9, 70.0), &runs), mostly);
        assert_eq!(Story::of(&shares(35.0, 60.0), &runs[2..]), mostly);
        assert_eq!(Story::of(&shares(25.0, 39.0), &runs), Some(Story::Mixed { emotion: Emotion::Happy }));
        // Back and forth is no turn.
        let twice = [run(Emotion::Sad, 0.0, 7.0), run(Emotion::Happy, 7.0, 18.0), run(Emotion::Sad, 18.0, 23.0)];
        assert_eq!(Story::of(&shares(35.0, 60.0), &twice), mostly);
        // Of several people nobody knows who showed what when.
        assert_eq!(Story::of(&shares(35.0, 60.0), &[]), mostly);
    }

    #[test]
    fn no_more_is_said_than_the_share_that_readers_see_allows() {
        assert_eq!(Story::of(&shares(10.04, 49.96), &[]), Some(Story::Mostly { emotion: Emotion::Happy }));
        assert_eq!(Story::of(&shares(10.1, 49.9), &[]), Some(Story::Mixed { emotion: Emotion::Happy }));
        assert_eq!(Story::of(&BTreeMap::new(), &[]), None);
    }

    #[test]
    fn json_names_it_by_its_kind() {
        let story = Story::InTurn { first: Emotion::Sad, then: Emotion::Happy };
        let json = serde_json::json!({"kind": "in_turn", "first": "sad", "then": "happy"});
        assert_eq!(serde_json::to_value(story).unwrap(), json);
    }
}
