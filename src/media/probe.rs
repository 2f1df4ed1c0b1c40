//! The properties of a video file, from its first bytes and its container.

use std::ffi::CStr;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::Rational;
use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::format::context::Input;
use serde::{Deserialize, Serialize};

use super::clock::{ContainerTiming, StreamClock};
use super::geometry::{Orientation, PixelAspect, square_pixel_size};
use super::limits::check_pixels;
use super::picture::Display;
use super::{ProbeError, codecs, ffi, streams};
use crate::config::Video;

/// The demuxer for animated WebP. FFmpeg 5 to 8 do not have it.
const ANIMATED_WEBP: &CStr = c"webp_anim";
/// The maximum frame rate. If a file states none, FFmpeg may return the rate of the time base, such as 1000.
const MAX_FPS: f64 = 500.0;

/// The properties of a video, from the header of its container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// From the start of the video to the end of its longest stream, in seconds; 0 if unknown, or if the header is
    /// wrong.
    pub duration_s: f64,
    /// The duration in the header, even if it is wrong.
    pub header_duration_s: f64,
    /// Mean frames a second; 0 if unknown.
    pub fps: f64,
    /// Frames a second in the headers of the video stream; 0 if unknown.
    pub coded_fps: f64,
    /// The time stamp at which the video starts, in seconds.
    pub start_s: f64,
    /// The time of the first frame in seconds, if the container has decoding time stamps only.
    pub first_frame_s: Option<f64>,
    /// Frames with negative time stamps, down to minus this number of seconds, are hidden; 0 if the container has no
    /// edit lists.
    pub max_hidden_s: f64,
    /// The width as players show it: upright and with square pixels.
    pub width: u32,
    /// The height as players show it.
    pub height: u32,
    /// FFmpeg's short name of the codec.
    pub codec: String,
    /// The number of frames, by the header or estimated from the duration; 0 if unknown.
    pub frames_total: u64,
    pub has_audio: bool,
    /// How decoded frames are displayed. Only the process that decodes them needs it.
    #[serde(skip)]
    pub(super) display: Display,
}

impl Probe {
    /// The clock of the frames.
    pub(super) const fn clock(&self) -> StreamClock {
        let Self { fps, coded_fps, duration_s, start_s, first_frame_s, max_hidden_s, .. } = *self;
        StreamClock::new(ContainerTiming { fps, coded_fps, duration_s, start_s, first_frame_s, max_hidden_s })
    }
}

/// The number of bytes at the beginning of a file that [`sniff`] needs, unless the file is shorter.
pub const HEAD: usize = 600;
/// Bytes from which most containers can be recognized. MPEG-TS needs more.
const SHORT_HEAD: usize = 64;

/// Whether [`sniff`] may accept a file with more than these first bytes of it.
pub fn needs_more(head: &[u8], limits: &Video) -> bool {
    head.len() < HEAD && (head.len() < SHORT_HEAD || sniff(head, limits).is_err())
}

