//! Detects covered eyes and mouths. The landmark network does not report them: it also places points on a bar, on
//! sunglasses or on a mask.
//!
//! The brightness of a bare eye varies between white, iris and lashes, and that of a bare mouth between lips and gap.
//! The brightness of a plain cover is nearly constant. So an eye or a mouth counts as covered if the standard deviation
//! of its brightness is small in relation to the brightness of the skin.
//!
//! The brightness of a mask of cloth varies with its folds. A mask is recognized by its colour: nose, cheeks and chin have
//! another one than the forehead, and the lips have no other one than they.

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Vec3b};
use opencv::imgproc::{COLOR_BGR2GRAY, cvt_color_def};

use super::VisionError;
use super::appearance::lab;
use crate::analysis::Covered;

/// The parts of a face that are not covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bare {
    /// The person's right eye and left eye.
    pub eyes: [bool; 2],
    pub mouth: bool,
}

impl Bare {
    #[cfg(test)]
    pub const ALL: Self = Self { eyes: [true; 2], mouth: true };

    pub const fn covered(self) -> Covered {
        Covered { eyes: !(self.eyes[0] || self.eyes[1]), mouth: !self.mouth }
    }
}

/// A rectangle on a face.
struct Region {
    /// Two points of the face. Their line is the direction of the rectangle's width, and their distance is its unit of
    /// length.
    axis: [usize; 2],
    /// Two points of the face. The rectangle is centred between them.
    centre: [usize; 2],
    /// Half the width and half the height.
    half: [f32; 2],
    /// The region is covered if the standard deviation of its brightness, divided by the brightness of the skin, is
    /// below this.
    min_deviation: f32,
}

const EYES: [Region; 2] = [eye([33, 133]), eye([362, 263])];
const MOUTH: Region = Region { axis: [61, 291], centre: [13, 14], half: [0.4, 0.2], min_deviation: 0.03 };

const fn eye(corners: [usize; 2]) -> Region {
    Region { axis: corners, centre: corners, half: [0.5, 0.25], min_deviation: 0.05 }
}

/// Points in the middle of both cheeks and of the forehead. The brightest of them is taken as the skin: hair, a beard
/// or a shadow may darken the others.
const SKIN: [usize; 3] = [50, 280, 151];
/// Half the side of a patch of skin. The unit is the distance between the outer corners of the eyes.
const PATCH: f32 = 0.06;
/// Points on the forehead, between the brows and on the bridge of the nose, which a mask leaves bare.
const ABOVE_A_MASK: [usize; 6] = [9, 8, 168, 6, 107, 336];
/// Points on the tip and the base of the nose, the chin and the lower cheeks, which are skin unless there is a mask.
const UNDER_A_MASK: [usize; 5] = [4, 2, 200, 205, 425];
/// Of these, the points around the mouth.
const AROUND_THE_MOUTH: [usize; 4] = [2, 200, 205, 425];
/// Points of the upper and the lower lip.
const LIPS: [usize; 2] = [0, 17];
/// Half the side of the patch around a point, in distances between the outer corners of the eyes.
const COLOUR_PATCH: f32 = 0.05;
/// Weights of the differences of colour between skin above and below, of the colour of the lips from the skin around them,
/// and of the lightness above and below, all in CIELAB; and the sum from which on there is a mask. They are close to those
/// of a logistic regression on photographs (`models/evaluation/masks.py --fit`: 0.228, -0.141, 0.076 and 3.78).
const MASK_WEIGHTS: [f32; 3] = [0.23, -0.12, 0.08];
const MASK: f32 = 4.0;
/// Number of pixels that are read along the width and along the height of a region.
const COLUMNS: usize = 25;
const ROWS: usize = 13;

