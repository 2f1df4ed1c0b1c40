//! A second look at a file, without decoding: why its pictures ended early.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::Ref;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, Rational, ffi, media};

use super::container::{self, DEADLINE};
use super::{FramesError, ProbeError, Source};
use crate::config::Video;

/// Tracks that end this close to the container's end are complete, in seconds.
const TOLERANCE_S: f64 = 1.0;
/// This share of frames may be missing before they count as lost.
const LOST_SHARE: f64 = 0.1;

/// What ends early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Tail {
    /// Nothing: another track is longer than the pictures.
    Complete,
    /// Every track ends before the container says, in seconds.
    Truncated { expected_s: f64 },
    /// The packets are there, but the decoder made no pictures of them.
    Undecodable,
}

/// Tells which of these it is. `decoded` is the number of frames that came out, `fps` their rate.
///
/// # Errors
/// [`ProbeError::Unreadable`] where the source breaks off, and where an address gives more now than it gave the
/// decoder: then the connection was at fault, and another try may help.
pub(super) fn look(
    source: &Source,
    limits: &Video,
    (duration_s, fps): (f64, f64),
    decoded: u64,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<Tail, FramesError> {
    // A server that trickles must not hold the analysis for ever: each packet has to come within the deadline.
    let packet_at = Arc::new(Mutex::new(Instant::now()));
    let (asked, waits_since) = (stop.clone(), packet_at.clone());
    let mut input = container::open(source, limits, move || asked() || lock(&waits_since).elapsed() > DEADLINE)?;
    let pictures = input.streams().best(media::Type::Video);
    let told = pictures.and_then(|stream| u64::try_from(stream.frames()).ok()).unwrap_or(0);
    let read = match read_all(&mut input, &packet_at) {
        Ok(read) => read,
        Err(_) if stop() => return Err(FramesError::Cancelled),
        Err(error) => return Err(container::refusal(error).into()),
    };
    let lost = much_less(decoded, read.pictures - read.hidden);
    Ok(match source {
        Source::Url(_) if lost => return Err(ProbeError::Unreadable("the connection broke off".to_owned()).into()),
        // The demuxer for AVI shortens the duration of a cut file, but leaves the number of frames.
        _ if much_less(read.pictures, told) => {
            #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
            let of_frames = if fps > 0.0 { told as f64 / fps } else { 0.0 };
            Tail::Truncated { expected_s: duration_s.max(of_frames) }
        }
        _ if read.end_s + TOLERANCE_S < duration_s => Tail::Truncated { expected_s: duration_s },
        _ if lost => Tail::Undecodable,
        _ => Tail::Complete,
    })
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
    /// End of the last packet of any track, in seconds.
    end_s: f64,
}

fn read_all(input: &mut Input, packet_at: &Mutex<Instant>) -> Result<Read, ffmpeg::Error> {
    let pictures = input.streams().best(media::Type::Video).map(|stream| stream.index());
    let bases: Vec<Rational> = input.streams().map(|stream| stream.time_base()).collect();
    let mut read = Read::default();
    loop {
        let packet = match next(input) {
            Ok(packet) => packet,
            Err(error) if container::is_source_failure(error) => return Err(error),
            // The end, or damage that the demuxer cannot get past.
            Err(_) => return Ok(read),
        };
        *lock(packet_at) = Instant::now();
        if Some(packet.stream()) == pictures {
            read.pictures += 1;
            read.hidden += u64::from(is_hidden(&packet));
        }
        let end = packet.pts().or(packet.dts()).map(|pts| pts.saturating_add(packet.duration().max(0)));
        if let (Some(end), Some(base), false) = (end, bases.get(packet.stream()), packet.is_corrupt()) {
            read.end_s = read.end_s.max(seconds(end, *base));
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

fn seconds(ticks: i64, base: Rational) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    {
        ticks as f64 * f64::from(base)
    }
}
