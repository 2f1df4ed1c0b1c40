//! Converts decoded frames to upright BGR pictures with square pixels, in one step of FFmpeg's scaler.

use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{ffi as sys, format, frame};
use opencv::core::{self, Mat};

use super::FramesError;
use super::ffi::{self, Scaler};
use super::geometry::{Orientation, PixelAspect, Placement, square_pixel_size};
use super::position::Position;

/// How the frames of a stream are displayed, by the header of the container.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Display {
    /// `None` if the header has no display matrix.
    pub orientation: Option<Orientation>,
    pub aspect: PixelAspect,
}

/// Converts the frames of a stream.
pub(super) struct Converter {
    display: Display,
    /// The last orientation in the stream (display orientation SEI of H.264 and HEVC).
    stream_orientation: Option<Orientation>,
    /// Additional clockwise quarter turns.
    turns: u8,
    max_pixels: u64,
    /// The display size of the first frame.
    video: Option<(u32, u32)>,
    scaler: Option<(ScalerKey, Scaler)>,
}

/// The parameters of a scaler. A scaler is used again if they are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ScalerKey {
    format: format::Pixel,
    width: u32,
    height: u32,
    space: sys::AVColorSpace,
    range: sys::AVColorRange,
    /// The output size, with square pixels.
    output: (u32, u32),
}

impl Converter {
    /// For the frames of one video. Scaling to square pixels does not exceed `max_pixels`.
    pub const fn new(display: Display, max_pixels: u64) -> Self {
        Self { display, stream_orientation: None, turns: 0, max_pixels, video: None, scaler: None }
    }

    /// Turns all further pictures clockwise, in addition to their orientation.
    pub const fn turn(&mut self, quarter_turns: u8) {
        self.turns = quarter_turns;
    }

    /// Converts frames as if those before this place had been converted.
    pub const fn continue_at(&mut self, position: &Position) {
        (self.video, self.stream_orientation) = (position.size, position.stream_orientation);
    }

    /// Writes what [`Self::continue_at`] needs.
    pub const fn write_to(&self, position: &mut Position) {
        (position.size, position.stream_orientation) = (self.video, self.stream_orientation);
    }

    /// The display size of the first frame; `None` before the first frame.
    pub const fn video(&self) -> Option<(u32, u32)> {
        self.video
    }

    /// The last orientation in the stream, if it is applied and changes the frames.
    pub fn stream_orientation(&self) -> Option<Orientation> {
        let applied = if self.display.orientation.is_none() { self.stream_orientation } else { None };
        applied.filter(|orientation| *orientation != Orientation::default())
    }

    /// Converts a frame to BGR, 8 bits a channel, upright and with square pixels. Also returns its placement in the
    /// video.
    pub fn picture(&mut self, frame: &frame::Video) -> Result<(Mat, Placement), FramesError> {
        self.stream_orientation = orientation(frame).or(self.stream_orientation);
        let orientation = self.display.orientation.or(self.stream_orientation).unwrap_or_default();
        let aspect = self.display.aspect.of(frame.aspect_ratio());
        let scaled = square_pixel_size((frame.width(), frame.height()), aspect, self.max_pixels);
        let size = orientation.size(scaled);
        let video = *self.video.get_or_insert(size);
        let picture =
            upright(ffi::scale_to_picture(self.scaler(frame, scaled)?, frame)?, orientation.turned(self.turns))
                .map_err(failed)?;
        Ok((picture, Placement::new(size, self.turns, video)))
    }

    fn scaler(&mut self, frame: &frame::Video, output: (u32, u32)) -> Result<&mut Context, FramesError> {
        let (space, range) = ffi::colour_space(frame);
        let (format, width, height) = (frame.format(), frame.width(), frame.height());
        let key = ScalerKey { format, width, height, space, range, output };
        let kept = self.scaler.take().filter(|(kept, _)| *kept == key);
        let scaler = match kept {
            Some((_, scaler)) => scaler,
            None => Scaler(context(key)?),
        };
        Ok(&mut self.scaler.insert((key, scaler)).1.0)
    }
}

/// The orientation in the side data of a frame.
fn orientation(frame: &frame::Video) -> Option<Orientation> {
    let matrix = frame.side_data(frame::side_data::Type::DisplayMatrix)?;
    Orientation::of_matrix(matrix.data())
}

