//! The parts that all face detectors share: the trait, preparation of frames, and non-maximum suppression.

use std::ops::Range;

use ndarray::{ArrayD, IxDyn};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Size, Vec3b};

use super::VisionError;
use super::crop::Framing;
use super::scale;
use crate::analysis::{BBox, Face, Landmarks, Point};
use crate::config::Colour;
use crate::engine::Model;

/// Boxes with a larger intersection over union are the same face. This is the threshold that YuNet's authors publish.
pub(super) const SAME_FACE_IOU: f32 = 0.3;

/// Finds faces in frames.
pub(super) trait Detector: Send + Sync {
    fn model(&self) -> &Model;

    /// Returns the position of the classifier's training pictures relative to the boxes of this detector.
    fn framing(&self) -> &'static Framing;

    /// Returns the longer side in pixels that frames are shrunk to.
    fn side(&self) -> i32;

    /// Finds the faces in each frame. Frames are 8-bit BGR. Returns each face once, in pixels of its frame, in no
    /// order.
    fn detect(&self, frames: &[&Mat]) -> Result<Vec<Vec<Face>>, VisionError>;
}

/// Position of a frame in a detector's input: scaled to `width` x `height` in the top left corner of a canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    pub width: i32,
    pub height: i32,
    pub canvas_width: i32,
    pub canvas_height: i32,
    /// Pixels of the frame for one pixel of the canvas.
    pub scale_x: f32,
    pub scale_y: f32,
}

impl Fit {
    /// Shrinks a frame so that its longer side is at most `side`, and pads its sides to multiples of `multiple`.
    /// Smaller frames are not enlarged, because that finds no more faces: in a photograph shrunk to 80 pixels, YuNet
    /// finds the same five faces of 8 pixels as after enlarging that picture to 640.
    pub fn shrink(frame: &Mat, side: i32, multiple: i32) -> Self {
        let (cols, rows) = (frame.cols(), frame.rows());
        let factor = (f64::from(side) / f64::from(cols.max(rows))).min(1.0);
        let scaled = |length: i32| ((f64::from(length) * factor).round() as i32).max(1);
        let (width, height) = (scaled(cols), scaled(rows));
        let padded = |length: i32| (length + multiple - 1) / multiple * multiple;
        Self {
            width,
            height,
            canvas_width: padded(width),
            canvas_height: padded(height),
            scale_x: cols as f32 / width as f32,
            scale_y: rows as f32 / height as f32,
        }
    }

    /// Converts a box on the canvas to pixels of the frame.
    pub fn bbox(&self, x: f32, y: f32, width: f32, height: f32) -> BBox {
        BBox { x: x * self.scale_x, y: y * self.scale_y, width: width * self.scale_x, height: height * self.scale_y }
    }

    /// Converts a point on the canvas to pixels of the frame.
    pub fn point(&self, x: f32, y: f32) -> Point {
        Point { x: x * self.scale_x, y: y * self.scale_y }
    }
}

/// Consecutive frames with the same position in the detector's input.
pub(super) struct Group {
    /// Indices of the frames.
    pub range: Range<usize>,
    pub fit: Fit,
    /// `[frames, 3, canvas height, canvas width]`: pixels from 0 to 255, zero in the padding.
    pub rows: ArrayD<f32>,
}

/// Converts frames to the input of a detector, with colours in the given order.
pub(super) fn tensors(frames: &[&Mat], order: Colour, fit: impl Fn(&Mat) -> Fit) -> Result<Vec<Group>, VisionError> {
    let fits: Vec<Fit> = frames.iter().map(|frame| fit(frame)).collect();
    let mut tensors = Vec::new();
    let mut start = 0;
    while let Some(&fit) = fits.get(start) {
        let end = start + fits[start..].iter().take_while(|other| **other == fit).count();
        let (columns, lines) = (fit.canvas_width as usize, fit.canvas_height as usize);
        let mut rows = ArrayD::zeros(IxDyn(&[end - start, 3, lines, columns]));
        if let Some(values) = rows.as_slice_mut() {
            for (frame, picture) in frames[start..end].iter().zip(values.chunks_exact_mut(3 * lines * columns)) {
                fill(picture, frame, &fit, order)?;
            }
        }
        tensors.push(Group { range: start..end, fit, rows });
        start = end;
    }
    Ok(tensors)
}

