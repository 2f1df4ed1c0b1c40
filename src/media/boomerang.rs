//! Makes a boomerang clip of a video: its first seconds forwards, then backwards, in a loop.

use std::io::Read;
use std::os::fd::AsRawFd;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::{Pixel, context::Output};
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Dictionary, Rational, codec, encoder, frame, picture};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Size};

use super::ffi::scale;
use super::fit::{fill, fit};
use super::writer::AAC;
use super::{FramesError, Probe, Sample, prepare};

/// The frame rate of a clip.
pub const CLIP_FPS: u32 = 10;
/// FFmpeg's name of the encoder for MP4.
const H264: &str = "libx264";
/// FFmpeg's name of the encoder for WebP.
const WEBP: &str = "libwebp_anim";

/// The file format of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipFormat {
    /// With H.264, which every browser supports.
    Mp4,
    Gif,
    Webp,
}

/// The encoders of clips and of written videos that are missing from the linked FFmpeg.
pub fn missing_encoders() -> Vec<&'static str> {
    prepare();
    [H264, WEBP, AAC].into_iter().filter(|name| encoder::find_by_name(name).is_none()).collect()
}

/// Why a clip could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClipFailure {
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error("no frame could be decoded")]
    Empty,
    #[error("the encoder {0} is not in this FFmpeg")]
    NoEncoder(&'static str),
    #[error("encoding: {0}")]
    Encode(String),
}

impl From<ffmpeg::Error> for ClipFailure {
    fn from(error: ffmpeg::Error) -> Self {
        Self::Encode(error.to_string())
    }
}

impl From<opencv::Error> for ClipFailure {
    fn from(error: opencv::Error) -> Self {
        Self::Encode(error.to_string())
    }
}

impl From<std::io::Error> for ClipFailure {
    fn from(error: std::io::Error) -> Self {
        Self::Encode(error.to_string())
    }
}

/// The frames of a clip.
pub struct Boomerang {
    /// All have the same size.
    pictures: Vec<Mat>,
    /// The index into `pictures` of each frame of the clip.
    order: Vec<usize>,
}

