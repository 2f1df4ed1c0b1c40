//! Opens a video file and reads the packets of its video stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, ffi as sys};

use super::budget::{self, Budget};
use super::container::{self, ReadDeadline};
use super::discontinuity::DiscontinuityCorrector;
use super::ffi::{self, OpenInput};
use super::limits::{check_duration, max_duration_s};
use super::probe::{HEAD, describe, sniff};
use super::{Probe, ProbeError, Source, codecs, cost, matroska, streams};
use crate::config::Video;

/// The maximum number of packets that are decoded to find the first frame.
const MAX_PROBE_PACKETS: usize = 1000;
/// The number of bytes at the beginning of a file that are searched for boxes of encryption.
const ENCRYPTION_SEARCH_BYTES: usize = 1 << 20;
/// The maximum number of packets that are read after a seek to find a packet after the duration limit.
const MAX_PACKETS_AFTER_SEEK: usize = 20_000;

/// An open video of which no frame was decoded yet.
pub struct Opened {
    source: Source,
    limits: Video,
    probe: Probe,
    packets: Packets,
}

/// The packets of the video stream of an open file.
pub(super) struct Packets {
    input: OpenInput,
    stream: usize,
    /// A read that takes longer is interrupted.
    deadline: ReadDeadline,
    /// Interrupts reads once set.
    cancelled: Arc<AtomicBool>,
    /// `None` if the container cannot have discontinuities.
    corrector: Option<DiscontinuityCorrector>,
    /// Packets that were read ahead.
    lookahead: VecDeque<Packet>,
}

/// Reads the properties of a video file. Decodes its first frame to check that it can be decoded. Blocks.
///
/// # Errors
/// Those of [`Opened::open`], and an error if no frame could be decoded.
pub fn probe(source: &Source, limits: &Video) -> Result<Probe, ProbeError> {
    let mut opened = Opened::open(source, limits)?;
    opened.packets.decode_first_frame(source, limits)?;
    Ok(opened.probe)
}

impl Opened {
    /// Opens the container and checks it against the limits. Blocks.
    ///
    /// # Errors
    /// [`ProbeError::Unreadable`] if the source cannot be read. All other errors are caused by the video.
    pub fn open(source: &Source, limits: &Video) -> Result<Self, ProbeError> {
        if !source.is_remote() {
            sniff(&source.head(HEAD, || false)?, limits)?;
        }
        let (deadline, cancelled) = (ReadDeadline::start(), Arc::<AtomicBool>::default());
        let (reading, stop) = (deadline.clone(), cancelled.clone());
        let stop = move || stop.load(Ordering::Relaxed) || reading.is_over();
        let opened = container::open(source, limits, stop.clone());
        let mut input = opened.map_err(|error| match error {
            // FFmpeg cannot open some encrypted files.
            ProbeError::NotAVideo => refusal(source, limits),
            error => error,
        })?;
        let described = describe(&input, limits);
        let (stream, mut probe) = described.map_err(|error| with_codec_name(error, &mut input))?;
        if probe.duration_s > max_duration_s(limits) {
            if has_packets_after(&mut input, probe.start_s + max_duration_s(limits)) {
                check_duration(probe.duration_s, limits)?;
            }
            // No packet is that late, so the header is wrong. Opens the file again to read from its start.
            input = container::open(source, limits, stop)?;
            probe.duration_s = 0.0;
            probe.frames_total = input.stream(stream).and_then(|it| u64::try_from(it.frames()).ok()).unwrap_or(0);
        }
        if let Some(stream) = input.stream(stream) {
            // MP4 lists each frame. Others only state a number, which may be wrong.
            let is_certain = stream.frames() > 0 && input.format().name().contains("mp4");
            let frames = u64::try_from(stream.frames()).ok().filter(|_| is_certain);
            cost::check(&stream.parameters(), frames, limits)?;
        }
        let corrector = DiscontinuityCorrector::new(&input, probe.duration_s);
        let reads_all = corrector.is_some();
        discard_others(&mut input, |other| other.index() == stream || reads_all && streams::is_timed(other));
        let lookahead = VecDeque::new();
        let mut packets = Packets { input, stream, deadline, cancelled, corrector, lookahead };
        packets.check_first_packets()?;
        Ok(Self { source: source.clone(), limits: limits.clone(), probe, packets })
    }

    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    pub(super) fn into_parts(self) -> (Source, Video, Probe, Packets) {
        (self.source, self.limits, self.probe, self.packets)
    }
}