/// Creates a scaler to BGR with the colour space and range of the stream. If unspecified, they are BT.601 and 16 to
/// 235, as in FFmpeg.
fn context(key: ScalerKey) -> Result<Context, FramesError> {
    let refused = |error: ffmpeg_next::Error| FramesError::Decoder(format!("pictures of {:?}: {error}", key.format));
    let (bgr, (width, height)) = (format::Pixel::BGR24, key.output);
    let mut context =
        Context::get(key.format, key.width, key.height, bgr, width, height, Flags::BILINEAR).map_err(refused)?;
    let is_full_range = matches!(
        key.format,
        format::Pixel::YUVJ420P | format::Pixel::YUVJ422P | format::Pixel::YUVJ444P | format::Pixel::YUVJ440P
    ) || key.range == sys::AVColorRange::AVCOL_RANGE_JPEG;
    ffi::set_colour_space(&mut context, key.space, is_full_range);
    Ok(context)
}

/// Mirrors and turns a picture so that it is upright.
fn upright(picture: Mat, Orientation { mirrored, quarter_turns }: Orientation) -> Result<Mat, opencv::Error> {
    let mut turned = Mat::default();
    match (mirrored, quarter_turns) {
        (false, 1) => core::rotate(&picture, &mut turned, core::ROTATE_90_CLOCKWISE)?,
        (false, 2) => core::rotate(&picture, &mut turned, core::ROTATE_180)?,
        (false, 3) => core::rotate(&picture, &mut turned, core::ROTATE_90_COUNTERCLOCKWISE)?,
        (false, _) => return Ok(picture),
        (true, 1) => {
            let mut across = Mat::default();
            core::transpose(&picture, &mut across)?;
            core::flip(&across, &mut turned, -1)?;
        }
        (true, 2) => core::flip(&picture, &mut turned, 0)?,
        (true, 3) => core::transpose(&picture, &mut turned)?,
        (true, _) => core::flip(&picture, &mut turned, 1)?,
    }
    Ok(turned)
}

