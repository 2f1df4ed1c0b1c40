//! Whether a person meets the camera, sample by sample.
//!
//! By the eyes, where the landmarks' model is in use: the gaze (head and eyes together) lies within a cone about the
//! camera, and the eyes are open. What "open" and "into the camera" look like differs from face to face, so both are
//! calibrated on the person's own samples, within bounds: a calibration may correct, and must not turn somebody who never
//! looks at the camera into somebody who does. Without that model, by the head alone ([`super::eye_contact`]).

use super::{Gaze, Observation, eye_contact};

/// A gaze further than this from the person's line to the camera does not meet it, in degrees.
pub const GAZE_CONE_DEG: f32 = 12.0;
/// Most that a person's own line may be off from the measured one, in degrees. Of six people who look into the camera, one is
/// measured so far from it, and the others up to 5.
pub const OFFSET_DEG: f32 = 10.0;
/// Gazes within this of the camera may be meant for it: the offset, and what the measurement wavers by (a mirror moves it by
/// 4 degrees on the mean).
const NEAR_DEG: f32 = OFFSET_DEG + 5.0;
/// Samples with open eyes near the camera from which on an offset is taken.
const OFFSET_SAMPLES: usize = 6;

/// Eyes are shut below this share of their usual openness ...
const SHUT_SHARE: f32 = 0.55;
/// ... which is that which a quarter of the samples exceed, taken to be within these: a video of shut eyes has no other.
const USUAL_OPENNESS: (f32, f32) = (0.22, 0.36);

/// What is known of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Contact {
    /// Whether the person met the camera; `None` where that could not be read.
    pub met: Option<bool>,
    pub eyes_shut: Option<bool>,
}

/// For each observation of one person; `by_eyes`: whether eyes were looked for.
pub(super) fn contacts(seen: &[Observation], by_eyes: bool) -> Vec<Contact> {
    if !by_eyes {
        let by_head = |seen: &Observation| Contact { met: seen.pose.as_ref().map(eye_contact), eyes_shut: None };
        return seen.iter().map(by_head).collect();
    }
    let least = SHUT_SHARE * usual_openness(seen);
    let open = |seen: &&Observation| seen.eyes.is_some_and(|eyes| eyes.openness >= least);
    let gazes: Vec<Gaze> = seen.iter().filter(open).filter_map(|seen| seen.eyes.map(|eyes| eyes.gaze)).collect();
    let own = offset(&gazes);
    seen.iter()
        .map(|seen| {
            let shut = seen.eyes.map(|eyes| eyes.openness < least);
            let met = seen.eyes.map(|eyes| shut == Some(false) && angle(eyes.gaze, own) <= GAZE_CONE_DEG);
            Contact { met, eyes_shut: shut }
        })
        .collect()
}

/// How far this person's eyes are usually open.
fn usual_openness(seen: &[Observation]) -> f32 {
    let mut openness: Vec<f32> = seen.iter().filter_map(|seen| seen.eyes.map(|eyes| eyes.openness)).collect();
    openness.sort_by(f32::total_cmp);
    let (low, high) = USUAL_OPENNESS;
    openness.get(openness.len() * 3 / 4).map_or(low, |usual| usual.clamp(low, high))
}

/// Where the gaze of a person who looks into the camera is measured: the median of the gazes near the camera, if those are
/// at least half of all; else nobody knows, and it is the camera itself. Whose gaze never comes into the cone as measured
/// has no offset, and no contact.
fn offset(gazes: &[Gaze]) -> Gaze {
    let within = |most: f32| move |gaze: &Gaze| angle(*gaze, Gaze::default()) <= most;
    let near: Vec<Gaze> = gazes.iter().copied().filter(within(NEAR_DEG)).collect();
    if near.len() < OFFSET_SAMPLES || 2 * near.len() < gazes.len() || !gazes.iter().any(within(GAZE_CONE_DEG)) {
        return Gaze::default();
    }
    let median = |part: fn(&Gaze) -> f32| {
        let mut values: Vec<f32> = near.iter().map(part).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    };
    let middle = Gaze { yaw: median(|gaze| gaze.yaw), pitch: median(|gaze| gaze.pitch) };
    // The middle of each part alone may lie outside the circle, by less than half its radius.
    let shrink = (OFFSET_DEG / angle(middle, Gaze::default()).max(OFFSET_DEG)).min(1.0);
    Gaze { yaw: middle.yaw * shrink, pitch: middle.pitch * shrink }
}