/// The error for a stream of which no frame could be decoded.
pub(super) fn undecodable(source: &Source, codec: String) -> ProbeError {
    if is_probably_encrypted(source) { ProbeError::Encrypted } else { ProbeError::Undecodable { codec } }
}

/// The error for a file without video packets.
pub(super) fn no_video(source: &Source) -> ProbeError {
    if is_probably_encrypted(source) { ProbeError::Encrypted } else { ProbeError::NotAVideo }
}

/// The error for a source that FFmpeg cannot open as a video.
fn refusal(source: &Source, limits: &Video) -> ProbeError {
    // The first bytes of other sources were checked before.
    let known = source.is_remote().then(|| {
        let deadline = ReadDeadline::start();
        source.head(HEAD, move || deadline.is_over()).ok().and_then(|head| sniff(&head, limits).err())
    });
    known.flatten().unwrap_or_else(|| no_video(source))
}

/// Names the codec of a Matroska file if FFmpeg does not know it.
fn with_codec_name(error: ProbeError, input: &mut Input) -> ProbeError {
    if !matches!(error, ProbeError::NotAVideo) || !input.format().name().contains("matroska") {
        return error;
    }
    let video = streams::video(input).filter(|stream| stream.parameters().id() == ffmpeg::codec::Id::None);
    let Some(index) = video.map(|stream| stream.index()) else { return error };
    let earlier =
        input.streams().take(index).filter(|it| it.parameters().medium() == ffmpeg::media::Type::Video).count();
    match matroska::video_codec(input, earlier) {
        Some(codec) => ProbeError::NoDecoder { codec },
        None => error,
    }
}

/// Whether a file that cannot be decoded has boxes of encryption near its beginning: those of ISO/IEC 23001-7, or those
/// of its predecessor, the Protected Interoperable File Format (PIFF).
fn is_probably_encrypted(source: &Source) -> bool {
    const PIFF: [&[u8]; 3] = [
        &[0xA2, 0x39, 0x4F, 0x52, 0x5A, 0x9B, 0x4F, 0x14, 0xA2, 0x44, 0x6C, 0x42, 0x7C, 0x64, 0x8D, 0xF4],
        &[0xD0, 0x8A, 0x4F, 0x18, 0x10, 0xF3, 0x4A, 0x82, 0xB6, 0xC8, 0x32, 0xD8, 0xAB, 0xA1, 0x83, 0xD3],
        &[0x89, 0x74, 0xDB, 0xCE, 0x7B, 0xE7, 0x4C, 0x51, 0x84, 0xF9, 0x71, 0x48, 0xF9, 0x88, 0x25, 0x54],
    ];
    if source.is_remote() {
        return false;
    }
    let Ok(head) = source.head(ENCRYPTION_SEARCH_BYTES, || false) else { return false };
    let has = |word: &[u8]| head.windows(word.len()).any(|bytes| bytes == word);
    head.get(4..8) == Some(b"ftyp") && (has(b"encv") || has(b"pssh") || PIFF.into_iter().any(has))
}

/// Makes the demuxer discard the packets of all other streams.
pub(super) fn discard_others(input: &mut Input, is_kept: impl Fn(&ffmpeg::Stream<'_>) -> bool) {
    let others: Vec<usize> = input.streams().filter(|stream| !is_kept(stream)).map(|stream| stream.index()).collect();
    for other in others {
        ffi::discard_stream(input, other);
    }
}

/// Whether video or sound continues after this time stamp, in seconds. Moves the read position.
fn has_packets_after(input: &mut Input, end_s: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "a limit on a duration")]
    let end = (end_s * f64::from(sys::AV_TIME_BASE)) as i64;
    if ffi::seek(input, end).is_err() {
        return false;
    }
    let time_bases: Vec<f64> = input
        .streams()
        .map(|stream| if streams::is_timed(&stream) { f64::from(stream.time_base()) } else { 0.0 })
        .collect();
    for _ in 0..MAX_PACKETS_AFTER_SEEK {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            Err(_) => return false,
        }
        let time_base = time_bases.get(packet.stream()).copied().unwrap_or(0.0);
        // A duration with all bits set is unknown.
        let duration = if packet.duration() < i64::from(i32::MAX) { packet.duration().max(0) } else { 0 };
        if let Some(stamp) = packet.pts().or(packet.dts()) {
            #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
            let packet_end_s = stamp.saturating_add(duration) as f64 * time_base;
            if time_base > 0.0 && packet_end_s > end_s {
                return true;
            }
        }
    }
    false
}

