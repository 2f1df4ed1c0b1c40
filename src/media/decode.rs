//! Decoders on threads of their own, each for a stretch of a video at a time.
//!
//! Two decoders with a thread each that work on different stretches are a fifth faster than one decoder with two threads,
//! which wait for each other at every frame. A stretch that is too long to be held whole is decoded with several threads.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::Mut;
use ffmpeg_next::codec::{Parameters, decoder, discard::Discard};
use ffmpeg_next::{Packet, Rational, ffi, frame, threading};

use super::clock::StreamClock;
use super::hardware::{Device, Fetcher, is_on_gpu, is_videos_fault};
use super::plan::{Planned, Selection};
use super::probe::check_duration;
use super::{FramesError, ProbeError, container, streams};
use crate::config::Video;
use crate::telemetry::metrics;

/// The parts of a stretch, as they come.
pub(super) type Stretch = Receiver<Vec<Planned<Packet>>>;

/// One stretch to decode.
pub(super) struct Job {
    pub parts: Stretch,
    pub to: SyncSender<Decoded>,
    pub numbering: Numbering,
    /// It does not fit into memory: others will not be ready before it is done.
    pub is_long: bool,
}

/// How it is known which picture is which.
pub(super) enum Numbering {
    /// The packets tell.
    Planned,
    /// By counting what comes out.
    Counted { selection: Selection, clock: StreamClock },
}

/// What comes out of a stretch, in the order in which it is shown; the tally at its end.
pub(super) enum Decoded {
    Picture {
        frame: frame::Video,
        number: u64,
        time_s: f64,
    },
    Tally(Tally),
    Failed(FramesError),
    /// What a GPU gives of this stretch is not to be believed.
    GpuFailed(ffmpeg::Error),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Pictures that should have come out and did not.
    pub lost: u64,
    /// Those among the pictures asked for that should not be looked at.
    pub damage: Damage,
    /// Pictures that were counted, and the clock behind the last, where the packets do not tell.
    pub counted: Option<(u64, StreamClock)>,
}

/// Pictures that the decoder marks as broken or as made up in part, and those of which it makes none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Damage {
    pub pictures: u64,
    /// Times of the first and the last, in seconds.
    pub from_s: f64,
    pub to_s: f64,
}

impl Damage {
    fn add(&mut self, time_s: f64) {
        self.join(Self { pictures: 1, from_s: time_s, to_s: time_s });
    }

    /// Counts those of another stretch as well.
    pub fn join(&mut self, other: Self) {
        match (self.pictures, other.pictures) {
            (_, 0) => {}
            (0, _) => *self = other,
            _ => {
                self.pictures += other.pictures;
                (self.from_s, self.to_s) = (self.from_s.min(other.from_s), self.to_s.max(other.to_s));
            }
        }
    }
}

/// What every decoder of a video needs.
#[derive(Clone)]
pub(super) struct Kit {
    pub parameters: Parameters,
    pub base: Rational,
    pub limits: Video,
    /// Of a decoder that works alone.
    pub threads: usize,
    /// What decodes beside the CPU.
    pub device: Option<&'static Device>,
}

/// The receiver has left: nobody wants more.
struct Left;

/// A decoder, opened when its first stretch comes.
pub(super) struct Worker {
    kit: Kit,
    /// With one thread, and with several.
    single: Option<decoder::Video>,
    several: Option<decoder::Video>,
    fetcher: Fetcher,
}

impl Worker {
    pub fn new(kit: Kit) -> Self {
        Self { kit, single: None, several: None, fetcher: Fetcher::default() }
    }

    /// Decodes a stretch to its end, or until nobody wants it.
    pub fn run(&mut self, job: Job) {
        let Job { parts, to, numbering, is_long } = job;
        let threads = if is_long { self.kit.threads } else { 1 };
        let kept = if is_long { &mut self.several } else { &mut self.single };
        let mut decoder = match kept.take().map_or_else(|| open(&self.kit, threads), Ok) {
            Ok(decoder) => decoder,
            Err(error) => {
                let _ = to.send(Decoded::Failed(self.unopened(error)));
                return;
            }
        };
        let mut run = Run {
            decoder: &mut decoder,
            kit: &self.kit,
            numbering,
            to: &to,
            known: HashMap::new(),
            counted: 0,
            packets: 0,
            damage: Damage::default(),
            broken: HashSet::new(),
            waiting: VecDeque::new(),
            fetcher: &mut self.fetcher,
        };
        if run.stretch(&parts).is_ok() {
            decoder.flush();
            *kept = Some(decoder);
        }
    }
}

