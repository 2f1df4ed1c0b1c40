//! The 478 points of MediaPipe's face landmarker, including both irises (Grishchenko et al. 2020, "Attention Mesh:
//! High-fidelity Face Mesh Prediction in Real-time").
//!
//! The input of the network is a square around a face with its upper edge parallel to the line of the eyes. Its outputs
//! are the points and the probability that the square holds a whole face. If the points show that the square was
//! misplaced (a box around half a head, a tilt that the detector missed), the network runs again on a square computed
//! from the points.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use opencv::core::{CV_32F, Mat, MatTraitConstManual, Rect, Scalar, Size, Vec3b, mean_std_dev_def};
use opencv::imgproc::{COLOR_BGR2GRAY, cvt_color_def, laplacian_def};

use super::clip_classifier::MESH_POINTS;
use super::covered::{self, Bare};
use super::crop::{Square, cut};
use super::{VisionError, scale};
use crate::analysis::{Clarity, Face, LANDMARK_MODEL, Point};
use crate::config::Coordinates;
use crate::engine::{Engine, EngineError, Model, manifest};

/// Points of a face.
pub(super) const POINTS: usize = 478;
/// Side of the network's input in pixels.
const SIDE: u32 = 256;
/// Side of the square in longer sides of the face, as in the network's training.
const MARGIN: f32 = 1.5;
/// A face with a lower presence gets no points: the default of MediaPipe's face landmarker.
const MIN_PRESENCE: f32 = 0.5;
/// Squares in one call. Each takes 786 kB.
const BATCH: usize = 8;

/// A square is misplaced if its centre is further than this from the centre of the better square, in sides of the
/// better one.
const OFF_CENTRE: f32 = 0.1;
/// A square is misplaced if its side differs from the better one's by more than this factor.
const OFF_SIZE: f32 = 1.3;
/// A square is misplaced if its angle differs from the better one's by more than this, in radians: 10 degrees.
const OFF_ANGLE: f32 = 0.175;

/// Outer corners of the eyes. Their line is the horizontal axis of the face.
const RIGHT_CORNER: usize = 33;
const LEFT_CORNER: usize = 263;

/// The points of one face.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// All 478 as x, y, z in pixels of the frame. z grows away from the camera; its origin differs from face to face.
    pub(super) points: Vec<[f32; 3]>,
    pub clarity: Clarity,
    /// Which parts of the face nothing covers.
    pub(super) bare: Bare,
}

impl Mesh {
    /// Returns x, y and z of each point, without the irises: in pixels of the frame, or relative as in MediaPipe, with
    /// x and z divided by the frame's width and y by its height.
    pub(super) fn values(&self, coordinates: Coordinates, width: i32, height: i32) -> Vec<f32> {
        let (by_x, by_y) = match coordinates {
            Coordinates::Pixels => (1.0, 1.0),
            Coordinates::Relative => (1.0 / width.max(1) as f32, 1.0 / height.max(1) as f32),
        };
        let points = &self.points[..MESH_POINTS.min(self.points.len())];
        points.iter().flat_map(|[x, y, z]| [x * by_x, y * by_y, z * by_x]).collect()
    }

    /// Returns the square from which these points would best be read. `None` if the points are not finite or coincide.
    fn square(&self) -> Option<Square> {
        let [from, to] = [RIGHT_CORNER, LEFT_CORNER].map(|corner| self.points[corner]);
        let angle = (to[1] - from[1]).atan2(to[0] - from[0]);
        let (sin, cos) = angle.sin_cos();
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for [x, y, _] in &self.points {
            for (axis, value) in [x * cos + y * sin, y * cos - x * sin].into_iter().enumerate() {
                low[axis] = low[axis].min(value);
                high[axis] = high[axis].max(value);
            }
        }
        let [x, y] = [0, 1].map(|axis| f32::midpoint(low[axis], high[axis]));
        let side = MARGIN * (high[0] - low[0]).max(high[1] - low[1]);
        let centre = Point { x: x * cos - y * sin, y: x * sin + y * cos };
        let is_valid = side > 1.0 && [side, angle, centre.x, centre.y].iter().all(|value| value.is_finite());
        is_valid.then_some(Square { centre, side, angle })
    }
}

/// Returns the square around a face from a detector.
fn square_around(face: &Face) -> Square {
    let angle = face.landmarks.map_or(0.0, |landmarks| {
        let (right, left) = landmarks.eyes();
        (left.y - right.y).atan2(left.x - right.x)
    });
    Square { centre: face.bbox.centre(), side: MARGIN * face.bbox.width.max(face.bbox.height), angle }
}

/// Whether a square differs so much from the better one that the face should be read again.
fn is_misplaced(square: &Square, better: &Square) -> bool {
    let away = (square.centre.x - better.centre.x).hypot(square.centre.y - better.centre.y);
    let ratio = (square.side / better.side).max(better.side / square.side);
    let turn = (square.angle - better.angle).sin().abs();
    away > OFF_CENTRE * better.side || ratio > OFF_SIZE || turn > OFF_ANGLE
}