/// Writes one frame into the three colour planes of its part of the input.
fn fill(picture: &mut [f32], frame: &Mat, fit: &Fit, order: Colour) -> Result<(), VisionError> {
    let scaled;
    let frame = if (frame.cols(), frame.rows()) == (fit.width, fit.height) {
        frame
    } else {
        scaled = scale::whole(frame, Size::new(fit.width, fit.height))?;
        &scaled
    };
    let columns = fit.canvas_width as usize;
    let plane = columns * fit.canvas_height as usize;
    let (first, rest) = picture.split_at_mut(plane);
    let (second, third) = rest.split_at_mut(plane);
    let [blue, green, red] = if order == Colour::Rgb { [third, second, first] } else { [first, second, third] };
    for line in 0..fit.height {
        let start = line as usize * columns;
        let end = start + fit.width as usize;
        let pixels = frame.at_row::<Vec3b>(line)?;
        let planes = blue[start..end].iter_mut().zip(&mut green[start..end]).zip(&mut red[start..end]);
        for (pixel, ((blue, green), red)) in pixels.iter().zip(planes) {
            *blue = f32::from(pixel[0]);
            *green = f32::from(pixel[1]);
            *red = f32::from(pixel[2]);
        }
    }
    Ok(())
}

/// A face before non-maximum suppression, in pixels of the canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub score: f32,
    pub bbox: BBox,
    pub landmarks: Landmarks,
}

/// Turns candidates into faces in pixels of the frame, highest score first. Drops candidates that are smaller than
/// `min_face` pixels, have values that are not finite, or overlap a candidate with a higher score.
pub(super) fn faces(candidates: Vec<Candidate>, min_face: f32, fit: &Fit) -> Vec<Face> {
    let is_valid = |candidate: &Candidate| {
        let BBox { x, y, width, height } = candidate.bbox;
        width.max(height) >= min_face && [x, y, width, height, candidate.score].iter().all(|value| value.is_finite())
    };
    let valid: Vec<Candidate> = candidates.into_iter().filter(is_valid).collect();
    non_maximum_suppression(valid)
        .into_iter()
        .map(|Candidate { score, bbox, landmarks }| Face {
            bbox: fit.bbox(bbox.x, bbox.y, bbox.width, bbox.height),
            score,
            landmarks: Some(match landmarks {
                Landmarks::MouthCorners(points) => Landmarks::MouthCorners(points.map(|p| fit.point(p.x, p.y))),
                Landmarks::Ears(points) => Landmarks::Ears(points.map(|p| fit.point(p.x, p.y))),
            }),
        })
        .collect()
}

