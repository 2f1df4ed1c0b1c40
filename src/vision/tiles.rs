//! Detects small faces in large frames by tiles.
//!
//! Detection in a whole frame shrinks the frame, so small faces are lost. If it finds no face, the frame is cut into
//! tiles, and each tile is searched at the size to which whole frames are shrunk. This takes about nine times as long,
//! so only a share of the frames without faces is searched by tiles: the first one, and then fewer and fewer as long as
//! no face is found. Faces that are found are followed in small windows around them.

use opencv::core::{Mat, MatTraitConst, Rect, Size};
use serde::{Deserialize, Serialize};

use super::detector::SAME_FACE_IOU;
use super::windows::{detect_in_windows, in_frame};
use super::{Vision, VisionError, scale};
use crate::analysis::Face;

/// Overlap of neighbouring tiles as a share of a tile's longer side. It is larger than the largest face that detection
/// in the whole frame misses.
const OVERLAP: f64 = 1.0 / 8.0;
/// Tiles in one call of the detector. A tile takes as much memory there as a frame.
const BATCH: usize = 3;
/// Maximum number of frames without faces between two searches by tiles.
const MOST_WAIT: u32 = 15;
/// While faces are followed in windows, every n-th frame is searched by tiles, to find other faces.
const TILES_EVERY: u32 = 16;
/// A box at most this far from an edge of its tile, in pixels, may be a face that the edge cuts off.
const CUT_OFF: f32 = 2.0;

/// Detects faces by tiles in the frames of one video in which detection in the whole frame found none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TiledDetector {
    /// Faces in the previous frame that was searched.
    last: Vec<Face>,
    /// Width and height of that frame.
    size: (i32, i32),
    /// Frames since the last search by tiles.
    since: u32,
    /// Frames that have to pass before the next search by tiles.
    wait: u32,
}

impl TiledDetector {
    /// Detects the faces of a frame in which [`Vision::detect`] found none. Returns them in the same form.
    pub fn detect(&mut self, vision: &Vision, frame: &Mat, max_faces: usize) -> Result<Vec<Face>, VisionError> {
        let size = (frame.cols(), frame.rows());
        if std::mem::replace(&mut self.size, size) != size {
            *self = Self { size, ..Self::default() };
        }
        let Some(grid) = Grid::of(size, vision.sides()) else { return Ok(Vec::new()) };
        self.since = self.since.saturating_add(1);
        if !self.last.is_empty() && self.since < TILES_EVERY {
            let found = detect_in_windows(vision, frame, &self.last)?;
            if found.len() == self.last.len() {
                self.last.clone_from(&found);
                return Ok(found);
            }
            // A face was lost, so the tiles are searched now.
            self.wait = 0;
        }
        if self.since <= self.wait {
            return Ok(Vec::new());
        }
        let mut found = grid.detect(vision, frame)?;
        found.truncate(max_faces);
        self.wait = if found.is_empty() { (2 * self.wait + 1).min(MOST_WAIT) } else { 0 };
        self.since = 0;
        self.last.clone_from(&found);
        Ok(found)
    }
}

/// The tiles of a frame.
#[derive(Debug, Clone, PartialEq)]
struct Grid {
    /// In pixels of the frame.
    tiles: Vec<Rect>,
    /// Pixels of the frame for one pixel of a shrunk tile.
    scale: f64,
}

impl Grid {
    /// Cuts a frame that is shrunk to a longer side of about `tiled` into tiles with a longer side of `whole`. Returns
    /// `None` if that is hardly finer than detection in the whole frame.
    fn of((columns, rows): (i32, i32), (whole, tiled): (u32, u32)) -> Option<Self> {
        let (longer, shorter) = (columns.max(rows), columns.min(rows));
        let (scale, _) = tile_scale(longer, (whole, tiled))?;
        // Lengths in pixels of the frame. Detectors pad the shorter side of a tile to multiples of 32 in any case.
        let whole = f64::from(whole);
        let overlap = whole * OVERLAP * scale;
        let shape = f64::from(shorter) / f64::from(longer);
        let (long, short) = (whole * scale, ((whole * shape).max(3.0 * whole * OVERLAP) / 32.0).ceil() * 32.0 * scale);
        #[expect(clippy::cast_possible_truncation, reason = "pixels, and a few tiles")]
        let spans = |length: i32, tile: f64| -> Vec<(i32, i32)> {
            let length = f64::from(length);
            let tile = tile.min(length);
            let more = ((length - tile) / (tile - overlap).max(1.0) - 0.01).ceil().max(0.0) as i32;
            let from = |n: i32| (length - tile) * f64::from(n) / f64::from(more.max(1));
            (0..=more).map(|n| (from(n).floor() as i32, (tile.floor() as i32).max(1))).collect()
        };
        let (wide, high) = if columns >= rows { (long, short) } else { (short, long) };
        let (across, down) = (spans(columns, wide), spans(rows, high));
        let tiles = down
            .iter()
            .flat_map(|&(y, height)| across.iter().map(move |&(x, width)| Rect::new(x, y, width, height)))
            .collect();
        Some(Self { tiles, scale })
    }