pub(super) struct Landmarker {
    model: Model,
    /// Positions of landmarks and presence among the outputs.
    landmarks: usize,
    presence: usize,
}

impl Landmarker {
    /// # Errors
    /// The file is missing or is not this model.
    pub fn load(engine: &Engine, folder: &Path) -> Result<Self, VisionError> {
        let model = engine.load(LANDMARK_MODEL, &folder.join(&manifest::entry(LANDMARK_MODEL)?.file))?;
        let (landmarks, presence) = (model.output("landmarks")?, model.output("presence")?);
        Ok(Self { model, landmarks, presence })
    }

    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Reads the points of each face in its frame. Returns `None` if the network does not see a whole face. Blocks.
    pub fn read(&self, faces: &[(&Mat, &Face)]) -> Result<Vec<Option<Mesh>>, VisionError> {
        let squares: Vec<(&Mat, Square)> = faces.iter().map(|(frame, face)| (*frame, square_around(face))).collect();
        let mut seen = self.meshes(&squares)?;
        let (places, again): (Vec<usize>, Vec<_>) = squares
            .iter()
            .zip(&seen)
            .enumerate()
            .filter_map(|(n, ((frame, square), mesh))| {
                let better = mesh.square().filter(|better| is_misplaced(square, better))?;
                Some((n, (*frame, better)))
            })
            .unzip();
        for (place, mesh) in places.into_iter().zip(self.meshes(&again)?) {
            // The first points are kept if the second square has a lower presence.
            if mesh.clarity.presence >= seen[place].clarity.presence.min(MIN_PRESENCE) {
                seen[place] = mesh;
            }
        }
        let is_valid =
            |mesh: &Mesh| mesh.clarity.presence >= MIN_PRESENCE && mesh.points.iter().flatten().all(|v| v.is_finite());
        Ok(seen.into_iter().map(|mesh| Some(mesh).filter(is_valid)).collect())
    }

    /// Runs the network on each square.
    fn meshes(&self, squares: &[(&Mat, Square)]) -> Result<Vec<Mesh>, VisionError> {
        let failed = |reason: String| EngineError::Run { model: self.model.name().to_owned(), reason };
        let mut seen = Vec::with_capacity(squares.len());
        for squares in squares.chunks(BATCH) {
            let side = SIDE as usize;
            let mut values = Vec::with_capacity(squares.len() * side * side * 3);
            let mut sharpness_of_each = Vec::with_capacity(squares.len());
            let mut pictures = Vec::with_capacity(squares.len());
            for (frame, square) in squares {
                let picture = cut(frame, square, SIDE, SIDE)?;
                let pixels = picture.data_typed::<Vec3b>()?.iter();
                sharpness_of_each.push(sharpness(&picture)?);
                values.extend(pixels.flat_map(|bgr| [bgr[2], bgr[1], bgr[0]].map(|value| f32::from(value) / 255.0)));
                pictures.push(picture);
            }
            let rows = ArrayD::from_shape_vec(IxDyn(&[squares.len(), side, side, 3]), values)
                .map_err(|error| failed(error.to_string()))?;
            let outputs = self.model.run(rows)?;
            let points: Vec<f32> = outputs[self.landmarks].iter().copied().collect();
            let presence: Vec<f32> = outputs[self.presence].iter().copied().collect();
            if points.len() != squares.len() * POINTS * 3 || presence.len() != squares.len() {
                let (faces, scores) = (squares.len(), presence.len());
                let reason = format!("{} coordinates and {scores} scores for {faces} faces", points.len());
                return Err(failed(reason).into());
            }
            let found = points.chunks_exact(POINTS * 3).zip(presence).zip(sharpness_of_each).zip(pictures);
            for ((_, square), (((points, logit), sharpness), picture)) in squares.iter().zip(found) {
                let points = points.as_chunks::<3>().0;
                let bare = covered::bare(&picture, points)?;
                let points = points.iter().map(|point| to_frame(square, *point)).collect();
                let presence = 1.0 / (1.0 + (-logit).exp());
                seen.push(Mesh { points, clarity: Clarity { presence, sharpness }, bare });
            }
        }
        Ok(seen)
    }
}

/// Returns the sharpness of the face in the middle of the network's input (after Pech-Pacheco et al. 2000, "Diatom
/// autofocusing in brightfield microscopy"), or 0 if it has no contrast.
fn sharpness(picture: &Mat) -> Result<f32, VisionError> {
    let (margin, side) = (SIDE as i32 / 6, SIDE as i32 * 2 / 3);
    let small = scale::scaled(picture, Rect::new(margin, margin, side, side), Size::new(64, 64))?;
    let (mut grey, mut edges) = (Mat::default(), Mat::default());
    cvt_color_def(&small, &mut grey, COLOR_BGR2GRAY)?;
    laplacian_def(&grey, &mut edges, CV_32F)?;
    let variance = |picture: &Mat| -> opencv::Result<f64> {
        let (mut mean, mut deviation) = (Scalar::default(), Scalar::default());
        mean_std_dev_def(picture, &mut mean, &mut deviation)?;
        Ok(deviation[0] * deviation[0])
    };
    let (fine, all) = (variance(&edges)?, variance(&grey)?);
    Ok(if all > 0.0 { (fine / all) as f32 } else { 0.0 })
}

