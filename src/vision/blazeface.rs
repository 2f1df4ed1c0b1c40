//! BlazeFace, MediaPipe's back-camera model (Bazarevsky et al. 2019, "BlazeFace: Sub-millisecond Neural Face Detection
//! on Mobile GPUs"). It is used on machines without YuNet.
//!
//! Input: `[batch, 3, height, width]`, RGB from 0 to 255, sides are multiples of 32. Anchors: first 2 in the middle of
//! each cell of 16 pixels, row by row, then 6 in the middle of each cell of 32 pixels. Outputs for each anchor: a score
//! (a probability) and 16 numbers in pixels. These are the centre, the size, right eye, left eye, nose, mouth, right
//! ear and left ear. All but the size are relative to the anchor.
//!
//! The longer side of the input is 256 pixels, as in MediaPipe. In frames of 640 pixels this finds faces from 30 pixels
//! on. With 384 pixels it finds faces below 20 pixels, but a face that fills the frame is split into several, and
//! clouds are taken for faces.

use ndarray::{ArrayView1, ArrayView2, Axis, Ix2};
use opencv::core::Mat;

use super::VisionError;
use super::crop::{BLAZEFACE_FRAMING, Framing};
use super::detector::{Candidate, Detector, Fit, Group, faces, tensors};
use super::yunet::part;
use crate::analysis::{BBox, Face, Landmarks, Point};
use crate::config::{self, Colour};
use crate::engine::{EngineError, Model};

/// Longer side of the input, in fifths of the analysis side: 256 of 640 pixels.
const SIDE_FIFTHS: i32 = 2;
/// For each grid: the side of a cell in pixels, and the anchors in a cell.
const GRIDS: [(i32, usize); 2] = [(16, 2), (32, 6)];
/// Numbers for each anchor.
const VALUES: usize = 16;
/// Steepest slope of the line between the eyes, the tangent of 60 degrees. Steeper faces are dropped as false alarms:
/// in pictures of clouds the network finds faces that lie on their side, and real faces are nearly upright.
const STEEPEST_EYES: f32 = 1.73;

pub(super) struct BlazeFace {
    model: Model,
    /// Positions of scores and regression among the outputs.
    scores: usize,
    regression: usize,
    side: i32,
    min_score: f32,
    min_face: f32,
}

impl BlazeFace {
    pub fn new(model: Model, settings: &config::Vision) -> Result<Self, VisionError> {
        let (scores, regression) = (model.output("scores")?, model.output("regression")?);
        Ok(Self {
            model,
            scores,
            regression,
            side: settings.analysis_side as i32,
            min_score: settings.min_score,
            min_face: settings.min_face as f32,
        })
    }
}

impl Detector for BlazeFace {
    fn model(&self) -> &Model {
        &self.model
    }

    fn framing(&self) -> &'static Framing {
        &BLAZEFACE_FRAMING
    }

    fn side(&self) -> i32 {
        (self.side * SIDE_FIFTHS / 5).max(1)
    }

    fn detect(&self, frames: &[&Mat]) -> Result<Vec<Vec<Face>>, VisionError> {
        let mut found = Vec::with_capacity(frames.len());
        let side = self.side();
        for Group { range, fit, rows } in tensors(frames, Colour::Rgb, |frame| Fit::shrink(frame, side, 32))? {
            let outputs = self.model.run(rows)?;
            let scores = outputs[self.scores].view().into_dimensionality::<Ix2>().map_err(|_| EngineError::Run {
                model: self.model.name().to_owned(),
                reason: format!("scores have the shape {:?}", outputs[self.scores].shape()),
            })?;
            // The setting is in pixels at the analysis scale, which is finer than the scale of this detector.
            let analysis = Fit::shrink(frames[range.start], self.side, 32);
            let min_face = self.min_face * analysis.scale_x / fit.scale_x;
            let anchors = anchors(fit.canvas_width, fit.canvas_height);
            for row in 0..range.len() {
                let regression = part(&self.model, &outputs[self.regression], row)?;
                let candidates = decode(scores.index_axis(Axis(0), row), regression, &anchors, self.min_score);
                found.push(faces(candidates, min_face, &fit));
            }
        }
        Ok(found)
    }
}

