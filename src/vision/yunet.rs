//! YuNet (Wu, Peng & Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20).
//!
//! Input: `[batch, 3, height, width]`, BGR from 0 to 255, sides are multiples of 32. The outputs have, for each stride
//! s of 8, 16 and 32, one row for each cell, cells in reading order: score = sqrt(cls x obj); centre = (cell +
//! bbox[0..2]) x s; size = exp(bbox[2..4]) x s; landmark = (cell + kps) x s.

use ndarray::{ArrayD, ArrayView2, Axis, Ix3};
use opencv::core::Mat;

use super::VisionError;
use super::crop::{Framing, YUNET_FRAMING};
use super::detector::{Candidate, Detector, Fit, Group, faces, tensors};
use crate::analysis::{BBox, Face, Landmarks, Point};
use crate::config::{self, Colour};
use crate::engine::{EngineError, Model};

const STRIDES: [i32; 3] = [8, 16, 32];

pub(super) struct YuNet {
    model: Model,
    /// Positions of `cls`, `obj`, `bbox` and `kps` among the outputs, for each stride.
    outputs: [[usize; 4]; 3],
    side: i32,
    min_score: f32,
    min_face: f32,
}

impl YuNet {
    pub fn new(model: Model, settings: &config::Vision) -> Result<Self, VisionError> {
        let mut outputs = [[0; 4]; 3];
        for (of_stride, stride) in outputs.iter_mut().zip(STRIDES) {
            for (position, kind) in of_stride.iter_mut().zip(["cls", "obj", "bbox", "kps"]) {
                *position = model.output(&format!("{kind}_{stride}"))?;
            }
        }
        let side = settings.analysis_side as i32;
        Ok(Self { model, outputs, side, min_score: settings.min_score, min_face: settings.min_face as f32 })
    }
}

impl Detector for YuNet {
    fn model(&self) -> &Model {
        &self.model
    }

    fn framing(&self) -> &'static Framing {
        &YUNET_FRAMING
    }

    fn side(&self) -> i32 {
        self.side
    }

    fn detect(&self, frames: &[&Mat]) -> Result<Vec<Vec<Face>>, VisionError> {
        let mut found = Vec::with_capacity(frames.len());
        for Group { range, fit, rows } in tensors(frames, Colour::Bgr, |frame| Fit::shrink(frame, self.side, 32))? {
            let outputs = self.model.run(rows)?;
            for row in 0..range.len() {
                let mut candidates = Vec::new();
                for (positions, stride) in self.outputs.iter().zip(STRIDES) {
                    let [cls, obj, bbox, kps] = positions.map(|position| part(&self.model, &outputs[position], row));
                    decode([cls?, obj?, bbox?, kps?], stride, fit.canvas_width, self.min_score, &mut candidates);
                }
                found.push(faces(candidates, self.min_face, &fit));
            }
        }
        Ok(found)
    }
}

/// Returns the `[cells, values]` of one frame from an output.
pub(super) fn part<'a>(model: &Model, output: &'a ArrayD<f32>, row: usize) -> Result<ArrayView2<'a, f32>, VisionError> {
    let view = output.view().into_dimensionality::<Ix3>().map_err(|_| EngineError::Run {
        model: model.name().to_owned(),
        reason: format!("an output has the shape {:?}, not 3 dimensions", output.shape()),
    })?;
    Ok(view.index_axis_move(Axis(0), row))
}

/// Adds a candidate for each cell of one stride with a score of at least `min_score`.
fn decode(
    [cls, obj, bbox, kps]: [ArrayView2<'_, f32>; 4],
    stride: i32,
    canvas_width: i32,
    min_score: f32,
    candidates: &mut Vec<Candidate>,
) {
    let columns = (canvas_width / stride) as usize;
    let stride = stride as f32;
    let rows = cls.outer_iter().zip(obj.outer_iter()).zip(bbox.outer_iter().zip(kps.outer_iter()));
    for (cell, ((cls, obj), (bbox, kps))) in rows.enumerate() {
        let score = (cls[0].clamp(0.0, 1.0) * obj[0].clamp(0.0, 1.0)).sqrt();
        if score >= min_score {
            let (column, line) = ((cell % columns) as f32, (cell / columns) as f32);
            let (width, height) = (bbox[2].exp() * stride, bbox[3].exp() * stride);
            let (x, y) = ((column + bbox[0]) * stride - width / 2.0, (line + bbox[1]) * stride - height / 2.0);
            let point = |n: usize| Point { x: (column + kps[2 * n]) * stride, y: (line + kps[2 * n + 1]) * stride };
            candidates.push(Candidate {
                score,
                bbox: BBox { x, y, width, height },
                landmarks: Landmarks::MouthCorners(std::array::from_fn(point)),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn a_cell_is_decoded_by_the_formula() {
        // A canvas of 64 x 32 in cells of 16: four columns, two lines. The face is in column 2 of line 1, cell 6.
        let (mut cls, mut obj) = (Array2::zeros((8, 1)), Array2::zeros((8, 1)));
        (cls[[6, 0]], obj[[6, 0]]) = (0.81, 1.0);
        (cls[[1, 0]], obj[[1, 0]]) = (0.9, 0.3); // sqrt(0.27) = 0.52: too low
        let mut bbox = Array2::zeros((8, 4));
        bbox.row_mut(6).assign(&ndarray::arr1(&[0.5, 0.25, 2_f32.ln(), 3_f32.ln()]));
        let mut kps = Array2::zeros((8, 10));
        kps.row_mut(6).assign(&ndarray::arr1(&[0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 1.0, 1.0, 1.0]));

        let mut found = Vec::new();
        decode([cls.view(), obj.view(), bbox.view(), kps.view()], 16, 64, 0.6, &mut found);
        let [face] = found[..] else { panic!("{found:?}") };
        assert!((face.score - 0.9).abs() < 1e-6);
        // Centre (2.5, 1.25) x 16 = (40, 20); size 32 x 48.
        let wanted = BBox { x: 24.0, y: -4.0, width: 32.0, height: 48.0 };
        assert!((face.bbox.x - wanted.x).abs() < 1e-4 && (face.bbox.y - wanted.y).abs() < 1e-4, "{:?}", face.bbox);
        assert!((face.bbox.width - 32.0).abs() < 1e-4 && (face.bbox.height - 48.0).abs() < 1e-4, "{:?}", face.bbox);
        let points = [(32.0, 16.0), (48.0, 16.0), (40.0, 24.0), (32.0, 32.0), (48.0, 32.0)];
        assert_eq!(face.landmarks, Landmarks::MouthCorners(points.map(|(x, y)| Point { x, y })));
    }

    #[test]
    fn cells_with_a_score_of_nan_are_dropped() {
        let one = |value: f32| Array2::from_elem((1, 1), value);
        let (bbox, kps) = (Array2::zeros((1, 4)), Array2::zeros((1, 10)));
        let mut found = Vec::new();
        let (cls, obj) = (one(f32::NAN), one(1.0));
        decode([cls.view(), obj.view(), bbox.view(), kps.view()], 32, 32, 0.0, &mut found);
        assert_eq!(found, []);
    }
}
