//! Computes 95 % intervals of the figures.
//!
//! Neighbouring samples are not independent, so the video is cut into blocks of time. Videos are drawn from these
//! blocks with replacement, and the interval holds the middle 95 % of their figures (block bootstrap: Künsch 1989,
//! "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17). For short videos
//! this interval alone would be too narrow; with one block its width is 0. So it is widened like Student's t for few
//! blocks, and by the effect of two more blocks with an unknown outcome. Faces of low quality count as fewer blocks.

use std::collections::BTreeMap;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::{ArrayBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::tally::{Figures, Tally};
use super::weights::{Scores, SpeechScores};
use super::{Emotion, rounding};

/// Length of a block in seconds: about the duration of an expression (0.5 to 4: Ekman 2003, "Emotions Revealed").
const BLOCK_S: f64 = 2.0;
/// Maximum number of blocks. The blocks of long videos are longer.
const MOST_BLOCKS: f64 = 150.0;
/// Number of videos that are drawn.
const DRAWS: usize = 500;
/// Blocks with an unknown outcome that are added to those of the video.
const UNKNOWN_BLOCKS: f64 = 2.0;
/// Assumed standard deviation of a figure between blocks, as a share of that of a variable with the values 0 and 1:
/// 20 points for a figure of 50.
const SPREAD: f64 = 0.4;
/// Standard deviations on both sides of the mean that hold 95 %.
pub(super) const Z: f64 = 1.96;

/// 95 % intervals of the figures of a video or of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Intervals {
    /// Shares in percent.
    pub emotions: BTreeMap<Emotion, Interval>,
    pub calmness: Interval,
    pub eye_contact: Option<Interval>,
    pub steadiness: Option<Interval>,
    pub model_confidence: Interval,
    pub valence: Interval,
    pub arousal: Interval,
    pub presence: Option<Interval>,
    /// Null for a single person, because only the whole video has this score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overall_score: Option<Interval>,
}

/// The range in which a figure lies with a probability of 95 %, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "[f64; 2]", from = "[f64; 2]")]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// The certainty of a figure, from the width of its interval. All texts (feedback, report, mails, page) use this rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The figure can be stated as it is.
    Clear,
    /// The figure is approximate.
    Likely,
    /// Only a range can be stated.
    Rough,
    /// There is too little material for a statement.
    Open,
}

/// Largest widths of the intervals of figures that are clear, likely and rough, in points of 100. A figure with a
/// wider interval is open.
pub const CERTAIN_UP_TO: [f64; 3] = [20.0, 40.0, 70.0];

impl Interval {
    pub fn width(&self) -> f64 {
        self.high - self.low
    }

    /// Returns the certainty of a figure of 0 to 100 with this interval.
    pub fn certainty(&self) -> Certainty {
        match CERTAIN_UP_TO.iter().position(|most| self.width() <= *most) {
            Some(0) => Certainty::Clear,
            Some(1) => Certainty::Likely,
            Some(_) => Certainty::Rough,
            None => Certainty::Open,
        }
    }

    pub fn with_three_decimals<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.low, self.high].map(|end| rounding::to(end, 3)).serialize(serializer)
    }

    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

impl PartialSchema for Interval {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(f64::schema()).min_items(Some(2)).max_items(Some(2)).into()
    }
}

impl ToSchema for Interval {}

impl From<Interval> for [f64; 2] {
    fn from(Interval { low, high }: Interval) -> Self {
        [low, high]
    }
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

/// Sums over one person's samples in one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Index of the block in the video.
    pub number: usize,
    pub tally: Tally,
}

/// Sums one person's samples for each block of the video. Samples have their time in seconds and are in order of time.
pub(super) fn blocks(samples: impl Iterator<Item = (f64, Tally)>, length_s: f64) -> Vec<Block> {
    let count = (length_s / BLOCK_S).round().clamp(1.0, MOST_BLOCKS);
    let mut blocks: Vec<Block> = Vec::new();
    for (time_s, tally) in samples {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most MOST_BLOCKS")]
        let number = (time_s / length_s * count).clamp(0.0, count - 1.0) as usize;
        match blocks.last_mut().filter(|last| last.number == number) {
            Some(last) => last.tally.add(&tally, 1.0),
            None => blocks.push(Block { number, tally }),
        }
    }
    blocks
}