impl Boomerang {
    /// Takes the first `duration_s / 2` seconds of a video, or all of a shorter one. `next` returns its frames, all of
    /// them in order. Frames are scaled down to a longer side of `side` pixels. The first frame sets the size of the
    /// clip. A later frame of another aspect ratio gets black bars. Blocks.
    pub fn read(
        probe: &Probe,
        mut next: impl FnMut() -> Result<Option<Sample>, FramesError>,
        duration_s: f64,
        side: u32,
    ) -> Result<Self, ClipFailure> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds, checked by the caller")]
        let clip_frames = (duration_s * f64::from(CLIP_FPS)).round().max(1.0) as usize;
        let order = order(clip_frames);
        let needed = order.iter().max().map_or(1, |last| last + 1);
        // A shorter video is slowed down, so that the clip has the requested duration.
        let last_frame_s = if probe.fps > 0.0 { probe.duration_s - 1.0 / probe.fps } else { probe.duration_s };
        let mut step_s = 1.0 / f64::from(CLIP_FPS);
        if needed > 1 && probe.duration_s > 0.0 {
            step_s = step_s.min(last_frame_s.max(0.0) / (needed - 1) as f64);
        }
        let mut pictures: Vec<Mat> = Vec::with_capacity(needed);
        let (mut size, mut first_s) = (None, None);
        while pictures.len() < needed {
            let Some(sample) = next()? else { break };
            let size = *size.get_or_insert_with(|| shrunk(&sample.picture, side));
            let small = fit(&sample.picture, size)?;
            // A frame that is shown for several steps is repeated.
            let since_first_s = sample.time_s - *first_s.get_or_insert(sample.time_s);
            while pictures.len() < needed && since_first_s + 1e-3 >= pictures.len() as f64 * step_s {
                pictures.push(small.clone());
            }
        }
        let last = pictures.len().checked_sub(1).ok_or(ClipFailure::Empty)?;
        Ok(Self { pictures, order: order.into_iter().map(|n| n.min(last)).collect() })
    }

    /// The duration in seconds.
    pub fn duration_s(&self) -> f64 {
        self.order.len() as f64 / f64::from(CLIP_FPS)
    }

    /// Encodes the clip in memory. A clip has a few hundred kilobytes. Blocks.
    pub fn encode(&self, format: ClipFormat) -> Result<Vec<u8>, ClipFailure> {
        match format {
            ClipFormat::Gif => self.gif(),
            ClipFormat::Mp4 => self.with_ffmpeg(
                H264,
                "mp4",
                &[
                    ("preset", "veryfast"),
                    ("crf", "23"),
                    // Leaves the other cores to decoding and inference.
                    ("threads", "1"),
                ],
                &[("movflags", "+faststart")],
            ),
            ClipFormat::Webp => self.with_ffmpeg(WEBP, "webp", &[("quality", "75")], &[("loop", "0")]),
        }
    }

    fn with_ffmpeg(
        &self,
        name: &'static str,
        container: &str,
        codec_options: &[(&str, &str)],
        container_options: &[(&str, &str)],
    ) -> Result<Vec<u8>, ClipFailure> {
        prepare();
        let codec = encoder::find_by_name(name).ok_or(ClipFailure::NoEncoder(name))?;
        let (width, height) = self.size();
        // The file has no name and is deleted with its last handle. FFmpeg opens it by its path in /proc, twice if the
        // index is moved to the front of the file.
        let file = tempfile::tempfile()?;
        let mut output = ffmpeg::format::output_as(&format!("/proc/self/fd/{}", file.as_raw_fd()), container)?;
        let time_base = Rational::new(1, CLIP_FPS as i32);
        let mut setup = codec::context::Context::new_with_codec(codec).encoder().video()?;
        setup.set_width(width);
        setup.set_height(height);
        setup.set_format(Pixel::YUV420P);
        setup.set_time_base(time_base);
        setup.set_frame_rate(Some(Rational::new(CLIP_FPS as i32, 1)));
        if output.format().flags().contains(ffmpeg::format::Flags::GLOBAL_HEADER) {
            setup.set_flags(codec::Flags::GLOBAL_HEADER);
        }
        let mut open = setup.open_as_with(codec, codec_options.iter().copied().collect::<Dictionary<'_>>())?;
        {
            let mut stream = output.add_stream(codec)?;
            stream.set_parameters(&open);
            stream.set_time_base(time_base);
        }
        output.write_header_with(container_options.iter().copied().collect())?;
        let mut scaler = scaling::Context::get(
            Pixel::BGR24,
            width,
            height,
            Pixel::YUV420P,
            width,
            height,
            scaling::Flags::BILINEAR,
        )?;
        for (number, picture) in (0..).zip(&self.order) {
            let mut colours = frame::Video::new(Pixel::BGR24, width, height);
            fill(&mut colours, &self.pictures[*picture])?;
            let mut planes = scale(&mut scaler, &colours)?;
            planes.set_pts(Some(number));
            planes.set_kind(picture::Type::None);
            open.send_frame(&planes)?;
            drain(&mut open, &mut output, time_base)?;
        }
        open.send_eof()?;
        drain(&mut open, &mut output, time_base)?;
        output.write_trailer()?;
        drop(output);
        let mut bytes = Vec::new();
        // A new handle, which is at the start of the file.
        std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn gif(&self) -> Result<Vec<u8>, ClipFailure> {
        let (width, height) = self.size();
        let sizes = [width, height].map(u16::try_from);
        let [Ok(width), Ok(height)] = sizes else { return Err(ClipFailure::Encode("too large for GIF".to_owned())) };
        let failed = |error: gif::EncodingError| ClipFailure::Encode(error.to_string());
        let mut bytes = Vec::new();
        let mut writer = gif::Encoder::new(&mut bytes, width, height, &[]).map_err(failed)?;
        writer.set_repeat(gif::Repeat::Infinite).map_err(failed)?;
        // The palette of each picture is computed once, even if the picture is repeated.
        let reduced: Vec<_> = self
            .pictures
            .iter()
            .map(|picture| {
                let bgr = picture.data_bytes()?;
                let rgb: Vec<u8> = bgr.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
                let mut reduced = gif::Frame::from_rgb_speed(width, height, &rgb, 10);
                // In units of 10 ms.
                reduced.delay = (100 / CLIP_FPS) as u16;
                Ok::<_, ClipFailure>(reduced)
            })
            .collect::<Result<_, _>>()?;
        for picture in &self.order {
            writer.write_frame(&reduced[*picture]).map_err(failed)?;
        }
        drop(writer);
        Ok(bytes)
    }

    fn size(&self) -> (u32, u32) {
        self.pictures.first().map_or((0, 0), |picture| (picture.cols().unsigned_abs(), picture.rows().unsigned_abs()))
    }
}

/// The order of pictures in a clip of `frames` frames: from 0 to the last and back.
fn order(frames: usize) -> Vec<usize> {
    let forwards = frames / 2 + 1;
    // The loop continues with picture 0, so the way back ends at picture 1.
    (0..forwards).chain((0..forwards - 1).rev()).take(frames).collect()
}

/// The size of a picture scaled down to a longer side of at most `side` pixels. Both sides are even, as H.264 requires.
fn shrunk(picture: &Mat, side: u32) -> Size {
    let (width, height) = (f64::from(picture.cols()), f64::from(picture.rows()));
    let scale = (f64::from(side) / width.max(height)).min(1.0);
    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    let even = |length: f64| ((length * scale / 2.0).round() as i32 * 2).max(2);
    Size::new(even(width), even(height))
}

/// Writes all packets that the encoder has ready.
fn drain(encoder: &mut encoder::Video, output: &mut Output, time_base: Rational) -> Result<(), ffmpeg::Error> {
    let mut packet = ffmpeg::Packet::empty();
    let stream_time_base = output.stream(0).map_or(time_base, |stream| stream.time_base());
    loop {
        match encoder.receive_packet(&mut packet) {
            Ok(()) => {
                packet.set_stream(0);
                // Without a duration, players omit the last frame.
                packet.set_duration(1);
                packet.rescale_ts(time_base, stream_time_base);
                packet.write_interleaved(output)?;
            }
            Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use opencv::core::{CV_8UC3, Scalar};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_runs_forwards_and_back() {
        assert_eq!(order(6), [0, 1, 2, 3, 2, 1]);
        assert_eq!(order(5), [0, 1, 2, 1, 0]);
        assert_eq!((order(1), order(2)), (vec![0], vec![0, 1]));
    }

    fn picture(width: i32, height: i32, value: f64) -> Mat {
        Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::all(value)).unwrap()
    }

    proptest! {
        #[test]
        fn fitted_pictures_have_the_size_of_the_clip(
            first in (1..2000_i32, 1..2000_i32), later in (1..500_i32, 1..500_i32), side in 2..300_u32,
        ) {
            let size = shrunk(&picture(first.0, first.1, 0.0), side);
            prop_assert!(size.width % 2 == 0 && size.height % 2 == 0);
            prop_assert!(size.width.max(size.height) as u32 <= side.max(2) + 1);
            for (width, height) in [first, later] {
                let fitted = fit(&picture(width, height, 9.0), size).unwrap();
                prop_assert_eq!((fitted.cols(), fitted.rows()), (size.width, size.height));
            }
        }

        #[test]
        fn order_has_the_requested_length_and_no_jumps(frames in 1..100_usize) {
            let order = order(frames);
            prop_assert_eq!(order.len(), frames);
            prop_assert!(order.windows(2).all(|pair| pair[0].abs_diff(pair[1]) == 1));
        }
    }
}
