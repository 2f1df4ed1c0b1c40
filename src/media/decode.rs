//! Decodes groups of pictures (GOPs) on threads of their own.
//!
//! Two single-threaded decoders that work on different GOPs are 20 % faster than one decoder with two threads, as frame
//! threads wait for each other at every frame. A GOP that is too long to be held in memory is decoded with several
//! threads, unless that hides damage.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::Id;
use ffmpeg_next::codec::{Parameters, decoder, discard::Discard};
use ffmpeg_next::{Packet, Rational, ffi as sys, frame, picture, threading};

use super::budget::Budget;
use super::clock::{StreamClock, stamp_s};
use super::damage::{AnchorChain, Damage, DamageChain, FrameType};
use super::ffi::{self, ChargedDecoder, is_on_gpu};
use super::gop::PlannedPacket;
use super::hardware::{FrameDownloader, HwDevice, is_input_error};
use super::limits::check_duration;
use super::selection::Selection;
use super::{FramesError, ProbeError, codecs};
use crate::config::Video;
use crate::telemetry::metrics;

/// The size limit for frames that are held back until it is known whether they are damaged, in bytes. If there are
/// more, the first one is taken for intact.
const MAX_HELD_BACK_BYTES: usize = 16 << 20;
/// At least this number of frames may be held back. Most encoders put three B pictures between two others.
const MIN_HELD_BACK: usize = 3;

/// The packets of a GOP, in parts.
pub(super) type Gop = Receiver<Vec<PlannedPacket<Packet>>>;

/// A GOP to decode.
pub(super) struct DecodeJob {
    pub gop: Gop,
    pub output: SyncSender<Decoded>,
    pub numbering: Numbering,
    /// The GOP does not fit into memory. Other GOPs arrive only once it is decoded.
    pub is_long: bool,
}

/// How frames get their numbers.
pub(super) enum Numbering {
    /// The planner numbered them.
    Planned,
    /// The decoder counts the frames that it outputs.
    Counted { selection: Selection, clock: StreamClock },
}

/// The output of decoding a GOP: its sampled frames in presentation order, then a summary.
pub(super) enum Decoded {
    Frame {
        frame: frame::Video,
        number: u64,
        time_s: f64,
    },
    Done(GopSummary),
    Failed(FramesError),
    /// The GPU failed. The GOP has to be decoded on the CPU.
    GpuFailed(ffmpeg::Error),
}

#[derive(Debug, Clone, Default)]
pub(super) struct GopSummary {
    /// Planned frames that the decoder did not output.
    pub lost: u64,
    /// Sampled frames that were dropped because they are damaged.
    pub damage: Damage,
    /// The number of frames, and the clock after the last one, for [`Numbering::Counted`].
    pub counted: Option<(u64, StreamClock)>,
}

/// The configuration of all decoders of a video.
#[derive(Clone)]
pub(super) struct DecoderConfig {
    pub parameters: Parameters,
    pub time_base: Rational,
    pub limits: Video,
    /// The number of threads for a GOP that is decoded alone.
    pub threads: usize,
    /// The GPU to decode on, if any.
    pub device: Option<&'static HwDevice>,
    /// The cost of all decoders of the video.
    pub budget: Arc<Budget>,
}

/// The receiver of the frames was dropped, or was told of a failure.
struct Stopped;

/// Decodes one GOP after another. The decoder is opened when the first GOP arrives and is used again, unless the next
/// GOP needs another number of threads.
pub(super) struct GopDecoder {
    config: DecoderConfig,
    /// The decoder, and its number of threads.
    kept: Option<(ChargedDecoder, usize)>,
    downloader: FrameDownloader,
}

impl GopDecoder {
    pub fn new(config: DecoderConfig) -> Self {
        Self { config, kept: None, downloader: FrameDownloader::default() }
    }