/// Converts a point of the network's input to pixels of the frame.
fn to_frame(square: &Square, [x, y, z]: [f32; 3]) -> [f32; 3] {
    let scale = square.side / SIDE as f32;
    let (x, y) = (x * scale - square.side / 2.0, y * scale - square.side / 2.0);
    let (sin, cos) = square.angle.sin_cos();
    [square.centre.x + x * cos - y * sin, square.centre.y + x * sin + y * cos, z * scale]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::{BBox, Landmarks};

    #[test]
    fn the_square_is_1_5_times_as_large_as_the_face_and_parallel_to_its_eyes() {
        let bbox = BBox { x: 10.0, y: 20.0, width: 60.0, height: 80.0 };
        let square = square_around(&Face { bbox, score: 1.0, landmarks: None });
        assert_eq!(square, Square { centre: bbox.centre(), side: 120.0, angle: 0.0 });
        let (right, left) = (Point { x: 20.0, y: 40.0 }, Point { x: 50.0, y: 70.0 });
        let landmarks = Some(Landmarks::MouthCorners([right, left, right, right, left]));
        let square = square_around(&Face { bbox, score: 1.0, landmarks });
        assert!((square.angle.to_degrees() - 45.0).abs() < 1e-3, "{square:?}");
    }

    #[test]
    fn points_of_the_input_convert_to_points_of_the_square() {
        let square = Square { centre: Point { x: 100.0, y: 50.0 }, side: 40.0, angle: 90_f32.to_radians() };
        // The upper edge runs down the frame, so the first corner is above and to the right of the centre.
        for (from, to) in [([0.0, 0.0, 0.0], [120.0, 30.0, 0.0]), ([256.0, 128.0, 64.0], [100.0, 70.0, 10.0])] {
            let found = to_frame(&square, from);
            assert!(found.iter().zip(to).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?}");
        }
    }

    /// Returns points that fill the middle two thirds of this square.
    fn mesh(square: &Square) -> Mesh {
        let spread = |n: usize| SIDE as f32 * (1.0 / 6.0 + 2.0 / 3.0 * (n as f32 * 0.618).fract());
        let mut points: Vec<[f32; 3]> =
            (0..POINTS).map(|n| to_frame(square, [spread(n), spread(n * 7), 0.0])).collect();
        let place = |x: f32, y: f32| to_frame(square, [x * SIDE as f32, y * SIDE as f32, 0.0]);
        (points[RIGHT_CORNER], points[LEFT_CORNER]) = (place(0.35, 0.4), place(0.65, 0.4));
        (points[0], points[1]) = (place(1.0 / 6.0, 1.0 / 6.0), place(5.0 / 6.0, 5.0 / 6.0));
        Mesh { points, clarity: Clarity { presence: 1.0, sharpness: 1.0 }, bare: Bare::ALL }
    }

    proptest! {
        #[test]
        fn the_better_square_of_points_is_the_square_that_they_fill(
            x in 0.0..1000.0_f32, y in 0.0..1000.0_f32, side in 40.0..800.0_f32, angle in -3.0..3.0_f32,
        ) {
            let square = Square { centre: Point { x, y }, side, angle };
            let found = mesh(&square).square().unwrap();
            let near = |a: f32, b: f32| (a - b).abs() < 0.01 * side;
            prop_assert!(near(found.centre.x, x) && near(found.centre.y, y), "{found:?}");
            prop_assert!(near(found.side, side), "{found:?}");
            prop_assert!((found.angle - angle).sin().abs() < 0.01, "{found:?}");
            prop_assert!(!is_misplaced(&square, &found));
            let moved = Square { centre: Point { x: x + 0.2 * side, y }, ..square };
            prop_assert!(is_misplaced(&moved, &found));
            let (larger, turned) = (Square { side: side * 1.5, ..square }, Square { angle: angle + 0.3, ..square });
            prop_assert!(is_misplaced(&larger, &found) && is_misplaced(&turned, &found));
        }
    }

    #[test]
    fn points_that_are_not_finite_or_coincide_give_no_square() {
        let mut mesh = mesh(&Square { centre: Point { x: 9.0, y: 9.0 }, side: 50.0, angle: 0.0 });
        mesh.points[RIGHT_CORNER] = [f32::NAN; 3];
        assert_eq!(mesh.square(), None);
        assert_eq!(
            Mesh {
                points: vec![[5.0; 3]; POINTS],
                clarity: Clarity { presence: 1.0, sharpness: 1.0 },
                bare: Bare::ALL
            }
            .square(),
            None
        );
    }
}
