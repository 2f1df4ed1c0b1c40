//! Puts pictures of any size into frames of one size.

use ffmpeg_next::frame;
use opencv::core::{
    BORDER_CONSTANT, Mat, MatTraitConst, MatTraitConstManual, Size, StsUnmatchedSizes, copy_make_border_def,
};
use opencv::imgproc::{INTER_AREA, INTER_LINEAR, resize};

/// Scales a picture to exactly this size. Its aspect ratio is kept, and it is centred between black bars. A side that
/// is one pixel short because of rounding is stretched instead.
pub fn fit(picture: &Mat, size: Size) -> Result<Mat, opencv::Error> {
    let (width, height) = (f64::from(picture.cols()), f64::from(picture.rows()));
    let scale = (f64::from(size.width) / width).min(f64::from(size.height) / height);
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let side = |length: f64, available: i32| match (length * scale).round() as i32 {
        scaled if scaled + 1 >= available => available,
        scaled => scaled.max(1),
    };
    let (across, down) = (side(width, size.width), side(height, size.height));
    let mut small = Mat::default();
    let interpolation = if scale < 1.0 { INTER_AREA } else { INTER_LINEAR };
    resize(picture, &mut small, Size::new(across, down), 0.0, 0.0, interpolation)?;
    if small.size()? == size {
        return Ok(small);
    }
    let (horizontal, vertical) = (size.width - across, size.height - down);
    let mut bordered = Mat::default();
    let (top, left) = (vertical / 2, horizontal / 2);
    copy_make_border_def(&small, &mut bordered, top, vertical - top, left, horizontal - left, BORDER_CONSTANT)?;
    Ok(bordered)
}

/// Copies a picture into a frame of the same size, and sets the padding of the frame to 0.
pub(super) fn fill(to: &mut frame::Video, from: &Mat) -> Result<(), opencv::Error> {
    let (columns, rows) = (from.cols().unsigned_abs(), from.rows().unsigned_abs());
    if (to.width(), to.height()) != (columns, rows) || columns == 0 {
        let text = format!("a picture of {columns} x {rows} in a frame of {} x {}", to.width(), to.height());
        return Err(opencv::Error::new(StsUnmatchedSizes, text));
    }
    let (stride, row) = (to.stride(0), columns as usize * 3);
    let buffer = to.data_mut(0);
    buffer.fill(0);
    for (line, bytes) in buffer.chunks_mut(stride).zip(from.data_bytes()?.chunks_exact(row)) {
        line[..row].copy_from_slice(bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::format::Pixel;
    use opencv::core::{CV_8UC3, Scalar, Vec3b};

    use super::*;

    fn picture(width: i32, height: i32, value: f64) -> Mat {
        Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::all(value)).unwrap()
    }

    #[test]
    fn picture_of_another_size_does_not_fit_a_frame() {
        let mut frame = frame::Video::new(Pixel::BGR24, 4, 2);
        for (width, height) in [(2, 2), (4, 1), (5, 2), (4, 3), (2, 4)] {
            assert!(fill(&mut frame, &picture(width, height, 255.0)).is_err(), "{width} x {height}");
        }
        frame.data_mut(0).fill(77);
        fill(&mut frame, &picture(4, 2, 255.0)).unwrap();
        let stride = frame.stride(0);
        for (n, value) in frame.data(0).iter().enumerate() {
            let inside = n % stride < 12 && n / stride < 2;
            assert_eq!(*value, if inside { 255 } else { 0 }, "byte {n}");
        }
    }

    #[test]
    fn picture_of_another_aspect_ratio_is_centred_between_black_bars() {
        for ((width, height), (across, down)) in [
            ((640, 360), (160, 90)),
            ((80, 45), (160, 90)),
            ((1919, 1080), (160, 90)),
            ((360, 640), (51, 90)),
            ((400, 100), (160, 40)),
            ((1, 1000), (1, 90)),
            ((1000, 1), (160, 1)),
        ] {
            let fitted = fit(&picture(width, height, 255.0), Size::new(160, 90)).unwrap();
            assert_eq!((fitted.cols(), fitted.rows()), (160, 90), "{width} x {height}");
            let (left, top) = ((160 - across) / 2, (90 - down) / 2);
            for (n, pixel) in fitted.data_typed::<Vec3b>().unwrap().iter().enumerate() {
                let (x, y) = (n as i32 % 160, n as i32 / 160);
                let inside = (left..left + across).contains(&x) && (top..top + down).contains(&y);
                assert_eq!(*pixel, Vec3b::all(if inside { 255 } else { 0 }), "{width} x {height}: {x}, {y}");
            }
        }
    }
}