/// Between two directions near the camera's, in degrees.
fn angle(a: Gaze, b: Gaze) -> f32 {
    (a.yaw - b.yaw).hypot(a.pitch - b.pitch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::seen;
    use crate::analysis::{Eyes, Pose};

    fn looks(gazes: &[(f32, f32)], openness: f32) -> Vec<Observation> {
        let look = |(n, &(yaw, pitch)): (u32, &(f32, f32))| Observation {
            eyes: Some(Eyes { openness, gaze: Gaze { yaw, pitch } }),
            ..seen(n, f64::from(n), (100.0, 100.0), 80.0)
        };
        (0..).zip(gazes).map(look).collect()
    }

    fn met(seen: &[Observation]) -> Vec<Option<bool>> {
        contacts(seen, true).iter().map(|contact| contact.met).collect()
    }

    #[test]
    fn eyes_count_and_the_head_does_not_where_eyes_are_seen() {
        let mut person = looks(&[(0.0, 0.0), (30.0, 0.0), (0.0, -20.0)], 0.3);
        person[0].pose = Some(Pose { yaw: 35.0, ..Pose::default() });
        assert_eq!(met(&person), [Some(true), Some(false), Some(false)]);
        let by_head: Vec<_> = contacts(&person, false).iter().map(|contact| contact.met).collect();
        assert_eq!(by_head, [Some(false), Some(true), Some(true)]);
        person[0].eyes = None;
        assert_eq!(met(&person)[0], None, "a face whose eyes cannot be read is neither yes nor no");
    }

    #[test]
    fn shut_eyes_meet_nobody_whether_once_or_all_the_time() {
        let mut blinks = looks(&[(0.0, 0.0); 8], 0.3);
        blinks[3].eyes = blinks[3].eyes.map(|eyes| Eyes { openness: 0.08, ..eyes });
        let found = contacts(&blinks, true);
        assert_eq!(found[3], Contact { met: Some(false), eyes_shut: Some(true) });
        assert_eq!(found.iter().filter(|contact| contact.met == Some(true)).count(), 7);
        assert_eq!(met(&looks(&[(0.0, 0.0); 8], 0.08)), [Some(false); 8]);
    }

    #[test]
    fn narrow_eyes_are_not_shut_ones() {
        assert_eq!(met(&looks(&[(0.0, 0.0); 8], 0.19)), [Some(true); 8]);
    }

    #[test]
    fn a_person_s_own_offset_is_taken_off() {
        // One who is measured 6 degrees to the right when looking into the camera glances 10 degrees to either side of it.
        let mut gazes = vec![(6.0, 0.0); 10];
        gazes.extend([(16.0, 0.0), (-5.0, 0.0), (20.0, 0.0), (-8.0, 0.0)]);
        let found = met(&looks(&gazes, 0.3));
        assert_eq!(found[10..], [Some(true), Some(true), Some(false), Some(false)]);
    }

    proptest! {
        #[test]
        fn whose_gaze_never_comes_near_the_camera_has_no_contact(
            gazes in prop::collection::vec((0.0_f32..360.0, 12.1_f32..60.0), 1..60)
        ) {
            let gazes: Vec<_> = gazes.iter().map(|(turn, away)| {
                let (sin, cos) = turn.to_radians().sin_cos();
                (away * cos, away * sin)
            }).collect();
            prop_assert!(met(&looks(&gazes, 0.3)).iter().all(|met| *met == Some(false)));
        }

        #[test]
        fn calibration_moves_the_line_by_no_more_than_its_bound(
            gazes in prop::collection::vec((-40.0_f32..40.0, -40.0_f32..40.0), 1..60)
        ) {
            for ((yaw, pitch), met) in gazes.iter().zip(met(&looks(&gazes, 0.3))) {
                let away = yaw.hypot(*pitch);
                prop_assert!(met != Some(true) || away <= GAZE_CONE_DEG + OFFSET_DEG + 1e-3);
                prop_assert!(met != Some(false) || away >= GAZE_CONE_DEG - OFFSET_DEG - 1e-3);
            }
        }

        #[test]
        fn who_looks_into_the_camera_all_the_time_has_full_contact_whatever_the_offset(
            yaw in -5.0_f32..5.0, pitch in -5.0_f32..5.0,
            noise in prop::collection::vec((-3.0_f32..3.0, -3.0_f32..3.0), 6..60),
        ) {
            let gazes: Vec<_> = noise.iter().map(|(x, y)| (yaw + x, pitch + y)).collect();
            prop_assert!(met(&looks(&gazes, 0.3)).iter().all(|met| *met == Some(true)));
        }
    }
}
