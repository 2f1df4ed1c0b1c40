//! Opens containers with FFmpeg. Restricts formats, codecs, protocols, waits and frame sizes.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Dictionary, media};

use super::ffi::{self, OpenError, OpenInput};
use super::{ProbeError, Source, budget, codecs, rehearsal, streams};
use crate::analysis::Resource;
use crate::config::Video;

/// The demuxer for animated WebP. FFmpeg 5 to 8 do not have it.
const ANIMATED_WEBP: &CStr = c"webp_anim";
/// The protocols that FFmpeg may use to open the URL of a source.
const URL_PROTOCOLS: &str = "http,https,tcp,tls";
/// The protocols that a container may use to open other files: a name that no protocol has.
const NO_PROTOCOLS: &str = "none";
/// The maximum number of packets that are read to tell a poster from a video, if the header has no number of frames.
const MAX_PACKETS_COUNTED: usize = 1000;
/// A connection without data for this long is closed.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
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
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > DEADLINE
    }
}

/// Sets up FFmpeg. Further calls do nothing.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::format::network::init();
        // Without this, FFmpeg's errors have no text.
        ffmpeg::util::error::register_all();
        // FFmpeg's messages about damaged files do not help operators, and may contain a URL.
        ffmpeg::util::log::set_level(ffmpeg::util::log::Level::Quiet);
    });
}

/// Whether this FFmpeg has a demuxer for animated WebP.
pub(super) fn reads_animated_webp() -> bool {
    ffi::has_demuxer(ANIMATED_WEBP)
}

/// The options for a URL: protocols, timeouts, and verification of TLS certificates.
pub(super) fn protocol_options() -> Vec<(&'static str, String)> {
    vec![
        ("rw_timeout", STALL_TIMEOUT.as_micros().to_string()),
        ("reconnect", "1".to_owned()),
        ("reconnect_delay_max", "2".to_owned()),
        ("tls_verify", "1".to_owned()),
        ("protocol_whitelist", URL_PROTOCOLS.to_owned()),
    ]
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
    ffi::find_stream_info(&mut input, &[("max_pixels", &max_pixels)]).map_err(to_probe_error)?;
    Ok(input)
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
        OpenError::FFmpeg(error) => to_probe_error(error),
    })?;
    for stream in input.streams() {
        let (width, height) = streams::size(&stream);
        check_pixels(width, height, limits)?;
        budget::check_h264(&stream.parameters(), limits)?;
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
            begun: ffi::thread_cpu_time(),
            limit: budget::FIRST_FRAME_CPU.min(Duration::from_secs(limits.max_cpu_s)),
            is_opening: Arc::new(AtomicBool::new(true)),
            is_exceeded: Arc::default(),
        }
    }

    fn is_over(&self) -> bool {
        let is_over =
            self.is_opening.load(Ordering::Relaxed) && ffi::thread_cpu_time().saturating_sub(self.begun) > self.limit;
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

/// The pixel limit for decoders. It has a margin, as decoders round the sides of a frame up to whole blocks.
pub(super) fn max_decoder_pixels(limits: &Video) -> i64 {
    let pixels = limits.max_pixels.saturating_add(limits.max_pixels / 8).saturating_add(1 << 16);
    i64::try_from(pixels.min(i32::MAX as u64)).unwrap_or(i64::MAX)
}

/// Returns an error if a frame has more pixels than the limit.
pub(super) fn check_pixels(width: u32, height: u32, limits: &Video) -> Result<(), ProbeError> {
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(ProbeError::TooLarge { width, height, limit: limits.max_pixels });
    }
    Ok(())
}

/// Whether an error of FFmpeg is caused by the source (the disk, the network, the server) and not by the video.
pub(super) fn is_source_failure(error: ffmpeg::Error) -> bool {
    use ffmpeg::Error as E;
    use ffmpeg::util::error as errno;
    match error {
        E::HttpBadRequest
        | E::HttpUnauthorized
        | E::HttpForbidden
        | E::HttpNotFound
        | E::HttpOther4xx
        | E::HttpServerError
        | E::Exit => true,
        E::Other { errno } => matches!(
            errno,
            errno::EIO
                | errno::ENOENT
                | errno::EACCES
                | errno::EPERM
                | errno::EISDIR
                | errno::EMFILE
                | errno::ENFILE
                | errno::ECONNREFUSED
                | errno::ECONNRESET
                | errno::ECONNABORTED
                | errno::ETIMEDOUT
                | errno::EHOSTUNREACH
                | errno::ENETUNREACH
                | errno::ENETDOWN
                | errno::EPIPE
        ),
        _ => false,
    }
}

/// The error of the source, if a read from it failed. Some demuxers report such a failure as the end of the file.
pub(super) fn source_failure(input: &Input) -> Option<ffmpeg::Error> {
    let code = ffi::source_error(input);
    (code < 0).then(|| ffmpeg::Error::from(code)).filter(|error| is_source_failure(*error))
}

/// Returns an error if the file ended because a read from the source failed.
pub(super) fn check_source(input: &Input) -> Result<(), ProbeError> {
    source_failure(input).map_or(Ok(()), |error| Err(to_probe_error(error)))
}

/// Converts an error of FFmpeg.
pub(super) fn to_probe_error(error: ffmpeg::Error) -> ProbeError {
    if !is_source_failure(error) {
        return ProbeError::NotAVideo;
    }
    ProbeError::Unreadable(match error {
        ffmpeg::Error::Exit => "no answer in time".to_owned(),
        ffmpeg::Error::Other { errno } => std::io::Error::from_raw_os_error(errno).to_string(),
        ffmpeg::Error::HttpBadRequest => "the server answered 400".to_owned(),
        ffmpeg::Error::HttpUnauthorized => "the server answered 401".to_owned(),
        ffmpeg::Error::HttpForbidden => "the server answered 403".to_owned(),
        ffmpeg::Error::HttpNotFound => "the server answered 404".to_owned(),
        ffmpeg::Error::HttpServerError => "the server failed".to_owned(),
        _ => "the server refused".to_owned(),
    })
}