impl Worker {
    /// What is said of a decoder that does not open: the header that it was given is the video's, memory and devices are not.
    fn unopened(&self, error: ffmpeg::Error) -> FramesError {
        let is_ours = error == ffmpeg::Error::from(ffi::AVERROR(libc::ENOMEM)) || self.kit.device.is_some();
        if is_ours {
            return FramesError::Decoder(format!("it cannot be opened: {error}"));
        }
        ProbeError::Undecodable { codec: self.kit.parameters.id().name().to_owned() }.into()
    }
}

fn open(kit: &Kit, threads: usize) -> Result<decoder::Video, ffmpeg::Error> {
    let mut context = ffmpeg::codec::Context::from_parameters(kit.parameters.clone())?;
    #[allow(clippy::needless_update, reason = "the bindings to FFmpeg before 6 have a field more")]
    context.set_threading(threading::Config { kind: threading::Type::Frame, count: threads, ..Default::default() });
    if let Some(device) = kit.device {
        device.give(&mut context);
    }
    // SAFETY: the context is ours and not open yet. FFmpeg refuses larger pictures before it makes room for them.
    unsafe {
        (*context.as_mut_ptr()).max_pixels = container::decoder_limit(&kit.limits);
    }
    let mut decoder = context.decoder();
    decoder.set_packet_time_base(kit.base);
    decoder.video()
}

/// What is known of a packet.
#[derive(Debug)]
struct Known {
    shown: Option<(u64, f64)>,
    is_wanted: bool,
    is_lead: bool,
    place: u64,
    needs: Vec<u64>,
}

/// A picture that came out and is asked for.
struct Waiting {
    frame: frame::Video,
    number: u64,
    time_s: f64,
    needs: Vec<u64>,
    /// Pictures that came out since.
    since: usize,
}

/// A stretch on its way.
struct Run<'a> {
    decoder: &'a mut decoder::Video,
    kit: &'a Kit,
    numbering: Numbering,
    to: &'a SyncSender<Decoded>,
    /// What is known of packets that the decoder has, by their place in the order of decoding.
    known: HashMap<i64, Known>,
    counted: u64,
    packets: i64,
    damage: Damage,
    /// Places of pictures that are broken.
    broken: HashSet<u64>,
    /// Those that may be predicted from one that comes out after them.
    waiting: VecDeque<Waiting>,
    fetcher: &'a mut Fetcher,
}

