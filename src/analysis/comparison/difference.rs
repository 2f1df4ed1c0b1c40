//! The mean of a figure over several takes, and the difference of two figures, each with a 95 % interval.
//!
//! The interval of a difference is made from the intervals of its two figures (MOVER: Zou & Donner 2008, "Construction
//! of confidence limits about effect measures: a general approach", Statistics in Medicine 27, 1693-1702). It is right
//! for intervals that are not symmetric, such as those of shares near 0 or 100 %. docs/METRICS.md has the formulas.

use serde::Serialize;
use utoipa::ToSchema;

use crate::analysis::{Interval, rounding};

/// Student's t for 95 % with 1 to 30 degrees of freedom. Beyond, the last value is at most 4 % too high.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A figure, of one take or as the mean of several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Estimate {
    #[serde(serialize_with = "rounding::three")]
    pub value: f64,
    /// The 95 % interval.
    #[serde(serialize_with = "Interval::with_three_decimals")]
    pub interval: Interval,
    /// Number of results with this figure.
    pub takes: usize,
}

/// How much a figure is higher than another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    #[serde(serialize_with = "rounding::three")]
    pub value: f64,
    /// The 95 % interval.
    #[serde(serialize_with = "Interval::with_three_decimals")]
    pub interval: Interval,
    /// Whether the interval is on one side of 0.
    pub beyond_chance: bool,
}

impl Estimate {
    /// Returns the mean of the figure in several takes of the range `range`, or the figure of a single take. `None`
    /// without takes.
    ///
    /// The interval of a mean comes from the differences between the takes, because another take would differ, too
    /// (Student's t). It is never narrower than the intervals of the takes allow, so that two takes with the same value
    /// do not seem certain.
    pub fn mean(takes: &[(f64, Interval)], range: Interval) -> Option<Self> {
        let (&(value, interval), others) = takes.split_first()?;
        if others.is_empty() {
            return Some(Self { value, interval, takes: 1 });
        }
        let count = takes.len() as f64;
        let mean = takes.iter().map(|(value, _)| value).sum::<f64>() / count;
        let variance = takes.iter().map(|(value, _)| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let between = student(takes.len() - 1) * (variance / count).sqrt();
        let within =
            |side: fn(&(f64, Interval)) -> f64| takes.iter().map(|take| side(take).powi(2)).sum::<f64>().sqrt() / count;
        let low = mean - between.max(within(|(value, interval)| value - interval.low));
        let high = mean + between.max(within(|(value, interval)| interval.high - value));
        let interval = Interval { low: low.max(range.low), high: high.min(range.high) };
        Some(Self { value: mean, interval, takes: takes.len() })
    }

    /// Returns how much this figure is higher than `from`.
    pub fn minus(&self, from: &Self) -> Difference {
        let value = self.value - from.value;
        let below = (self.value - self.interval.low).hypot(from.interval.high - from.value);
        let above = (self.interval.high - self.value).hypot(from.value - from.interval.low);
        let interval = Interval { low: value - below, high: value + above };
        Difference { value, interval, beyond_chance: interval.low > 0.0 || interval.high < 0.0 }
    }
}

fn student(freedom: usize) -> f64 {
    freedom.checked_sub(1).and_then(|at| STUDENT.get(at)).copied().unwrap_or(STUDENT[STUDENT.len() - 1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const PERCENT: Interval = Interval { low: 0.0, high: 100.0 };

    fn take(low: f64, value: f64, high: f64) -> (f64, Interval) {
        (value, Interval { low, high })
    }

    fn one(low: f64, value: f64, high: f64) -> Estimate {
        Estimate::mean(&[take(low, value, high)], PERCENT).unwrap()
    }

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 0.005, "{found} instead of {wanted}");
    }

    #[test]
    fn the_difference_of_two_shares_is_that_of_the_literature() {
        // Newcombe 1998, "Interval estimation for the difference between independent proportions", Statistics in
        // Medicine 17, 873-890: 56/70 - 48/80, from Wilson's intervals, is 0.2 with 0.0524 to 0.3339.
        let found = one(69.18, 80.0, 87.70).minus(&one(49.04, 60.0, 70.01));
        near(found.value, 20.0);
        assert!((found.interval.low - 5.24).abs() < 0.1 && (found.interval.high - 33.39).abs() < 0.1, "{found:?}");
        assert!(found.beyond_chance);
        let back = one(49.04, 60.0, 70.01).minus(&one(69.18, 80.0, 87.70));
        near(back.interval.high, -found.interval.low);
        near(back.interval.low, -found.interval.high);
        assert!(back.beyond_chance);
    }

    #[test]
    fn a_difference_within_the_intervals_is_not_beyond_chance() {
        assert!(!one(40.0, 50.0, 60.0).minus(&one(45.0, 55.0, 65.0)).beyond_chance);
        assert!(!one(40.0, 50.0, 60.0).minus(&one(40.0, 50.0, 60.0)).beyond_chance);
        // The intervals overlap a little, and yet the difference is clear.
        assert!(one(45.0, 50.0, 55.0).minus(&one(37.0, 42.0, 47.0)).beyond_chance);
    }

    #[test]
    fn a_mean_has_the_interval_of_students_t() {
        // 10, 12, 14: standard deviation 2, t(2) = 4.303.
        let takes = [10.0, 12.0, 14.0].map(|value| take(value - 0.1, value, value + 0.1));
        let mean = Estimate::mean(&takes, PERCENT).unwrap();
        assert_eq!((mean.value, mean.takes), (12.0, 3));
        near(mean.interval.low, 12.0 - 4.303 * 2.0 / 3.0_f64.sqrt());
        near(mean.interval.high, 12.0 + 4.303 * 2.0 / 3.0_f64.sqrt());
        // The range of the figure limits it.
        let takes = [1.0, 3.0, 2.0].map(|value| take(value, value, value));
        assert_eq!(Estimate::mean(&takes, PERCENT).unwrap().interval.low, 0.0);
    }

    #[test]
    fn takes_that_agree_are_not_more_certain_than_their_intervals() {
        let mean = Estimate::mean(&[take(80.0, 100.0, 100.0); 4], PERCENT).unwrap();
        assert_eq!(mean.value, 100.0);
        near(mean.interval.low, 90.0);
        near(mean.interval.high, 100.0);
        assert_eq!(Estimate::mean(&[], PERCENT), None);
    }

    #[test]
    fn one_of_twenty_differences_without_a_cause_is_marked() {
        // Two groups of five takes from the same distribution.
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut group = || {
            let takes: Vec<_> = (0..5)
                .map(|_| {
                    let value = 30.0 + (0..12).map(|_| random.random_range(0.0..3.0)).sum::<f64>();
                    take(value, value, value)
                })
                .collect();
            Estimate::mean(&takes, PERCENT).unwrap()
        };
        let marked = (0..2000).filter(|_| group().minus(&group()).beyond_chance).count();
        assert!((20..=110).contains(&marked), "{marked} of 2000");
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_value(
            takes in prop::collection::vec((0.0..50.0, 50.0..60.0, 60.0..100.0), 1..8),
            other in (0.0..50.0, 50.0..60.0, 60.0..100.0),
        ) {
            let takes: Vec<_> = takes.into_iter().map(|(low, value, high)| take(low, value, high)).collect();
            let mean = Estimate::mean(&takes, PERCENT).unwrap();
            prop_assert!(mean.interval.holds(mean.value));
            let (low, value, high) = other;
            let difference = mean.minus(&one(low, value, high));
            prop_assert!(difference.interval.holds(difference.value));
        }
    }
}
