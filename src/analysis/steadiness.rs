//! Computes how still a head is held.
//!
//! The orientation in each sample is compared with the person's mean orientation in the seconds around it. So a lasting
//! change of posture counts only while it happens, and the sampling rate has little influence. Turning, nodding and
//! tilting count, but walking and leaning do not.

use super::{Observation, Pose};

/// Seconds before and after a sample over which the mean orientation is taken.
const AROUND_S: f64 = 5.0;
/// Minimum number of orientations for a mean.
const MIN_SAMPLES: usize = 3;
/// Largest deviation in degrees with full steadiness. It is the noise of the measurement.
const STILL_DEG: f64 = 3.0;
/// Smallest deviation in degrees with a steadiness of 0.
const RESTLESS_DEG: f64 = 25.0;

/// Returns the steadiness of each observation of one person, 0 (restless) to 100 (still). It is 100 up to 3 degrees
/// from the mean orientation of the 5 seconds before and after, 0 from 25 degrees on, and linear between. Returns
/// `None` if the orientation of the head is unknown, or known for fewer than 3 samples in that time.
pub(super) fn steadiness(seen: &[Observation]) -> Vec<Option<f64>> {
    let poses: Vec<(f64, [f64; 3])> =
        seen.iter().filter_map(|seen| seen.pose.map(|pose| (seen.time_s, parts(&pose)))).collect();
    let mut steady = Vec::with_capacity(seen.len());
    let (mut from, mut to, mut sum) = (0, 0, [0.0; 3]);
    for seen in seen {
        let Some(pose) = seen.pose else {
            steady.push(None);
            continue;
        };
        while to < poses.len() && poses[to].0 <= seen.time_s + AROUND_S {
            for (sum, part) in sum.iter_mut().zip(poses[to].1) {
                *sum += part;
            }
            to += 1;
        }
        while poses[from].0 < seen.time_s - AROUND_S {
            for (sum, part) in sum.iter_mut().zip(poses[from].1) {
                *sum -= part;
            }
            from += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "samples of ten seconds")]
        let count = (to - from) as f64;
        let deviation: f64 =
            parts(&pose).iter().zip(sum).map(|(part, sum)| (part - sum / count).powi(2)).sum::<f64>().sqrt();
        steady.push((to - from >= MIN_SAMPLES).then(|| score(deviation)));
    }
    steady
}

fn parts(pose: &Pose) -> [f64; 3] {
    [pose.yaw, pose.pitch, pose.roll].map(f64::from)
}

/// Returns the steadiness for a deviation in degrees, 0 to 100.
fn score(deviation_deg: f64) -> f64 {
    100.0 * (1.0 - (deviation_deg - STILL_DEG) / (RESTLESS_DEG - STILL_DEG)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::seen;

    /// A time, and yaw and pitch if they are known.
    type Head = (f64, Option<(f32, f32)>);

    fn heads(poses: &[Head]) -> Vec<Observation> {
        let head = |(n, &(time_s, pose)): (u32, &Head)| Observation {
            pose: pose.map(|(yaw, pitch)| Pose { yaw, pitch, roll: 0.0 }),
            ..seen(n, time_s, (100.0, 100.0), 80.0)
        };
        (0..).zip(poses).map(head).collect()
    }

    fn mean(steady: &[Option<f64>]) -> f64 {
        steady.iter().flatten().sum::<f64>() / steady.iter().flatten().count() as f64
    }

    #[test]
    fn a_still_head_is_steady_in_any_direction() {
        let still: Vec<_> = (0..30).map(|n| (f64::from(n), Some((40.0, -10.0)))).collect();
        assert_eq!(steadiness(&heads(&still)), vec![Some(100.0); 30]);
    }

    #[test]
    fn a_head_that_turns_back_and_forth_is_not_steady() {
        let turning: Vec<_> =
            (0..30_u8).map(|n| (f64::from(n), Some((if n % 2 == 0 { 25.0 } else { -25.0 }, 0.0)))).collect();
        assert!(mean(&steadiness(&heads(&turning))) < 10.0);
    }

    #[test]
    fn a_change_of_posture_lowers_steadiness_only_while_it_happens() {
        let moved: Vec<_> = (0..100).map(|n| (f64::from(n), Some((if n < 50 { -20.0 } else { 20.0 }, 0.0)))).collect();
        let steady = steadiness(&heads(&moved));
        assert_eq!((steady[20], steady[80]), (Some(100.0), Some(100.0)));
        assert!(steady[49].unwrap() < 60.0 && mean(&steady) > 90.0, "{steady:?}");
    }

    #[test]
    fn too_few_orientations_give_no_steadiness() {
        let few = [(0.0, Some((0.0, 0.0))), (1.0, None), (2.0, Some((30.0, 0.0)))];
        assert_eq!(steadiness(&heads(&few)), [None, None, None]);
        let apart: Vec<_> = (0..10).map(|n| (f64::from(n) * 20.0, Some((0.0, 0.0)))).collect();
        assert_eq!(steadiness(&heads(&apart)), [None; 10]);
    }

    proptest! {
        #[test]
        fn larger_movements_are_never_steadier(
            poses in prop::collection::vec((-40.0_f32..40.0, -40.0_f32..40.0), 3..40), more in 1.0_f32..2.0,
        ) {
            let at = |by: f32| -> Vec<_> {
                (0..).zip(&poses).map(|(n, (yaw, pitch))| (f64::from(n) * 0.8, Some((yaw * by, pitch * by)))).collect()
            };
            let (calm, wild) = (steadiness(&heads(&at(1.0))), steadiness(&heads(&at(more))));
            for (calm, wild) in calm.iter().zip(&wild) {
                prop_assert!(wild.unwrap() <= calm.unwrap() + 1e-3);
                prop_assert!((0.0..=100.0).contains(&wild.unwrap()));
            }
        }
    }
}
