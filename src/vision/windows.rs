//! Detects faces in small windows around their positions in the previous frame. This is a small part of the work of
//! detection in the whole frame.

use opencv::core::{Mat, MatTraitConst, Rect, Size};
use serde::{Deserialize, Serialize};

use super::detector::SAME_FACE_IOU;
use super::{Vision, VisionError, is_frame, scale};
use crate::analysis::{BBox, Face, Point};

/// Every n-th frame is searched as a whole, to find new faces soon.
const WHOLE_EVERY: u32 = 4;
/// Side of the window around a face, in sides of the face.
const AROUND: f32 = 2.5;
/// A face further from the centre of its window than this, in sides of the window, may be a cut-off part of another
/// face.
const OFF_CENTRE: f32 = 0.3;
/// Windows with a longer side than this, in pixels, are shrunk to it.
pub(super) const SIDE: i32 = 160;
/// With more faces than this, the whole frame is searched.
const FEW: usize = 3;

/// Detects the faces of one video, frame by frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowDetector {
    /// Faces in the previous frame.
    last: Vec<Face>,
    /// Width and height of the previous frame. If the size changes, the whole frame is searched.
    size: (i32, i32),
    /// Frames since the last search of a whole frame.
    since_whole: u32,
}

impl WindowDetector {
    /// Detects the faces of the next frame, like [`Vision::detect`]. Searches around the faces of the previous frame,
    /// and the whole frame if one of them is lost.
    pub fn detect(&mut self, vision: &Vision, frame: &Mat, max_faces: usize) -> Result<Vec<Face>, VisionError> {
        is_frame(frame)?;
        self.since_whole += 1;
        let size = (frame.cols(), frame.rows());
        if std::mem::replace(&mut self.size, size) == size
            && self.since_whole < WHOLE_EVERY
            && (1..=FEW).contains(&self.last.len())
        {
            let found = detect_in_windows(vision, frame, &self.last)?;
            if found.len() == self.last.len() {
                self.last.clone_from(&found);
                return Ok(found);
            }
        }
        self.since_whole = 0;
        self.last = vision.detect(&[frame], max_faces)?.pop().unwrap_or_default();
        Ok(self.last.clone())
    }
}

/// Detects these faces again in windows around their last positions. Returns those that are found, in the same order.
pub(super) fn detect_in_windows(vision: &Vision, frame: &Mat, faces: &[Face]) -> Result<Vec<Face>, VisionError> {
    let windows: Vec<Rect> = faces.iter().map(|face| window(&face.bbox, frame.cols(), frame.rows())).collect();
    let pictures = windows.iter().map(|window| {
        let longer = window.width.max(window.height).max(1);
        let shrunk = |side: i32| if longer > SIDE { (side * SIDE / longer).max(1) } else { side };
        scale::scaled(frame, *window, Size::new(shrunk(window.width), shrunk(window.height)))
    });
    let pictures = pictures.collect::<Result<Vec<Mat>, _>>()?;
    let found = vision.detect(&pictures.iter().collect::<Vec<_>>(), 2 * FEW)?;
    let mut kept: Vec<Face> = Vec::with_capacity(faces.len());
    for ((window, picture), found) in windows.iter().zip(&pictures).zip(found) {
        let best = found
            .into_iter()
            .map(|face| in_frame(&face, window, picture))
            .filter(|face| {
                is_in_the_middle(&face.bbox, window)
                    && kept.iter().all(|other| other.bbox.iou(&face.bbox) <= SAME_FACE_IOU)
            })
            .max_by(|a, b| a.score.total_cmp(&b.score));
        kept.extend(best);
    }
    Ok(kept)
}

/// Returns the window around a face. It is never empty.
pub(super) fn window(face: &BBox, width: i32, height: i32) -> Rect {
    let side = (AROUND * face.width.max(face.height)).clamp(1.0, 1e6) as i32;
    let centre = face.centre();
    let span = |middle: f32, length: i32| {
        let side = side.min(length);
        ((middle as i32).saturating_sub(side / 2).clamp(0, length - side), side)
    };
    let ((x, width), (y, height)) = (span(centre.x, width), span(centre.y, height));
    Rect::new(x, y, width, height)
}

pub(super) fn is_in_the_middle(face: &BBox, window: &Rect) -> bool {
    let Point { x, y } = face.centre();
    let side = window.width.max(window.height) as f32;
    let (left, top) = (window.x as f32, window.y as f32);
    let off = |at: f32, from: f32, length: i32| (at - from - length as f32 / 2.0).abs();
    off(x, left, window.width).max(off(y, top, window.height)) <= OFF_CENTRE * side
}

/// Converts a face from pixels of a shrunk window to pixels of the frame.
pub(super) fn in_frame(face: &Face, window: &Rect, picture: &Mat) -> Face {
    let (by_x, by_y) =
        (window.width as f32 / picture.cols().max(1) as f32, window.height as f32 / picture.rows().max(1) as f32);
    face.map(|Point { x, y }| Point { x: window.x as f32 + x * by_x, y: window.y as f32 + y * by_y })
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, Scalar};
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::Landmarks;

    proptest! {
        #[test]
        fn windows_lie_inside_the_frame_and_hold_the_centre_of_the_face(
            x in -500.0..2500.0_f32, y in -500.0..1500.0_f32, side in 0.0..3000.0_f32,
            width in 1..2000_i32, height in 1..2000_i32,
        ) {
            let face = BBox { x, y, width: side, height: side * 0.8 };
            let Rect { x: left, y: top, width: wide, height: high } = window(&face, width, height);
            prop_assert!(left >= 0 && top >= 0 && wide > 0 && high > 0 && left + wide <= width && top + high <= height);
            let Point { x, y } = face.centre();
            let is_inside = (0.0..width as f32).contains(&x) && (0.0..height as f32).contains(&y);
            let (across, down) = (left as f32 - 1.0..=(left + wide) as f32, top as f32 - 1.0..=(top + high) as f32);
            let holds = across.contains(&x) && down.contains(&y);
            prop_assert!(!is_inside || holds);
        }
    }

    #[test]
    fn a_face_in_a_window_is_converted_to_pixels_of_the_frame() {
        let picture = Mat::new_rows_cols_with_default(50, 100, CV_8UC3, Scalar::default()).unwrap();
        let window = Rect::new(20, 30, 200, 100);
        let at = |x: f32, y: f32| Point { x, y };
        let bbox = BBox { x: 40.0, y: 10.0, width: 20.0, height: 30.0 };
        let face = Face { bbox, score: 0.9, landmarks: Some(Landmarks::MouthCorners([at(50.0, 25.0); 5])) };
        let moved = in_frame(&face, &window, &picture);
        assert_eq!(moved.bbox, BBox { x: 100.0, y: 50.0, width: 40.0, height: 60.0 });
        assert_eq!(moved.landmarks, Some(Landmarks::MouthCorners([at(120.0, 80.0); 5])));
        assert!(is_in_the_middle(&moved.bbox, &window));
        assert!(!is_in_the_middle(&BBox { x: 180.0, ..moved.bbox }, &window), "the window cuts off that face");
    }
}
