//! The display of frames: their orientation, their pixel aspect ratio, and their placement in the video.

use ffmpeg_next::Rational;
use serde::{Deserialize, Serialize};

use crate::analysis::{Face, Point};

/// A pixel aspect ratio above this, or below its inverse, is ignored. The largest in a standard is 2.2 (half-width
/// MPEG-2).
const MAX_ASPECT: f64 = 5.0;
/// Pixels whose aspect ratio is this close to 1 count as square. Encoders round frame sizes and write the difference as
/// an aspect ratio.
const SQUARE_TOLERANCE: f64 = 0.01;

/// One of the eight orientations of a frame: first mirrored left to right, then turned clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Orientation {
    pub mirrored: bool,
    /// The number of clockwise quarter turns, from 0 to 3.
    pub quarter_turns: u8,
}

impl Orientation {
    /// Reads a display matrix: nine 32-bit numbers `a b u c d v x y w` that map a point to `(ax + cy, bx + dy)`
    /// (ISO/IEC 14496-12, section 6.2.2). The scale is ignored, and the angle is rounded to a quarter turn. Returns
    /// `None` if the bytes are not a valid matrix.
    pub fn of_matrix(matrix: &[u8]) -> Option<Self> {
        let (numbers, _) = matrix.as_chunks::<4>();
        let number = |index: usize| numbers.get(index).map(|bytes| f64::from(i32::from_ne_bytes(*bytes)));
        let (a, b, c, d) = (number(0)?, number(1)?, number(3)?, number(4)?);
        let area = a * d - b * c;
        if area == 0.0 {
            return None;
        }
        let mirrored = area < 0.0;
        // The first row, with the mirroring undone, is the direction of a line of pixels.
        let (x, y) = if mirrored { (-a, -b) } else { (a, b) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 3 by rem_euclid")]
        let quarter_turns = (y.atan2(x).to_degrees() / 90.0).round().rem_euclid(4.0) as u8;
        Some(Self { mirrored, quarter_turns })
    }

    /// This orientation with additional clockwise turns.
    pub const fn turned(self, quarter_turns: u8) -> Self {
        Self { mirrored: self.mirrored, quarter_turns: (self.quarter_turns + quarter_turns) % 4 }
    }

    /// The display size of a frame of this size.
    pub const fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.quarter_turns % 2 == 1 { (height, width) } else { (width, height) }
    }
}

/// The width of a pixel divided by its height; `None` if the ratio is unknown or out of range.
pub fn aspect(ratio: Rational) -> Option<f64> {
    let (width, height) = (ratio.numerator(), ratio.denominator());
    if width <= 0 || height <= 0 {
        return None;
    }
    let aspect = f64::from(width) / f64::from(height);
    (1.0 / MAX_ASPECT..=MAX_ASPECT).contains(&aspect).then_some(aspect)
}

/// The size of a frame after scaling to square pixels: one side grows and the other stays, as in browsers. If the
/// result has more than `max_pixels`, both sides shrink.
pub fn square_pixel_size((width, height): (u32, u32), aspect: f64, max_pixels: u64) -> (u32, u32) {
    if (aspect - 1.0).abs() <= SQUARE_TOLERANCE {
        return (width, height);
    }
    let (across, down) = (f64::from(width) * aspect.max(1.0), f64::from(height) / aspect.min(1.0));
    #[expect(clippy::cast_precision_loss, reason = "no limit is that large")]
    let shrink = (max_pixels as f64 / (across * down)).sqrt().min(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a side of a frame")]
    let side = |length: f64| {
        let side = length * shrink;
        (if shrink < 1.0 { side.floor() } else { side.round() }).max(1.0) as u32
    };
    (side(across), side(down))
}

/// The pixel aspect ratio of each frame of a video. As in players, the ratio of the container is used as long as the
/// ratio in the stream is that of the first frame. After a change in the stream, the ratio in the stream is used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PixelAspect {
    container: Option<f64>,
    /// The ratio in the stream for the first frame.
    first: Option<Rational>,
}

impl PixelAspect {
    pub fn new(container: Rational) -> Self {
        Self { container: aspect(container), first: None }
    }

    /// Returns the ratio of the next frame. `coded` is the ratio in the stream for that frame.
    pub fn of(&mut self, coded: Rational) -> f64 {
        let first = *self.first.get_or_insert(coded);
        match (self.container, aspect(coded)) {
            (Some(container), coded_aspect) if coded == first || coded_aspect.is_none() => container,
            (_, coded_aspect) => coded_aspect.unwrap_or(1.0),
        }
    }
}

/// Maps the pixels of a picture to those of the first frame of the video, as displayed.
///
/// A picture of another size is scaled to fit into the first frame and centred, with its aspect ratio kept, as in a
/// player whose window keeps its size. An additional turn of the picture is undone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The position of the top left corner of the picture.
    origin: Point,
    /// The step in the first frame for one pixel to the right.
    right: Point,
    /// The step in the first frame for one pixel down.
    down: Point,
}