/// Checks whether the first bytes of a file are those of a supported container: MP4/MOV, Matroska/WebM, AVI, MPEG-TS,
/// M2TS, MPEG-PS, FLV or GIF. This is a quick check before [`super::probe`].
///
/// # Errors
/// [`ProbeError::Picture`] for a still image, [`ProbeError::NoDecoder`] for an animated WebP if FFmpeg cannot read it,
/// [`ProbeError::ContainerNotAllowed`] for a container that only a setting adds, else [`ProbeError::NotAVideo`].
pub fn sniff(head: &[u8], limits: &Video) -> Result<(), ProbeError> {
    let at = |from: usize, magic: &[u8]| head.get(from..from + magic.len()) == Some(magic);
    let picture = |format: &'static str| Err(ProbeError::Picture { format: format.into() });
    if at(4, b"ftyp") {
        return match head.get(8..12) {
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"mif1") => picture("HEIC"),
            Some(b"avif") => picture("AVIF"),
            _ => Ok(()),
        };
    }
    // The first box of MOV files without ftyp.
    let isobmff = [b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"].iter().any(|kind| at(4, *kind));
    let matroska = at(0, &[0x1A, 0x45, 0xDF, 0xA3]);
    let riff = at(0, b"RIFF");
    let avi = riff && (at(8, b"AVI ") || at(8, b"AVIX"));
    let program_stream = at(0, &[0, 0, 1, 0xBA]);
    let gif = at(0, b"GIF87a") || at(0, b"GIF89a");
    // Packets of 188 bytes, preceded in M2TS by a time stamp of 4 bytes (ISO/IEC 13818-1, section 2.4.3.2).
    let has_syncs = |first: usize, step: usize| {
        let syncs = (first..head.len()).step_by(step);
        head.len() > first + step && syncs.clone().all(|sync| head[sync] == 0x47)
    };
    if isobmff
        || matroska
        || avi
        || program_stream
        || gif
        || at(0, b"FLV\x01")
        || has_syncs(0, 188)
        || has_syncs(4, 192)
    {
        return Ok(());
    }
    if riff && at(8, b"WEBP") {
        // The animation flag of the extended header (RFC 9649, section 2.7).
        let is_animated = at(12, b"VP8X") && head.get(20).is_some_and(|flags| flags & 2 != 0);
        return match is_animated {
            false => picture("WebP"),
            true if ffi::has_demuxer(ANIMATED_WEBP) => Ok(()),
            true => Err(ProbeError::NoDecoder { codec: "animated WebP".to_owned() }),
        };
    }
    let stills: [(&[u8], &'static str); 8] = [
        (&[0xFF, 0xD8, 0xFF], "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (&[0xFF, 0x0A], "JPEG XL"),
        (b"\0\0\0\x0CJXL ", "JPEG XL"),
        (b"\0\0\0\x0CjP  ", "JPEG 2000"),
    ];
    match stills.into_iter().find(|(magic, _)| at(0, magic)) {
        Some((_, format)) => picture(format),
        None => codecs::sniff_extra(head, limits).unwrap_or(Err(ProbeError::NotAVideo)),
    }
}

/// Reads and checks the properties of an open container. Returns the index of its video stream and the properties.
pub(super) fn describe(input: &Input, limits: &Video) -> Result<(usize, Probe), ProbeError> {
    let stream = streams::video(input).ok_or(ProbeError::NotAVideo)?;
    streams::check(&stream, limits)?;
    let (width, height) = streams::size(&stream);
    if width == 0 || height == 0 {
        return Err(ProbeError::NotAVideo);
    }
    check_pixels(width, height, limits)?;

    let start_s = streams::start_s(input);
    let duration_s = match streams::duration_s(input) {
        header_s if header_s > 0.0 => header_s,
        _ => seconds(stream.duration(), stream.time_base()).unwrap_or(0.0),
    };

    let coded_fps = streams::coded_fps(&stream).unwrap_or(0.0);
    let fps = [stream.avg_frame_rate(), stream.rate()]
        .into_iter()
        .filter(|rate| rate.denominator() > 0)
        .map(f64::from)
        .find(|fps| *fps > 0.0 && *fps <= MAX_FPS)
        .unwrap_or(coded_fps);
    let frames_total = match u64::try_from(stream.frames()) {
        Ok(frames) if frames > 0 => frames,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and positive")]
        _ => (duration_s * fps).round() as u64,
    };
    let (display, (width, height)) = display(&stream, (width, height), limits);
    let codec = stream.parameters().id().name().to_owned();
    let has_audio = streams::sound(input).is_some();
    let (header_duration_s, first_frame_s) = (duration_s, streams::first_frame_s(input));
    let max_hidden_s = if input.format().name().contains("mov") {
        seconds(stream.duration(), stream.time_base()).unwrap_or(duration_s)
    } else {
        0.0
    };
    let probe = Probe {
        duration_s,
        header_duration_s,
        fps,
        coded_fps,
        start_s,
        first_frame_s,
        max_hidden_s,
        width,
        height,
        codec,
        frames_total,
        has_audio,
        display,
    };
    Ok((stream.index(), probe))
}

/// A duration of a stream in seconds; `None` if unknown.
fn seconds(ticks: i64, base: Rational) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let seconds = ticks as f64 * f64::from(base);
    (ticks > 0 && seconds.is_finite()).then_some(seconds)
}

/// How a player displays the frames of a stream, by the header of the container, and the display size of its first
/// frame.
fn display(stream: &ffmpeg::Stream<'_>, stored: (u32, u32), limits: &Video) -> (Display, (u32, u32)) {
    let matrix = stream.side_data().find(|data| data.kind() == side_data::Type::DisplayMatrix);
    let orientation = matrix.and_then(|matrix| Orientation::of_matrix(matrix.data()));
    let (container, coded) = (ffi::container_aspect_ratio(stream), ffi::coded_aspect_ratio(&stream.parameters()));
    let display = Display { orientation, aspect: PixelAspect::new(container) };
    let aspect = PixelAspect::new(container).of(coded);
    let size = orientation.unwrap_or_default().size(square_pixel_size(stored, aspect, limits.max_pixels));
    (display, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn limits() -> Video {
        Settings::defaults().unwrap().video
    }

    fn packets(first: usize, step: usize) -> Vec<u8> {
        (0..HEAD).map(|at| if at % step == first { 0x47 } else { 0xFF }).collect()
    }

    #[test]
    fn supported_containers_are_recognized() {
        for head in [
            b"\0\0\0\x20ftypisom".as_slice(),
            b"\0\0\0\x14ftypqt  ",
            b"\0\0\0\x08wide",
            b"\x1A\x45\xDF\xA3\x01",
            b"RIFF\x10\0\0\0AVI LIST",
            b"FLV\x01\x05",
            b"\0\0\x01\xBA\x44",
            b"GIF89a",
            &packets(0, 188),
            &packets(4, 192),
        ] {
            assert!(sniff(head, &limits()).is_ok(), "{head:?}");
        }
    }

    #[test]
    fn still_images_are_recognized() {
        for (head, name) in [
            (b"\xFF\xD8\xFF\xE0".as_slice(), "JPEG"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
            (b"\0\0\0\x18ftypheic", "HEIC"),
            (b"\0\0\0\x18ftypavif", "AVIF"),
        ] {
            assert!(matches!(sniff(head, &limits()), Err(ProbeError::Picture { format }) if format == name), "{name}");
        }
    }

    #[test]
    fn playlists_and_other_files_are_rejected() {
        for head in [
            b"".as_slice(),
            b"ftyp",
            b"G",
            b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd",
            b"ffconcat version 1.0\nfile '/etc/passwd'",
            b"<?xml version=\"1.0\"?><MPD>",
            b"RIFF\x10\0\0\0WAVEfmt ",
            b"hello, I am a text named .mp4",
            &packets(1, 188),
        ] {
            assert!(matches!(sniff(head, &limits()), Err(ProbeError::NotAVideo)), "{head:?}");
        }
    }
}
