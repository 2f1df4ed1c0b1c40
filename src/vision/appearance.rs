//! Reads the colours of a person's hair, skin and clothes around a face, for [`Appearance`].

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Rect, Size, Vec3b};

use super::{VisionError, scale};
use crate::analysis::{Appearance, BBox};

/// Rectangles of hair, skin and clothes: left, top, right and bottom in widths and heights of the face's box. The sides
/// of the head are left out, because they show the background.
const PARTS: [[f32; 4]; 3] = [[0.1, -0.25, 0.9, 0.1], [0.15, 0.3, 0.85, 0.8], [-0.2, 1.2, 1.2, 1.8]];
const SKIN: usize = 1;
/// Width and height that a part is scaled to.
const PIXELS: (i32, i32) = (24, 16);
/// A part is left out if less than this share of it lies in the frame.
const LEAST_SHARE: f32 = 0.25;
/// Colours are scaled so that the median brightness of the skin becomes the first value, of 255. Skin darker than the
/// second value counts as this bright, which limits the gain.
const SKIN_BRIGHTNESS: (f32, f32) = (120.0, 20.0);

/// Returns the colours of the person with this face.
pub(super) fn appearance(frame: &Mat, face: &BBox) -> Result<Appearance, VisionError> {
    let [hair, skin, clothes] = PARTS.map(|part| cut(frame, face, part));
    let parts = [hair?, skin?, clothes?];
    let mut brightness = Vec::new();
    if let Some(skin) = &parts[SKIN] {
        let mean = |pixel: &Vec3b| pixel.iter().map(|value| f32::from(*value)).sum::<f32>() / 3.0;
        brightness = skin.data_typed::<Vec3b>()?.iter().map(mean).collect();
        brightness.sort_by(f32::total_cmp);
    }
    let (wanted, least) = SKIN_BRIGHTNESS;
    let gain = brightness.get(brightness.len() / 2).map_or(1.0, |middle| wanted / middle.max(least));
    let [hair, skin, clothes] = parts.map(|part| part.map_or(Ok(Vec::new()), |part| colours(&part, gain)));
    Ok(Appearance::of([&hair?, &skin?, &clothes?]))
}

/// Cuts a part of a person from the frame and scales it. Returns `None` if too little of it lies in the frame.
fn cut(frame: &Mat, face: &BBox, [left, top, right, bottom]: [f32; 4]) -> Result<Option<Mat>, VisionError> {
    let edges = |from: f32, size: f32, low: f32, high: f32, limit: i32| {
        let limit = limit as f32;
        ((from + low * size).clamp(0.0, limit).round() as i32, (from + high * size).clamp(0.0, limit).round() as i32)
    };
    let (x0, x1) = edges(face.x, face.width, left, right, frame.cols());
    let (y0, y1) = edges(face.y, face.height, top, bottom, frame.rows());
    let whole = (right - left) * face.width * (bottom - top) * face.height;
    let seen = ((x1 - x0) * (y1 - y0)) as f32;
    if x1 - x0 < 2 || y1 - y0 < 2 || seen < LEAST_SHARE * whole {
        return Ok(None);
    }
    let part = Rect::new(x0, y0, x1 - x0, y1 - y0);
    Ok(Some(scale::scaled(frame, part, Size::new(PIXELS.0, PIXELS.1))?))
}

/// Converts the pixels of a part to L*, a* and b*, after multiplying them by `gain`.
fn colours(part: &Mat, gain: f32) -> Result<Vec<[f32; 3]>, VisionError> {
    let pixels = part.data_typed::<Vec3b>()?.iter();
    Ok(pixels.map(|pixel| lab(pixel.0.map(|value| (f32::from(value) * gain / 255.0).min(1.0)))).collect())
}

/// Converts an sRGB colour (IEC 61966-2-1, white D65), given as blue, green and red from 0 to 1, to CIE L*a*b*.
pub(super) fn lab(bgr: [f32; 3]) -> [f32; 3] {
    let [b, g, r] =
        bgr.map(|value| if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) });
    let x = (0.412_453 * r + 0.357_580 * g + 0.180_423 * b) / 0.950_456;
    let y = 0.212_671 * r + 0.715_160 * g + 0.072_169 * b;
    let z = (0.019_334 * r + 0.119_193 * g + 0.950_227 * b) / 1.088_754;
    let [x, y, z] = [x, y, z].map(|t| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 });
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, MatTraitManual, Scalar};

    use super::*;

    /// Draws a frame with hair above, skin in and clothes below a face of 60 pixels, with all colours multiplied by
    /// `light`.
    fn person(hair: [u8; 3], clothes: [u8; 3], light: f32) -> Mat {
        let mut frame = Mat::new_rows_cols_with_default(240, 200, CV_8UC3, Scalar::all(90.0)).unwrap();
        for line in 0..240 {
            let colour = if line < 66 {
                hair
            } else if line < 125 {
                [120, 150, 200]
            } else {
                clothes
            };
            let lit = colour.map(|value| (f32::from(value) * light) as u8);
            frame.at_row_mut::<Vec3b>(line).unwrap().fill(Vec3b::from(lit));
        }
        frame
    }

    const FACE: BBox = BBox { x: 70.0, y: 60.0, width: 60.0, height: 60.0 };

    #[test]
    fn appearance_depends_on_clothes_and_hair_and_not_on_light() {
        let appearance = |hair, clothes, light| appearance(&person(hair, clothes, light), &FACE).unwrap();
        let (brown, blond, blue, red) = ([30, 40, 50], [120, 190, 210], [160, 60, 30], [40, 40, 190]);
        let known = appearance(brown, blue, 1.0);
        let like = |other: &Appearance| known.similarity(other).unwrap();
        assert!(like(&appearance(brown, blue, 0.7)) > 0.9 && like(&appearance(brown, blue, 1.15)) > 0.9);
        assert!(like(&appearance(brown, red, 1.0)) < 0.75 && like(&appearance(blond, red, 1.0)) < 0.5);
    }

    #[test]
    fn parts_outside_the_frame_are_left_out() {
        let frame = person([30, 40, 50], [160, 60, 30], 1.0);
        let at = |y: f32| appearance(&frame, &BBox { y, ..FACE }).unwrap();
        let (inside, low) = (at(60.0), at(205.0));
        assert!(inside.similarity(&low).is_some());
        assert_eq!(appearance(&frame, &BBox { x: 500.0, y: 500.0, ..FACE }).unwrap(), Appearance::default());
    }

    #[test]
    fn lab_values_match_the_standard() {
        for (bgr, wanted) in [
            ([1.0, 1.0, 1.0], [100.0, 0.0, 0.0]),
            ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
            ([0.0, 0.0, 1.0], [53.24, 80.09, 67.20]),
            ([0.0, 1.0, 0.0], [87.73, -86.18, 83.18]),
            ([1.0, 0.0, 0.0], [32.30, 79.19, -107.86]),
        ] {
            let got = lab(bgr);
            assert!(got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 0.1), "{bgr:?}: {got:?}");
        }
    }
}
