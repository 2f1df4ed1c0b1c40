//! Rounds figures when they are written to JSON. Computations use exact values.

use std::collections::BTreeMap;

use serde::Serializer;
use serde::ser::{SerializeMap, SerializeSeq};

use super::Emotion;

/// Rounds a number to this many decimals.
pub fn to(value: f64, decimals: i32) -> f64 {
    let unit = 10_f64.powi(decimals);
    (value * unit).round() / unit
}

/// Rounds a number to this many decimals.
pub fn to_f32(value: f32, decimals: i32) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the value was an f32")]
    {
        to(f64::from(value), decimals) as f32
    }
}

macro_rules! with_decimals {
    ($($name:ident, $optional:ident, $decimals:literal;)*) => {$(
        pub fn $name<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_f64(to(*value, $decimals))
        }

        pub fn $optional<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => $name(value, serializer),
                None => serializer.serialize_none(),
            }
        }
    )*};
}

with_decimals! {
    one, maybe_one, 1;
    two, maybe_two, 2;
    three, maybe_three, 3;
}

/// Writes a number without decimals and without a decimal point.
pub fn maybe_whole<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
        Some(value) => serializer.serialize_i64(value.round() as i64),
        None => serializer.serialize_none(),
    }
}

/// Rounds percentages to one decimal and keeps their sum: the remainder after rounding down goes to the values that
/// lost most (the largest remainder method).
pub fn percentages(values: &BTreeMap<Emotion, f64>) -> BTreeMap<Emotion, f64> {
    apportion(values, 10.0)
}

/// Does the same as [`percentages`] without decimals.
pub fn whole_percentages(values: &BTreeMap<Emotion, f64>) -> BTreeMap<Emotion, f64> {
    apportion(values, 1.0)
}

/// Rounds values to multiples of `1 / parts` and keeps their sum.
fn apportion(values: &BTreeMap<Emotion, f64>, parts: f64) -> BTreeMap<Emotion, f64> {
    let scaled: Vec<(Emotion, f64)> = values.iter().map(|(emotion, value)| (*emotion, value * parts)).collect();
    let mut whole: BTreeMap<Emotion, f64> = scaled.iter().map(|(emotion, value)| (*emotion, value.floor())).collect();
    let mut left = scaled.iter().map(|(_, value)| value).sum::<f64>().round() - whole.values().sum::<f64>();
    let mut order = scaled;
    order.sort_by(|a, b| (b.1 - b.1.floor()).total_cmp(&(a.1 - a.1.floor())));
    for (emotion, _) in order {
        if left >= 1.0 {
            *whole.entry(emotion).or_default() += 1.0;
            left -= 1.0;
        }
    }
    whole.into_iter().map(|(emotion, count)| (emotion, count / parts)).collect()
}

pub fn percent<S: Serializer>(values: &BTreeMap<Emotion, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(percentages(values))
}

pub fn maybe_percent<S: Serializer>(values: &Option<BTreeMap<Emotion, f64>>, s: S) -> Result<S::Ok, S::Error> {
    match values {
        Some(values) => percent(values, s),
        None => s.serialize_none(),
    }
}

pub fn map_of_three<S: Serializer>(values: &BTreeMap<Emotion, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(values.len()))?;
    for (emotion, value) in values {
        map.serialize_entry(emotion, &to(*value, 3))?;
    }
    map.end()
}

pub fn vector<S: Serializer>(values: &[f32; 7], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(values.len()))?;
    for value in values {
        list.serialize_element(&to_f32(*value, 4))?;
    }
    list.end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::probabilities;

    proptest! {
        #[test]
        fn rounded_percentages_sum_to_a_hundred_and_stay_close(emotions in probabilities()) {
            let sum: f64 = emotions.0.iter().map(|p| f64::from(*p)).sum();
            let exact: BTreeMap<Emotion, f64> =
                Emotion::ALL.into_iter().map(|e| (e, 100.0 * f64::from(emotions.of(e)) / sum)).collect();
            let rounded = percentages(&exact);
            prop_assert!((rounded.values().sum::<f64>() - 100.0).abs() < 1e-9);
            for (emotion, value) in &rounded {
                prop_assert!((value - exact[emotion]).abs() <= 0.1 + 1e-9);
            }
            prop_assert_eq!(percentages(&rounded), rounded);
        }
    }
}