    /// Decodes a GOP to its end, or until the receiver is dropped.
    pub fn run(&mut self, job: DecodeJob) {
        let DecodeJob { gop, output, numbering, is_long } = job;
        let threads = if is_long && !needs_one_thread(self.config.parameters.id()) { self.config.threads } else { 1 };
        let kept = self.kept.take().filter(|(_, kept_threads)| *kept_threads == threads);
        let mut decoder = match kept.map_or_else(|| open(&self.config, threads), |(decoder, _)| Ok(decoder)) {
            Ok(decoder) => decoder,
            Err(error) => {
                let _ = output.send(Decoded::Failed(self.open_error(error)));
                return;
            }
        };
        let has_own_threads = threads > 1 && ffi::has_own_threads(&decoder);
        let mut run = GopRun {
            decoder: &mut decoder,
            has_own_threads,
            config: &self.config,
            numbering,
            output: &output,
            in_decoder: HashMap::new(),
            counted: 0,
            packets_sent: 0,
            damage: Damage::default(),
            chain: DamageChain::default(),
            anchors: AnchorChain::default(),
            held_back: VecDeque::new(),
            last_output: None,
            downloader: &mut self.downloader,
        };
        if run.decode(&gop).is_ok() {
            decoder.flush();
            self.kept = Some((decoder, threads));
        }
    }

    /// The error for a decoder that cannot be opened. A lack of memory or a GPU error is a decoder error. Any other
    /// cause is the header of the video.
    fn open_error(&self, error: ffmpeg::Error) -> FramesError {
        if error == ffmpeg::Error::from(sys::AVERROR(libc::ENOMEM)) || self.config.device.is_some() {
            return FramesError::Decoder(format!("it cannot be opened: {error}"));
        }
        ProbeError::Undecodable { codec: self.config.parameters.id().name().to_owned() }.into()
    }
}

/// Before FFmpeg 6, a program has to declare that its callbacks may be called on any thread. The bindings to FFmpeg 6
/// and later do not have this function of `Config`. Then this trait provides it.
#[allow(dead_code, reason = "unused before FFmpeg 6")]
trait SafeCallbacks {
    fn safe(_: bool) -> threading::Config {
        threading::Config::default()
    }
}

impl SafeCallbacks for threading::Config {}

/// Whether only one thread tells reliably which frames are damaged. A decoder that conceals damage sets flags of the
/// frame, but those of a frame that another thread outputs may be lost. FFmpeg 6.1 shares the flags between the threads
/// of the H.264 decoder.
fn needs_one_thread(id: Id) -> bool {
    const FFMPEG_6_1: u32 = 60 << 16 | 31 << 8;
    match id {
        Id::H264 => ffmpeg::codec::version() < FFMPEG_6_1,
        Id::MPEG4 | Id::H263 | Id::FLV1 => true,
        _ => false,
    }
}

fn open(config: &DecoderConfig, threads: usize) -> Result<ChargedDecoder, ffmpeg::Error> {
    let mut context = ffmpeg::codec::Context::from_parameters(config.parameters.clone())?;
    #[allow(clippy::needless_update, reason = "the bindings to FFmpeg before 6 have a field more")]
    context.set_threading(threading::Config {
        kind: threading::Type::Frame,
        count: threads,
        ..threading::Config::safe(true)
    });
    if let Some(device) = config.device {
        device.attach_to(&mut context);
    }
    codecs::restrict(&mut context, &config.limits)?;
    ffi::open_decoder(context, Some(config.time_base), &config.budget)
}

/// A packet that the decoder has not output a frame for yet.
#[derive(Debug)]
struct InDecoder {
    shown: Option<(u64, f64)>,
    is_sampled: bool,
    is_before_first_key: bool,
    follows_gap: bool,
    decode_index: u64,
}

/// A sampled frame that is held back until all its references were output, as one of them may be damaged.
struct HeldBack {
    frame: frame::Video,
    number: u64,
    time_s: f64,
    references: References,
}

/// The state of the reference frames of a frame.
#[derive(Debug, Clone, Copy)]
enum References {
    /// They are in the [`DamageChain`], under this decode index.
    Known(u64),
    /// The next frame that is not of type B may be one of them.
    Ahead,
    /// None of them is damaged.
    Intact,
    Damaged,
}

/// The state of decoding one GOP.
struct GopRun<'a> {
    decoder: &'a mut decoder::Video,
    /// The decoder uses threads that FFmpeg does not know.
    has_own_threads: bool,
    config: &'a DecoderConfig,
    numbering: Numbering,
    output: &'a SyncSender<Decoded>,
    /// The packets in the decoder, by the order in which they were sent.
    in_decoder: HashMap<i64, InDecoder>,
    /// The number of frames that the decoder output, for [`Numbering::Counted`].
    counted: u64,
    packets_sent: i64,
    damage: Damage,
    /// For [`Numbering::Planned`].
    chain: DamageChain,
    /// For [`Numbering::Counted`].
    anchors: AnchorChain,
    held_back: VecDeque<HeldBack>,
    /// The number of the last frame that was output.
    last_output: Option<u64>,
    downloader: &'a mut FrameDownloader,
}

