//! Decoded frames made into upright BGR pictures: one conversion, by FFmpeg's own scaler.

use std::ffi::c_int;

use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{ffi, format, frame};
use opencv::core::{self, CV_8UC3, Mat};
use opencv::prelude::*;

use super::FramesError;

/// The scaler writes whole blocks of so many pixels.
const BLOCK: usize = 32;

/// Makes pictures of a stream's frames.
pub(super) struct Converter {
    quarter_turns: u8,
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
}

impl Converter {
    /// For pictures that so many quarter turns clockwise bring upright.
    pub const fn new(quarter_turns: u8) -> Self {
        Self { quarter_turns, scaler: None }
    }

    /// The frame as BGR, 8 bits a channel, upright.
    pub fn picture(&mut self, frame: &frame::Video) -> Result<Mat, FramesError> {
        upright(self.convert(frame)?, self.quarter_turns).map_err(failed)
    }

    fn convert(&mut self, frame: &frame::Video) -> Result<Mat, FramesError> {
        let (columns, rows) = (frame.width() as usize, frame.height() as usize);
        let padded = columns.next_multiple_of(BLOCK);
        let size = |length: usize| i32::try_from(length).map_err(|_| FramesError::Decoder("a huge picture".to_owned()));
        // SAFETY: the scaler fills every pixel of the columns asked for; those beside them are cut away below.
        let mut canvas = unsafe { Mat::new_rows_cols(size(rows)?, size(padded)?, CV_8UC3) }.map_err(failed)?;
        let scaler = self.scaler(frame)?;
        // SAFETY: the context is for frames of this kind and size. The canvas has a plane of `rows` lines of `stride`
        // bytes, with room for whole blocks in each.
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
        if usize::try_from(lines) != Ok(rows) {
            return Err(FramesError::Decoder("a picture could not be converted".to_owned()));
        }
        if padded == columns {
            return Ok(canvas);
        }
        let cut = Mat::roi(&canvas, core::Rect::new(0, 0, size(columns)?, size(rows)?)).map_err(failed)?;
        cut.try_clone().map_err(failed)
    }

    fn scaler(&mut self, frame: &frame::Video) -> Result<&mut Context, FramesError> {
        // SAFETY: the frame is whole.
        let (space, range) = unsafe { ((*frame.as_ptr()).colorspace, (*frame.as_ptr()).color_range) };
        let from = Kind { format: frame.format(), width: frame.width(), height: frame.height(), space, range };
        let kept = self.scaler.take().filter(|scaler| scaler.from == from);
        let scaler = match kept {
            Some(scaler) => scaler,
            None => Scaler { context: context(from)?, from },
        };
        Ok(&mut self.scaler.insert(scaler).context)
    }
}

/// A scaler that keeps the size, with the colours that the stream says it has; unsaid, they are those of BT.601 with
/// 16..235 for black to white, as in FFmpeg.
fn context(from: Kind) -> Result<Context, FramesError> {
    let refused = |error: ffmpeg_next::Error| FramesError::Decoder(format!("pictures of {:?}: {error}", from.format));
    let (width, height) = (from.width, from.height);
    let bgr = format::Pixel::BGR24;
    let mut context = Context::get(from.format, width, height, bgr, width, height, Flags::BILINEAR).map_err(refused)?;
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

/// Turns a stored picture clockwise until it stands upright.
fn upright(stored: Mat, quarter_turns: u8) -> Result<Mat, opencv::Error> {
    let code = match quarter_turns {
        1 => core::ROTATE_90_CLOCKWISE,
        2 => core::ROTATE_180,
        3 => core::ROTATE_90_COUNTERCLOCKWISE,
        _ => return Ok(stored),
    };
    let mut turned = Mat::default();
    core::rotate(&stored, &mut turned, code)?;
    Ok(turned)
}

fn failed(error: opencv::Error) -> FramesError {
    FramesError::Decoder(format!("OpenCV: {error}"))
}
