//! A second look at a file, without decoding: why its pictures ended early.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::Ref;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, ffi};

use super::clock::Joiner;
use super::container::{self, DEADLINE};
use super::{FramesError, Probe, ProbeError, Source, streams};
use crate::config::Video;

/// Tracks that end this close to the container's end are complete, in seconds.
const TOLERANCE_S: f64 = 1.0;
/// This share of frames may be missing before they count as lost.
const LOST_SHARE: f64 = 0.1;
/// Bytes that hold the head of an outermost element.
const HEAD: usize = 16;
/// A file has no more of these in a row, unless it is made to keep somebody busy.
const MOST_ELEMENTS: usize = 100_000;

/// Why pictures ended before the container said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// The container was right: another track is longer than the pictures, or the decoder made no pictures of some packets.
    Right,
    /// The file is cut off: it should last so many seconds.
    CutOff { expected_s: f64 },
    /// Every track ends before the container says, and nothing is missing from the file.
    WrongHeader,
}

/// What the second look saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tail {
    pub cause: Cause,
    /// The end of all tracks in seconds.
    pub end_s: f64,
}

/// Looks at the whole file. `decoded` is the number of frames that came out.
///
/// # Errors
/// [`ProbeError::Unreadable`] where the source breaks off, and where an address gives more now than it gave the
/// decoder: then the connection was at fault, and another try may help.
pub(super) fn look(
    source: &Source,
    limits: &Video,
    probe: &Probe,
    decoded: u64,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<Tail, FramesError> {
    // A server that trickles must not hold the analysis for ever: each packet has to come within the deadline.
    let packet_at = Arc::new(Mutex::new(Instant::now()));
    let (asked, waits_since) = (stop.clone(), packet_at.clone());
    let mut input = container::open(source, limits, move || asked() || lock(&waits_since).elapsed() > DEADLINE)?;
    let told = streams::pictures(&input).and_then(|stream| u64::try_from(stream.frames()).ok()).unwrap_or(0);
    let read = match read_all(&mut input, probe.duration_s, &packet_at) {
        Ok(read) => read,
        Err(_) if stop() => return Err(FramesError::Cancelled),
        Err(error) => return Err(container::refusal(error).into()),
    };
    let ends_early = read.end_s + TOLERANCE_S < probe.duration_s;
    let cause = match source {
        Source::Url(_) if much_less(decoded, read.pictures - read.hidden) => {
            return Err(ProbeError::Unreadable("the connection broke off".to_owned()).into());
        }
        // The demuxer for AVI shortens the duration of a cut file, but leaves the number of frames.
        _ if much_less(read.pictures, told) => {
            #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
            let of_frames = if probe.fps > 0.0 { told as f64 / probe.fps } else { 0.0 };
            Cause::CutOff { expected_s: probe.duration_s.max(of_frames) }
        }
        _ if ends_early && is_cut_off(&mut input) => Cause::CutOff { expected_s: probe.duration_s },
        _ if ends_early => Cause::WrongHeader,
        _ => Cause::Right,
    };
    Ok(Tail { cause, end_s: read.end_s })
}

/// Whether the last of the file's outermost elements reaches beyond its end: boxes of MP4, elements of Matroska.
fn is_cut_off(input: &mut Input) -> bool {
    let is_matroska = input.format().name().contains("matroska");
    // SAFETY: the container is open, and so is the file that it reads from.
    let file = unsafe { (*input.as_mut_ptr()).pb };
    // SAFETY: as above.
    let size = unsafe { ffi::avio_size(file) };
    let (Ok(size), Ok(head)) = (u64::try_from(size), i32::try_from(HEAD)) else { return false };
    let mut at = 0;
    for _ in 0..MOST_ELEMENTS {
        let mut bytes = [0; HEAD];
        // SAFETY: the file is open, and there is room for so many bytes.
        let read = unsafe {
            if i64::try_from(at).is_err() || ffi::avio_seek(file, at as i64, libc::SEEK_SET) < 0 {
                return false;
            }
            ffi::avio_read(file, bytes.as_mut_ptr(), head)
        };
        let Some(bytes) = usize::try_from(read).ok().and_then(|read| bytes.get(..read)) else { return false };
        let length = if is_matroska { element_length(bytes) } else { box_length(bytes) };
        // One without a length reaches to the end, wherever that is.
        let Some(end) = length.and_then(|length| length.checked_add(at)).filter(|end| *end > at) else { return false };
        if end >= size {
            return end > size;
        }
        at = end;
    }
    false
}

/// The length of a box with its head (ISO/IEC 14496-12, 4.2).
pub(super) fn box_length(bytes: &[u8]) -> Option<u64> {
    match u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) {
        0 => None,
        1 => Some(u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?)),
        length => Some(length.into()),
    }
}