impl Run<'_> {
    fn stretch(&mut self, parts: &Stretch) -> Result<(), Left> {
        for part in parts {
            for packet in part {
                self.packet(packet)?;
            }
        }
        let ended = self.decoder.send_eof();
        self.check(ended)?;
        self.receive()?;
        self.send(0)?;
        let lost = self.known.values().filter(|known| known.shown.is_some()).count() as u64;
        self.has_lost(u64::MAX)?;
        for known in self.known.values().filter(|known| known.is_wanted && !known.is_lead) {
            if let Some((_, time_s)) = known.shown {
                self.damage.add(time_s);
            }
        }
        let counted = match &self.numbering {
            Numbering::Planned => None,
            Numbering::Counted { clock, .. } => Some((self.counted, clock.clone())),
        };
        self.to.send(Decoded::Tally(Tally { lost, damage: self.damage, counted })).map_err(|_| Left)
    }

    fn packet(&mut self, planned: Planned<Packet>) -> Result<(), Left> {
        let Planned { mut packet, shown, is_wanted, may_be_rough, is_lead, place, needs } = planned;
        if matches!(self.numbering, Numbering::Planned) {
            // Time stamps may be doubled or missing; a place in the order is neither, and comes out with the picture.
            packet.set_pts(Some(self.packets));
            packet.set_dts(None);
            self.known.insert(self.packets, Known { shown, is_wanted, is_lead, place, needs });
            self.packets += 1;
        }
        self.decoder.skip_loop_filter(if may_be_rough { Discard::All } else { Discard::Default });
        // A damaged packet is skipped, as players do, and so is one that only a key opens. A packet without data would be taken
        // for the end.
        // SAFETY: the packet is ours.
        if unsafe { (*packet.as_mut_ptr()).size } > 0 && !streams::is_locked(&packet) {
            let sent = self.decoder.send_packet(&packet);
            self.check(sent)?;
        }
        self.receive()
    }

    /// Whatever a damaged packet does to the decoder is passed over; what a GPU does to it is not.
    fn check(&self, done: Result<(), ffmpeg::Error>) -> Result<(), Left> {
        match done {
            Err(error) if self.kit.device.is_some() && !is_videos_fault(error) => Err(self.gpu_failed(error)),
            _ => Ok(()),
        }
    }

    /// Pictures come in the order in which they are shown: one wanted before this that the GPU did not give is lost. Of damaged
    /// ones, the CPU shows what can be shown.
    fn has_lost(&self, number: u64) -> Result<(), Left> {
        let is_before = |known: &Known| known.is_wanted && known.shown.is_some_and(|(wanted, _)| wanted < number);
        if self.kit.device.is_some() && self.known.values().any(is_before) {
            return Err(self.gpu_failed(ffmpeg::Error::InvalidData));
        }
        Ok(())
    }

    fn gpu_failed(&self, error: ffmpeg::Error) -> Left {
        let _ = self.to.send(Decoded::GpuFailed(error));
        Left
    }

    /// Takes what the decoder has ready.
    fn receive(&mut self) -> Result<(), Left> {
        loop {
            let mut frame = frame::Video::empty();
            let received = self.decoder.receive_frame(&mut frame);
            if received.is_err() {
                return self.check(received);
            }
            let is_broken = frame.is_corrupt() || frame.has_decode_errors();
            let (wanted, needs) = match &mut self.numbering {
                Numbering::Planned => {
                    let Some(known) = frame.pts().and_then(|place| self.known.remove(&place)) else { continue };
                    if is_broken {
                        self.broken.insert(known.place);
                    }
                    (known.shown.filter(|_| known.is_wanted), known.needs)
                }
                Numbering::Counted { selection, clock } => {
                    let number = self.counted;
                    self.counted += 1;
                    let time_s = clock.tick(stamp(&frame, self.kit.base));
                    if let Err(error) = check_duration(time_s, &self.kit.limits) {
                        let _ = self.to.send(Decoded::Failed(error.into()));
                        return Err(Left);
                    }
                    (selection.asks_for(number).then_some((number, time_s)), Vec::new())
                }
            };
            for waiting in &mut self.waiting {
                waiting.since += 1;
            }
            match wanted {
                Some((_, time_s)) if is_broken => self.damage.add(time_s),
                Some((number, time_s)) => {
                    self.has_lost(number)?;
                    self.waiting.push_back(Waiting { frame, number, time_s, needs, since: 0 });
                }
                None => {}
            }
            // SAFETY: the decoder is open.
            let behind = usize::try_from(unsafe { (*self.decoder.as_ptr()).has_b_frames }).unwrap_or(0);
            self.send(behind)?;
        }
    }

    /// Hands on the pictures that no longer wait: none that they are predicted from can come out after so many others.
    fn send(&mut self, behind: usize) -> Result<(), Left> {
        let is_on_device = self.kit.device.is_some();
        let may_go = |waiting: &Waiting| waiting.needs.is_empty() || is_on_device || waiting.since >= behind;
        while self.waiting.front().is_some_and(may_go) {
            let Some(Waiting { frame, number, time_s, needs, .. }) = self.waiting.pop_front() else { break };
            // What is predicted from a broken picture shows its faults.
            if needs.iter().any(|place| self.broken.contains(place)) {
                self.damage.add(time_s);
                continue;
            }
            metrics().decoded(if is_on_gpu(&frame) { "gpu" } else { "cpu" });
            let frame = match self.fetcher.fetch(frame) {
                Ok(frame) => frame,
                Err(error) => return Err(self.gpu_failed(error)),
            };
            self.to.send(Decoded::Picture { frame, number, time_s }).map_err(|_| Left)?;
        }
        Ok(())
    }
}

