//! Limits the memory and the CPU time that decoding one video takes.
//!
//! A file of 100 kB can make a decoder hold 34 frames of any size, and a decoder repeats an unchanged frame for a few
//! bytes. So the size of a file says nothing about the cost of decoding it. [`check`] estimates the cost from the
//! headers before anything is decoded. Headers can lie, so a [`Budget`] measures the cost while frames are decoded:
//!
//! - memory, at each frame that a decoder allocates: the largest number of bytes that each decoder held so far. FFmpeg
//!   keeps the memory of released frames for later ones.
//! - CPU time, by the CPU clocks of the threads that decode. Unlike the time on the wall, it does not depend on the load
//!   of the machine, so a video does not fail because of its neighbours. Decoders of other libraries (dav1d) have threads
//!   that visage cannot ask; for them, the time on the wall counts while visage waits for them.
//! - pixels, at each frame that is decoded.
//!
//! Each sound track has a budget of CPU time of its own ([`SoundBudget`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use ffmpeg_next::codec::Parameters;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal as _, RefNal};

use super::ProbeError;
use super::ffi;
use super::nal::parameter_sets;
use crate::analysis::Resource;
use crate::config::Video;

/// The largest number of reference frames in H.264, HEVC and VVC.
const MAX_REFERENCES: u64 = 16;
/// Frames of a decoder that are decoded and wait to be converted.
const WAITING_FRAMES: u64 = 3;
/// Memory of a decoder for each pixel of a frame beside the pixel itself: motion vectors and modes. FFmpeg 5.1 takes
/// 0.7 bytes for H.264 and less for others.
const SIDE_BYTES: u64 = 1;
/// Several decoders are used only if they are estimated to need at most this share of the limit, as numerator and
/// denominator. The rest is for the error of the estimate.
const SHARE_OF_SEVERAL: (u64, u64) = (2, 3);
/// The maximum CPU time to find the first frame of an upload.
pub(super) const FIRST_FRAME_CPU: Duration = Duration::from_secs(30);

/// The cost of decoding a video, shared by its decoders.
pub(super) struct Budget {
    max_bytes: u64,
    max_pixels: u64,
    max_cpu: Duration,
    bytes: AtomicU64,
    pixels: AtomicU64,
    cpu: Mutex<CpuTime>,
    /// The first limit that was exceeded.
    exceeded: OnceLock<Excess>,
}

#[derive(Default)]
struct CpuTime {
    total: Duration,
    /// The last reading of the clock of each thread.
    readings: HashMap<ThreadId, Duration>,
}

/// A limit that was exceeded.
#[derive(Clone, Copy)]
struct Excess {
    resource: Resource,
    needed: u64,
    limit: u64,
}

impl From<Excess> for ProbeError {
    fn from(Excess { resource, needed, limit }: Excess) -> Self {
        Self::TooCostly { resource, needed, limit }
    }
}

impl Budget {
    pub fn new(limits: &Video) -> Arc<Self> {
        Self::with_cpu(limits, Duration::from_secs(limits.max_cpu_s))
    }

    /// A budget with another limit on the CPU time, if that is lower.
    pub fn with_cpu(limits: &Video, max_cpu: Duration) -> Arc<Self> {
        Arc::new(Self {
            max_bytes: limits.max_decoder_memory.0,
            max_pixels: max_total_pixels(limits),
            max_cpu: max_cpu.min(Duration::from_secs(limits.max_cpu_s)),
            bytes: AtomicU64::new(0),
            pixels: AtomicU64::new(0),
            cpu: Mutex::default(),
            exceeded: OnceLock::new(),
        })
    }

    /// Counts the CPU time of this thread since its last call. Returns an error if a limit was exceeded, by any
    /// decoder.
    pub fn check(&self) -> Result<(), ProbeError> {
        self.count_thread();
        self.result()
    }

    /// Returns an error if a limit was exceeded.
    fn result(&self) -> Result<(), ProbeError> {
        self.exceeded.get().map_or(Ok(()), |excess| Err((*excess).into()))
    }

