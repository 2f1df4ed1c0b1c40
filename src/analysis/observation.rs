//! One face in one sampled frame.

use serde::{Deserialize, Serialize};

use super::{Covered, Expressions, Eyes, Face, Pose, Probabilities};

/// Everything that was read from one face in one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Index of the sample, from 0.
    pub sample: u32,
    /// Presentation time of the frame in seconds from the start of the video.
    pub time_s: f64,
    /// Box, score and landmarks.
    pub face: Face,
    /// The classifier's probabilities.
    pub emotions: Probabilities,
    /// Orientation of the head, or `None` without landmarks.
    pub pose: Option<Pose>,
    /// Openness and gaze of the eyes, or `None` if the landmark model did not read them or the eyes are covered.
    pub eyes: Option<Eyes>,
    /// Whether eyes or mouth are covered, or `None` if the landmark model did not read the face.
    pub covered: Option<Covered>,
    /// Movements of the face, or `None` if they were not asked for or not read.
    #[serde(with = "super::expressions::unnamed")]
    pub expressions: Option<Expressions>,
    /// Weight of the sample in averages, above 0 and up to 1. Small or turned faces have less weight.
    pub quality: f32,
}