/// The time stamp of a decoded frame in seconds, or the decoder's best guess.
fn stamp(frame: &frame::Video, base: Rational) -> Option<f64> {
    let ticks = frame.timestamp().filter(|ticks| *ticks != ffi::AV_NOPTS_VALUE)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    Some(ticks as f64 * f64::from(base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::test_files;

    const PICTURES: usize = 40;

    fn vulkan() -> Option<&'static Device> {
        Some(Box::leak(Box::new(Device::vulkan())))
    }

    /// Decodes the beginning of a clip, all pictures of it wanted but none of the packet that is left out: what came out, with the
    /// number and the luma of pictures, and how it ended.
    fn decoded(device: Option<&'static Device>, left_out: Option<usize>) -> (Vec<(u64, Vec<u8>)>, Decoded) {
        let clip = test_files::clip("single_face.mp4");
        let mut input = ffmpeg::format::input(&clip).unwrap();
        let stream = input.streams().best(ffmpeg::media::Type::Video).unwrap();
        let (index, base, parameters) = (stream.index(), stream.time_base(), stream.parameters());
        let packets = input.packets().filter(|(stream, _)| stream.index() == index).map(|(_, packet)| packet);
        let packets: Vec<Packet> = packets.take(PICTURES).collect();
        let stamps: Vec<_> = packets.iter().map(Packet::pts).collect();
        let number = |packet: &Packet| stamps.iter().filter(|stamp| **stamp < packet.pts()).count() as u64;
        let planned = packets.into_iter().enumerate().map(|(n, packet)| {
            let shown = Some((number(&packet), 0.0));
            let packet = if left_out == Some(n) { Packet::empty() } else { packet };
            Planned { shown, ..Planned::plain(packet) }
        });
        let (to_worker, parts) = std::sync::mpsc::sync_channel(1);
        to_worker.send(planned.collect()).unwrap();
        drop(to_worker);
        let (to, from) = std::sync::mpsc::sync_channel(PICTURES + 1);
        let limits = Settings::defaults().unwrap().video;
        let job = Job { parts, to, numbering: Numbering::Planned, is_long: false };
        Worker::new(Kit { parameters, base, limits, threads: 1, device }).run(job);
        let (mut pictures, mut end) = (Vec::new(), None);
        for decoded in from {
            match decoded {
                Decoded::Picture { frame, number, .. } => {
                    let lines = frame.data(0).chunks(frame.stride(0));
                    let lines = lines.flat_map(|line| line[..frame.width() as usize].iter().copied());
                    pictures.push((number, lines.collect()));
                }
                last => end = Some(last),
            }
        }
        (pictures, end.unwrap())
    }

    #[test]
    fn what_a_device_does_not_decode_is_decoded_on_the_cpu() {
        let (on_cpu, _) = decoded(None, None);
        assert_eq!(
            on_cpu.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            (0..PICTURES as u64).collect::<Vec<_>>()
        );
        let (with_device, end) = decoded(vulkan(), None);
        assert!(matches!(end, Decoded::Tally(Tally { lost: 0, .. })));
        assert!(with_device == on_cpu);
    }

    #[test]
    fn a_picture_that_is_lost_is_counted_and_ends_what_a_gpu_decodes() {
        for left_out in [20, PICTURES - 1] {
            let (on_cpu, end) = decoded(None, Some(left_out));
            assert!(matches!(end, Decoded::Tally(Tally { lost: 1, .. })));
            let lost = (0..).zip(&on_cpu).find(|(n, (number, _))| n != number).map_or(PICTURES as u64 - 1, |(n, _)| n);
            let (with_device, end) = decoded(vulkan(), Some(left_out));
            assert!(matches!(end, Decoded::GpuFailed(_)));
            assert!(with_device.iter().map(|(number, _)| *number).eq(0..lost), "nothing behind the lost one");
        }
    }
}
