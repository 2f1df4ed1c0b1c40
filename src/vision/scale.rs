//! Scales pictures.
//!
//! OpenCV is not used for this: Debian's build averages colour pictures one value at a time, which takes about as long
//! as the detector needs for the whole frame. The crate `fast_image_resize` needs a tenth of that.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, MatTraitManual, Rect, Size};

use super::VisionError;

/// Scales a part of a BGR picture. Shrinking averages the pixels that fall together, because anything else would cause
/// aliasing. Enlarging interpolates.
pub(super) fn scaled(picture: &Mat, part: Rect, size: Size) -> Result<Mat, VisionError> {
    let shrinks = size.width <= part.width && size.height <= part.height;
    let is_even = shrinks && part.width % size.width == 0 && part.height % size.height == 0;
    // If the sizes do not divide evenly, a box filter would give some pixels twice the weight of others.
    let filter = match (shrinks, is_even) {
        (true, true) => FilterType::Box,
        (true, false) => FilterType::Bilinear,
        (false, _) => FilterType::Bilinear,
    };
    let [left, top, width, height] = [part.x, part.y, part.width, part.height].map(f64::from);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(left, top, width, height);

    // The crate takes a part that begins left of the picture or above it, and writes nothing for an empty part.
    if part.empty() || (part & Rect::new(0, 0, picture.cols(), picture.rows())) != part {
        return Err(refused(format!("{part:?} is not a part of {}x{}", picture.cols(), picture.rows())));
    }
    // The crate's functions for images of any type would compile its code for 13 types of pixels.
    let from: TypedImageRef<'_, U8x3> =
        TypedImageRef::from_buffer(picture.cols() as u32, picture.rows() as u32, picture.data_bytes()?)
            .map_err(refused)?;
    // SAFETY: every value is written below, or the picture is not returned.
    let mut sized = unsafe { Mat::new_rows_cols(size.height, size.width, picture.typ()) }?;
    let mut to: TypedImage<'_, U8x3> =
        TypedImage::from_buffer(size.width as u32, size.height as u32, sized.data_bytes_mut()?).map_err(refused)?;
    Resizer::new().resize_typed(&from, &mut to, &options).map_err(refused)?;
    Ok(sized)
}

/// Scales a whole picture.
pub(super) fn whole(picture: &Mat, size: Size) -> Result<Mat, VisionError> {
    scaled(picture, Rect::new(0, 0, picture.cols(), picture.rows()), size)
}

fn refused(error: impl std::fmt::Display) -> VisionError {
    VisionError::Scale { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, Vec3b};

    use super::*;

    /// Draws a picture with the column as blue and the row as green.
    fn ramp(cols: i32, rows: i32) -> Mat {
        let mut picture = Mat::new_rows_cols_with_default(rows, cols, CV_8UC3, 0.into()).unwrap();
        for (at, pixel) in picture.data_typed_mut::<Vec3b>().unwrap().iter_mut().enumerate() {
            *pixel = Vec3b::from([(at as i32 % cols) as u8, (at as i32 / cols) as u8, 9]);
        }
        picture
    }

    #[test]
    fn shrinking_averages_the_pixels_of_the_given_part() {
        let small = scaled(&ramp(100, 60), Rect::new(20, 10, 40, 30), Size::new(10, 10)).unwrap();
        assert_eq!((small.cols(), small.rows()), (10, 10));
        // Columns 20 to 23 and lines 10 to 12.
        let first = *small.at_2d::<Vec3b>(0, 0).unwrap();
        assert!(first[0].abs_diff(21) <= 1 && first[1] == 11 && first[2] == 9, "{first:?}");
        let last = *small.at_2d::<Vec3b>(9, 9).unwrap();
        assert!(last[0].abs_diff(58) <= 1 && last[1] == 38, "{last:?}");
    }

    #[test]
    fn a_part_beyond_the_picture_or_an_empty_part_is_an_error() {
        for part in [Rect::new(5, 5, 10, 10), Rect::new(5, 5, 0, 3), Rect::new(-1, 0, 5, 5)] {
            assert!(scaled(&ramp(10, 10), part, Size::new(2, 2)).is_err(), "{part:?}");
        }
    }
}
