//! Made-up observations for the tests of this room.

use proptest::prelude::*;

use super::{BBox, Face, Observation, Pose, Probabilities};

/// Any seven probabilities that sum to 1.
pub fn probabilities() -> impl Strategy<Value = Probabilities> {
    prop::array::uniform7(0.001_f32..1.0).prop_map(|raw| {
        let sum: f32 = raw.iter().sum();
        Probabilities(raw.map(|value| value / sum))
    })
}

/// A face of this size at this place, seen in a sample.
pub fn seen(sample: u32, time_s: f64, centre: (f32, f32), side: f32) -> Observation {
    let bbox = BBox { x: centre.0 - side / 2.0, y: centre.1 - side / 2.0, width: side, height: side };
    Observation {
        sample,
        time_s,
        face: Face { bbox, score: 0.9, landmarks: None },
        emotions: Probabilities([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        pose: Some(Pose::default()),
        eyes: None,
        expressions: None,
        quality: 1.0,
    }
}
