//! Cuts faces out of frames with the same framing as the classifier's training pictures.
//!
//! A classifier reads a face best in the framing that it was trained with. The constants of this module are the
//! position of a training picture (FER2013 with FER+ votes, 48 x 48) relative to the box that each detector finds in
//! it: the inverse of the mean box in 4,000 pictures (`models/training/crop_framing.py`). The table gives the accuracy
//! of the classifier on validation pictures that were placed on a plain canvas, detected there, and cut out in three
//! ways:
//!
//! | cut | YuNet | BlazeFace |
//! | --- | --- | --- |
//! | the box, made square | 86.2 % (log loss 0.403) | 85.6 % (0.423) |
//! | framed like the training pictures | 86.3 % (0.405) | 85.8 % (0.411) |
//! | framed, and turned so that the eyes are level | 86.6 % (0.400) | 86.1 % (0.405) |
//! | the original pictures | 86.6 % (0.390) | 86.2 % (0.397) |
//!
//! Framing by the distances of eyes and mouth instead of the box is no better (86.4 % and 86.1 %).

use opencv::core::{BORDER_REPLICATE, Mat, MatTraitConst, Matx23d, Rect, Scalar, Size};
use opencv::imgproc::{INTER_LINEAR, warp_affine};

use super::VisionError;
use super::scale::scaled;
use crate::analysis::{Face, Point};

/// Position of a training picture relative to a detector's box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Framing {
    /// Side of the square, in heights of the box.
    side: f32,
    /// Offset from the centre of the box to the centre of the square, towards the chin, in heights of the box. There is
    /// no sideways offset, because faces look left as often as right.
    down: f32,
}

/// YuNet's mean box is 0.80 wide and 1.00 high, with its middle 0.50 across and 0.52 down the training picture.
pub(super) const YUNET_FRAMING: Framing = Framing { side: 1.0138, down: -0.0225 };

/// BlazeFace's mean box is 0.88 wide and high, with its middle 0.50 across and 0.56 down the training picture.
pub(super) const BLAZEFACE_FRAMING: Framing = Framing { side: 1.1579, down: -0.0721 };

/// A square in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Square {
    pub centre: Point,
    /// In pixels.
    pub side: f32,
    /// Angle of its upper edge in radians, clockwise from level.
    pub angle: f32,
}

impl Framing {
    /// Returns the square to cut around a face. Its upper edge is parallel to the line of the eyes, if they are known.
    pub fn square(&self, face: &Face) -> Square {
        let angle = face.landmarks.map_or(0.0, |landmarks| {
            let (right, left) = landmarks.eyes();
            (left.y - right.y).atan2(left.x - right.x)
        });
        let (sin, cos) = angle.sin_cos();
        let (middle, down) = (face.bbox.centre(), self.down * face.bbox.height);
        let centre = Point { x: middle.x - sin * down, y: middle.y + cos * down };
        Square { centre, side: self.side * face.bbox.height, angle }
    }
}

/// A face that is cut out, scaled and converted to the classifier's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Crop {
    /// One row of the classifier's input.
    pub(super) row: Vec<f32>,
}

/// A face that the crop shrinks is first scaled to this many pixels for one pixel of the crop, along each side. With 1,
/// interpolation would blur. With 2 and more, fine detail would cause aliasing.
const DENSITY: f64 = 1.5;
/// Pixels of margin around the square, for interpolation at its edge.
const MARGIN: f64 = 2.0;

