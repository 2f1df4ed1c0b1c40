//! Opens containers with FFmpeg. Restricts formats, codecs, protocols, waits and frame sizes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Dictionary, media};
use parking_lot::Mutex;

use super::error::unreadable;
use super::ffi::{self, OpenError, OpenInput};
use super::limits::{check_pixels, max_decoder_pixels};
use super::{ProbeError, Source, budget, codecs, cost, rehearsal, streams};
use crate::analysis::Resource;
use crate::config::Video;

/// The protocols that a container may use to open other files: a name that no protocol has.
const NO_PROTOCOLS: &str = "none";
/// The maximum number of packets that are read to tell a poster from a video, if the header has no number of frames.
const MAX_PACKETS_COUNTED: usize = 1000;
/// The time limit for opening a file, and for each later read, even if the server sends data slowly.
const DEADLINE: Duration = Duration::from_secs(60);

/// The deadline of the read in progress. Clones share it.
#[derive(Clone)]
pub struct ReadDeadline(Arc<Mutex<Instant>>);

impl ReadDeadline {
    /// Begins with the opening of the file.
    pub fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Begins anew with the next read.
    pub fn restart(&self) {
        *self.0.lock() = Instant::now();
    }

    pub fn is_over(&self) -> bool {
        self.0.lock().elapsed() > DEADLINE
    }
}

/// Opens a container and reads the properties of its streams. No frame larger than the limit is allocated: the header
/// is checked first, and the limit applies to the decoders that FFmpeg uses to analyze streams. `stop` is called during
/// every wait for the source, as long as the container is open.
pub(super) fn open(
    source: &Source,
    limits: &Video,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<OpenInput, ProbeError> {
    let mut input = open_once(source, limits, stop.clone())?;
    let lacks_frame_count = |stream: &ffmpeg::Stream<'_>| {
        stream.parameters().medium() == media::Type::Video && streams::is_timed(stream) && stream.frames() == 0
    };
    if input.streams().filter(lacks_frame_count).count() < 2 {
        return Ok(input);
    }
    // One of several video streams may be a poster.
    let stills = still_streams(&mut input);
    let mut input = open_once(source, limits, stop)?;
    for still in stills {
        ffi::mark_as_thumbnails(&mut input, still);
    }
    Ok(input)
}

/// Video streams with at most one frame among the first packets, if another video stream has more.
fn still_streams(input: &mut Input) -> Vec<usize> {
    let is_video = |stream: ffmpeg::Stream<'_>| stream.parameters().medium() == media::Type::Video;
    let mut counts: Vec<Option<u32>> = input.streams().map(|stream| is_video(stream).then_some(0)).collect();
    for _ in 0..MAX_PACKETS_COUNTED {
        let mut packet = ffmpeg::Packet::empty();
        match packet.read(input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            Err(_) => break,
        }
        if let Some(Some(count)) = counts.get_mut(packet.stream()) {
            *count += 1;
        }
        if counts.iter().flatten().all(|count| *count > 1) {
            return Vec::new();
        }
    }
    if counts.iter().flatten().all(|count| *count < 2) {
        return Vec::new();
    }
    counts.iter().enumerate().filter(|(_, count)| count.is_some_and(|count| count < 2)).map(|(at, _)| at).collect()
}

fn open_once(
    source: &Source,
    limits: &Video,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<OpenInput, ProbeError> {
    let cpu = OpeningCpu::start(limits);
    let opened = open_limited(source, limits, {
        let cpu = cpu.clone();
        move || stop() || cpu.is_over()
    });
    cpu.end().and(opened)
}

fn open_limited(
    source: &Source,
    limits: &Video,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<OpenInput, ProbeError> {
    let mut input = open_demuxer(source, limits, stop.clone())?;
    if rehearsal::is_needed(&input) {
        rehearsal::decode(input, limits)?;
        input = open_demuxer(source, limits, stop)?;
    }
    let max_pixels = max_decoder_pixels(limits).to_string();
    match ffi::find_stream_info(&mut input, &[("max_pixels", &max_pixels)]) {
        Ok(()) => Ok(input),
        Err(error) => check_source(&input, error).and(Err(ProbeError::NotAVideo)),
    }
}

/// Opens a container without decoding anything, and checks the streams of its header.
pub(super) fn open_demuxer(
    source: &Source,
    limits: &Video,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<OpenInput, ProbeError> {
    let mut options = Dictionary::new();
    options.set("format_whitelist", &codecs::demuxers(limits));
    options.set("codec_whitelist", &codecs::decoders(limits));
    options.set("protocol_whitelist", NO_PROTOCOLS);
    options.set("probesize", &rehearsal::PROBE_BYTES.to_string());

    let bytes = source.open(stop.clone())?;
    let input = ffi::open_input(bytes, options, stop).map_err(|error| match error {
        OpenError::OutOfMemory => ProbeError::Unreadable("out of memory".to_owned()),
        OpenError::Source(error) | OpenError::Demuxer(error @ ffmpeg::Error::Exit) => unreadable(error),
        OpenError::Demuxer(_) => ProbeError::NotAVideo,
    })?;
    for stream in input.streams() {
        let (width, height) = streams::size(&stream);
        check_pixels(width, height, limits)?;
        cost::check_h264(&stream.parameters(), limits)?;
    }
    Ok(input)
}

/// Limits the CPU time of opening a file, because FFmpeg decodes frames to find the properties of streams. FFmpeg asks
/// before each packet whether to stop.
#[derive(Clone)]
struct OpeningCpu {
    begun: Duration,
    limit: Duration,
    /// Later reads are on other threads, and are not limited.
    is_opening: Arc<AtomicBool>,
    is_exceeded: Arc<AtomicBool>,
}

impl OpeningCpu {
    fn start(limits: &Video) -> Self {
        Self {
            begun: budget::thread_cpu_time(),
            limit: budget::FIRST_FRAME_CPU.min(Duration::from_secs(limits.max_cpu_s)),
            is_opening: Arc::new(AtomicBool::new(true)),
            is_exceeded: Arc::default(),
        }
    }

    fn is_over(&self) -> bool {
        let is_over = self.is_opening.load(Ordering::Relaxed)
            && budget::thread_cpu_time().saturating_sub(self.begun) > self.limit;
        if is_over {
            self.is_exceeded.store(true, Ordering::Relaxed);
        }
        is_over
    }

    /// Ends the measurement. Returns an error if the limit was exceeded.
    fn end(&self) -> Result<(), ProbeError> {
        self.is_opening.store(false, Ordering::Relaxed);
        if self.is_exceeded.load(Ordering::Relaxed) {
            let limit = self.limit.as_secs();
            return Err(ProbeError::TooCostly { resource: Resource::CpuTime, needed: limit + 1, limit });
        }
        Ok(())
    }
}

/// Returns an error if a failed read from the source is the cause of this error of the demuxer.
pub(super) fn check_source(input: &OpenInput, error: ffmpeg::Error) -> Result<(), ProbeError> {
    // FFmpeg asks whether to stop between reads, too.
    let interrupted = Some(error).filter(|error| *error == ffmpeg::Error::Exit);
    input.source_failure().or(interrupted).map_or(Ok(()), |failure| Err(unreadable(failure)))
}