    /// Counts the CPU time of this thread since its last call.
    fn count_thread(&self) {
        let (thread, now) = (std::thread::current().id(), ffi::thread_cpu_time());
        let total = {
            let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = cpu.readings.insert(thread, now) {
                cpu.total += now.saturating_sub(before);
            }
            cpu.total
        };
        self.check_cpu(total);
    }

    /// Counts CPU time that was measured by the caller, or time that another library took for decoding on its own threads.
    pub fn count_time(&self, time: Duration) {
        let total = {
            let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
            cpu.total += time;
            cpu.total
        };
        self.check_cpu(total);
    }

    fn check_cpu(&self, total: Duration) {
        if total > self.max_cpu {
            let (needed, limit) = (total.as_secs().max(1), self.max_cpu.as_secs());
            self.exceed(Excess { resource: Resource::CpuTime, needed, limit });
        }
    }

    /// Counts a frame that is decoded.
    pub fn count_pixels(&self, pixels: u64) {
        let needed = self.pixels.fetch_add(pixels, Ordering::Relaxed).saturating_add(pixels);
        if needed > self.max_pixels {
            self.exceed(Excess { resource: Resource::Pixels, needed, limit: self.max_pixels });
        }
    }

    fn exceed(&self, excess: Excess) {
        // Only the first one is reported.
        let _ = self.exceeded.set(excess);
    }
}

/// The CPU time that decoding a sound track may take. Clones share it.
#[derive(Clone)]
pub(super) struct SoundBudget(Arc<Budget>);

impl SoundBudget {
    pub fn new(limits: &Video) -> Self {
        Self(Budget::new(limits))
    }

    /// Runs `work` and counts the CPU time of this thread meanwhile. Returns an error if the limit is exceeded.
    pub fn charge<T>(&self, work: impl FnOnce() -> T) -> Result<T, ProbeError> {
        let begun = ffi::thread_cpu_time();
        let result = work();
        self.0.count_time(ffi::thread_cpu_time().saturating_sub(begun));
        self.0.result().map(|()| result)
    }
}

/// The frames of one decoder.
pub(super) struct Account {
    budget: Arc<Budget>,
    /// The number of bytes that frames hold, and the largest number so far.
    held: Mutex<(u64, u64)>,
}

impl Account {
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, held: Mutex::default() })
    }

    /// Counts a frame that is about to be allocated, and the CPU time of this thread. Returns `None` if a limit is
    /// exceeded.
    pub fn charge(self: &Arc<Self>, bytes: u64, pixels: u64) -> Option<Charge> {
        self.budget.count_thread();
        self.budget.count_pixels(pixels);
        let bytes = bytes.saturating_add(if bytes > 0 { pixels.saturating_mul(SIDE_BYTES) } else { 0 });
        let risen = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.0 = held.0.saturating_add(bytes);
            let risen = held.0.saturating_sub(held.1);
            held.1 += risen;
            risen
        };
        let charge = Charge { account: self.clone(), bytes };
        let needed = self.budget.bytes.fetch_add(risen, Ordering::Relaxed).saturating_add(risen);
        if needed > self.budget.max_bytes {
            self.budget.exceed(Excess { resource: Resource::Memory, needed, limit: self.budget.max_bytes });
        }
        self.budget.exceeded.get().is_none().then_some(charge)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let most = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).1;
        self.budget.bytes.fetch_sub(most, Ordering::Relaxed);
    }
}

/// A frame that is allocated. Dropped when its memory is released.
pub(super) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.held.lock().unwrap_or_else(PoisonError::into_inner).0 -= self.bytes;
    }
}

/// Checks the cost of decoding a stream, by its headers. `frames` is the number of frames, if it is certain.
pub(super) fn check(parameters: &Parameters, frames: Option<u64>, limits: &Video) -> Result<(), ProbeError> {
    let limit = limits.max_decoder_memory.0;
    let needed = estimate(parameters, 1);
    if needed > limit {
        return Err(ProbeError::TooCostly { resource: Resource::Memory, needed, limit });
    }
    let limit = max_total_pixels(limits);
    let needed = frames.unwrap_or(0).saturating_mul(pixels(parameters));
    if needed > limit {
        return Err(ProbeError::TooCostly { resource: Resource::Pixels, needed, limit });
    }
    Ok(())
}