/// Cuts a square out of a frame and scales it to `width` x `height`. Pixels of the frame's edge are repeated beyond it.
pub(super) fn cut(frame: &Mat, square: &Square, width: u32, height: u32) -> Result<Mat, VisionError> {
    let size = Size::new(width as i32, height as i32);
    let side = f64::from(square.side.max(1.0));
    let (sin, cos) = f64::from(square.angle).sin_cos();
    let (x, y) = (f64::from(square.centre.x), f64::from(square.centre.y));

    // Sampling single points of a larger picture would cause aliasing, so the picture is shrunk first.
    let shrink = side / f64::from(size.width.min(size.height)) / DENSITY;
    let small;
    let (from, part) = if shrink > 1.0 {
        let reach = side / 2.0 * (sin.abs() + cos.abs()) + MARGIN * shrink;
        let part = region(x, y, reach, frame);
        let shrunk = |length: i32| ((f64::from(length) / shrink).ceil() as i32).max(1);
        small = scaled(frame, part, Size::new(shrunk(part.width), shrunk(part.height)))?;
        (&small, part)
    } else {
        (frame, Rect::new(0, 0, frame.cols(), frame.rows()))
    };

    // The map from that picture to the crop. Our coordinates start at the corner of the first pixel, OpenCV's at its
    // middle.
    let (zoom_x, zoom_y) = (f64::from(size.width) / side, f64::from(size.height) / side);
    let (step_x, step_y) =
        (f64::from(part.width) / f64::from(from.cols()), f64::from(part.height) / f64::from(from.rows()));
    let (x, y) = (f64::from(part.x) + 0.5 * step_x - x, f64::from(part.y) + 0.5 * step_y - y);
    let (half_x, half_y) = (f64::from(size.width) / 2.0 - 0.5, f64::from(size.height) / 2.0 - 0.5);
    let matrix = Matx23d::from_array([
        zoom_x * cos * step_x,
        zoom_x * sin * step_y,
        half_x + zoom_x * (cos * x + sin * y),
        -zoom_y * sin * step_x,
        zoom_y * cos * step_y,
        half_y + zoom_y * (cos * y - sin * x),
    ]);
    let mut crop = Mat::default();
    warp_affine(from, &mut crop, &matrix, size, INTER_LINEAR, BORDER_REPLICATE, Scalar::default())?;
    Ok(crop)
}