/// Decides which parts of a face are bare. `points` are the points of the face, in pixels of the picture. A part with
/// points that are not finite counts as bare.
pub(super) fn bare(picture: &Mat, points: &[[f32; 3]]) -> Result<Bare, VisionError> {
    let mut grey = Mat::default();
    cvt_color_def(picture, &mut grey, COLOR_BGR2GRAY)?;
    let grey = Grey { width: grey.cols().unsigned_abs() as usize, pixels: grey.data_typed::<u8>()? };
    let patch = |centre: usize| Region { axis: [33, 263], centre: [centre; 2], half: [PATCH; 2], min_deviation: 0.0 };
    let skin = SKIN.iter().filter_map(|centre| grey.brightness(&patch(*centre), points)).map(|(mean, _)| mean);
    let skin = skin.fold(1.0, f32::max);
    let is_bare =
        |region: &Region| grey.brightness(region, points).is_none_or(|(_, it)| it >= region.min_deviation * skin);
    let eyes = EYES.map(|eye| is_bare(&eye));
    let colours = Colours { picture: picture.data_typed::<Vec3b>()?, width: grey.width };
    // What covers the eyes covers the bridge of the nose as well, and says nothing about the skin.
    let has_mask = eyes.contains(&true) && colours.has_mask(points);
    Ok(Bare { eyes, mouth: is_bare(&MOUTH) && !has_mask })
}

struct Colours<'a> {
    picture: &'a [Vec3b],
    width: usize,
}

impl Colours<'_> {
    /// Whether the lower half of the face has the colours of a mask. A face of which a part lies outside the picture has
    /// none.
    fn has_mask(&self, points: &[[f32; 3]]) -> bool {
        self.mask(points).is_some_and(|sum| sum > MASK)
    }

    /// Returns the weighted sum that tells a mask.
    fn mask(&self, points: &[[f32; 3]]) -> Option<f32> {
        let half = (COLOUR_PATCH * (points[33][0] - points[263][0]).hypot(points[33][1] - points[263][1])).max(2.0);
        let all = |of: &[usize]| of.iter().map(|point| self.colour(points[*point], half)).collect::<Option<Vec<_>>>();
        let middle = |colours: &[[f32; 3]]| [0, 1, 2].map(|n| median(colours.iter().map(|colour| colour[n]).collect()));
        let chroma = |a: [f32; 3], b: [f32; 3]| (a[1] - b[1]).hypot(a[2] - b[2]);
        let above = middle(&all(&ABOVE_A_MASK)?);
        let under = all(&UNDER_A_MASK)?;
        let around = middle(&all(&AROUND_THE_MOUTH)?);
        let lips = all(&LIPS)?;
        let skin = median(under.iter().map(|colour| chroma(*colour, above)).collect());
        let lips = lips.iter().map(|colour| chroma(*colour, around)).sum::<f32>() / lips.len() as f32;
        let lightness = (middle(&under)[0] - above[0]).abs();
        Some(MASK_WEIGHTS.iter().zip([skin, lips, lightness]).map(|(weight, it)| weight * it).sum())
    }

    /// Returns the median colour of a square of this half side in CIELAB, or `None` outside the picture.
    fn colour(&self, [x, y, _]: [f32; 3], half: f32) -> Option<[f32; 3]> {
        let rows = self.picture.chunks(self.width);
        let within = |at: usize, centre: f32| (at as f32 - centre).abs() <= half;
        let pixels: Vec<&Vec3b> = rows
            .enumerate()
            .filter(|(row, _)| within(*row, y))
            .flat_map(|(_, row)| row.iter().enumerate().filter(|(column, _)| within(*column, x)).map(|(_, it)| it))
            .collect();
        let channel = |n: usize| median(pixels.iter().map(|pixel| f32::from(pixel[n]) / 255.0).collect());
        (!pixels.is_empty()).then(|| lab([0, 1, 2].map(channel)))
    }
}

/// Returns the middle value, or 0 without values.
fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

struct Grey<'a> {
    width: usize,
    pixels: &'a [u8],
}