/// Checks the memory for decoding a stream of H.264 by the parameter sets in the header of the container, before FFmpeg
/// decodes frames to find the other properties.
pub(super) fn check_h264(parameters: &Parameters, limits: &Video) -> Result<(), ProbeError> {
    if parameters.id().name() != "h264" || ffi::extradata(parameters).is_empty() {
        return Ok(());
    }
    check(parameters, None, limits)
}

/// The number of decoders for a stream, `most` at most.
pub(super) fn decoders(parameters: &Parameters, most: usize, limits: &Video) -> usize {
    let (numerator, denominator) = SHARE_OF_SEVERAL;
    let limit = limits.max_decoder_memory.0 / denominator * numerator;
    (2..=most).take_while(|count| estimate(parameters, *count as u64) <= limit).last().unwrap_or(1)
}

/// The limit on frames times pixels.
const fn max_total_pixels(limits: &Video) -> u64 {
    limits.max_total_megapixels.saturating_mul(1_000_000)
}

fn pixels(parameters: &Parameters) -> u64 {
    let (width, height) = ffi::coded_size(parameters);
    u64::try_from(width).unwrap_or(0) * u64::try_from(height).unwrap_or(0)
}

/// The memory of this number of decoders, in bytes. If they decode one long group of pictures, each is a thread of one
/// decoder and adds a frame.
fn estimate(parameters: &Parameters, decoders: u64) -> u64 {
    let frame = ffi::frame_bytes(parameters).saturating_add(pixels(parameters) * SIDE_BYTES);
    (held_frames(parameters) + WAITING_FRAMES).saturating_mul(decoders).saturating_mul(frame)
}

/// The number of frames that a decoder holds: references, frames that wait to be output in order, and the current one.
fn held_frames(parameters: &Parameters) -> u64 {
    let references_and_delay = match parameters.id().name() {
        "h264" => h264_frames(parameters),
        "hevc" => hevc_frames(parameters),
        "vp8" => 3,
        "vp9" | "av1" => 8,
        "mpeg1video" | "mpeg2video" | "mpeg4" | "h263" | "flv1" => 2,
        _ if ffi::is_intra_only(parameters) => 0,
        _ => MAX_REFERENCES,
    };
    references_and_delay + 1
}

/// The reference frames of an H.264 stream (`max_num_ref_frames`) and its delay, by its sequence parameter sets. The
/// maximum, if there are none.
fn h264_frames(parameters: &Parameters) -> u64 {
    let extradata = ffi::extradata(parameters);
    let found: Vec<(u64, Option<u64>)> = sequence_parameter_sets(extradata)
        .into_iter()
        .map(|sps| {
            let restrictions = sps.vui_parameters.as_ref().and_then(|vui| vui.bitstream_restrictions.as_ref());
            let delay = restrictions.map(|restrictions| u64::from(restrictions.max_num_reorder_frames));
            (u64::from(sps.max_num_ref_frames), delay)
        })
        .collect();
    // Without a delay in the stream, FFmpeg begins with none and increases it when frames are out of order.
    let probed = ffi::video_delay(parameters).max(1);
    let of = |(references, delay): &(u64, Option<u64>)| {
        references.clamp(&1, &MAX_REFERENCES) + delay.unwrap_or(probed).min(MAX_REFERENCES)
    };
    found.iter().map(of).max().unwrap_or(MAX_REFERENCES + probed)
}

