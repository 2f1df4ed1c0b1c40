//! Decides for each sample of a person whether there is eye contact with the camera.
//!
//! With the landmark model this is judged by the eyes: the gaze (head and eyes together) has to lie within a cone
//! around the camera, and the eyes have to be open. Open eyes and a gaze into the camera look different from face to
//! face. So both are calibrated with the person's own samples, within limits: calibration must not give eye contact
//! to a person who never looks at the camera. Without the landmark model, eye contact is judged by the head alone
//! ([`super::eye_contact`]).

use super::{Gaze, Observation, eye_contact};

/// A gaze within this angle of the person's calibrated line to the camera is eye contact, in degrees.
pub const GAZE_CONE_DEG: f32 = 12.0;
/// Largest offset of the calibrated line from the measured one, in degrees. Among six people who look into the
/// camera, one is measured this far from it, and the others up to 5.
pub const OFFSET_DEG: f32 = 10.0;
/// Gazes within this angle of the camera are used for calibration, in degrees. It is the largest offset plus a margin
/// for the noise of the measurement (mirroring a picture changes the gaze by 4 degrees on average).
const NEAR_DEG: f32 = OFFSET_DEG + 5.0;
/// Minimum number of gazes near the camera from which an offset is computed.
const OFFSET_SAMPLES: usize = 6;

/// Eyes are shut below this share of their usual openness.
const SHUT_SHARE: f32 = 0.55;
/// Range of the usual openness, which is the upper quartile of the person's samples. The limits matter for videos in
/// which the eyes are always shut.
const USUAL_OPENNESS: (f32, f32) = (0.22, 0.36);

/// Eye contact in one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Contact {
    /// Whether the person had eye contact with the camera, or `None` if that could not be read.
    pub met: Option<bool>,
    /// `None` if the eyes could not be read.
    pub eyes_shut: Option<bool>,
}

/// Decides eye contact for each observation of one person. `by_eyes`: whether the landmark model was used.
pub(super) fn contacts(seen: &[Observation], by_eyes: bool) -> Vec<Contact> {
    if !by_eyes {
        let by_head = |seen: &Observation| Contact { met: seen.pose.as_ref().map(eye_contact), eyes_shut: None };
        return seen.iter().map(by_head).collect();
    }
    let least = SHUT_SHARE * usual_openness(seen);
    let open = |seen: &&Observation| seen.eyes.is_some_and(|eyes| eyes.openness >= least);
    let gazes: Vec<Gaze> = seen.iter().filter(open).filter_map(|seen| seen.eyes.map(|eyes| eyes.gaze)).collect();
    let offset = offset(&gazes);
    seen.iter()
        .map(|seen| {
            let shut = seen.eyes.map(|eyes| eyes.openness < least);
            let met = seen.eyes.map(|eyes| shut == Some(false) && angle(eyes.gaze, offset) <= GAZE_CONE_DEG);
            Contact { met, eyes_shut: shut }
        })
        .collect()
}

/// Returns the usual openness of the person's eyes.
fn usual_openness(seen: &[Observation]) -> f32 {
    let mut openness: Vec<f32> = seen.iter().filter_map(|seen| seen.eyes.map(|eyes| eyes.openness)).collect();
    openness.sort_by(f32::total_cmp);
    let (low, high) = USUAL_OPENNESS;
    openness.get(openness.len() * 3 / 4).map_or(low, |usual| usual.clamp(low, high))
}

/// Returns the measured gaze of this person when looking into the camera: the median of the gazes near the camera.
/// Returns no offset if these are less than half of all gazes or fewer than [`OFFSET_SAMPLES`], or if no gaze lies
/// within the cone around the camera.
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
    // The point of both medians may lie outside the circle of the largest offset.
    let shrink = (OFFSET_DEG / angle(middle, Gaze::default()).max(OFFSET_DEG)).min(1.0);
    Gaze { yaw: middle.yaw * shrink, pitch: middle.pitch * shrink }
}