/// Returns the part of a frame within `reach` of a point, at least one pixel.
fn region(x: f64, y: f64, reach: f64, frame: &Mat) -> Rect {
    let span = |middle: f64, length: i32| {
        let low = ((middle - reach).floor() as i32).clamp(0, length - 1);
        let high = ((middle + reach).ceil() as i32).clamp(low + 1, length);
        (low, high - low)
    };
    let ((left, width), (top, height)) = (span(x, frame.cols()), span(y, frame.rows()));
    Rect::new(left, top, width, height)
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, MatTraitConst, MatTraitManual, Vec3b};
    use opencv::prelude::MatTraitConstManual;
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::{BBox, Landmarks};

    const WHOLE: Framing = Framing { side: 1.0, down: 0.0 };

    fn face(bbox: BBox, eye_angle: f32) -> Face {
        let c = bbox.centre();
        let eye = |side: f32| Point { x: c.x + side * eye_angle.cos(), y: c.y + side * eye_angle.sin() };
        let rest = [Point::default(); 3];
        let landmarks = Landmarks::MouthCorners([eye(-5.0), eye(5.0), rest[0], rest[1], rest[2]]);
        Face { bbox, score: 0.9, landmarks: Some(landmarks) }
    }

    /// Draws a frame in which each pixel has its column as blue, its row as green, and 7 as red.
    fn frame(width: i32, height: i32) -> Mat {
        let mut frame = Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::default()).unwrap();
        for line in 0..height {
            for (column, pixel) in frame.at_row_mut::<Vec3b>(line).unwrap().iter_mut().enumerate() {
                *pixel = Vec3b::from([column as u8, line as u8, 7]);
            }
        }
        frame
    }

    #[test]
    fn a_square_of_the_size_of_the_crop_is_copied_pixel_for_pixel() {
        let frame = frame(100, 80);
        let bbox = BBox { x: 20.0, y: 10.0, width: 30.0, height: 48.0 };
        let picture =
            cut(&frame, &Square { centre: Point { x: 44.0, y: 34.0 }, side: 48.0, angle: 0.0 }, 48, 48).unwrap();
        assert_eq!(WHOLE.square(&face(bbox, 0.0)).centre, bbox.centre());
        for (at, pixel) in picture.data_typed::<Vec3b>().unwrap().iter().enumerate() {
            let (column, line) = (at % 48, at / 48);
            assert_eq!(*pixel, Vec3b::from([column as u8 + 20, line as u8 + 10, 7]));
        }
    }

    #[test]
    fn edge_pixels_are_repeated_beyond_the_frame() {
        let frame = frame(100, 80);
        let square = Square { centre: Point { x: 0.0, y: 0.0 }, side: 48.0, angle: 0.0 };
        let picture = cut(&frame, &square, 48, 48).unwrap();
        assert_eq!(*picture.at_2d::<Vec3b>(0, 0).unwrap(), Vec3b::from([0, 0, 7]));
        assert_eq!(*picture.at_2d::<Vec3b>(40, 40).unwrap(), Vec3b::from([16, 16, 7]));
    }

    #[test]
    fn fine_detail_is_averaged_if_the_crop_shrinks_it() {
        // A board of single black and white pixels becomes grey. Sampling single points would give stripes.
        let mut board = Mat::new_rows_cols_with_default(480, 480, CV_8UC3, Scalar::default()).unwrap();
        for line in 0..480 {
            for (column, pixel) in board.at_row_mut::<Vec3b>(line).unwrap().iter_mut().enumerate() {
                *pixel = Vec3b::all(if (column + line as usize).is_multiple_of(2) { 255 } else { 0 });
            }
        }
        for side in [300.0, 240.0, 437.0] {
            let square = Square { centre: Point { x: 240.0, y: 240.0 }, side, angle: 0.0 };
            let picture = cut(&board, &square, 48, 48).unwrap();
            let values = picture.data_typed::<Vec3b>().unwrap();
            let (low, high) =
                values.iter().fold((255, 0), |(low, high), pixel| (pixel[0].min(low), pixel[0].max(high)));
            assert!(low > 90 && high < 165, "side {side}: {low} to {high}");
        }
    }

    #[test]
    fn a_tilted_face_is_turned_upright() {
        let frame = frame(200, 200);
        // The line of the eyes falls by 30 degrees towards the person's left eye: the head tilts clockwise.
        let tilted = face(BBox { x: 76.0, y: 76.0, width: 48.0, height: 48.0 }, 30_f32.to_radians());
        let square = WHOLE.square(&tilted);
        let picture = cut(&frame, &square, 48, 48).unwrap();
        // A step to the right in the crop is a step along the line of the eyes in the frame: to the right and down.
        let at = |line, column| *picture.at_2d::<Vec3b>(line, column).unwrap();
        let step = |axis: usize| (f32::from(at(24, 34)[axis]) - f32::from(at(24, 14)[axis])) / 20.0;
        assert!((step(0) - 0.866).abs() < 0.06 && (step(1) - 0.5).abs() < 0.06, "{} {}", step(0), step(1));
    }

    proptest! {
        #[test]
        fn the_square_grows_and_moves_with_the_box(
            x in -50.0..500.0_f32, y in -50.0..500.0_f32, height in 10.0..400.0_f32, by in 1.5..4.0_f32,
            angle in -1.0..1.0_f32,
        ) {
            let bbox = BBox { x, y, width: height * 0.8, height };
            let small = YUNET_FRAMING.square(&face(bbox, angle));
            let scaled = BBox { x: x * by, y: y * by, width: bbox.width * by, height: height * by };
            let large = YUNET_FRAMING.square(&face(scaled, angle));
            let near = |a: f32, b: f32| (a - b).abs() < 0.01 * by * height.max(1.0);
            prop_assert!(near(large.side, small.side * by));
            prop_assert!(near(large.centre.x, small.centre.x * by) && near(large.centre.y, small.centre.y * by));
            prop_assert!((large.angle - angle).abs() < 1e-3);
        }
    }
}