/// The sequence parameter sets in an `avcC` record or in Annex B format.
fn sequence_parameter_sets(extradata: &[u8]) -> Vec<SeqParameterSet> {
    if extradata.first() == Some(&1) {
        return parameter_sets(extradata).map(|context| context.sps().cloned().collect()).unwrap_or_default();
    }
    let starts: Vec<usize> =
        extradata.windows(3).enumerate().filter(|(_, bytes)| bytes == &[0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([extradata.len()]);
    let units = starts.iter().zip(ends).map(|(start, end)| &extradata[start + 3..end]);
    units
        .filter(|unit| unit.first().is_some_and(|header| header & 0x1F == 7))
        .filter_map(|unit| SeqParameterSet::from_bits(RefNal::new(unit, &[], true).rbsp_bits()).ok())
        .collect()
}

/// The decoded picture buffer that the level of an HEVC stream allows (ITU-T H.265, section A.4.2).
fn hevc_frames(parameters: &Parameters) -> u64 {
    /// `MaxLumaPs` by `general_level_idc`.
    const LEVELS: [(i32, u64); 9] = [
        (30, 36_864),
        (60, 122_880),
        (63, 245_760),
        (90, 552_960),
        (93, 983_040),
        (123, 2_228_224),
        (156, 8_912_896),
        (186, 35_651_584),
        (i32::MAX, 142_606_336),
    ];
    let (level, picture) = (ffi::level(parameters), pixels(parameters));
    let Some((_, most)) = LEVELS.into_iter().find(|(idc, _)| level <= *idc) else { return MAX_REFERENCES };
    match picture {
        // An unknown level, or one that the picture exceeds.
        _ if level <= 0 || picture > most => MAX_REFERENCES,
        _ if picture <= most / 4 => MAX_REFERENCES,
        _ if picture <= most / 2 => 12,
        _ if picture <= most / 4 * 3 => 8,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::codec::Id;
    use ffmpeg_next::format::Pixel;

    use super::*;
    use crate::config::{ByteSize, Settings};
    use crate::media::ffi::testing;

    fn limits() -> Video {
        Settings::defaults().unwrap().video
    }

    fn stream(id: Id, format: Pixel, size: (i32, i32)) -> Parameters {
        testing::parameters(id, format, size)
    }

    #[test]
    fn estimates_follow_the_codec_the_level_and_the_pixel_format() {
        let uhd = (3840, 2160);
        let of = |parameters: &Parameters| estimate(parameters, 1) / 1_000_000;
        // A frame of 8.3 million pixels with 8 bits at 4:2:0 has 12.4 MB, and 8.3 MB beside it.
        assert_eq!(of(&stream(Id::MJPEG, Pixel::YUV420P, uhd)), 20_736 * 4 / 1000);
        assert_eq!(of(&stream(Id::VP9, Pixel::YUV420P, uhd)), 20_736 * 12 / 1000);
        assert_eq!(of(&stream(Id::VP9, Pixel::YUV444P10LE, uhd)), 58_060 * 12 / 1000);
        let mut hevc = stream(Id::HEVC, Pixel::YUV420P, uhd);
        for (level, frames) in [(153, 6), (186, 16), (150, 6), (120, 16), (0, 16)] {
            testing::set_level(&mut hevc, level);
            assert_eq!(held_frames(&hevc), frames + 1, "level {level}");
        }
        // Without a sequence parameter set, the most is assumed.
        assert_eq!(held_frames(&stream(Id::H264, Pixel::YUV420P, uhd)), 18);
    }

    #[test]
    fn the_default_limits_accept_the_videos_of_phones() {
        for (id, format, size, level) in [
            (Id::H264, Pixel::YUV420P, (3840, 2160), 52),
            (Id::HEVC, Pixel::YUV420P10LE, (3840, 2160), 153),
            (Id::HEVC, Pixel::YUV420P10LE, (4096, 2160), 156),
            (Id::HEVC, Pixel::YUV420P10LE, (5312, 2988), 183),
            (Id::AV1, Pixel::YUV420P10LE, (3840, 2160), 0),
            (Id::PRORES, Pixel::YUV422P10LE, (3840, 2160), 0),
        ] {
            let mut parameters = stream(id, format, size);
            testing::set_level(&mut parameters, level);
            // Two hours at 30 frames a second.
            let frames = if size.0 > 4096 { 60_000 } else { 2 * 3600 * 30 };
            assert!(check(&parameters, Some(frames), &limits()).is_ok(), "{id:?} {size:?}");
            assert!(u64::from(size.0.unsigned_abs()) * u64::from(size.1.unsigned_abs()) <= limits().max_pixels);
        }
    }

    #[test]
    fn too_many_bytes_or_pixels_are_refused_with_their_numbers() {
        let bomb = stream(Id::H264, Pixel::YUV420P, (5984, 5984));
        let refused = check(&bomb, None, &limits()).unwrap_err();
        let ProbeError::TooCostly { resource: Resource::Memory, needed, limit } = refused else { panic!("{refused}") };
        assert!(needed > 1_600_000_000 && limit == 1 << 30, "{needed} of {limit}");
        let long = stream(Id::H264, Pixel::YUV420P, (1920, 1080));
        assert!(check(&long, Some(900_000), &limits()).is_ok());
        let refused = check(&long, Some(1_000_000), &limits()).unwrap_err();
        assert!(matches!(refused, ProbeError::TooCostly { resource: Resource::Pixels, .. }), "{refused}");
    }

    #[test]
    fn decoders_share_the_memory() {
        let uhd = stream(Id::VP9, Pixel::YUV420P, (3840, 2160));
        assert_eq!(decoders(&uhd, 64, &limits()), 2);
        assert_eq!(decoders(&uhd, 1, &limits()), 1);
        assert_eq!(decoders(&stream(Id::VP9, Pixel::YUV420P, (640, 360)), 64, &limits()), 64);
        let small = Video { max_decoder_memory: ByteSize(1), ..limits() };
        assert_eq!(decoders(&uhd, 64, &small), 1);
    }

    #[test]
    fn frames_are_charged_while_they_are_held_and_a_decoder_for_its_peak() {
        let budget = Budget::new(&Video { max_decoder_memory: ByteSize(1000), ..limits() });
        let (one, other) = (Account::new(budget.clone()), Account::new(budget.clone()));
        let held: Vec<Charge> = (0..3).map(|_| one.charge(100, 100).unwrap()).collect();
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 600);
        drop(held);
        // The memory of released frames is used again.
        let _held: Vec<Charge> = (0..3).map(|_| one.charge(100, 100).unwrap()).collect();
        let second = other.charge(100, 100).unwrap();
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 800);
        assert!(budget.check().is_ok());
        assert!(other.charge(200, 100).is_none());
        let error = budget.check().unwrap_err();
        assert!(matches!(error, ProbeError::TooCostly { resource: Resource::Memory, needed: 1100, limit: 1000 }));
        drop(other);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 1100, "the second frame is still held");
        drop(second);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 600);
    }

    #[test]
    fn the_cpu_time_of_all_threads_is_limited() {
        let budget = Budget::with_cpu(&limits(), Duration::from_millis(50));
        let work = || {
            while budget.check().is_ok() {
                std::hint::black_box((0..10_000).sum::<u64>());
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        let error = budget.check().unwrap_err();
        assert!(matches!(error, ProbeError::TooCostly { resource: Resource::CpuTime, needed: 1, limit: 0 }));
        // Time that passes without work does not count.
        let idle = Budget::with_cpu(&limits(), Duration::from_millis(50));
        idle.check().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        idle.check().unwrap();
        idle.count_time(Duration::from_secs(1));
        assert!(idle.check().is_err());
    }

    #[test]
    fn only_the_time_of_the_charged_work_counts_for_sound() {
        let work = |time: Duration| {
            let begun = ffi::thread_cpu_time();
            while ffi::thread_cpu_time().saturating_sub(begun) < time {
                std::hint::black_box((0..10_000).sum::<u64>());
            }
        };
        let budget = SoundBudget::new(&Video { max_cpu_s: 1, ..limits() });
        work(Duration::from_secs(1));
        let half = Duration::from_millis(400);
        assert!(budget.charge(|| work(half)).is_ok() && budget.clone().charge(|| work(half)).is_ok());
        let error = budget.charge(|| work(half)).unwrap_err();
        assert!(
            matches!(error, ProbeError::TooCostly { resource: Resource::CpuTime, needed: 1, limit: 1 }),
            "{error:?}"
        );
    }
}
