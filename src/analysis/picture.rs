//! One face of a single picture, as clients get it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::contact::contacts;
use super::rounding::to_f32;
use super::{BBox, Emotion, Expressions, Gaze, People, Pose, Sighting, TimelineRow};

/// One face of a picture. Unknown values are null.
#[derive(Debug, Serialize, ToSchema)]
pub struct PictureFace {
    /// Number of the person, from 1. It is the same in all pictures of the request, and in those of later requests with
    /// `face_state`.
    id: u32,
    /// In pixels of the upright picture.
    bbox: BBox,
    /// The detector's score.
    #[schema(minimum = 0, maximum = 1)]
    score: f32,
    /// Probability of each emotion, 0 to 1.
    emotions: BTreeMap<Emotion, f32>,
    /// The emotion with the highest probability.
    dominant_emotion: Emotion,
    /// -1 (unpleasant) to 1 (pleasant).
    #[schema(minimum = -1, maximum = 1)]
    valence: f64,
    /// -1 (passive) to 1 (active).
    #[schema(minimum = -1, maximum = 1)]
    arousal: f64,
    pose: Option<Pose>,
    gaze: Option<Gaze>,
    eyes_shut: Option<bool>,
    /// Whether both eyes are covered, for example by sunglasses.
    eyes_covered: Option<bool>,
    /// Whether the mouth is covered, for example by a mask.
    mouth_covered: Option<bool>,
    /// Whether there was eye contact with the camera.
    eye_contact: Option<bool>,
    /// Visibility of the face, above 0 and at most 1: its size, sharpness and how far it is turned.
    #[schema(minimum = 0, maximum = 1)]
    quality: f32,
    /// Movements of the face, 0 to 1, if they were requested. Movements with 0 are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    expressions: Option<Expressions>,
}

impl PictureFace {
    /// Returns the faces of the next picture, in the order of `seen`, with the ids of their people.
    pub fn of_picture(people: &mut People, seen: &[Sighting], by_eyes: bool) -> Vec<Self> {
        picture_rows(people, seen, by_eyes)
            .iter()
            .zip(seen)
            .map(|(row, face)| Self::new(row, face.seen.face.score))
            .collect()
    }

    pub(super) fn new(row: &TimelineRow, score: f32) -> Self {
        let (valence, arousal) = row.valence_arousal();
        let dominant_emotion = row.emotions.top().0;
        let row = row.rounded();
        Self {
            id: row.face,
            bbox: row.bbox,
            score: to_f32(score, 3),
            emotions: Emotion::ALL.into_iter().map(|emotion| (emotion, row.emotions.of(emotion))).collect(),
            dominant_emotion,
            valence,
            arousal,
            pose: row.pose,
            gaze: row.gaze,
            eyes_shut: row.eyes_shut,
            eyes_covered: row.covered.map(|covered| covered.eyes),
            mouth_covered: row.covered.map(|covered| covered.mouth),
            eye_contact: row.eye_contact,
            quality: row.quality,
            expressions: row.expressions,
        }
    }
}

/// Returns the rows of the next picture, at time 0, in the order of `seen`, with the ids of their people. `by_eyes`:
/// whether the landmark model was used. There is only one picture of each person, so eye contact is not calibrated as it
/// is in a video.
pub fn picture_rows(people: &mut People, seen: &[Sighting], by_eyes: bool) -> Vec<TimelineRow> {
    let appearances: Vec<_> = seen.iter().map(|face| face.appearance.clone().unwrap_or_default()).collect();
    let row = |(id, face): (u32, &Sighting)| {
        let contact = contacts(std::slice::from_ref(&face.seen), by_eyes).first().copied().unwrap_or_default();
        TimelineRow::of(id, &face.seen, &contact)
    };
    people.assign(&appearances).into_iter().zip(seen).map(row).collect()
}