/// Returns the positions of the anchors in pixels of a canvas.
fn anchors(width: i32, height: i32) -> Vec<Point> {
    let mut anchors = Vec::new();
    for (pitch, of_cell) in GRIDS {
        let columns = width / pitch;
        for cell in 0..columns * (height / pitch) {
            let at = |index: i32| (index as f32 + 0.5) * pitch as f32;
            anchors.extend(std::iter::repeat_n(Point { x: at(cell % columns), y: at(cell / columns) }, of_cell));
        }
    }
    anchors
}

/// Returns the candidates with a score of at least `min_score` that are at most 60 degrees from upright.
fn decode(
    scores: ArrayView1<'_, f32>,
    regression: ArrayView2<'_, f32>,
    anchors: &[Point],
    min_score: f32,
) -> Vec<Candidate> {
    let rows = scores.iter().zip(regression.outer_iter()).zip(anchors);
    rows.filter(|((score, values), _)| **score >= min_score && values.len() == VALUES)
        .map(|((score, values), anchor)| {
            let point = |n: usize| Point { x: anchor.x + values[2 * n], y: anchor.y + values[2 * n + 1] };
            let (centre, width, height) = (point(0), values[2], values[3]);
            Candidate {
                score: score.min(1.0),
                bbox: BBox { x: centre.x - width / 2.0, y: centre.y - height / 2.0, width, height },
                landmarks: Landmarks::Ears(std::array::from_fn(|n| point(n + 2))),
            }
        })
        .filter(|candidate| {
            let (right, left) = candidate.landmarks.eyes();
            (left.y - right.y).abs() <= STEEPEST_EYES * (left.x - right.x)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;

    #[test]
    fn fine_cells_have_two_anchors_and_coarse_cells_six_in_their_middle() {
        let square = anchors(256, 256);
        assert_eq!(square.len(), 896);
        let at = |n: usize| (square[n].x, square[n].y);
        assert_eq!((at(0), at(1), at(2)), ((8.0, 8.0), (8.0, 8.0), (24.0, 8.0)));
        assert_eq!((at(32), at(511)), ((8.0, 24.0), (248.0, 248.0)));
        assert_eq!((at(512), at(517), at(518), at(895)), ((16.0, 16.0), (16.0, 16.0), (48.0, 16.0), (240.0, 240.0)));
        let wide = anchors(384, 224);
        assert_eq!((wide.len(), wide[48]), (24 * 14 * 2 + 12 * 7 * 6, Point { x: 8.0, y: 24.0 }));
    }

    #[test]
    fn points_are_relative_to_the_anchor_and_the_size_is_not() {
        let mut scores = Array1::zeros(896);
        (scores[2], scores[3]) = (0.75, 0.5);
        let mut regression = Array2::zeros((896, 16));
        for (n, value) in
            [1.0, 2.0, 40.0, 60.0, -10.0, -12.0, 10.0, -12.0, 0.0, 0.0, 0.0, 15.0, -20.0, -5.0, 20.0, -5.0]
                .into_iter()
                .enumerate()
        {
            regression[[2, n]] = value;
        }
        let found = decode(scores.view(), regression.view(), &anchors(256, 256), 0.6);
        let [face] = found[..] else { panic!("{found:?}") };
        // The anchor is (24, 8).
        assert_eq!((face.score, face.bbox), (0.75, BBox { x: 5.0, y: -20.0, width: 40.0, height: 60.0 }));
        let points = [(14.0, -4.0), (34.0, -4.0), (24.0, 8.0), (24.0, 23.0), (4.0, 3.0), (44.0, 3.0)];
        assert_eq!(face.landmarks, Landmarks::Ears(points.map(|(x, y)| Point { x, y })));

        // With the left eye below the right one, the face lies on its side and is dropped.
        (regression[[2, 6]], regression[[2, 7]]) = (-5.0, 12.0);
        assert_eq!(decode(scores.view(), regression.view(), &anchors(256, 256), 0.6), []);
    }
}
