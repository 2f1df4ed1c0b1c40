//! Finds out why the frames of a file ended early, by reading the whole file again without decoding it.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::Packet;
use ffmpeg_next::format::context::Input;

use super::clock::stamp_s;
use super::container::{self, ReadDeadline};
use super::discontinuity::DiscontinuityCorrector;
use super::ffi::{self, OpenInput, is_discarded};
use super::{FramesError, Probe, ProbeError, Source, matroska, streams};
use crate::config::Video;

/// A stream that ends this close to the end of the container is complete, in seconds.
const TOLERANCE_S: f64 = 1.0;
/// More than this share of the frames has to be missing for the file to count as truncated.
const LOST_SHARE: f64 = 0.1;
/// Number of bytes that hold the header of a top-level box or element.
const HEADER: usize = 16;
/// Maximum number of top-level boxes or elements that are read.
const MAX_ELEMENTS: usize = 100_000;

/// Why the frames ended before the duration in the container header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// The header is right: another stream is longer than the video stream, or the decoder output no frame for some
    /// packets.
    HeaderIsRight,
    /// The file is truncated. Its complete duration is `expected_s` seconds.
    Truncated { expected_s: f64 },
    /// Every stream ends before the duration in the header, and nothing is missing from the file.
    HeaderIsWrong,
}

/// The result of [`find_cause`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct EarlyEnd {
    pub cause: Cause,
    /// The end of the longest stream, in seconds.
    pub end_s: f64,
}

/// Reads all packets of a file to find out why its frames ended early. `decoded` is the number of frames that were
/// output.
///
/// # Errors
/// [`ProbeError::Unreadable`] if the source cannot be read to its end, or if a URL now returns more packets than were
/// decoded: then the connection failed, and a retry may help.
pub(super) fn find_cause(
    source: &Source,
    limits: &Video,
    probe: &Probe,
    decoded: u64,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<EarlyEnd, FramesError> {
    // A slow server must not block the analysis: each packet has to arrive within the deadline.
    let deadline = ReadDeadline::start();
    let (is_stopped, reading) = (stop.clone(), deadline.clone());
    let is_interrupted = move || is_stopped() || reading.is_over();
    let mut input = container::open(source, limits, is_interrupted)?;
    let header_frames = streams::video(&input).and_then(|stream| u64::try_from(stream.frames()).ok()).unwrap_or(0);
    let totals = match read_all(&mut input, probe, &deadline) {
        Ok(totals) => totals,
        Err(_) if stop() => return Err(FramesError::Cancelled),
        Err(error) => return Err(error.into()),
    };
    let ends_early = totals.end_s + TOLERANCE_S < probe.duration_s;
    if source.is_remote() && is_much_less(decoded, totals.video_packets - totals.hidden) {
        return Err(ProbeError::Unreadable("the connection broke off".to_owned()).into());
    }
    // The AVI demuxer shortens the duration of a truncated file, but not its number of frames.
    let cause = if is_much_less(totals.video_packets, header_frames) {
        #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
        let frames_s = if probe.fps > 0.0 { header_frames as f64 / probe.fps } else { 0.0 };
        Cause::Truncated { expected_s: probe.duration_s.max(frames_s) }
    } else if !ends_early {
        Cause::HeaderIsRight
    } else if is_truncated(&mut input) {
        Cause::Truncated { expected_s: probe.duration_s }
    } else {
        Cause::HeaderIsWrong
    };
    Ok(EarlyEnd { cause, end_s: totals.end_s })
}

/// Whether the last top-level box (MP4) or element (Matroska) extends past the end of the file.
fn is_truncated(input: &mut Input) -> bool {
    let is_matroska = input.format().name().contains("matroska");
    let Some(size) = ffi::source_size(input) else { return false };
    let mut at = 0;
    for _ in 0..MAX_ELEMENTS {
        let mut bytes = [0; HEADER];
        let Some(bytes) = ffi::read_source_at(input, at, &mut bytes) else { return false };
        let length = if is_matroska { matroska::element(bytes).and_then(|it| it.length()) } else { box_length(bytes) };
        // A box or element of unknown length extends to the end of the file.
        let Some(end) = length.and_then(|length| length.checked_add(at)).filter(|end| *end > at) else { return false };
        if end >= size {
            return end > size;
        }
        at = end;
    }
    false
}

/// The length of a box, including its header (ISO/IEC 14496-12, section 4.2).
pub(super) fn box_length(bytes: &[u8]) -> Option<u64> {
    match u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) {
        0 => None,
        1 => Some(u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?)),
        length => Some(length.into()),
    }
}

fn is_much_less(count: u64, of: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    {
        (count as f64) < (1.0 - LOST_SHARE) * of as f64
    }
}

/// Totals of all packets of a file.
#[derive(Debug, Default)]
struct Totals {
    video_packets: u64,
    /// The video packets that an edit list hides.
    hidden: u64,
    /// From the start of the video to the end of the last packet of any stream, in seconds.
    end_s: f64,
}

fn read_all(input: &mut OpenInput, probe: &Probe, deadline: &ReadDeadline) -> Result<Totals, ProbeError> {
    let clock = probe.clock();
    let video_stream = streams::video(input).map(|stream| stream.index());
    let start_s = streams::start_s(input);
    let time_base =
        |stream: &ffmpeg::Stream<'_>| if streams::is_timed(stream) { f64::from(stream.time_base()) } else { 0.0 };
    let time_bases: Vec<f64> = input.streams().map(|stream| time_base(&stream)).collect();
    let mut corrector = DiscontinuityCorrector::new(input, probe.duration_s);
    let mut totals = Totals::default();
    loop {
        let mut packet = match next(input) {
            Ok(packet) => packet,
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            // The end of the file, or damage at which the demuxer stops.
            Err(error) => return container::check_source(input, error).map(|()| totals),
        };
        deadline.restart();
        if let Some(corrector) = &mut corrector {
            corrector.correct(&mut packet);
        }
        let time_base = time_bases.get(packet.stream()).copied().unwrap_or(0.0);
        if Some(packet.stream()) == video_stream {
            totals.video_packets += 1;
            totals.hidden += u64::from(is_discarded(&packet) || clock.hides(stamp_s(packet.pts(), time_base)));
        }
        // A duration with all bits set is unknown.
        let duration = Some(packet.duration()).filter(|ticks| (0..i64::from(i32::MAX)).contains(ticks)).unwrap_or(0);
        if let (Some(stamp), false) = (packet.pts().or(packet.dts()), packet.is_corrupt()) {
            #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
            let end_s = stamp.saturating_add(duration) as f64 * time_base - start_s;
            if time_base > 0.0 {
                totals.end_s = totals.end_s.max(end_s);
            }
        }
    }
}

/// Reads the next packet of any stream into a new `Packet`: reading into one that holds data would leak that data.
fn next(input: &mut Input) -> Result<Packet, ffmpeg::Error> {
    let mut packet = Packet::empty();
    packet.read(input).map(|()| packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_box_is_read() {
        assert_eq!(box_length(b"\0\0\0\x20ftypisom"), Some(32));
        assert_eq!(box_length(b"\0\0\0\x01mdat\0\0\0\x02\0\0\0\0"), Some(2 << 32));
        assert_eq!(box_length(b"\0\0\0\0mdat"), None);
        assert_eq!(box_length(b"\0\0"), None);
    }
}
