//! A video that was opened and found to be one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, ffi};

use super::clock::Joiner;
use super::container::{self, DEADLINE};
use super::probe::{HEAD, check_duration, describe, max_duration_s, sniff};
use super::{Probe, ProbeError, Source, streams};
use crate::config::Video;

/// Packets of the picture track that are tried for the first picture.
const PACKETS_TRIED: usize = 1000;
/// So much of a file is searched for signs of encryption.
const KEY_BYTES: u64 = 1 << 20;
/// Packets that are read from the last key frame before the limit on the duration on, to see whether any stands behind it.
const PACKETS_AT_END: usize = 20_000;

/// An open video of which no picture was decoded yet.
pub struct Opened {
    source: Source,
    limits: Video,
    probe: Probe,
    packets: Packets,
}

/// The packets of the pictures of an open video.
pub(super) struct Packets {
    input: Input,
    stream: usize,
    /// When the source was last asked for something: one that trickles must not hold the analysis for ever.
    asked_at: Arc<Mutex<Instant>>,
    given_up: Arc<AtomicBool>,
    /// Where time stamps can begin anew.
    joiner: Option<Joiner>,
    /// Read already.
    ahead: VecDeque<Packet>,
}

/// What is in a video file: opens it, decodes one picture and closes it again. Blocks.
///
/// # Errors
/// Those of [`Opened::open`], and [`ProbeError::NotAVideo`] where no picture comes out.
pub fn probe(source: &Source, limits: &Video) -> Result<Probe, ProbeError> {
    let mut opened = Opened::open(source, limits)?;
    opened.packets.decode_one(source, limits)?;
    Ok(opened.probe)
}

impl Opened {
    /// Opens the container and checks it against the limits. Blocks.
    ///
    /// # Errors
    /// [`ProbeError::Unreadable`] where the source is at fault, the others where the video is.
    pub fn open(source: &Source, limits: &Video) -> Result<Self, ProbeError> {
        if let Source::File(path) = source {
            let mut head = Vec::with_capacity(HEAD);
            let unreadable = |error: std::io::Error| ProbeError::Unreadable(error.kind().to_string());
            File::open(path).map_err(unreadable)?.take(HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
            sniff(&head)?;
        }
        let (asked_at, given_up) = (Arc::new(Mutex::new(Instant::now())), Arc::<AtomicBool>::default());
        let (since, stop) = (asked_at.clone(), given_up.clone());
        let stop = move || stop.load(Ordering::Relaxed) || lock(&since).elapsed() > DEADLINE;
        let opened = container::open(source, limits, stop.clone());
        // FFmpeg stops at some of the tables that come with a key.
        let mut input =
            opened.map_err(|error| if matches!(error, ProbeError::NotAVideo) { empty(source) } else { error })?;
        let (stream, mut probe) = describe(&input, limits)?;
        if probe.duration_s > max_duration_s(limits) {
            if lasts_longer(&mut input, probe.zero_s + max_duration_s(limits)) {
                check_duration(probe.duration_s, limits)?;
            }
            // Nothing is there that late: the header is wrong. The first packets are behind by now.
            input = container::open(source, limits, stop)?;
            probe.duration_s = 0.0;
            probe.frames_total = input.stream(stream).and_then(|it| u64::try_from(it.frames()).ok()).unwrap_or(0);
        }
        let joiner = Joiner::new(&input, probe.duration_s);
        let kept = joiner.is_some();
        discard_others(&mut input, |other| other.index() == stream || kept && streams::is_timed(other));
        let mut packets = Packets { input, stream, asked_at, given_up, joiner, ahead: VecDeque::new() };
        packets.check_beginning()?;
        Ok(Self { source: source.clone(), limits: limits.clone(), probe, packets })
    }

    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    pub(super) fn into_parts(self) -> (Source, Video, Probe, Packets) {
        (self.source, self.limits, self.probe, self.packets)
    }
}

/// Why no picture came out of a stream that has a decoder.
pub(super) fn undecodable(source: &Source, codec: String) -> ProbeError {
    if tells_of_a_key(source) { ProbeError::Encrypted } else { ProbeError::Undecodable { codec } }
}

/// Why there is nothing to decode.
pub(super) fn empty(source: &Source) -> ProbeError {
    if tells_of_a_key(source) { ProbeError::Encrypted } else { ProbeError::NotAVideo }
}

/// Whether a file that cannot be read speaks of keys near its beginning: the boxes of ISO/IEC 23001-7, and those of
/// Protected Interoperable File Format, which came before them.
fn tells_of_a_key(source: &Source) -> bool {
    const PIFF: [&[u8]; 3] = [
        &[0xA2, 0x39, 0x4F, 0x52, 0x5A, 0x9B, 0x4F, 0x14, 0xA2, 0x44, 0x6C, 0x42, 0x7C, 0x64, 0x8D, 0xF4],
        &[0xD0, 0x8A, 0x4F, 0x18, 0x10, 0xF3, 0x4A, 0x82, 0xB6, 0xC8, 0x32, 0xD8, 0xAB, 0xA1, 0x83, 0xD3],
        &[0x89, 0x74, 0xDB, 0xCE, 0x7B, 0xE7, 0x4C, 0x51, 0x84, 0xF9, 0x71, 0x48, 0xF9, 0x88, 0x25, 0x54],
    ];
    let Source::File(path) = source else { return false };
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(KEY_BYTES).read_to_end(&mut head));
    let has = |word: &[u8]| head.windows(word.len()).any(|bytes| bytes == word);
    read.is_ok() && head.get(4..8) == Some(b"ftyp") && (has(b"encv") || has(b"pssh") || PIFF.into_iter().any(has))
}