impl GopRun<'_> {
    fn decode(&mut self, gop: &Gop) -> Result<(), Stopped> {
        for part in gop {
            for packet in part {
                self.packet(packet)?;
            }
        }
        let ended = self.decoder.send_eof();
        self.check(ended)?;
        self.receive()?;
        self.chain.finish();
        decide_ahead(&mut self.held_back, false);
        self.output_frames()?;
        let lost = self.in_decoder.values().filter(|packet| packet.shown.is_some()).count() as u64;
        self.check_lost(u64::MAX)?;
        for packet in self.in_decoder.values().filter(|packet| packet.is_sampled && !packet.is_before_first_key) {
            if let Some((_, time_s)) = packet.shown {
                self.damage.add(time_s);
            }
        }
        let counted = match &self.numbering {
            Numbering::Planned => None,
            Numbering::Counted { clock, .. } => Some((self.counted, clock.clone())),
        };
        self.output.send(Decoded::Done(GopSummary { lost, damage: self.damage, counted })).map_err(|_| Stopped)
    }

    /// Sends a packet to the decoder.
    fn packet(&mut self, planned: PlannedPacket<Packet>) -> Result<(), Stopped> {
        let PlannedPacket {
            mut packet,
            shown,
            is_sampled,
            skip_loop_filter,
            is_before_first_key,
            follows_gap,
            decode_index,
            references,
        } = planned;
        let is_planned = matches!(self.numbering, Numbering::Planned);
        if is_planned {
            // The index replaces the time stamp, which may be missing or not unique. The decoder copies it to the
            // frame.
            packet.set_pts(Some(self.packets_sent));
            packet.set_dts(None);
            self.chain.add(decode_index, references);
            let packet = InDecoder { shown, is_sampled, is_before_first_key, follows_gap, decode_index };
            self.in_decoder.insert(self.packets_sent, packet);
            self.packets_sent += 1;
        }
        self.decoder.skip_loop_filter(if skip_loop_filter { Discard::All } else { Discard::Default });
        // An encrypted packet is skipped. An empty packet is skipped too, as the decoder takes it for the end of the
        // stream.
        let sent = if packet.size() > 0 && !ffi::is_encrypted(&packet) {
            let since = Instant::now();
            let sent = self.decoder.send_packet(&packet);
            if self.has_own_threads {
                self.config.budget.count_time(since.elapsed());
            }
            self.check_budget()?;
            sent
        } else {
            Err(ffmpeg::Error::InvalidData)
        };
        if sent.is_err() && is_planned {
            self.chain.refused(decode_index);
        }
        self.check(sent)?;
        self.receive()
    }

    /// Stops if decoding the video has exceeded its budget.
    fn check_budget(&self) -> Result<(), Stopped> {
        self.config.budget.check().map_err(|error| {
            let _ = self.output.send(Decoded::Failed(error.into()));
            Stopped
        })
    }

    /// Ignores errors from damaged packets, as players do. Any other error of a GPU decoder ends decoding on the GPU.
    fn check(&self, result: Result<(), ffmpeg::Error>) -> Result<(), Stopped> {
        match result {
            Err(error) if self.config.device.is_some() && !is_input_error(error) => Err(self.gpu_failed(error)),
            _ => Ok(()),
        }
    }

    /// Checks that a GPU decoder output every sampled frame before this number. A decoder outputs frames in
    /// presentation order, so a missing one is lost. A CPU decoder conceals damage where it can.
    fn check_lost(&self, number: u64) -> Result<(), Stopped> {
        let is_lost = |packet: &InDecoder| packet.is_sampled && packet.shown.is_some_and(|(shown, _)| shown < number);
        if self.config.device.is_some() && self.in_decoder.values().any(is_lost) {
            return Err(self.gpu_failed(ffmpeg::Error::InvalidData));
        }
        Ok(())
    }

    fn gpu_failed(&self, error: ffmpeg::Error) -> Stopped {
        let _ = self.output.send(Decoded::GpuFailed(error));
        Stopped
    }

    /// Receives all frames that the decoder has ready.
    fn receive(&mut self) -> Result<(), Stopped> {
        loop {
            let mut frame = frame::Video::empty();
            let since = Instant::now();
            let received = self.decoder.receive_frame(&mut frame);
            if self.has_own_threads {
                self.config.budget.count_time(since.elapsed());
            }
            self.check_budget()?;
            if received.is_err() {
                return self.check(received);
            }
            // dav1d allocates its frames itself.
            if !ffi::is_charged(&frame) {
                self.config.budget.count_pixels(u64::from(frame.width()) * u64::from(frame.height()));
            }
            let mut is_damaged = frame.is_corrupt() || frame.has_decode_errors();
            let (sampled, references) = match &mut self.numbering {
                Numbering::Planned => {
                    let Some(packet) = frame.pts().and_then(|index| self.in_decoder.remove(&index)) else { continue };
                    is_damaged |= packet.follows_gap;
                    self.chain.output(packet.decode_index, is_damaged);
                    (packet.shown.filter(|_| packet.is_sampled), References::Known(packet.decode_index))
                }
                Numbering::Counted { selection, clock } => {
                    // The best-effort time stamp.
                    let stamp_s = stamp_s(frame.timestamp(), f64::from(self.config.time_base));
                    if clock.hides(stamp_s) {
                        continue;
                    }
                    let number = self.counted;
                    self.counted += 1;
                    let time_s = clock.tick(stamp_s);
                    if let Err(error) = check_duration(time_s, &self.config.limits) {
                        let _ = self.output.send(Decoded::Failed(error.into()));
                        return Err(Stopped);
                    }
                    let frame_type = frame_type(&frame);
                    is_damaged = self.anchors.next(frame_type, is_damaged);
                    let is_ahead = frame_type == FrameType::Bidirectional;
                    if !is_ahead {
                        decide_ahead(&mut self.held_back, is_damaged);
                    }
                    let sampled = selection.selects(number).then_some((number, time_s));
                    (sampled, if is_ahead { References::Ahead } else { References::Intact })
                }
            };
            match sampled {
                Some((_, time_s)) if is_damaged => self.damage.add(time_s),
                Some((number, time_s)) => {
                    self.check_lost(number)?;
                    self.held_back.push_back(HeldBack { frame, number, time_s, references });
                }
                None => {}
            }
            self.output_frames()?;
        }
    }

    /// Outputs the frames that are known to be intact, up to the first one that is not decided.
    fn output_frames(&mut self) -> Result<(), Stopped> {
        while let Some(held) = self.held_back.pop_front() {
            let is_damaged = match held.references {
                // A damaged video is decoded on the CPU.
                _ if self.config.device.is_some() => Some(false),
                References::Known(decode_index) => self.chain.is_damaged(decode_index),
                References::Ahead => None,
                References::Intact => Some(false),
                References::Damaged => Some(true),
            };
            let HeldBack { frame, number, time_s, .. } = match is_damaged {
                None if self.held_back.len() < max_held_back(&held.frame) => {
                    self.held_back.push_front(held);
                    break;
                }
                Some(true) => {
                    self.damage.add(held.time_s);
                    continue;
                }
                Some(false) | None => held,
            };
            // The order of the frames in the stream contradicts their time stamps.
            if self.last_output.is_some_and(|last| number < last) {
                self.damage.add(time_s);
                continue;
            }
            self.last_output = Some(number);
            metrics().decoded(if is_on_gpu(&frame) { "gpu" } else { "cpu" });
            let frame = match self.downloader.download(frame) {
                Ok(frame) => frame,
                Err(error) => return Err(self.gpu_failed(error)),
            };
            self.output.send(Decoded::Frame { frame, number, time_s }).map_err(|_| Stopped)?;
        }
        Ok(())
    }
}