impl Placement {
    /// For a picture of display size `size` that was then turned clockwise, in a video whose first frame has the size
    /// `video`.
    pub fn new(size: (u32, u32), quarter_turns: u8, video: (u32, u32)) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a side of a frame")]
        let [width, height, video_width, video_height] = [size.0, size.1, video.0, video.1].map(|side| side as f32);
        let scale = (video_width / width.max(1.0)).min(video_height / height.max(1.0));
        let (left, top) = ((video_width - scale * width) / 2.0, (video_height - scale * height) / 2.0);
        let at = |x: f32, y: f32| Point { x: left + scale * x, y: top + scale * y };
        let step = |x: f32, y: f32| Point { x: scale * x, y: scale * y };
        let (origin, right, down) = match quarter_turns % 4 {
            1 => (at(0.0, height), step(0.0, -1.0), step(1.0, 0.0)),
            2 => (at(width, height), step(-1.0, 0.0), step(0.0, -1.0)),
            3 => (at(width, 0.0), step(0.0, 1.0), step(-1.0, 0.0)),
            _ => (at(0.0, 0.0), step(1.0, 0.0), step(0.0, 1.0)),
        };
        Self { origin, right, down }
    }

    pub fn point(&self, Point { x, y }: Point) -> Point {
        Point {
            x: self.origin.x + self.right.x * x + self.down.x * y,
            y: self.origin.y + self.right.y * x + self.down.y * y,
        }
    }

    /// Maps a face of the picture.
    pub fn face(&self, face: &Face) -> Face {
        face.map(|point| self.point(point))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::{BBox, Landmarks};

    const EIGHT: [(bool, u8, [i32; 4]); 8] = [
        (false, 0, [1, 0, 0, 1]),
        (false, 1, [0, 1, -1, 0]),
        (false, 2, [-1, 0, 0, -1]),
        (false, 3, [0, -1, 1, 0]),
        (true, 0, [-1, 0, 0, 1]),
        (true, 1, [0, -1, -1, 0]),
        (true, 2, [1, 0, 0, -1]),
        (true, 3, [0, 1, 1, 0]),
    ];

    fn matrix([a, b, c, d]: [i32; 4], one: i32) -> Vec<u8> {
        let numbers = [a * one, b * one, 0, c * one, d * one, 0, 640 << 16, 360 << 16, 1 << 30];
        numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
    }

    #[test]
    fn matrices_of_any_scale_are_read_as_one_of_eight_orientations() {
        for (mirrored, quarter_turns, abcd) in EIGHT {
            for one in [1, 1 << 16, 3 << 14] {
                let read = Orientation::of_matrix(&matrix(abcd, one));
                assert_eq!(read, Some(Orientation { mirrored, quarter_turns }), "{abcd:?}");
            }
        }
    }

    #[test]
    fn orientation_maps_points_as_its_matrix_does() {
        for (mirrored, quarter_turns, [a, b, c, d]) in EIGHT {
            let (x, y) = (3, 5);
            let mut point = if mirrored { (-x, y) } else { (x, y) };
            for _ in 0..quarter_turns {
                point = (-point.1, point.0);
            }
            assert_eq!(point, (a * x + c * y, b * x + d * y), "{mirrored} {quarter_turns}");
        }
    }

    #[test]
    fn invalid_matrices_are_rejected() {
        for bytes in [&[][..], &[0; 4], &[0; 36], &[255; 36], &matrix([1, 1, 1, 1], 9), &matrix([1, 0, 0, 1], 1)[..19]]
        {
            assert_eq!(Orientation::of_matrix(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn one_side_grows_for_square_pixels() {
        let all = u64::MAX;
        for (coded, ratio, expected) in [
            ((1440, 1080), (4, 3), (1920, 1080)),
            ((720, 576), (64, 45), (1024, 576)),
            ((720, 480), (8, 9), (720, 540)),
            ((640, 360), (1, 2), (640, 720)),
            ((854, 480), (1280, 1281), (854, 480)),
            ((608, 1080), (1215, 1216), (608, 1080)),
            ((640, 360), (1, 1), (640, 360)),
        ] {
            let aspect = aspect(Rational::new(ratio.0, ratio.1)).unwrap();
            assert_eq!(square_pixel_size(coded, aspect, all), expected, "{coded:?} {ratio:?}");
        }
    }

    #[test]
    fn invalid_ratios_are_ignored() {
        for ratio in [(0, 1), (1, 0), (0, 0), (-4, 3), (4, -3), (6, 1), (1, 6), (i32::MAX, 1), (1, i32::MAX)] {
            assert_eq!(aspect(Rational(ratio.0, ratio.1)), None, "{ratio:?}");
        }
    }

    #[test]
    fn ratio_of_the_container_is_used_until_the_stream_changes_its_ratio() {
        let (none, even, wide, wider) = (Rational(0, 1), Rational(1, 1), Rational(4, 3), Rational(2, 1));
        let ratios = |container: Rational, coded: &[Rational]| {
            let mut aspect = PixelAspect::new(container);
            coded.iter().map(|coded| aspect.of(*coded)).collect::<Vec<_>>()
        };
        assert_eq!(ratios(wide, &[none, none]), [4.0 / 3.0; 2]);
        assert_eq!(ratios(wide, &[even, even]), [4.0 / 3.0; 2], "as players do");
        assert_eq!(ratios(even, &[even, wide, even]), [1.0, 4.0 / 3.0, 1.0]);
        assert_eq!(ratios(none, &[wide, wider, none]), [4.0 / 3.0, 2.0, 1.0]);
        assert_eq!(ratios(wide, &[wide, none]), [4.0 / 3.0; 2], "the second has no ratio");
        assert_eq!(ratios(Rational(9999, 1), &[wide, even]), [4.0 / 3.0, 1.0]);
    }

    #[test]
    fn placement_undoes_a_turn() {
        let corner = Point { x: 10.0, y: 20.0 };
        for (turns, there) in [
            (0, Point { x: 10.0, y: 20.0 }),
            (1, Point { x: 20.0, y: 350.0 }),
            (2, Point { x: 630.0, y: 340.0 }),
            (3, Point { x: 620.0, y: 10.0 }),
        ] {
            assert_eq!(Placement::new((640, 360), turns, (640, 360)).point(corner), there, "{turns}");
        }
    }

    #[test]
    fn picture_of_another_size_is_fitted_into_the_first_frame() {
        let corners = |placement: Placement, (width, height): (f32, f32)| {
            let at = |x, y| placement.point(Point { x, y });
            (at(0.0, 0.0), at(width, height))
        };
        let point = |x: f32, y: f32| Point { x, y };
        let larger = Placement::new((1280, 720), 0, (640, 360));
        assert_eq!(corners(larger, (1280.0, 720.0)), (point(0.0, 0.0), point(640.0, 360.0)));
        let upright = Placement::new((360, 640), 0, (640, 360));
        assert_eq!(corners(upright, (360.0, 640.0)), (point(218.75, 0.0), point(421.25, 360.0)));
        let turned = Placement::new((360, 640), 1, (640, 360));
        assert_eq!(corners(turned, (640.0, 360.0)), (point(218.75, 360.0), point(421.25, 0.0)));
    }

    proptest! {
        #[test]
        fn sides_shrink_only_at_the_pixel_limit(
            width in 1..5000_u32, height in 1..5000_u32, aspect in 0.2..5.0_f64, limit in 10_000..40_000_000_u64,
        ) {
            let (across, down) = square_pixel_size((width, height), aspect, limit);
            let pixels = u64::from(across) * u64::from(down);
            prop_assert!(across > 0 && down > 0);
            prop_assert!((across >= width && down >= height) || pixels > limit / 4);
            let is_plain = (across, down) == (width, height);
            let is_rounded_up =
                across >= width && down >= height && pixels <= limit + u64::from(across.max(down));
            prop_assert!(is_plain || pixels <= limit || across == 1 || down == 1 || is_rounded_up);
        }

        #[test]
        fn mapped_faces_keep_their_shape_and_stay_in_the_frame(
            size in (16..4000_u32, 16..4000_u32), video in (16..4000_u32, 16..4000_u32), turns in 0..4_u8,
            x in 0.0..0.5_f32, y in 0.0..0.5_f32, w in 0.01..0.5_f32, h in 0.01..0.5_f32,
        ) {
            let picture = Orientation { mirrored: false, quarter_turns: turns }.size(size);
            let (wide, high) = (picture.0 as f32, picture.1 as f32);
            let bbox = BBox { x: x * wide, y: y * high, width: w * wide, height: h * high };
            let landmarks = Some(Landmarks::MouthCorners([bbox.centre(); 5]));
            let face = Placement::new(size, turns, video).face(&Face { bbox, score: 0.9, landmarks });
            let (now, slack) = (face.bbox, 0.01 * video.0.max(video.1) as f32);
            prop_assert!(now.x >= -slack && now.y >= -slack);
            prop_assert!(now.x + now.width <= video.0 as f32 + slack && now.y + now.height <= video.1 as f32 + slack);
            let before = bbox.width / bbox.height;
            let after = if turns % 2 == 1 { now.height / now.width } else { now.width / now.height };
            prop_assert!((before / after - 1.0).abs() < 0.01);
            let Some(Landmarks::MouthCorners([eye, ..])) = face.landmarks else { unreachable!() };
            let centre = now.centre();
            prop_assert!((eye.x - centre.x).abs() < slack && (eye.y - centre.y).abs() < slack);
        }
    }
}
