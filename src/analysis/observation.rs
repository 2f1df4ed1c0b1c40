//! One face in one sampled frame.

use super::{Covered, Expressions, Eyes, Face, Pose, Probabilities};

/// All that was read from one face in one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Index of the sample, from 0.
    pub sample: u32,
    /// Presentation time of the frame in seconds from the start of the video.
    pub time_s: f64,
    /// Box, score and landmarks.
    pub face: Face,
    /// The classifier's probabilities.
    pub emotions: Probabilities,
    /// Orientation of the head, where the detector gives the landmarks for it.
    pub pose: Option<Pose>,
    /// What the eyes do, where landmarks show them.
    pub eyes: Option<Eyes>,
    /// Whether eyes or mouth are covered, where landmarks show them.
    pub covered: Option<Covered>,
    /// What moved in the face, where that was asked for and landmarks show it.
    pub expressions: Option<Expressions>,
    /// How much the sample counts in averages, above 0 to 1: small or turned faces count less.
    pub quality: f32,
}