/// Drops each candidate that overlaps one with a higher score.
fn non_maximum_suppression(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.iter().all(|better| better.bbox.iou(&candidate.bbox) <= SAME_FACE_IOU) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, Scalar};
    use proptest::prelude::*;

    use super::*;

    fn frame(width: i32, height: i32, colour: [f64; 3]) -> Mat {
        let [b, g, r] = colour;
        Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::new(b, g, r, 0.0)).unwrap()
    }

    fn candidate(score: f32, x: f32, y: f32, size: f32) -> Candidate {
        let bbox = BBox { x, y, width: size, height: size };
        Candidate { score, bbox, landmarks: Landmarks::MouthCorners([Point { x, y }; 5]) }
    }

    #[test]
    fn only_the_best_of_overlapping_boxes_is_kept_with_all_other_boxes() {
        let best = candidate(0.9, 0.0, 0.0, 100.0);
        let same = candidate(0.8, 10.0, 10.0, 100.0);
        let beside = candidate(0.7, 60.0, 0.0, 100.0); // IoU 0.25
        let within = candidate(0.95, 300.0, 0.0, 50.0);
        assert_eq!(non_maximum_suppression(vec![same, beside, best, within]), [within, best, beside]);
    }

    #[test]
    fn boxes_that_are_too_small_or_not_finite_are_dropped() {
        let fit = Fit::shrink(&frame(64, 64, [0.0; 3]), 640, 32);
        let found = faces(
            vec![
                candidate(0.9, 0.0, 0.0, 24.0),
                candidate(0.9, 30.0, 0.0, 23.9),
                candidate(0.9, f32::INFINITY, 0.0, 30.0),
            ],
            24.0,
            &fit,
        );
        assert_eq!(found.iter().map(|face| face.bbox.width).collect::<Vec<_>>(), [24.0]);
    }

    #[test]
    fn a_large_frame_is_shrunk_and_padded_and_a_small_one_only_padded() {
        let fit = Fit::shrink(&frame(1920, 1080, [0.0; 3]), 640, 32);
        assert_eq!((fit.width, fit.height, fit.canvas_width, fit.canvas_height), (640, 360, 640, 384));
        assert_eq!(fit.point(320.0, 180.0), Point { x: 960.0, y: 540.0 });
        let fit = Fit::shrink(&frame(100, 40, [0.0; 3]), 640, 32);
        assert_eq!((fit.width, fit.height, fit.canvas_width, fit.canvas_height), (100, 40, 128, 64));
        assert_eq!(fit.bbox(1.0, 2.0, 3.0, 4.0), BBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 });
    }

    #[test]
    fn colour_planes_are_in_the_given_order_and_the_padding_is_black() {
        let picture = frame(40, 20, [1.0, 2.0, 3.0]);
        for (order, planes) in [(Colour::Bgr, [1.0, 2.0, 3.0]), (Colour::Rgb, [3.0, 2.0, 1.0])] {
            let tensors = tensors(&[&picture], order, |frame| Fit::shrink(frame, 640, 32)).unwrap();
            let [Group { range, rows, .. }] = &tensors[..] else { panic!() };
            assert_eq!((range.clone(), rows.shape()), (0..1, &[1, 3, 32, 64][..]));
            for (plane, value) in planes.into_iter().enumerate() {
                let inside = rows.slice(ndarray::s![0, plane, ..20, ..40]);
                assert!(inside.iter().all(|pixel| *pixel == value));
                assert_eq!(rows.slice(ndarray::s![0, plane, .., ..]).sum(), value * 800.0, "the padding is not black");
            }
        }
    }

    #[test]
    fn frames_of_one_size_share_a_tensor_and_keep_their_order() {
        let (a, b, c) = (frame(40, 20, [1.0; 3]), frame(40, 20, [2.0; 3]), frame(50, 70, [3.0; 3]));
        let tensors = tensors(&[&a, &b, &c, &a], Colour::Bgr, |frame| Fit::shrink(frame, 640, 32)).unwrap();
        let ranges: Vec<_> = tensors.iter().map(|group| (group.range.clone(), group.rows[[0, 0, 0, 0]])).collect();
        assert_eq!(ranges, [(0..2, 1.0), (2..3, 3.0), (3..4, 1.0)]);
        assert_eq!(tensors[0].rows[[1, 0, 0, 0]], 2.0);
    }

    #[test]
    fn frames_of_one_pixel_and_of_one_row_are_padded() {
        let tensors =
            tensors(&[&frame(1, 1, [9.0; 3]), &frame(5000, 1, [9.0; 3])], Colour::Bgr, |f| Fit::shrink(f, 640, 32));
        let shapes: Vec<_> = tensors.unwrap().iter().map(|group| group.rows.shape().to_vec()).collect();
        assert_eq!(shapes, [[1, 3, 32, 32], [1, 3, 32, 640]]);
    }

    proptest! {
        #[test]
        fn any_frame_fits_its_canvas_and_its_corners_convert_back(
            width in 1..3000_i32, height in 1..3000_i32, side in 64..1280_i32,
        ) {
            let fit = Fit::shrink(&frame(width, height, [0.0; 3]), side, 32);
            prop_assert!(fit.width <= side.max(1) && fit.height <= side && fit.width <= width && fit.height <= height);
            prop_assert!(fit.canvas_width % 32 == 0 && (0..32).contains(&(fit.canvas_width - fit.width)));
            prop_assert!(fit.canvas_height % 32 == 0 && (0..32).contains(&(fit.canvas_height - fit.height)));
            let corner = fit.point(fit.width as f32, fit.height as f32);
            prop_assert!((corner.x - width as f32).abs() < 0.01 && (corner.y - height as f32).abs() < 0.01);
        }

        #[test]
        fn kept_faces_do_not_overlap_and_each_dropped_face_overlaps_a_better_one(
            given in prop::collection::vec((0.0..1.0_f32, 0.0..200.0_f32, 0.0..200.0_f32, 24.0..120.0_f32), 0..40),
        ) {
            let given: Vec<_> = given.into_iter().map(|(score, x, y, size)| candidate(score, x, y, size)).collect();
            let kept = non_maximum_suppression(given.clone());
            for (n, face) in kept.iter().enumerate() {
                prop_assert!(kept[..n].iter().all(|better| better.bbox.iou(&face.bbox) <= SAME_FACE_IOU));
            }
            for face in given.iter().filter(|face| !kept.contains(face)) {
                let suppresses =
                    |better: &Candidate| better.score >= face.score && better.bbox.iou(&face.bbox) > SAME_FACE_IOU;
                prop_assert!(kept.iter().any(suppresses));
            }
        }
    }
}
