//! How still a head is held.
//!
//! A sample is compared with the person's mean orientation in the seconds around it, so that who sits down anew after ten
//! minutes is not restless for that, and the rate of sampling does not matter much. Turning, nodding and tilting count;
//! walking and leaning do not.

use super::{Observation, Pose};

/// Seconds before and after a sample that it is compared with.
const AROUND_S: f64 = 5.0;
/// Fewer orientations than this within them tell nothing.
const LEAST: usize = 3;
/// Up to here, in degrees, is the unrest of the measurement itself ...
const STILL_DEG: f64 = 3.0;
/// ... and from here on nothing is left of steadiness.
const RESTLESS_DEG: f64 = 25.0;

/// For each observation of one person 0 (restless) to 100 (still): 100 up to 3 degrees from the mean orientation of the
/// 5 seconds before and after, 0 from 25 degrees on, a line between. `None` where the head's orientation is not known,
/// or is known of fewer than 3 samples there.
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
        let off: f64 = parts(&pose).iter().zip(sum).map(|(part, sum)| (part - sum / count).powi(2)).sum::<f64>().sqrt();
        steady.push((to - from >= LEAST).then(|| still(off)));
    }
    steady
}

fn parts(pose: &Pose) -> [f64; 3] {
    [pose.yaw, pose.pitch, pose.roll].map(f64::from)
}

/// 0 to 100 for so many degrees.
fn still(off_deg: f64) -> f64 {
    100.0 * (1.0 - (off_deg - STILL_DEG) / (RESTLESS_DEG - STILL_DEG)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::seen;

    /// A moment, and yaw and pitch if they are known.
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
    fn a_head_that_is_held_still_is_steady_wherever_it_points() {
        let still: Vec<_> = (0..30).map(|n| (f64::from(n), Some((40.0, -10.0)))).collect();
        assert_eq!(steadiness(&heads(&still)), vec![Some(100.0); 30]);
    }

    #[test]
    fn a_head_that_turns_to_and_fro_is_not() {
        let turning: Vec<_> =
            (0..30_u8).map(|n| (f64::from(n), Some((if n % 2 == 0 { 25.0 } else { -25.0 }, 0.0)))).collect();
        assert!(mean(&steadiness(&heads(&turning))) < 10.0);
    }

    #[test]
    fn who_sits_down_anew_is_restless_only_while_doing_so() {
        let moved: Vec<_> = (0..100).map(|n| (f64::from(n), Some((if n < 50 { -20.0 } else { 20.0 }, 0.0)))).collect();
        let steady = steadiness(&heads(&moved));
        assert_eq!((steady[20], steady[80]), (Some(100.0), Some(100.0)));
        assert!(steady[49].unwrap() < 60.0 && mean(&steady) > 90.0, "{steady:?}");
    }

    #[test]
    fn too_few_orientations_tell_nothing() {
        let few = [(0.0, Some((0.0, 0.0))), (1.0, None), (2.0, Some((30.0, 0.0)))];
        assert_eq!(steadiness(&heads(&few)), [None, None, None]);
        let apart: Vec<_> = (0..10).map(|n| (f64::from(n) * 20.0, Some((0.0, 0.0)))).collect();
        assert_eq!(steadiness(&heads(&apart)), [None; 10]);
    }

    proptest! {
        #[test]
        fn a_larger_swing_is_never_steadier(
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