impl Grey<'_> {
    /// Returns the mean and the standard deviation of the brightness in a region, or `None` if most of the region lies
    /// outside the picture.
    fn brightness(&self, region: &Region, points: &[[f32; 3]]) -> Option<(f32, f32)> {
        let [from, to] = region.axis.map(|n| points[n]);
        let along = [to[0] - from[0], to[1] - from[1]];
        let [a, b] = region.centre.map(|n| points[n]);
        let centre = [f32::midpoint(a[0], b[0]), f32::midpoint(a[1], b[1])];
        let steps =
            |count: usize, half: f32| (0..count).map(move |n| half * (2.0 * n as f32 / (count - 1) as f32 - 1.0));
        let (mut sum, mut squares, mut count) = (0.0_f32, 0.0_f32, 0.0_f32);
        for v in steps(ROWS, region.half[1]) {
            for u in steps(COLUMNS, region.half[0]) {
                let x = centre[0] + u * along[0] - v * along[1];
                let y = centre[1] + u * along[1] + v * along[0];
                if let Some(value) = self.pixel(x, y) {
                    sum += value;
                    squares += value * value;
                    count += 1.0;
                }
            }
        }
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        (2.0 * count >= (COLUMNS * ROWS) as f32).then_some((mean, deviation))
    }

    fn pixel(&self, x: f32, y: f32) -> Option<f32> {
        let inside = x >= 0.0 && y >= 0.0 && x < self.width as f32;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "inside the picture")]
        let index = inside.then(|| y as usize * self.width + x as usize)?;
        self.pixels.get(index).map(|value| f32::from(*value))
    }
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, Point as Pixel, Rect, Scalar};
    use opencv::imgproc::{FILLED, LINE_8, circle, ellipse, rectangle};
    use opencv::prelude::*;

    use super::*;

    const RIGHT_EYE: Pixel = Pixel { x: 88, y: 100 };
    const LEFT_EYE: Pixel = Pixel { x: 168, y: 100 };
    const LIPS: Pixel = Pixel { x: 128, y: 180 };

    /// A drawn face and its points.
    fn face(brightness: f64) -> (Mat, Vec<[f32; 3]>) {
        let colour = |share: f64| Scalar::all(brightness * share);
        let mut picture = Mat::new_rows_cols_with_default(256, 256, CV_8UC3, colour(1.0)).unwrap();
        let mut points = vec![[0.0; 3]; 478];
        let mut put = |n: usize, at: Pixel, aside: i32| points[n] = [(at.x + aside) as f32, at.y as f32, 0.0];
        for (eye, corners) in [(RIGHT_EYE, [33, 133]), (LEFT_EYE, [362, 263])] {
            let axes = (20, 7).into();
            ellipse(&mut picture, eye, axes, 0.0, 0.0, 360.0, colour(1.15), FILLED, LINE_8, 0).unwrap();
            circle(&mut picture, eye, 7, colour(0.4), FILLED, LINE_8, 0).unwrap();
            put(corners[0], eye, -20);
            put(corners[1], eye, 20);
        }
        ellipse(&mut picture, LIPS, (30, 8).into(), 0.0, 0.0, 360.0, colour(0.7), FILLED, LINE_8, 0).unwrap();
        put(61, LIPS, -30);
        put(291, LIPS, 30);
        put(13, LIPS, 0);
        put(14, LIPS, 0);
        put(50, Pixel { x: 80, y: 150 }, 0);
        put(280, Pixel { x: 176, y: 150 }, 0);
        put(151, Pixel { x: 128, y: 50 }, 0);
        (picture, points)
    }

    /// Covers a rectangle of the face with this brightness, and returns the bare parts.
    fn with_cover(rect: Rect, brightness: f64) -> Bare {
        let (mut picture, points) = face(180.0);
        rectangle(&mut picture, rect, Scalar::all(brightness), FILLED, LINE_8, 0).unwrap();
        bare(&picture, &points).unwrap()
    }

    #[test]
    fn a_face_is_bare_in_bright_and_in_dim_light() {
        for brightness in [20.0, 60.0, 120.0, 200.0] {
            let (picture, points) = face(brightness);
            assert_eq!(bare(&picture, &points).unwrap(), Bare::ALL, "{brightness}");
        }
    }

    #[test]
    fn a_bar_covers_both_eyes_a_patch_covers_one_and_a_mask_covers_the_mouth() {
        for brightness in [0.0, 120.0, 255.0] {
            let bar = with_cover(Rect::new(50, 75, 156, 50), brightness);
            assert_eq!(bar, Bare { eyes: [false; 2], mouth: true }, "{brightness}");
            assert_eq!(bar.covered(), Covered { eyes: true, mouth: false });
            let patch = with_cover(Rect::new(60, 75, 56, 50), brightness);
            assert_eq!(patch, Bare { eyes: [false, true], mouth: true }, "{brightness}");
            assert_eq!(patch.covered(), Covered::default());
            let mask = with_cover(Rect::new(60, 140, 136, 100), brightness);
            assert_eq!(mask, Bare { eyes: [true; 2], mouth: false }, "{brightness}");
            assert_eq!(mask.covered(), Covered { eyes: false, mouth: true });
        }
    }

    /// A face of these colours, in BGR: of the skin, of the lips, and of a mask if there is one.
    fn coloured(skin: [f64; 3], lips: [f64; 3], mask: Option<[f64; 3]>) -> (Mat, Vec<[f32; 3]>) {
        let colour = |[b, g, r]: [f64; 3]| Scalar::new(b, g, r, 0.0);
        let (grey, mut points) = face(120.0);
        let mut picture = Mat::new_rows_cols_with_default(256, 256, grey.typ(), colour(skin)).unwrap();
        ellipse(&mut picture, LIPS, (30, 12).into(), 0.0, 0.0, 360.0, colour(lips), FILLED, LINE_8, 0).unwrap();
        for eye in [RIGHT_EYE, LEFT_EYE] {
            circle(&mut picture, eye, 7, Scalar::all(15.0), FILLED, LINE_8, 0).unwrap();
        }
        // A gap, so that the mouth is not of one brightness.
        rectangle(&mut picture, Rect::new(108, 178, 40, 6), Scalar::all(30.0), FILLED, LINE_8, 0).unwrap();
        if let Some(mask) = mask {
            rectangle(&mut picture, Rect::new(60, 120, 136, 120), colour(mask), FILLED, LINE_8, 0).unwrap();
            // Folds.
            for y in (130..235).step_by(14) {
                let shade = colour(mask.map(|value| value * 0.7));
                rectangle(&mut picture, Rect::new(60, y, 136, 5), shade, FILLED, LINE_8, 0).unwrap();
            }
        }
        for (n, x, y) in [
            (9, 128.0, 70.0),
            (8, 128.0, 78.0),
            (168, 128.0, 88.0),
            (6, 128.0, 98.0),
            (107, 118.0, 70.0),
            (336, 138.0, 70.0),
            (4, 128.0, 136.0),
            (2, 128.0, 152.0),
            (0, 128.0, 171.0),
            (17, 128.0, 190.0),
            (200, 128.0, 214.0),
            (205, 85.0, 160.0),
            (425, 171.0, 160.0),
        ] {
            points[n] = [x, y, 0.0];
        }
        (picture, points)
    }

    #[test]
    fn a_mask_with_folds_is_told_from_skin_of_any_colour() {
        let mouth = |skin, lips, mask| {
            let (picture, points) = coloured(skin, lips, mask);
            bare(&picture, &points).unwrap().mouth
        };
        for (skin, lips) in [
            ([160.0, 185.0, 225.0], [120.0, 110.0, 200.0]),
            ([95.0, 130.0, 185.0], [80.0, 80.0, 165.0]),
            ([40.0, 60.0, 95.0], [50.0, 50.0, 100.0]),
        ] {
            assert!(mouth(skin, lips, None), "{skin:?}");
            // Light blue, black and white.
            for mask in [[225.0, 200.0, 150.0], [20.0, 20.0, 20.0], [245.0, 245.0, 245.0]] {
                assert!(!mouth(skin, lips, Some(mask)), "{skin:?} {mask:?}");
            }
        }
        // In a grey picture only lightness tells: a shadow on the lower half is no mask, and black cloth is one.
        let (skin, lips) = ([180.0; 3], [130.0; 3]);
        assert!(mouth(skin, lips, None) && mouth(skin, lips, Some([130.0; 3])));
        assert!(!mouth(skin, lips, Some([20.0; 3])));
    }

    #[test]
    fn parts_with_points_outside_the_picture_or_not_finite_count_as_bare() {
        let (picture, points) = face(180.0);
        for place in [[-900.0; 3], [900.0; 3], [f32::NAN; 3], [f32::INFINITY; 3]] {
            assert_eq!(bare(&picture, &vec![place; points.len()]).unwrap(), Bare::ALL, "{place:?}");
        }
    }
}