fn failed(error: opencv::Error) -> FramesError {
    FramesError::Decoder(format!("OpenCV: {error}"))
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::Rational;
    use opencv::core::{CV_8UC3, Vec3b};
    use opencv::prelude::*;

    use super::super::ffi::SCALER_BLOCK;
    use super::*;

    /// A frame of this format whose planes hold varying values.
    fn noise(format: format::Pixel, width: u32, height: u32) -> frame::Video {
        let mut picture = frame::Video::new(format, width, height);
        for plane in 0..picture.planes() {
            for (n, byte) in picture.data_mut(plane).iter_mut().enumerate() {
                *byte = (n * 7919 % 251) as u8;
            }
        }
        picture
    }

    #[test]
    fn every_pixel_is_written_for_all_formats_and_sizes() {
        use format::Pixel as P;
        for format in
            [P::YUV420P, P::YUVJ422P, P::YUV444P, P::YUV420P10LE, P::NV12, P::GRAY8, P::RGB24, P::BGRA, P::PAL8]
        {
            for (from, to) in [
                ((64, 48), (64, 48)),
                ((65, 49), (65, 49)),
                ((2, 2), (2, 2)),
                ((1, 1), (1, 1)),
                ((639, 3), (639, 3)),
                ((45, 63), (64, 63)),
                ((720, 5), (1025, 5)),
                ((33, 20), (33, 41)),
            ] {
                let frame = noise(format, from.0, from.1);
                let key = ScalerKey {
                    format,
                    width: from.0,
                    height: from.1,
                    space: sys::AVColorSpace::AVCOL_SPC_UNSPECIFIED,
                    range: sys::AVColorRange::AVCOL_RANGE_UNSPECIFIED,
                    output: to,
                };
                let written = [0.0, 255.0].map(|before| {
                    let (rows, columns) = (to.1 as i32, (to.0 as usize).next_multiple_of(SCALER_BLOCK) as i32);
                    let mut canvas =
                        Mat::new_rows_cols_with_default(rows, columns, CV_8UC3, core::Scalar::all(before)).unwrap();
                    ffi::scale_into(&mut context(key).unwrap(), &frame, &mut canvas).unwrap();
                    let cropped = Mat::roi(&canvas, core::Rect::new(0, 0, to.0 as i32, rows)).unwrap();
                    cropped.try_clone().unwrap().data_bytes().unwrap().to_vec()
                });
                assert!(written[0] == written[1], "{format:?} {from:?} {to:?}");
            }
        }
    }

    /// A frame of these grey pixels.
    fn grey(width: u32, values: &[u8]) -> frame::Video {
        let mut picture = frame::Video::new(format::Pixel::GRAY8, width, values.len() as u32 / width);
        let stride = picture.stride(0);
        for (n, value) in values.iter().enumerate() {
            picture.data_mut(0)[n / width as usize * stride + n % width as usize] = *value;
        }
        picture
    }

    fn values(picture: &Mat) -> Vec<u8> {
        picture.data_typed::<Vec3b>().unwrap().iter().map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn pictures_are_upright_in_all_eight_orientations() {
        let full = [10, 20, 30, 40, 50, 60];
        for (mirrored, quarter_turns, expected) in [
            (false, 0, [10, 20, 30, 40, 50, 60]),
            (false, 1, [40, 10, 50, 20, 60, 30]),
            (false, 2, [60, 50, 40, 30, 20, 10]),
            (false, 3, [30, 60, 20, 50, 10, 40]),
            (true, 0, [30, 20, 10, 60, 50, 40]),
            (true, 1, [60, 30, 50, 20, 40, 10]),
            (true, 2, [40, 50, 60, 10, 20, 30]),
            (true, 3, [10, 40, 20, 50, 30, 60]),
        ] {
            let orientation = Some(Orientation { mirrored, quarter_turns });
            let mut converter = Converter::new(Display { orientation, ..Display::default() }, 1000);
            let mut frame = grey(3, &full);
            frame.set_color_range(ffmpeg_next::color::Range::JPEG);
            let (picture, placement) = converter.picture(&frame).unwrap();
            assert_eq!(values(&picture), expected, "{orientation:?}");
            let size = if quarter_turns % 2 == 1 { (2, 3) } else { (3, 2) };
            assert_eq!((picture.cols(), picture.rows()), (size.0 as i32, size.1 as i32));
            assert_eq!((converter.video(), placement), (Some(size), Placement::new(size, 0, size)));
        }
    }

    #[test]
    fn orientation_in_the_stream_is_used_if_the_container_has_none() {
        let matrix: Vec<u8> =
            [-1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30_i32].iter().flat_map(|n: &i32| n.to_ne_bytes()).collect();
        let mut turned = grey(2, &[10, 20]);
        ffi::testing::add_display_matrix(&mut turned, &matrix);
        turned.set_color_range(ffmpeg_next::color::Range::JPEG);
        let mut plain = grey(2, &[10, 20]);
        plain.set_color_range(ffmpeg_next::color::Range::JPEG);
        let mut converter = Converter::new(Display::default(), 1000);
        let mut seen = |frame: &frame::Video| values(&converter.picture(frame).unwrap().0);
        assert_eq!([seen(&plain), seen(&turned), seen(&plain)], [[10, 20], [20, 10], [20, 10]]);
        let upside_down = Orientation { mirrored: false, quarter_turns: 2 };
        assert_eq!(converter.stream_orientation(), Some(upside_down));
        let upright = Some(Orientation::default());
        let mut converter = Converter::new(Display { orientation: upright, ..Display::default() }, 1000);
        assert_eq!(values(&converter.picture(&turned).unwrap().0), [10, 20]);
        assert_eq!(converter.stream_orientation(), None);
    }

    #[test]
    fn pixels_are_made_square_before_turning_and_later_sizes_are_placed_in_the_first_frame() {
        let orientation = Some(Orientation { mirrored: false, quarter_turns: 1 });
        let display = Display { orientation, aspect: PixelAspect::new(Rational::new(2, 1)) };
        let mut converter = Converter::new(display, 100_000);
        let (picture, _) = converter.picture(&noise(format::Pixel::YUV420P, 40, 60)).unwrap();
        assert_eq!((picture.cols(), picture.rows()), (60, 80));
        let (picture, placement) = converter.picture(&noise(format::Pixel::YUV420P, 80, 120)).unwrap();
        assert_eq!((picture.cols(), picture.rows()), (120, 160));
        assert_eq!(placement, Placement::new((120, 160), 0, (60, 80)));
        converter.turn(3);
        let (picture, placement) = converter.picture(&noise(format::Pixel::YUV420P, 40, 60)).unwrap();
        assert_eq!((picture.cols(), picture.rows()), (80, 60));
        assert_eq!(placement, Placement::new((60, 80), 3, (60, 80)));
        assert_eq!(converter.video(), Some((60, 80)));
    }
}
