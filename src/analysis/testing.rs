//! Made-up observations for the tests of this module.

use proptest::prelude::*;

use super::{BBox, Emotion, Face, Observation, Pose, Probabilities, Track, VideoFacts};

/// Generates seven probabilities that sum to 1.
pub fn probabilities() -> impl Strategy<Value = Probabilities> {
    prop::array::uniform7(0.001_f32..1.0).prop_map(|raw| {
        let sum: f32 = raw.iter().sum();
        Probabilities(raw.map(|value| value / sum))
    })
}

/// Returns an observation of a face with this centre and side.
pub fn seen(sample: u32, time_s: f64, centre: (f32, f32), side: f32) -> Observation {
    let bbox = BBox { x: centre.0 - side / 2.0, y: centre.1 - side / 2.0, width: side, height: side };
    Observation {
        sample,
        time_s,
        face: Face { bbox, score: 0.9, landmarks: None },
        emotions: Probabilities([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        pose: Some(Pose::default()),
        eyes: None,
        covered: None,
        expressions: None,
        quality: 1.0,
    }
}

/// Returns the facts of a video of this length.
pub fn facts(duration_s: f64, has_audio: bool) -> VideoFacts {
    VideoFacts {
        duration_s,
        fps: 25.0,
        width: 640,
        height: 360,
        codec: "h264".to_owned(),
        frames_total: 500,
        frames_analyzed: 25,
        has_audio,
        turned: 0,
        stream_orientation: None,
        start_s: 0.0,
    }
}

/// Returns the track of a person with these emotions, one for each sample.
pub fn track(id: u32, times: &[f64], emotions: &[Probabilities]) -> Track {
    let observations = times
        .iter()
        .zip(emotions)
        .zip(0_u32..)
        .map(|((time_s, emotions), i)| Observation {
            emotions: *emotions,
            ..seen(i, *time_s, (100.0 * id as f32, 100.0), 80.0)
        })
        .collect();
    Track { id, observations }
}

/// Returns probabilities of 1 for one emotion and 0 for the others.
pub fn all(emotion: Emotion) -> Probabilities {
    let mut values = [0.0; 7];
    values[emotion.index()] = 1.0;
    Probabilities(values)
}