/// Number of figures in a row: the seven emotions, calmness, confidence, valence, arousal, eye contact, steadiness,
/// presence and overall score.
const ROW: usize = 15;
type Row = [Option<f64>; ROW];
const CALMNESS: usize = 7;
const CONFIDENCE: usize = 8;
const VALENCE: usize = 9;
const AROUSAL: usize = 10;
const EYE_CONTACT: usize = 11;
const STEADINESS: usize = 12;
const PRESENCE: usize = 13;
const OVERALL: usize = 14;

/// Returns the intervals of one person or of several together, or `None` without a sample. The same `seed` gives the
/// same intervals. The scores of speech are taken as exact, because their spread is unknown.
pub(super) fn intervals(people: &[&[Block]], speech_scores: SpeechScores, seed: u64) -> Option<Intervals> {
    let numbers = numbers(people);
    let estimate = row(people, speech_scores, |_| 1.0)?;
    let mut drawn: [Vec<f64>; ROW] = Default::default();
    if numbers.len() > 1 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut times = vec![0.0; numbers.last().map_or(0, |last| last + 1)];
        for _ in 0..DRAWS {
            times.fill(0.0);
            for _ in 0..numbers.len() {
                times[numbers[random.random_range(0..numbers.len())]] += 1.0;
            }
            let Some(row) = row(people, speech_scores, |number| times[number]) else { continue };
            for (drawn, (value, estimate)) in drawn.iter_mut().zip(row.into_iter().zip(estimate)) {
                // A figure that could not be computed in this draw counts as the one of the video.
                drawn.extend(value.or(estimate));
            }
        }
    }
    let sample_size = SampleSize::of(people, numbers.len());
    let mut interval = |figure: usize, range: (f64, f64), decimals: i32| {
        let expected = if figure < CALMNESS { 1.0 / 7.0 } else { 0.5 };
        estimate[figure].map(|estimate| sample_size.interval(estimate, &mut drawn[figure], range, expected, decimals))
    };
    let percent = (0.0, 100.0);
    let emotions = Emotion::ALL.into_iter().filter_map(|e| Some((e, interval(e.index(), percent, 1)?)));
    Some(Intervals {
        emotions: emotions.collect(),
        calmness: interval(CALMNESS, percent, 1)?,
        eye_contact: interval(EYE_CONTACT, percent, 1),
        steadiness: interval(STEADINESS, percent, 1),
        model_confidence: interval(CONFIDENCE, (1.0 / 7.0, 1.0), 3)?,
        valence: interval(VALENCE, range(|(valence, _)| valence), 3)?,
        arousal: interval(AROUSAL, range(|(_, arousal)| arousal), 3)?,
        presence: interval(PRESENCE, percent, 1),
        overall_score: interval(OVERALL, percent, 1),
    })
}