/// The demuxer may leave out the packets of all streams but these.
pub(super) fn discard_others(input: &mut Input, is_kept: impl Fn(&ffmpeg::Stream<'_>) -> bool) {
    let others: Vec<usize> = input.streams().filter(|stream| !is_kept(stream)).map(|stream| stream.index()).collect();
    // SAFETY: the container is open and has these streams.
    unsafe {
        let context = input.as_mut_ptr();
        for other in others {
            (**(*context).streams.add(other)).discard = ffi::AVDiscard::AVDISCARD_ALL;
        }
    }
}

/// Whether pictures or sound go on after this time stamp, in seconds. Leaves the container somewhere near it.
fn lasts_longer(input: &mut Input, end_s: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "a limit on a duration")]
    let end = (end_s * f64::from(ffi::AV_TIME_BASE)) as i64;
    // SAFETY: the container is open.
    if unsafe { ffi::avformat_seek_file(input.as_mut_ptr(), -1, i64::MIN, end, i64::MAX, 0) } < 0 {
        return false;
    }
    let bases: Vec<f64> = input
        .streams()
        .map(|stream| if streams::is_timed(&stream) { f64::from(stream.time_base()) } else { 0.0 })
        .collect();
    for _ in 0..PACKETS_AT_END {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            Err(_) => return false,
        }
        let base = bases.get(packet.stream()).copied().unwrap_or(0.0);
        // A duration with all bits set says that it is not known.
        let length = if packet.duration() < i64::from(i32::MAX) { packet.duration().max(0) } else { 0 };
        if let Some(stamp) = packet.pts().or(packet.dts()) {
            #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
            let packet_end_s = stamp.saturating_add(length) as f64 * base;
            if base > 0.0 && packet_end_s > end_s {
                return true;
            }
        }
    }
    false
}

impl Packets {
    /// Decodes the first picture, and no more. As long as that takes, the source has one deadline.
    fn decode_one(&mut self, source: &Source, limits: &Video) -> Result<(), ProbeError> {
        let parameters = self.stream()?.parameters();
        let codec = streams::codec_name(&self.stream()?);
        let undecodable = |_| undecodable(source, codec.clone());
        let mut context = ffmpeg::codec::Context::from_parameters(parameters).map_err(undecodable)?;
        // SAFETY: the context is ours and not open yet. FFmpeg refuses larger pictures before it makes room for them.
        unsafe {
            (*context.as_mut_ptr()).max_pixels = container::decoder_limit(limits);
        }
        let mut decoder = context.decoder().video().map_err(undecodable)?;
        let mut frame = ffmpeg::frame::Video::empty();
        for tried in 0..PACKETS_TRIED {
            let Some(packet) = self.read()? else {
                if tried == 0 {
                    return Err(empty(source));
                }
                break;
            };
            // A damaged packet is skipped, as players do.
            let _ = decoder.send_packet(&packet);
            if decoder.receive_frame(&mut frame).is_ok() {
                return Ok(());
            }
        }
        // Codecs that reorder pictures give a short clip's frames only when told that no more will come.
        let _ = decoder.send_eof();
        decoder.receive_frame(&mut frame).map_err(undecodable)
    }

    /// Refuses a stream that begins encrypted, and a GIF of one picture.
    fn check_beginning(&mut self) -> Result<(), ProbeError> {
        let is_gif = self.container() == "gif";
        let mut ahead = VecDeque::new();
        while ahead.len() < if is_gif { 2 } else { 1 } {
            let Some(packet) = self.read()? else { break };
            ahead.push_back(packet);
        }
        self.ahead = ahead;
        match self.ahead.front() {
            Some(first) if streams::is_locked(first) => Err(ProbeError::Encrypted),
            Some(_) if is_gif && self.ahead.len() == 1 => Err(ProbeError::Picture { format: "GIF" }),
            _ => Ok(()),
        }
    }

    /// The next packet of the pictures; `None` at the end, or where damage lets the demuxer go no further.
    pub fn next(&mut self) -> Result<Option<Packet>, ProbeError> {
        *lock(&self.asked_at) = Instant::now();
        self.read()
    }

    fn read(&mut self) -> Result<Option<Packet>, ProbeError> {
        if let Some(packet) = self.ahead.pop_front() {
            return Ok(Some(packet));
        }
        loop {
            // A fresh one each time: reading into one that holds data would leak it.
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    if let Some(joiner) = &mut self.joiner {
                        joiner.pass(&mut packet);
                    }
                    if packet.stream() == self.stream {
                        return Ok(Some(packet));
                    }
                }
                Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => {}
                Err(error) if container::is_source_failure(error) => return Err(container::refusal(error)),
                Err(_) => return container::check_source(&self.input).map(|()| None),
            }
        }
    }

    /// The stream of the pictures.
    pub fn stream(&self) -> Result<ffmpeg::Stream<'_>, ProbeError> {
        self.input.stream(self.stream).ok_or(ProbeError::NotAVideo)
    }

    /// What was seen of the time stamps of all streams, where they can begin anew.
    pub const fn joiner(&self) -> Option<&Joiner> {
        self.joiner.as_ref()
    }

    /// FFmpeg's name of the container.
    pub fn container(&self) -> String {
        self.input.format().name().to_owned()
    }

    /// Set once nobody wants any more: stops what waits for the source.
    pub const fn given_up(&self) -> &Arc<AtomicBool> {
        &self.given_up
    }
}

fn lock(instant: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    instant.lock().unwrap_or_else(PoisonError::into_inner)
}
