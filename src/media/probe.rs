//! What is in a video file, before any picture is analyzed.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Rational, ffi, media};

use super::container;
use super::geometry::{Orientation, PixelAspect, square};
use super::picture::Shown;
use crate::config::Video;

/// Frame rates above this are taken for nonsense.
const MAX_FPS: f64 = 1000.0;

/// The unit of a container's own times.
const MICROSECONDS: Rational = Rational(1, ffi::AV_TIME_BASE);

/// Why a file is not taken as a video.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No container that visage knows, or one without a picture track or a frame.
    #[error("not a video")]
    NotAVideo,
    #[error("the video lasts {duration_s:.0} s; the limit is {limit_s} s")]
    TooLong { duration_s: f64, limit_s: u64 },
    #[error("the picture has {width} x {height} pixels; the limit is {limit} pixels")]
    TooLarge { width: u32, height: u32, limit: u64 },
    /// The source could not be read: the file or the server is at fault, not the video; another try may help.
    #[error("the source cannot be read: {0}")]
    Unreadable(String),
}

impl ProbeError {
    /// Stable snake_case code for clients.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAVideo => "not_a_video",
            Self::TooLong { .. } => "video_too_long",
            Self::TooLarge { .. } => "picture_too_large",
            Self::Unreadable(_) => "source_unreadable",
        }
    }
}

/// What the container says.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Of the longest track; 0 where the container does not tell.
    pub duration_s: f64,
    /// Mean frames a second; 0 where the container does not tell.
    pub fps: f64,
    /// As players show it: upright and with square pixels.
    pub width: u32,
    pub height: u32,
    /// FFmpeg's short name of the codec.
    pub codec: String,
    /// As far as the container tells; 0 where it does not.
    pub frames_total: u64,
    pub has_audio: bool,
    /// How stored pictures become those that are shown.
    pub shown: Shown,
}

/// Whether the first bytes of a file (at least 64, unless it is shorter) can be those of a video that visage takes:
/// MP4/MOV, Matroska/WebM, AVI. Cheap; [`super::probe`] decides.
pub fn sniff(head: &[u8]) -> bool {
    let at = |from: usize, magic: &[u8]| head.get(from..from + magic.len()) == Some(magic);
    // The boxes that open MP4 and MOV files; old QuickTime files begin without ftyp.
    let isobmff = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"].iter().any(|kind| at(4, *kind));
    let matroska = at(0, &[0x1A, 0x45, 0xDF, 0xA3]);
    let avi = at(0, b"RIFF") && (at(8, b"AVI ") || at(8, b"AVIX"));
    isobmff || matroska || avi
}

/// What the open container says, checked, and which of its streams has the pictures.
pub(super) fn describe(input: &Input, limits: &Video) -> Result<(usize, Probe), ProbeError> {
    let stream = input.streams().best(media::Type::Video).ok_or(ProbeError::NotAVideo)?;
    if stream.disposition().contains(ffmpeg::format::stream::Disposition::ATTACHED_PIC) {
        // A song's cover is no video.
        return Err(ProbeError::NotAVideo);
    }
    let (width, height) = container::size(&stream);
    if width == 0 || height == 0 {
        return Err(ProbeError::NotAVideo);
    }
    container::check_pixels(width, height, limits)?;

    let of_stream = seconds(stream.duration(), stream.time_base());
    let of_file = seconds(input.duration(), MICROSECONDS).map(|end_s| end_s - before_start(input));
    let duration_s = of_file.or(of_stream).unwrap_or(0.0);
    check_duration(duration_s.max(of_stream.unwrap_or(0.0)), limits)?;

    let fps = [stream.avg_frame_rate(), stream.rate()]
        .into_iter()
        .filter(|rate| rate.denominator() > 0)
        .map(f64::from)
        .find(|fps| *fps > 0.0 && *fps <= MAX_FPS)
        .unwrap_or(0.0);
    let frames_total = match u64::try_from(stream.frames()) {
        Ok(frames) if frames > 0 => frames,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and positive")]
        _ => (duration_s * fps).round() as u64,
    };
    let (shown, (width, height)) = shown(&stream, (width, height), limits);
    let codec = stream.parameters().id().name().to_owned();
    let has_audio = input.streams().best(media::Type::Audio).is_some();
    let probe = Probe { duration_s, fps, width, height, codec, frames_total, has_audio, shown };
    Ok((stream.index(), probe))
}

/// Seconds before the first picture or sound that the container counts as part of its duration: Matroska counts from
/// time stamp 0, the others from the first stamp.
fn before_start(input: &Input) -> f64 {
    if !input.format().name().contains("matroska") {
        return 0.0;
    }
    // SAFETY: the container is open.
    seconds(unsafe { (*input.as_ptr()).start_time }, MICROSECONDS).unwrap_or(0.0)
}

/// Refuses a video that lasts longer than the limit.
pub(super) fn check_duration(duration_s: f64, limits: &Video) -> Result<(), ProbeError> {
    #[expect(clippy::cast_precision_loss, reason = "no limit is that long")]
    if duration_s > limits.max_duration_s as f64 {
        return Err(ProbeError::TooLong { duration_s, limit_s: limits.max_duration_s });
    }
    Ok(())
}

/// A duration of a container in seconds; `None` where it is not known.
fn seconds(ticks: i64, base: Rational) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let seconds = ticks as f64 * f64::from(base);
    (ticks > 0 && seconds.is_finite()).then_some(seconds)
}

/// How a stream's pictures are shown, as far as the container says it, and the size of its first one then.
fn shown(stream: &ffmpeg::Stream<'_>, stored: (u32, u32), limits: &Video) -> (Shown, (u32, u32)) {
    let matrix = stream.side_data().find(|data| data.kind() == side_data::Type::DisplayMatrix);
    let orientation = matrix.and_then(|matrix| Orientation::of_matrix(matrix.data()));
    // SAFETY: stream and parameters live as long as the container, which `stream` borrows.
    let (container, own) =
        unsafe { ((*stream.as_ptr()).sample_aspect_ratio, (*stream.parameters().as_ptr()).sample_aspect_ratio) };
    let shown = Shown { orientation, aspect: PixelAspect::new(container.into()) };
    let aspect = PixelAspect::new(container.into()).of(own.into());
    let size = orientation.unwrap_or_default().size(square(stored, aspect, limits.max_pixels));
    (shown, size)
}

#[cfg(test)]
mod tests {
    use super::sniff;

    #[test]
    fn the_containers_are_known_by_their_first_bytes() {
        for head in [
            b"\0\0\0\x20ftypisom".as_slice(),
            b"\0\0\0\x14ftypqt  ",
            b"\0\0\0\x08wide",
            b"\x1A\x45\xDF\xA3\x01",
            b"RIFF\x10\0\0\0AVI LIST",
        ] {
            assert!(sniff(head), "{head:?}");
        }
    }

    #[test]
    fn nothing_that_names_other_files_comes_near_the_decoder() {
        for head in [
            b"".as_slice(),
            b"ftyp",
            b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd",
            b"ffconcat version 1.0\nfile '/etc/passwd'",
            b"<?xml version=\"1.0\"?><MPD>",
            b"RIFF\x10\0\0\0WAVEfmt ",
            b"\x89PNG\r\n\x1a\n",
            b"\xFF\xD8\xFF\xE0",
            b"GIF89a",
            b"hello, I am a text named .mp4",
        ] {
            assert!(!sniff(head), "{head:?}");
        }
    }
}