/// Returns the indices of the blocks in which a person was seen, in order.
fn numbers(people: &[&[Block]]) -> Vec<usize> {
    let mut numbers: Vec<usize> = people.iter().flat_map(|blocks| blocks.iter().map(|block| block.number)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Returns the figures of the blocks, with each block counted `times` times.
fn row(people: &[&[Block]], speech_scores: SpeechScores, times: impl Fn(usize) -> f64) -> Option<Row> {
    let mut all = Tally::default();
    for blocks in people {
        let mut person = Tally::default();
        for block in *blocks {
            let times = times(block.number);
            if times > 0.0 {
                person.add(&block.tally, times);
            }
        }
        all.add(&person.among_others(), 1.0);
    }
    let figures = all.figures()?;
    let scores = Scores::of(&figures, speech_scores);
    let Figures { emotions, calmness, confidence, valence, arousal, eye_contact, steadiness, .. } = figures;
    let mut row = [None; ROW];
    for (place, p) in row.iter_mut().zip(emotions) {
        *place = Some(100.0 * p);
    }
    row[CALMNESS..].copy_from_slice(&[
        Some(calmness),
        Some(confidence),
        Some(valence),
        Some(arousal),
        eye_contact,
        steadiness,
        scores.presence,
        scores.overall,
    ]);
    Some(row)
}

/// Returns the smallest and the largest possible mean of a coordinate of the emotions.
fn range(of: fn((f64, f64)) -> f64) -> (f64, f64) {
    let values = || Emotion::ALL.into_iter().map(|emotion| of(emotion.valence_arousal()));
    (values().fold(0.0, f64::min), values().fold(0.0, f64::max))
}

/// The effective sample size of a video.
struct SampleSize {
    /// Effective number of independent blocks (Kish 1965) times mean quality.
    blocks: f64,
    /// Factor for the spread of the drawn figures.
    widen: f64,
}

impl SampleSize {
    fn of(people: &[&[Block]], count: usize) -> Self {
        let mut screen_s = vec![0.0; numbers(people).last().map_or(0, |last| last + 1)];
        let mut all = Tally::default();
        for block in people.iter().copied().flatten() {
            screen_s[block.number] += block.tally.screen_s();
            all.add(&block.tally, 1.0);
        }
        let squares: f64 = screen_s.iter().map(|seconds| seconds * seconds).sum();
        let even = if squares > 0.0 { all.screen_s().powi(2) / squares } else { 0.0 };
        let quality = all.quality().max(f64::EPSILON);
        #[expect(clippy::cast_precision_loss, reason = "at most MOST_BLOCKS")]
        let count = count as f64;
        let widen = if count > 1.0 {
            (count / (count - 1.0)).sqrt() * student(count - 1.0 + UNKNOWN_BLOCKS) / Z / quality.sqrt()
        } else {
            0.0
        };
        Self { blocks: even * quality, widen }
    }

    /// Returns the interval of a figure between `least` and `most`, rounded outwards. `expected` is the position in
    /// that range that is expected without any observation, 0 to 1.
    fn interval(
        &self,
        estimate: f64,
        drawn: &mut [f64],
        (least, most): (f64, f64),
        expected: f64,
        decimals: i32,
    ) -> Interval {
        let scale = most - least;
        // Adds one observation with the expected value, because an emotion that was never shown may still occur.
        let share = (((estimate - least) / scale).clamp(0.0, 1.0) * self.blocks + expected) / (self.blocks + 1.0);
        let spread = SPREAD * scale * (share * (1.0 - share)).sqrt();
        let unknown = UNKNOWN_BLOCKS / (UNKNOWN_BLOCKS + (self.blocks - 1.0).max(0.0));
        let doubt = Z * spread * (unknown / self.blocks).sqrt();
        let below = self.widen * (estimate - quantile(drawn, 0.025).unwrap_or(estimate)).max(0.0);
        let above = self.widen * (quantile(drawn, 0.975).unwrap_or(estimate) - estimate).max(0.0);
        let unit = 10_f64.powi(decimals);
        let low = (estimate - below.hypot(doubt)).clamp(least, most);
        let high = (estimate + above.hypot(doubt)).clamp(least, most);
        // Rounding must not leave the range.
        let low = if low <= least { least } else { (low * unit).floor() / unit };
        let high = if high >= most { most } else { (high * unit).ceil() / unit };
        Interval { low, high }
    }
}

/// Returns the quantile of some values, or `None` without values.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
    let place = (share * (values.len() - 1) as f64).round() as usize;
    Some(*values.select_nth_unstable_by(place, f64::total_cmp).1)
}

/// Returns Student's t for 95 % with this many degrees of freedom, by the series in their inverse (Abramowitz and
/// Stegun 26.7.5). Its error is at most 3 % from 3 degrees of freedom on.
fn student(freedom: f64) -> f64 {
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::contact::Contact;
    use crate::analysis::testing::{all, probabilities, seen};
    use crate::analysis::{Observation, Probabilities};

    /// Returns the blocks of a person with one sample a second.
    fn person(shown: &[Probabilities], quality: f32) -> Vec<Block> {
        let samples = shown.iter().zip(0_u32..).map(|(emotions, n)| {
            let seen = Observation { emotions: *emotions, quality, ..seen(n, f64::from(n), (100.0, 100.0), 80.0) };
            let contact = Contact { met: Some(n % 3 == 0), eyes_shut: None };
            (seen.time_s, Tally::of(&seen, contact, Some(90.0), 1.0))
        });
        blocks(samples, shown.len() as f64)
    }

    fn of(shown: &[Probabilities], quality: f32) -> Intervals {
        intervals(&[&person(shown, quality)], SpeechScores::default(), 1).unwrap()
    }

    fn turns(count: usize) -> Vec<Probabilities> {
        (0..count).map(|n| all(if n / 4 % 2 == 0 { Emotion::Happy } else { Emotion::Neutral })).collect()
    }

    #[test]
    fn short_videos_have_wide_intervals() {
        for count in [1, 2] {
            let found = of(&vec![all(Emotion::Happy); count], 1.0);
            assert!(found.emotions[&Emotion::Happy].width() > 25.0, "{count}: {found:#?}");
            assert!(found.emotions[&Emotion::Angry].width() > 10.0, "{found:#?}");
            assert!(found.calmness.width() > 25.0 && found.presence.unwrap().width() > 25.0, "{found:#?}");
        }
    }

    #[test]
    fn intervals_are_narrower_for_longer_videos_and_better_quality() {
        let width = |count, quality| of(&turns(count), quality).emotions[&Emotion::Happy].width();
        assert!(width(24, 1.0) < width(8, 1.0));
        assert!(width(240, 1.0) < width(24, 1.0) / 2.0);
        assert!(width(3600, 1.0) < 6.0);
        assert!(width(24, 0.2) > 1.5 * width(24, 0.9));
        let steady = |count: usize| of(&vec![all(Emotion::Neutral); count], 1.0).calmness.width();
        assert!(steady(20) < 15.0 && steady(3600) < 1.0, "{} {}", steady(20), steady(3600));
    }

    #[test]
    fn the_same_seed_gives_the_same_intervals_and_another_seed_similar_ones() {
        let block = person(&turns(40), 0.9);
        let draw = |seed| intervals(&[&block], SpeechScores::default(), seed).unwrap();
        assert_eq!(draw(1), draw(1));
        let happy = |seed| draw(seed).emotions[&Emotion::Happy];
        let (one, two) = (happy(1), happy(2));
        assert!((one.low - two.low).abs() < 4.0 && (one.high - two.high).abs() < 4.0, "{one:?} {two:?}");
    }

    #[test]
    fn without_people_there_are_no_intervals() {
        assert_eq!(intervals(&[], SpeechScores::default(), 1), None);
    }

    #[test]
    fn student_t_is_close_to_the_tables() {
        for (freedom, table) in [(3.0, 3.182), (5.0, 2.571), (10.0, 2.228), (30.0, 2.042), (149.0, 1.976)] {
            assert!((student(freedom) / table - 1.0).abs() < 0.03, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn about_nineteen_of_twenty_intervals_hold_the_true_mean() {
        // In 200 videos, a face is happy or neutral for 4 seconds at a time, with equal probability.
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut held = 0;
        for _ in 0..200 {
            let mut shown = Vec::new();
            while shown.len() < 60 {
                let emotion = if random.random_range(0..2) == 0 { Emotion::Happy } else { Emotion::Neutral };
                shown.extend([all(emotion); 4]);
            }
            held += u32::from(of(&shown, 1.0).emotions[&Emotion::Happy].holds(50.0));
        }
        assert!((170..=200).contains(&held), "{held} of 200");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn an_interval_holds_its_figure_and_is_in_range(
            people in prop::collection::vec(prop::collection::vec(probabilities(), 1..40), 1..4),
            quality in 0.05_f32..=1.0,
        ) {
            let blocks: Vec<Vec<Block>> = people.iter().map(|shown| person(shown, quality)).collect();
            let blocks: Vec<&[Block]> = blocks.iter().map(Vec::as_slice).collect();
            let found = intervals(&blocks, SpeechScores::default(), 1).unwrap();
            let estimate = row(&blocks, SpeechScores::default(), |_| 1.0).unwrap();
            let percents: Vec<Interval> = Emotion::ALL.iter().map(|emotion| found.emotions[emotion]).collect();
            let others = [found.calmness, found.model_confidence, found.valence, found.arousal];
            let optional = [found.eye_contact, found.steadiness, found.presence, found.overall_score];
            let optional = optional.map(Option::unwrap);
            for (estimate, interval) in estimate.iter().zip(percents.iter().chain(&others).chain(&optional)) {
                prop_assert!(interval.holds(estimate.unwrap()), "{estimate:?} {interval:?}");
                prop_assert!(interval.width() > 0.0);
                prop_assert!((-1.0..=100.0).contains(&interval.low) && (-1.0..=100.0).contains(&interval.high));
            }
        }
    }
}