/// Returns the angle in degrees between two gazes. It is exact only near the direction of the camera.
fn angle(a: Gaze, b: Gaze) -> f32 {
    (a.yaw - b.yaw).hypot(a.pitch - b.pitch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::seen;
    use crate::analysis::{Eyes, Pose};

    fn with_gazes(gazes: &[(f32, f32)], openness: f32) -> Vec<Observation> {
        let observation = |(n, &(yaw, pitch)): (u32, &(f32, f32))| Observation {
            eyes: Some(Eyes { openness, gaze: Gaze { yaw, pitch } }),
            ..seen(n, f64::from(n), (100.0, 100.0), 80.0)
        };
        (0..).zip(gazes).map(observation).collect()
    }

    fn met(seen: &[Observation]) -> Vec<Option<bool>> {
        contacts(seen, true).iter().map(|contact| contact.met).collect()
    }

    #[test]
    fn eye_contact_is_judged_by_the_eyes_and_not_by_the_head() {
        let mut person = with_gazes(&[(0.0, 0.0), (30.0, 0.0), (0.0, -20.0)], 0.3);
        person[0].pose = Some(Pose { yaw: 35.0, ..Pose::default() });
        assert_eq!(met(&person), [Some(true), Some(false), Some(false)]);
        let by_head: Vec<_> = contacts(&person, false).iter().map(|contact| contact.met).collect();
        assert_eq!(by_head, [Some(false), Some(true), Some(true)]);
        person[0].eyes = None;
        assert_eq!(met(&person)[0], None, "eye contact is unknown if the eyes cannot be read");
    }

    #[test]
    fn shut_eyes_have_no_eye_contact() {
        let mut blinks = with_gazes(&[(0.0, 0.0); 8], 0.3);
        blinks[3].eyes = blinks[3].eyes.map(|eyes| Eyes { openness: 0.08, ..eyes });
        let found = contacts(&blinks, true);
        assert_eq!(found[3], Contact { met: Some(false), eyes_shut: Some(true) });
        assert_eq!(found.iter().filter(|contact| contact.met == Some(true)).count(), 7);
        assert_eq!(met(&with_gazes(&[(0.0, 0.0); 8], 0.08)), [Some(false); 8]);
    }

    #[test]
    fn narrow_eyes_are_not_shut() {
        assert_eq!(met(&with_gazes(&[(0.0, 0.0); 8], 0.19)), [Some(true); 8]);
    }

    #[test]
    fn the_offset_of_a_person_is_subtracted() {
        // The person is measured 6 degrees to the right when looking into the camera, and glances to either side.
        let mut gazes = vec![(6.0, 0.0); 10];
        gazes.extend([(16.0, 0.0), (-5.0, 0.0), (20.0, 0.0), (-8.0, 0.0)]);
        let found = met(&with_gazes(&gazes, 0.3));
        assert_eq!(found[10..], [Some(true), Some(true), Some(false), Some(false)]);
    }

    proptest! {
        #[test]
        fn a_gaze_that_never_comes_near_the_camera_is_no_eye_contact(
            gazes in prop::collection::vec((0.0_f32..360.0, 12.1_f32..60.0), 1..60)
        ) {
            let gazes: Vec<_> = gazes.iter().map(|(turn, away)| {
                let (sin, cos) = turn.to_radians().sin_cos();
                (away * cos, away * sin)
            }).collect();
            prop_assert!(met(&with_gazes(&gazes, 0.3)).iter().all(|met| *met == Some(false)));
        }

        #[test]
        fn calibration_moves_the_line_by_at_most_its_limit(
            gazes in prop::collection::vec((-40.0_f32..40.0, -40.0_f32..40.0), 1..60)
        ) {
            for ((yaw, pitch), met) in gazes.iter().zip(met(&with_gazes(&gazes, 0.3))) {
                let away = yaw.hypot(*pitch);
                prop_assert!(met != Some(true) || away <= GAZE_CONE_DEG + OFFSET_DEG + 1e-3);
                prop_assert!(met != Some(false) || away >= GAZE_CONE_DEG - OFFSET_DEG - 1e-3);
            }
        }

        #[test]
        fn constant_looking_into_the_camera_is_full_eye_contact_for_any_offset(
            yaw in -5.0_f32..5.0, pitch in -5.0_f32..5.0,
            noise in prop::collection::vec((-3.0_f32..3.0, -3.0_f32..3.0), 6..60),
        ) {
            let gazes: Vec<_> = noise.iter().map(|(x, y)| (yaw + x, pitch + y)).collect();
            prop_assert!(met(&with_gazes(&gazes, 0.3)).iter().all(|met| *met == Some(true)));
        }
    }
}