impl Packets {
    /// Decodes the first frame. One deadline covers all its reads.
    fn decode_first_frame(&mut self, source: &Source, limits: &Video) -> Result<(), ProbeError> {
        let parameters = self.stream()?.parameters();
        let codec = streams::codec_name(&self.stream()?);
        let undecodable = |_| undecodable(source, codec.clone());
        let mut context = ffmpeg::codec::Context::from_parameters(parameters).map_err(undecodable)?;
        codecs::restrict(&mut context, limits).map_err(undecodable)?;
        let budget = Budget::with_cpu(limits, budget::FIRST_FRAME_CPU);
        let mut decoder = ffi::open_decoder(context, None, &budget).map_err(undecodable)?;
        let mut frame = ffmpeg::frame::Video::empty();
        for packets_read in 0..MAX_PROBE_PACKETS {
            let Some(packet) = self.read()? else {
                if packets_read == 0 {
                    return Err(no_video(source));
                }
                break;
            };
            // An error from a damaged packet is ignored, as in players.
            let _ = decoder.send_packet(&packet);
            budget.check()?;
            if decoder.receive_frame(&mut frame).is_ok() {
                return Ok(());
            }
        }
        // A decoder that reorders frames outputs those of a short clip only at the end of the stream.
        let _ = decoder.send_eof();
        decoder.receive_frame(&mut frame).map_err(undecodable)
    }

    /// Returns an error if the first packet is encrypted, or if a GIF has one frame only.
    fn check_first_packets(&mut self) -> Result<(), ProbeError> {
        let is_gif = self.container() == "gif";
        let mut lookahead = VecDeque::new();
        while lookahead.len() < if is_gif { 2 } else { 1 } {
            let Some(packet) = self.read()? else { break };
            lookahead.push_back(packet);
        }
        self.lookahead = lookahead;
        match self.lookahead.front() {
            Some(first) if ffi::is_encrypted(first) => Err(ProbeError::Encrypted),
            Some(_) if is_gif && self.lookahead.len() == 1 => Err(ProbeError::Picture { format: "GIF".into() }),
            _ => Ok(()),
        }
    }

    /// Returns the next packet of the video stream. Returns `None` at the end, or at damage at which the demuxer stops.
    pub fn next(&mut self) -> Result<Option<Packet>, ProbeError> {
        self.deadline.restart();
        self.read()
    }

    fn read(&mut self) -> Result<Option<Packet>, ProbeError> {
        if let Some(packet) = self.lookahead.pop_front() {
            return Ok(Some(packet));
        }
        loop {
            // A new packet each time: reading into one that holds data would leak that data.
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    if let Some(corrector) = &mut self.corrector {
                        corrector.correct(&mut packet);
                    }
                    if packet.stream() == self.stream {
                        return Ok(Some(packet));
                    }
                }
                Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => {}
                Err(error) => return container::check_source(&self.input, error).map(|()| None),
            }
        }
    }

    /// The video stream.
    pub fn stream(&self) -> Result<ffmpeg::Stream<'_>, ProbeError> {
        self.input.stream(self.stream).ok_or(ProbeError::NotAVideo)
    }

    /// The corrector, which has the end of all streams. `None` if the container cannot have discontinuities.
    pub const fn corrector(&self) -> Option<&DiscontinuityCorrector> {
        self.corrector.as_ref()
    }

    /// FFmpeg's name of the container.
    pub fn container(&self) -> String {
        self.input.format().name().to_owned()
    }

    /// Interrupts reads once set.
    pub const fn cancelled(&self) -> &Arc<AtomicBool> {
        &self.cancelled
    }
}
