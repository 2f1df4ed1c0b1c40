//! Decoded frames made into upright BGR pictures with square pixels: one conversion, by FFmpeg's own scaler.

use std::ffi::c_int;

use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{ffi, format, frame};
use opencv::core::{self, CV_8UC3, Mat};
use opencv::prelude::*;

use super::FramesError;
use super::geometry::{Orientation, PixelAspect, Placement, square};

/// The scaler writes whole blocks of so many pixels.
const BLOCK: usize = 32;

/// How a container says that the pictures of a stream are shown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shown {
    /// `None` where it says nothing.
    pub orientation: Option<Orientation>,
    pub aspect: PixelAspect,
}

/// Makes pictures of a stream's frames.
pub(super) struct Converter {
    shown: Shown,
    /// The last orientation that a frame itself had, as H.264 and HEVC can tell it (display orientation SEI).
    own: Option<Orientation>,
    /// Quarter turns clockwise beyond what a player does.
    turns: u8,
    max_pixels: u64,
    /// Size of the first picture as a player shows it.
    video: Option<(u32, u32)>,
    scaler: Option<Scaler>,
}

struct Scaler {
    context: Context,
    from: Kind,
}

// SAFETY: a context belongs to whoever holds it, and libswscale ties it to no thread.
unsafe impl Send for Scaler {}

/// What a conversion depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kind {
    format: format::Pixel,
    width: u32,
    height: u32,
    space: ffi::AVColorSpace,
    range: ffi::AVColorRange,
    /// The size with square pixels.
    to: (u32, u32),
}

impl Converter {
    /// For the pictures of one video, the first of which comes first. None gets more than `max_pixels` by making its
    /// pixels square.
    pub const fn new(shown: Shown, max_pixels: u64) -> Self {
        Self { shown, own: None, turns: 0, max_pixels, video: None, scaler: None }
    }

    /// From now on, pictures are turned clockwise beyond what a player does.
    pub const fn turn(&mut self, quarter_turns: u8) {
        self.turns = quarter_turns;
    }

    /// Size of the first picture as a player shows it; `None` before there was one.
    pub const fn video(&self) -> Option<(u32, u32)> {
        self.video
    }

    /// The frame as BGR, 8 bits a channel, upright and with square pixels; and where it lies in the video.
    pub fn picture(&mut self, frame: &frame::Video) -> Result<(Mat, Placement), FramesError> {
        self.own = orientation(frame).or(self.own);
        let orientation = self.shown.orientation.or(self.own).unwrap_or_default();
        let aspect = self.shown.aspect.of(frame.aspect_ratio());
        let stored = square((frame.width(), frame.height()), aspect, self.max_pixels);
        let shown = orientation.size(stored);
        let video = *self.video.get_or_insert(shown);
        let picture = upright(self.convert(frame, stored)?, orientation.turned(self.turns)).map_err(failed)?;
        Ok((picture, Placement::new(shown, self.turns, video)))
    }

    fn convert(&mut self, frame: &frame::Video, to: (u32, u32)) -> Result<Mat, FramesError> {
        let (columns, rows) = (to.0 as usize, to.1 as usize);
        let padded = columns.next_multiple_of(BLOCK);
        let size = |length: usize| i32::try_from(length).map_err(|_| FramesError::Decoder("a huge picture".to_owned()));
        // SAFETY: the scaler fills every pixel of the columns asked for; those beside them are cut away below.
        let mut canvas = unsafe { Mat::new_rows_cols(size(rows)?, size(padded)?, CV_8UC3) }.map_err(failed)?;
        write(self.scaler(frame, to)?, frame, &mut canvas)?;
        if padded == columns {
            return Ok(canvas);
        }
        let cut = Mat::roi(&canvas, core::Rect::new(0, 0, size(columns)?, size(rows)?)).map_err(failed)?;
        cut.try_clone().map_err(failed)
    }

    fn scaler(&mut self, frame: &frame::Video, to: (u32, u32)) -> Result<&mut Context, FramesError> {
        // SAFETY: the frame is whole.
        let (space, range) = unsafe { ((*frame.as_ptr()).colorspace, (*frame.as_ptr()).color_range) };
        let from = Kind { format: frame.format(), width: frame.width(), height: frame.height(), space, range, to };
        let kept = self.scaler.take().filter(|scaler| scaler.from == from);
        let scaler = match kept {
            Some(scaler) => scaler,
            None => Scaler { context: context(from)?, from },
        };
        Ok(&mut self.scaler.insert(scaler).context)
    }
}

/// The orientation that a frame itself has.
fn orientation(frame: &frame::Video) -> Option<Orientation> {
    let matrix = frame.side_data(frame::side_data::Type::DisplayMatrix)?;
    Orientation::of_matrix(matrix.data())
}