/// The number of frames of this size that may be held back.
fn max_held_back(frame: &frame::Video) -> usize {
    let bytes = frame.width() as usize * frame.height() as usize * 3 / 2;
    (MAX_HELD_BACK_BYTES / bytes.max(1)).max(MIN_HELD_BACK)
}

/// Decides on the frames that wait for the next frame that is not of type B.
fn decide_ahead(held_back: &mut VecDeque<HeldBack>, is_damaged: bool) {
    for held in held_back {
        if matches!(held.references, References::Ahead) {
            held.references = if is_damaged { References::Damaged } else { References::Intact };
        }
    }
}

fn frame_type(frame: &frame::Video) -> FrameType {
    match frame.kind() {
        picture::Type::I | picture::Type::SI | picture::Type::BI => FrameType::Intra,
        picture::Type::B => FrameType::Bidirectional,
        _ => FrameType::Predicted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::test_files;

    const FRAMES: usize = 40;

    fn vulkan() -> Option<&'static HwDevice> {
        Some(Box::leak(Box::new(HwDevice::vulkan())))
    }

    /// Decodes the first packets of a clip, all of them sampled, without the packet `left_out`. Returns the number and
    /// the luma plane of each frame, and the last message.
    fn decoded(device: Option<&'static HwDevice>, left_out: Option<usize>) -> (Vec<(u64, Vec<u8>)>, Decoded) {
        let clip = test_files::clip("single_face.mp4");
        let mut input = ffmpeg::format::input(&clip).unwrap();
        let stream = input.streams().best(ffmpeg::media::Type::Video).unwrap();
        let (index, time_base, parameters) = (stream.index(), stream.time_base(), stream.parameters());
        let packets = input.packets().filter(|(stream, _)| stream.index() == index).map(|(_, packet)| packet);
        let packets: Vec<Packet> = packets.take(FRAMES).collect();
        let stamps: Vec<_> = packets.iter().map(Packet::pts).collect();
        let number = |packet: &Packet| stamps.iter().filter(|stamp| **stamp < packet.pts()).count() as u64;
        let planned = packets.into_iter().enumerate().map(|(n, packet)| {
            let shown = Some((number(&packet), 0.0));
            let packet = if left_out == Some(n) { Packet::empty() } else { packet };
            PlannedPacket { shown, decode_index: n as u64, ..PlannedPacket::unparsed(packet) }
        });
        let (to_decoder, gop) = std::sync::mpsc::sync_channel(1);
        to_decoder.send(planned.collect()).unwrap();
        drop(to_decoder);
        let (output, messages) = std::sync::mpsc::sync_channel(FRAMES + 1);
        let limits = Settings::defaults().unwrap().video;
        let job = DecodeJob { gop, output, numbering: Numbering::Planned, is_long: false };
        let budget = Budget::new(&limits);
        GopDecoder::new(DecoderConfig { parameters, time_base, limits, threads: 1, device, budget }).run(job);
        let (mut frames, mut end) = (Vec::new(), None);
        for message in messages {
            match message {
                Decoded::Frame { frame, number, .. } => {
                    let lines = frame.data(0).chunks(frame.stride(0));
                    let lines = lines.flat_map(|line| line[..frame.width() as usize].iter().copied());
                    frames.push((number, lines.collect()));
                }
                last => end = Some(last),
            }
        }
        (frames, end.unwrap())
    }

    #[test]
    fn a_device_that_does_not_support_the_codec_falls_back_to_the_cpu() {
        let (on_cpu, _) = decoded(None, None);
        assert_eq!(
            on_cpu.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            (0..FRAMES as u64).collect::<Vec<_>>()
        );
        let (with_device, end) = decoded(vulkan(), None);
        assert!(matches!(end, Decoded::Done(GopSummary { lost: 0, .. })));
        assert!(with_device == on_cpu);
    }

    #[test]
    fn a_lost_frame_is_counted_on_the_cpu_and_is_a_failure_on_a_gpu() {
        for left_out in [20, FRAMES - 1] {
            let (on_cpu, end) = decoded(None, Some(left_out));
            assert!(matches!(end, Decoded::Done(GopSummary { lost: 1, .. })));
            let lost = (0..).zip(&on_cpu).find(|(n, (number, _))| n != number).map_or(FRAMES as u64 - 1, |(n, _)| n);
            let (with_device, end) = decoded(vulkan(), Some(left_out));
            assert!(matches!(end, Decoded::GpuFailed(_)));
            assert!(with_device.iter().map(|(number, _)| *number).eq(0..lost), "no frame after the lost one");
        }
    }
}