    fn detect(&self, vision: &Vision, frame: &Mat) -> Result<Vec<Face>, VisionError> {
        let mut all: Vec<Face> = Vec::new();
        for tiles in self.tiles.chunks(BATCH) {
            #[expect(clippy::cast_possible_truncation, reason = "pixels")]
            let shrunk = |side: i32| ((f64::from(side) / self.scale).floor() as i32).max(1);
            let pictures = tiles
                .iter()
                .map(|tile| scale::scaled(frame, *tile, Size::new(shrunk(tile.width), shrunk(tile.height))))
                .collect::<Result<Vec<_>, _>>()?;
            let found = vision.detect(&pictures.iter().collect::<Vec<_>>(), usize::MAX)?;
            for ((tile, picture), faces) in tiles.iter().zip(&pictures).zip(found) {
                let whole = faces.iter().filter(|face| !is_cut_off(face, tile, picture, frame));
                all.extend(whole.map(|face| in_frame(face, tile, picture)));
            }
        }
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<Face> = Vec::new();
        for face in all {
            if kept.iter().all(|better| better.bbox.iou(&face.bbox) <= SAME_FACE_IOU) {
                kept.push(face);
            }
        }
        kept.sort_by(|a, b| b.bbox.area().total_cmp(&a.bbox.area()));
        Ok(kept)
    }
}

/// Returns the pixels of the frame for one pixel of a shrunk tile, and the number of tiles along the longer side.
/// `None` if detection by tiles would hardly be finer than detection in the whole frame.
pub(super) fn tile_scale(longer: i32, (whole, tiled): (u32, u32)) -> Option<(f64, u32)> {
    let (longer, whole) = (f64::from(longer.max(1)), f64::from(whole));
    let side = |tiles: u32| whole * (1.0 + f64::from(tiles - 1) * (1.0 - OVERLAP));
    let most = f64::from(tiled).min(longer);
    let tiles = (2..=64).take_while(|tiles| side(*tiles) <= most + 0.5).last()?;
    Some((longer / side(tiles), tiles))
}

/// Whether a face in a tile may extend into the next tile.
fn is_cut_off(face: &Face, tile: &Rect, picture: &Mat, frame: &Mat) -> bool {
    let (bbox, width, height) = (&face.bbox, picture.cols() as f32, picture.rows() as f32);
    (tile.x > 0 && bbox.x <= CUT_OFF)
        || (tile.y > 0 && bbox.y <= CUT_OFF)
        || (tile.x + tile.width < frame.cols() - 2 && bbox.x + bbox.width >= width - CUT_OFF)
        || (tile.y + tile.height < frame.rows() - 2 && bbox.y + bbox.height >= height - CUT_OFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIDES: (u32, u32) = (640, 1760);

    #[test]
    fn large_frames_are_cut_into_tiles_and_small_ones_are_not() {
        for (size, tiles, scale) in [
            ((3840, 2160), 9, 3840.0 / 1760.0),
            ((2160, 3840), 9, 3840.0 / 1760.0),
            ((1920, 1080), 9, 1920.0 / 1760.0),
            ((1280, 720), 4, 1280.0 / 1200.0),
        ] {
            let grid = Grid::of(size, SIDES).unwrap();
            assert_eq!(grid.tiles.len(), tiles, "{size:?}: {grid:?}");
            assert!((grid.scale - scale).abs() < 1e-9, "{size:?}");
        }
        for size in [(960, 540), (640, 360), (1, 1)] {
            assert_eq!(Grid::of(size, SIDES), None, "{size:?}");
        }
        assert_eq!(Grid::of((3840, 2160), (640, 0)), None, "switched off");
    }

    proptest! {
        #[test]
        fn every_face_too_small_for_the_whole_frame_lies_inside_one_tile(
            columns in 1200..5000_i32, rows in 300..5000_i32, x in 0.0..1.0_f64, y in 0.0..1.0_f64,
        ) {
            let grid = Grid::of((columns, rows), SIDES);
            prop_assume!(grid.is_some());
            let Grid { tiles, .. } = grid.unwrap();
            prop_assert!(tiles.len() <= 64);
            // 24 pixels at the scale of detection in the whole frame.
            let side = (24.0 * f64::from(columns.max(rows)) / 640.0).min(f64::from(columns.min(rows)));
            let (left, top) = (x * (f64::from(columns) - side), y * (f64::from(rows) - side));
            let holds = |tile: &Rect| {
                left >= f64::from(tile.x) - 2.0 && left + side <= f64::from(tile.x + tile.width) + 2.0
                    && top >= f64::from(tile.y) - 2.0 && top + side <= f64::from(tile.y + tile.height) + 2.0
            };
            prop_assert!(tiles.iter().any(holds), "{side} at {left}, {top}: {tiles:?}");
            let is_inside =
                |t: &Rect| t.x >= 0 && t.y >= 0 && t.x + t.width <= columns && t.y + t.height <= rows;
            prop_assert!(tiles.iter().all(is_inside));
        }
    }
}