/// Writes all lines of a frame to a canvas with the height that the scaler is for and at least its width.
fn write(scaler: &mut Context, frame: &frame::Video, canvas: &mut Mat) -> Result<(), FramesError> {
    let rows = canvas.rows();
    // SAFETY: the context is for frames of this kind and size. The canvas has a plane of `rows` lines of `stride` bytes,
    // with room for whole blocks in each.
    let lines = unsafe {
        let stride = canvas.mat_step().first().copied().unwrap_or(0);
        let planes: [*mut u8; 4] =
            [canvas.data_mut(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut()];
        let strides: [c_int; 4] = [c_int::try_from(stride).unwrap_or(0), 0, 0, 0];
        let from = frame.as_ptr();
        ffi::sws_scale(
            scaler.as_mut_ptr(),
            (*from).data.as_ptr().cast(),
            (*from).linesize.as_ptr(),
            0,
            (*from).height,
            planes.as_ptr(),
            strides.as_ptr(),
        )
    };
    if lines == rows { Ok(()) } else { Err(FramesError::Decoder("a picture could not be converted".to_owned())) }
}

/// A scaler that makes pixels square, with the colours that the stream says it has; unsaid, they are those of BT.601 with
/// 16..235 for black to white, as in FFmpeg.
fn context(from: Kind) -> Result<Context, FramesError> {
    let refused = |error: ffmpeg_next::Error| FramesError::Decoder(format!("pictures of {:?}: {error}", from.format));
    let (width, height) = (from.width, from.height);
    let (bgr, (across, down)) = (format::Pixel::BGR24, from.to);
    let mut context = Context::get(from.format, width, height, bgr, across, down, Flags::BILINEAR).map_err(refused)?;
    // SAFETY: the context is initialised; the coefficients are constants of the library. A format without such colours
    // refuses, which is nothing to worry about.
    unsafe {
        let space = match from.space {
            ffi::AVColorSpace::AVCOL_SPC_BT709 => ffi::SWS_CS_ITU709,
            ffi::AVColorSpace::AVCOL_SPC_BT2020_NCL | ffi::AVColorSpace::AVCOL_SPC_BT2020_CL => ffi::SWS_CS_BT2020,
            ffi::AVColorSpace::AVCOL_SPC_SMPTE240M => ffi::SWS_CS_SMPTE240M,
            ffi::AVColorSpace::AVCOL_SPC_FCC => ffi::SWS_CS_FCC,
            _ => ffi::SWS_CS_DEFAULT,
        };
        let coefficients = ffi::sws_getCoefficients(space);
        let is_full = matches!(
            from.format,
            format::Pixel::YUVJ420P | format::Pixel::YUVJ422P | format::Pixel::YUVJ444P | format::Pixel::YUVJ440P
        ) || from.range == ffi::AVColorRange::AVCOL_RANGE_JPEG;
        let one = 1 << 16;
        ffi::sws_setColorspaceDetails(
            context.as_mut_ptr(),
            coefficients,
            c_int::from(is_full),
            coefficients,
            1,
            0,
            one,
            one,
        );
    }
    Ok(context)
}

/// Converts a whole frame into a new one. [`Context::run`] ignores FFmpeg's return value, and a frame that was only partly
/// written shows what its memory held before: another video's pictures.
pub(super) fn scale(context: &mut Context, from: &frame::Video) -> Result<frame::Video, ffmpeg_next::Error> {
    use ffmpeg_next::Error;
    let (given, wanted) = (*context.input(), *context.output());
    if (from.format(), from.width(), from.height()) != (given.format, given.width, given.height) {
        return Err(Error::InputChanged);
    }
    let mut to = frame::Video::new(wanted.format, wanted.width, wanted.height);
    // SAFETY: both frames are whole and of the format and size that the context is for; without memory for the new one
    // it has no planes, and FFmpeg is not called.
    let lines = unsafe {
        if (*to.as_ptr()).data[0].is_null() {
            return Err(Error::Other { errno: ffmpeg_next::util::error::ENOMEM });
        }
        let (read, write) = (from.as_ptr(), to.as_mut_ptr());
        ffi::sws_scale(
            context.as_mut_ptr(),
            (*read).data.as_ptr().cast(),
            (*read).linesize.as_ptr(),
            0,
            (*read).height,
            (*write).data.as_ptr(),
            (*write).linesize.as_ptr(),
        )
    };
    if u32::try_from(lines) == Ok(wanted.height) { Ok(to) } else { Err(Error::External) }
}

/// Mirrors and turns a stored picture until it stands upright.
fn upright(stored: Mat, Orientation { mirrored, quarter_turns }: Orientation) -> Result<Mat, opencv::Error> {
    let mut turned = Mat::default();
    match (mirrored, quarter_turns) {
        (false, 1) => core::rotate(&stored, &mut turned, core::ROTATE_90_CLOCKWISE)?,
        (false, 2) => core::rotate(&stored, &mut turned, core::ROTATE_180)?,
        (false, 3) => core::rotate(&stored, &mut turned, core::ROTATE_90_COUNTERCLOCKWISE)?,
        (false, _) => return Ok(stored),
        (true, 1) => {
            let mut across = Mat::default();
            core::transpose(&stored, &mut across)?;
            core::flip(&across, &mut turned, -1)?;
        }
        (true, 2) => core::flip(&stored, &mut turned, 0)?,
        (true, 3) => core::transpose(&stored, &mut turned)?,
        (true, _) => core::flip(&stored, &mut turned, 1)?,
    }
    Ok(turned)
}

fn failed(error: opencv::Error) -> FramesError {
    FramesError::Decoder(format!("OpenCV: {error}"))
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::Rational;
    use opencv::core::Vec3b;

    use super::*;

    /// A picture of that format whose planes hold all kinds of values.
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
    fn every_pixel_of_a_picture_is_written_whatever_its_format_and_size() {
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
                let kind = Kind {
                    format,
                    width: from.0,
                    height: from.1,
                    space: ffi::AVColorSpace::AVCOL_SPC_UNSPECIFIED,
                    range: ffi::AVColorRange::AVCOL_RANGE_UNSPECIFIED,
                    to,
                };
                let written = [0.0, 255.0].map(|before| {
                    let (rows, columns) = (to.1 as i32, (to.0 as usize).next_multiple_of(BLOCK) as i32);
                    let mut canvas =
                        Mat::new_rows_cols_with_default(rows, columns, CV_8UC3, core::Scalar::all(before)).unwrap();
                    write(&mut context(kind).unwrap(), &frame, &mut canvas).unwrap();
                    let cut = Mat::roi(&canvas, core::Rect::new(0, 0, to.0 as i32, rows)).unwrap();
                    cut.try_clone().unwrap().data_bytes().unwrap().to_vec()
                });
                assert!(written[0] == written[1], "{format:?} {from:?} {to:?}");
            }
        }
    }

    /// Grey pixels in the order given.
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
    fn pictures_stand_as_each_of_the_eight_orientations_says() {
        let full = [10, 20, 30, 40, 50, 60];
        for (mirrored, quarter_turns, wanted) in [
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
            let mut converter = Converter::new(Shown { orientation, ..Shown::default() }, 1000);
            let mut frame = grey(3, &full);
            frame.set_color_range(ffmpeg_next::color::Range::JPEG);
            let (picture, placement) = converter.picture(&frame).unwrap();
            assert_eq!(values(&picture), wanted, "{orientation:?}");
            let size = if quarter_turns % 2 == 1 { (2, 3) } else { (3, 2) };
            assert_eq!((picture.cols(), picture.rows()), (size.0 as i32, size.1 as i32));
            assert_eq!((converter.video(), placement), (Some(size), Placement::new(size, 0, size)));
        }
    }

    #[test]
    fn a_frame_s_own_orientation_counts_where_the_container_has_none_and_until_another_comes() {
        let matrix: Vec<u8> =
            [-1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30_i32].iter().flat_map(|n: &i32| n.to_ne_bytes()).collect();
        let mut turned = grey(2, &[10, 20]);
        let side = turned.new_side_data(frame::side_data::Type::DisplayMatrix, 36).unwrap();
        // SAFETY: FFmpeg gave room for so many bytes.
        unsafe { std::slice::from_raw_parts_mut((*side.as_ptr()).data, 36) }.copy_from_slice(&matrix);
        turned.set_color_range(ffmpeg_next::color::Range::JPEG);
        let mut plain = grey(2, &[10, 20]);
        plain.set_color_range(ffmpeg_next::color::Range::JPEG);
        let mut converter = Converter::new(Shown::default(), 1000);
        let mut seen = |frame: &frame::Video| values(&converter.picture(frame).unwrap().0);
        assert_eq!([seen(&plain), seen(&turned), seen(&plain)], [[10, 20], [20, 10], [20, 10]]);
        let upright = Some(Orientation::default());
        let mut converter = Converter::new(Shown { orientation: upright, ..Shown::default() }, 1000);
        assert_eq!(values(&converter.picture(&turned).unwrap().0), [10, 20]);
    }

    #[test]
    fn pixels_become_square_before_the_picture_is_turned_and_later_ones_find_their_place() {
        let orientation = Some(Orientation { mirrored: false, quarter_turns: 1 });
        let shown = Shown { orientation, aspect: PixelAspect::new(Rational::new(2, 1)) };
        let mut converter = Converter::new(shown, 100_000);
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
