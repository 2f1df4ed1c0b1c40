//! The formulas of the figures, with their sources.

use std::f64::consts::FRAC_1_SQRT_2;

use super::{Covered, Emotion, Face, Pose, Probabilities};

/// Largest yaw of a head that faces the camera, in degrees.
pub const FACING_YAW_DEG: f32 = 15.0;
/// Largest pitch of a head that faces the camera, in degrees.
pub const FACING_PITCH_DEG: f32 = 15.0;

/// Shorter side in pixels from which the size does not lower the quality: twice the classifier's input.
const FULL_SIZE_PX: f32 = 96.0;
/// Sharpness from which blur does not lower the quality. Two public clips at 640 x 360 have 0.30 and 0.32. After a
/// Gaussian blur of 2 pixels they have 0.15 and 0.12, and after 4 pixels 0.05.
const FULL_SHARPNESS: f32 = 0.12;
/// Factor for a face without a pose, between those of frontal and of turned faces.
const UNKNOWN_FRONTAL: f32 = 0.75;
/// Factor for a face with covered eyes or a covered mouth. Under a mask more than half of the smiles are missed, and under
/// sunglasses two of three sad faces (docs/METRICS.md).
const COVERED: f32 = 0.1;
/// Minimum quality of a sample.
const MIN_QUALITY: f32 = 0.05;

/// Returns the calmness of one sample, 0 to 100: an estimate of the absence of visible tension.
///
/// 100 x (1 - T / r), where T = max(0, (arousal - valence) / sqrt 2) is the tense arousal: activation with displeasure
/// (Thayer 1989, "The Biopsychology of Mood and Arousal"; the axis from tense to calm of Russell & Barrett 1999, "Core
/// affect, prototypical emotional episodes, and other things called emotion"). Valence and arousal are the expected
/// values of the sample ([`Probabilities::valence_arousal`]). r is the largest T of a single emotion (fear, 0.877).
/// A pleasant expression is calm, however lively it is.
pub fn calmness(emotions: &Probabilities) -> f64 {
    let (arousal_loss, displeasure_loss) = calmness_loss(emotions);
    100.0 * (1.0 - arousal_loss - displeasure_loss)
}

/// Returns the loss of calmness by arousal and by displeasure, each 0 to 1 and at most 1 together. The loss is T / r in
/// the formula of [`calmness`]. It is split in proportion to arousal and displeasure, each counted from 0.
pub(super) fn calmness_loss(emotions: &Probabilities) -> (f64, f64) {
    let most = Emotion::ALL.into_iter().map(|emotion| tense_arousal(emotion.valence_arousal())).fold(0.0, f64::max);
    let (valence, arousal) = emotions.valence_arousal();
    let tension = tense_arousal((valence, arousal));
    if tension <= 0.0 {
        return (0.0, 0.0);
    }
    let lost = (tension / most).min(1.0);
    let arousal_loss = lost * arousal.max(0.0) / (arousal.max(0.0) + (-valence).max(0.0));
    (arousal_loss, lost - arousal_loss)
}

/// Returns the position on the axis from calm to tense, which is the circumplex of valence and arousal turned by 45
/// degrees. Positions on the calm side are 0.
pub(super) fn tense_arousal((valence, arousal): (f64, f64)) -> f64 {
    ((arousal - valence) * FRAC_1_SQRT_2).max(0.0)
}

/// Whether a head of this orientation faces the camera: within [`FACING_YAW_DEG`] to the side and
/// [`FACING_PITCH_DEG`] up or down, at any tilt. The direction of the eyes is not considered: eyes that look past the
/// camera count as contact, and eyes that look into it from a turned head do not.
pub fn eye_contact(pose: &Pose) -> bool {
    pose.yaw.abs() <= FACING_YAW_DEG && pose.pitch.abs() <= FACING_PITCH_DEG
}

/// How well a face can be seen, measured while reading its landmarks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clarity {
    /// Probability that there is a whole face, 0 to 1. It is low if a hand or the edge of the picture hides a part.
    pub presence: f32,
    /// Fine detail, independent of size and contrast: variance of the Laplacian divided by the variance of the
    /// brightness, of the face at 64 x 64 pixels.
    pub sharpness: f32,
}

impl Clarity {
    /// That of a face that the landmark network refused, because it saw a whole face with a probability below 0.5.
    pub const REFUSED: Self = Self { presence: 0.25, sharpness: FULL_SHARPNESS };
}