/// The length of an element with its head (RFC 8794, 4 to 6).
pub(super) fn element_length(bytes: &[u8]) -> Option<u64> {
    let id = bytes.first()?.leading_zeros() as usize + 1;
    let first = *bytes.get(id)?;
    let width = first.leading_zeros() as usize + 1;
    if id > 4 || width > 8 {
        return None;
    }
    let rest = bytes.get(id + 1..id + width)?;
    let value =
        rest.iter().fold(u64::from(first) & ((1 << (8 - width)) - 1), |value, byte| value << 8 | u64::from(*byte));
    let unknown = (1 << (7 * width)) - 1;
    (value != unknown).then_some(value + (id + width) as u64)
}

fn much_less(some: u64, all: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    {
        (some as f64) < (1.0 - LOST_SHARE) * all as f64
    }
}

/// What was read of a whole file.
#[derive(Debug, Default)]
struct Read {
    /// Packets of the picture track.
    pictures: u64,
    /// Those among them that an edit list hides.
    hidden: u64,
    /// From the start of the video to the end of the last packet of any track, in seconds.
    end_s: f64,
}

fn read_all(input: &mut Input, duration_s: f64, packet_at: &Mutex<Instant>) -> Result<Read, ffmpeg::Error> {
    let pictures = streams::pictures(input).map(|stream| stream.index());
    let zero_s = streams::zero_s(input);
    let is_timed =
        |stream: &ffmpeg::Stream<'_>| if streams::is_timed(stream) { f64::from(stream.time_base()) } else { 0.0 };
    let bases: Vec<f64> = input.streams().map(|stream| is_timed(&stream)).collect();
    let mut joiner = Joiner::new(input, duration_s);
    let mut read = Read::default();
    loop {
        let mut packet = match next(input) {
            Ok(packet) => packet,
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            Err(error) if container::is_source_failure(error) => return Err(error),
            // The end, or damage that the demuxer cannot get past, unless the source broke off.
            Err(_) => return container::source_failure(input).map_or(Ok(read), Err),
        };
        *lock(packet_at) = Instant::now();
        if let Some(joiner) = &mut joiner {
            joiner.pass(&mut packet);
        }
        if Some(packet.stream()) == pictures {
            read.pictures += 1;
            read.hidden += u64::from(is_hidden(&packet));
        }
        let base = bases.get(packet.stream()).copied().unwrap_or(0.0);
        // A duration with all bits set says that it is not known.
        let length = Some(packet.duration()).filter(|ticks| (0..i64::from(i32::MAX)).contains(ticks)).unwrap_or(0);
        if let (Some(stamp), false) = (packet.pts().or(packet.dts()), packet.is_corrupt()) {
            #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
            let end_s = stamp.saturating_add(length) as f64 * base - zero_s;
            if base > 0.0 {
                read.end_s = read.end_s.max(end_s);
            }
        }
    }
}

fn lock(instant: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    instant.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next packet of any track. A fresh one each time: reading into one that holds data would leak it.
fn next(input: &mut Input) -> Result<Packet, ffmpeg::Error> {
    let mut packet = Packet::empty();
    packet.read(input).map(|()| packet)
}

/// Whether an edit list keeps the packet from being shown.
fn is_hidden(packet: &Packet) -> bool {
    // SAFETY: the packet is borrowed for as long as the pointer is used. The binding has no name for this flag.
    unsafe { (*packet.as_ptr()).flags & ffi::AV_PKT_FLAG_DISCARD != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_tell_how_long_they_are() {
        assert_eq!(box_length(b"\0\0\0\x20ftypisom"), Some(32));
        assert_eq!(box_length(b"\0\0\0\x01mdat\0\0\0\x02\0\0\0\0"), Some(2 << 32));
        assert_eq!(box_length(b"\0\0\0\0mdat"), None);
        assert_eq!(box_length(b"\0\0"), None);
        assert_eq!(element_length(&[0x1A, 0x45, 0xDF, 0xA3, 0x9F]), Some(5 + 31));
        assert_eq!(element_length(&[0x18, 0x53, 0x80, 0x67, 0x01, 0, 0, 0, 0, 0, 0x10, 0]), Some(12 + 4096));
        assert_eq!(element_length(&[0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255]), None, "live");
        for broken in
            [&[][..], &[0], &[0x1A], &[0x1A, 0x45, 0xDF, 0xA3], &[0x1A, 0x45, 0xDF, 0xA3, 0], &[0x42, 0x86, 0x40]]
        {
            assert_eq!(element_length(broken), None, "{broken:?}");
        }
    }
}