/// Returns the weight of a sample in averages, [`MIN_QUALITY`] to 1. It is the product of these factors:
///
/// - size: the face's shorter side divided by 96 pixels, at most 1
/// - frontal: the cosine of yaw times the cosine of pitch, or 0.75 if the pose is unknown
/// - score: the score of the detector
/// - presence: [`Clarity::presence`], or 1 if it is unknown ([`Clarity::REFUSED`] if the face was refused)
/// - sharpness: [`Clarity::sharpness`] divided by 0.12, at most 1, or 1 if it is unknown
/// - bare: 0.1 if the eyes or the mouth are covered, otherwise 1
pub fn quality(face: &Face, pose: Option<&Pose>, clarity: Option<&Clarity>, covered: Option<Covered>) -> f32 {
    let size = (face.bbox.width.min(face.bbox.height) / FULL_SIZE_PX).clamp(0.0, 1.0);
    let frontal = pose
        .map_or(UNKNOWN_FRONTAL, |pose| pose.yaw.to_radians().cos().max(0.0) * pose.pitch.to_radians().cos().max(0.0));
    let clear =
        clarity.map_or(1.0, |seen| seen.presence.clamp(0.0, 1.0) * (seen.sharpness / FULL_SHARPNESS).clamp(0.0, 1.0));
    let bare = if covered.is_some_and(Covered::any) { COVERED } else { 1.0 };
    let quality = size * frontal * face.score.clamp(0.0, 1.0) * clear * bare;
    if quality.is_finite() { quality.clamp(MIN_QUALITY, 1.0) } else { MIN_QUALITY }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::BBox;
    use crate::analysis::testing::probabilities;

    fn only(emotion: Emotion) -> Probabilities {
        let mut values = [0.0; 7];
        values[emotion.index()] = 1.0;
        Probabilities(values)
    }

    #[test]
    fn calmness_of_each_emotion_follows_from_the_sources() {
        let given = Emotion::ALL.map(|emotion| (emotion.label(), calmness(&only(emotion)).round()));
        let expected = [
            ("angry", 11.0),
            ("disgust", 23.0),
            ("fear", 0.0),
            ("happy", 100.0),
            ("sad", 71.0),
            ("surprise", 78.0),
            ("neutral", 100.0),
        ];
        assert_eq!(given, expected);
    }

    #[test]
    fn a_head_faces_the_camera_within_the_limits_of_yaw_and_pitch() {
        let pose = |yaw, pitch, roll| Pose { yaw, pitch, roll };
        assert!(eye_contact(&pose(0.0, 0.0, 0.0)) && eye_contact(&pose(-14.0, 14.0, 40.0)));
        assert!(!eye_contact(&pose(16.0, 0.0, 0.0)) && !eye_contact(&pose(0.0, -16.0, 0.0)));
    }

    #[test]
    fn small_turned_blurred_and_uncertain_faces_have_less_quality() {
        let face =
            |side, score| Face { bbox: BBox { x: 0.0, y: 0.0, width: side, height: side }, score, landmarks: None };
        let frontal = Pose::default();
        let turned = Pose { yaw: 60.0, ..frontal };
        let best = quality(&face(200.0, 1.0), Some(&frontal), None, None);
        assert!((best - 1.0).abs() < 1e-6);
        let clear = |presence, sharpness| {
            quality(&face(200.0, 1.0), Some(&frontal), Some(&Clarity { presence, sharpness }), Some(Covered::default()))
        };
        assert!((clear(1.0, 0.3) - 1.0).abs() < 1e-6);
        let refused = quality(&face(200.0, 1.0), Some(&frontal), Some(&Clarity::REFUSED), None);
        assert!(refused < clear(0.5, 0.3), "a face that is refused counts less than one that is just accepted");
        for covered in [Covered { eyes: true, mouth: false }, Covered { eyes: false, mouth: true }] {
            assert!((quality(&face(200.0, 1.0), Some(&frontal), None, Some(covered)) - 0.1).abs() < 1e-6);
        }
        for less in [
            quality(&face(48.0, 1.0), Some(&frontal), None, None),
            quality(&face(200.0, 0.5), Some(&frontal), None, None),
            quality(&face(200.0, 1.0), Some(&turned), None, None),
            clear(0.5, 0.3),
            clear(1.0, 0.06),
        ] {
            assert!((less - 0.5).abs() < 1e-3, "{less}");
        }
        assert_eq!(quality(&face(0.0, 0.0), None, None, None), MIN_QUALITY);
    }

    proptest! {
        #[test]
        fn calmness_is_between_0_and_100(emotions in probabilities()) {
            prop_assert!((0.0..=100.0).contains(&calmness(&emotions)));
        }

        #[test]
        fn the_loss_of_calmness_is_split_between_arousal_and_displeasure(emotions in probabilities()) {
            let (arousal_loss, displeasure_loss) = calmness_loss(&emotions);
            let (valence, arousal) = emotions.valence_arousal();
            prop_assert!(arousal_loss >= 0.0 && displeasure_loss >= -1e-12);
            prop_assert!((100.0 * (1.0 - arousal_loss - displeasure_loss) - calmness(&emotions)).abs() < 1e-9);
            prop_assert!(arousal > 0.0 || arousal_loss < 1e-9);
            prop_assert!(valence < 0.0 || displeasure_loss < 1e-9);
        }

        #[test]
        fn a_smile_never_lowers_calmness(emotions in probabilities(), share in 0.0_f32..=1.0) {
            let mut smiling = emotions.0.map(|p| p * (1.0 - share));
            smiling[Emotion::Happy.index()] += share;
            prop_assert!(calmness(&Probabilities(smiling)) >= calmness(&emotions) - 1e-4);
        }

        #[test]
        fn a_more_neutral_face_is_never_less_calm(emotions in probabilities(), share in 0.0_f32..=1.0) {
            let mut mixed = emotions.0.map(|p| p * (1.0 - share));
            mixed[Emotion::Neutral.index()] += share;
            prop_assert!(calmness(&Probabilities(mixed)) >= calmness(&emotions) - 1e-4);
        }

        #[test]
        fn more_fear_is_less_calm(low in 0.0_f32..1.0, more in 0.0_f32..1.0) {
            let high = low + (1.0 - low) * more;
            let fear = |p: f32| Probabilities([0.0, 0.0, p, 0.0, 0.0, 0.0, 1.0 - p]);
            prop_assert!(calmness(&fear(high)) <= calmness(&fear(low)) + 1e-4);
        }

        #[test]
        fn quality_is_between_its_minimum_and_1(
            side in 0.0_f32..1e4, score in -1.0_f32..2.0, yaw in -180.0_f32..180.0,
        ) {
            let face = Face { bbox: BBox { x: 0.0, y: 0.0, width: side, height: side }, score, landmarks: None };
            let quality = quality(&face, Some(&Pose { yaw, ..Pose::default() }), None, None);
            prop_assert!((MIN_QUALITY..=1.0).contains(&quality));
        }
    }
}
