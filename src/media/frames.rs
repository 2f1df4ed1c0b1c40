//! Pictures of a video: every n-th frame, and as little decoding as these need.
//!
//! One thread reads packets and plans ([`super::plan`]), others decode ([`super::decode`]), and whoever asks for the next
//! picture converts it. Each has little room before it waits for the next, so what is held of a video stays small.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use opencv::core::Mat;

use super::clock::{StreamClock, Told};
use super::decode::{Damage, Decoded, Kit, Worker};
use super::geometry::Placement;
use super::hardware::{self, Device};
use super::opened::{empty, undecodable};
use super::picture::Converter;
use super::plan::Selection;
use super::reader::{Item, Read, Reader};
use super::tail::{Cause, look};
use super::{FramesError, Opened, Probe, Source};
use crate::analysis::Sampling;
use crate::config::{Hwaccel, Video};

/// Pictures that end this much before the container's end ask for a second look, in seconds.
const EARLY_END_S: f64 = 1.0;
/// A container that says less than this too little is right, in seconds.
const SHORT_S: f64 = 0.05;
/// Decoded frames of one stretch that may wait take this many bytes (but always one may).
const WAITING_BYTES: u64 = 4 << 20;
/// How often a wait is interrupted to ask whether to go on.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Videos that are being decoded in this process.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Which frames are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    /// Every so manieth frame, beginning with the first.
    pub frames: u32,
    /// Those very frames, or others near them that cost less.
    pub sampling: Sampling,
}

impl Every {
    /// Those very frames.
    pub const fn exact(frames: u32) -> Self {
        Self { frames, sampling: Sampling::Exact }
    }
}

/// A sampled frame.
pub struct Sample {
    /// Index of the sample, from 0.
    pub index: u32,
    /// Seconds from the start of the video (where its sound or its pictures begin), from the stream's own time stamps; above
    /// the sample before.
    pub time_s: f64,
    /// Upright, with square pixels, BGR, 8 bits a channel.
    pub picture: Mat,
    /// Where it lies in the video, whose pictures may change their size.
    pub placement: Placement,
}

/// How the pictures ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct End {
    /// Frames of the video, whether or not they had to be decoded.
    pub frames_total: u64,
    /// Seconds from the start of the video to the end of the last frame.
    pub end_s: f64,
    /// Width and height of the first picture as a player shows it.
    pub size: (u32, u32),
    /// Seconds from the start of the video to the end of its longest track: as the container says where that is so.
    pub duration_s: f64,
    /// Mean frames a second: as the container says where that is so.
    pub fps: f64,
    /// Sentences for the reader about what is damaged, and what the file says that is not so.
    pub warnings: Vec<String>,
}

/// The sampled frames of a video from the first to the last.
pub struct Frames {
    source: Source,
    selection: Selection,
    sampling: Sampling,
    limits: Video,
    probe: Probe,
    /// The stretch whose pictures come now. Dropped before the threads, whose end is waited for: one of them may wait
    /// for room here.
    current: Option<Receiver<Decoded>>,
    threads: Threads,
    converter: Converter,
    /// What decodes beside the CPU, and by what error it ended if it did: then the CPU decodes alone.
    device: Option<&'static Device>,
    gpu_failed: Option<ffmpeg_next::Error>,
    samples: u32,
    /// The number of the last picture that was given.
    given: Option<u64>,
    /// Frames passed so far; all of them once the end has come.
    passed: u64,
    lost: u64,
    damage: Damage,
    end_s: f64,
    fps: f64,
    read: Read,
}

/// The threads behind [`Frames`]; they end with it.
struct Threads {
    items: Option<Receiver<Item>>,
    given_up: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
    is_stopped: bool,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Threads {
    /// Waits for their end, once.
    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_stopped, true) {
            return;
        }
        self.given_up.store(true, Ordering::Relaxed);
        // Whoever waits for room notices that nobody takes anything any more.
        self.items = None;
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Frames {
    /// Begins to decode an open video, as far as there is room for its pictures.
    pub fn start(video: Opened, every: Every) -> Result<Self, FramesError> {
        Self::select(video, Selection::Every(every.frames.max(1).into()), every.sampling)
    }

    /// As [`Frames::start`], for `count` frames that are evenly spread over `of` of the video.
    pub fn spread(video: Opened, count: u64, of: u64) -> Result<Self, FramesError> {
        Self::select(video, Selection::Spread { count, of }, Sampling::Exact)
    }

    fn select(video: Opened, selection: Selection, sampling: Sampling) -> Result<Self, FramesError> {
        let (source, limits, probe, packets) = video.into_parts();
        let given_up = packets.given_up().clone();
        let reader = Reader::new(packets)?;
        let (parameters, base) = (reader.parameters(), reader.base());
        let device = hardware::device(limits.hwaccel)?
            .filter(|device| reader.tells_what_is_shown() && device.decodes(&parameters));

        let running = RUNNING.fetch_add(1, Ordering::Relaxed) + 1;
        // The videos that run share the cores.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = if device.is_some() { hardware::DECODERS } else { usize::MAX };
        let decoders = (cores / running).clamp(1, most);
        let (to, items) = sync_channel(decoders);
        let mut threads = Threads { items: Some(items), given_up, handles: Vec::new(), is_stopped: false };

        let frame_bytes = u64::from(probe.width) * u64::from(probe.height) * 3 / 2;
        let room = usize::try_from((WAITING_BYTES / frame_bytes.max(1)).clamp(1, 16)).unwrap_or(1);
        let kit = Kit { parameters, base, limits: limits.clone(), threads: decoders, device };
        let Probe { fps, coded_fps, duration_s, zero_s, first_s, .. } = probe;
        let clock = StreamClock::new(Told { fps, coded_fps, duration_s, zero_s, first_s });
        let limits_of_reader = limits.clone();

        let (jobs, taken) = sync_channel(0);
        let taken = Arc::new(Mutex::new(taken));
        let broken = |error: std::io::Error| FramesError::Decoder(format!("a thread did not start: {error}"));
        for _ in 0..decoders {
            let (kit, taken) = (kit.clone(), taken.clone());
            let work = move || {
                step_back();
                let mut worker = Worker::new(kit);
                loop {
                    let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    worker.run(job);
                }
            };
            let handle = std::thread::Builder::new().name("decoder".to_owned()).spawn(work).map_err(broken)?;
            threads.handles.push(handle);
        }
        let read = move || reader.run((selection, sampling), clock, &limits_of_reader, room, &jobs, &to);
        threads.handles.push(std::thread::Builder::new().name("packets".to_owned()).spawn(read).map_err(broken)?);
        let converter = Converter::new(probe.shown, limits.max_pixels);
        Ok(Self {
            source,
            limits,
            probe,
            threads,
            current: None,
            converter,
            selection,
            sampling,
            device,
            gpu_failed: None,
            given: None,
            samples: 0,
            passed: 0,
            lost: 0,
            damage: Damage::default(),
            end_s: 0.0,
            fps: 0.0,
            read: Read::default(),
        })
    }

    /// Turns the pictures that come from now on clockwise, beyond what a player does. Their places tell where they were.
    pub const fn turn(&mut self, quarter_turns: u8) {
        self.converter.turn(quarter_turns);
    }

    pub const fn source(&self) -> &Source {
        &self.source
    }

    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Frames passed so far, whether or not they had to be decoded.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// The next sampled frame; `None` at the end, unless there was none at all: that is no video. `stop` is asked from time to
    /// time.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Sample>, FramesError> {
        loop {
            if let Some(current) = &self.current {
                match receive(current, stop)? {
                    // Given before the GPU failed.
                    Some(Decoded::Picture { number, .. })
                        if self.gpu_failed.is_some() && Some(number) <= self.given => {}
                    Some(Decoded::Picture { frame, number, time_s }) => {
                        self.passed = self.passed.max(number + 1);
                        super::container::check_pixels(frame.width(), frame.height(), &self.limits)?;
                        let (index, (picture, placement)) = (self.samples, self.converter.picture(&frame)?);
                        (self.given, self.samples) = (Some(number), self.samples + 1);
                        return Ok(Some(Sample { index, time_s, picture, placement }));
                    }
                    Some(Decoded::Tally(tally)) => {
                        self.lost += tally.lost;
                        self.damage.join(tally.damage);
                        if let Some((frames, clock)) = tally.counted {
                            (self.passed, self.end_s, self.fps) = (frames, clock.end(), clock.fps());
                        }
                    }
                    Some(Decoded::Failed(error)) => return Err(error),
                    Some(Decoded::GpuFailed(error)) => self.without_gpu(error)?,
                    None => self.current = None,
                }
                continue;
            }
            let Some(items) = &self.threads.items else { return Ok(None) };
            match receive(items, stop)? {
                Some(Item::Stretch(pictures)) => self.current = Some(pictures),
                Some(Item::End(read)) => {
                    if let Some((frames, clock)) = &read.numbered {
                        (self.passed, self.end_s, self.fps) =
                            (frames.saturating_sub(self.lost), clock.end(), clock.fps());
                    }
                    self.read = read;
                    self.threads.items = None;
                    match (self.device, self.gpu_failed) {
                        (Some(device), None) => device.worked(),
                        // The video is sound.
                        (Some(device), Some(error)) if self.lost == 0 => device.failed(error),
                        _ => {}
                    }
                    // Not one of those asked for, and the first always is.
                    return match (self.samples, self.read.packets) {
                        (0, 0) => Err(empty(&self.source).into()),
                        (0, _) => Err(undecodable(&self.source, self.probe.codec.clone()).into()),
                        _ => Ok(None),
                    };
                }
                Some(Item::Failed(error)) => return Err(error),
                // A thread is gone without a word: it panicked.
                None => return Err(FramesError::Decoder("it broke down".to_owned())),
            }
        }
    }

    /// Decodes once more without the GPU, and gives what was not given yet.
    fn without_gpu(&mut self, error: ffmpeg_next::Error) -> Result<(), FramesError> {
        tracing::warn!(%error, "a GPU does not decode a video as it should; the CPU decodes it");
        let limits = Video { hwaccel: Hwaccel::None, ..self.limits.clone() };
        let video = Opened::open(&self.source, &limits)?;
        self.current = None;
        self.threads.stop();
        let mut again = Self::select(video, self.selection, self.sampling)?;
        // It knows the first picture.
        std::mem::swap(&mut again.converter, &mut self.converter);
        let Self { device, samples, given, passed, .. } = *self;
        // What was counted of damage comes once more.
        *self = Self { device, gpu_failed: Some(error), samples, given, passed, ..again };
        Ok(())
    }

    /// After the last frame: how it ended. Where pictures end clearly before the container says, the file is read once
    /// more without decoding, to tell a damaged file (a warning) from a source that broke off (an error), from a header
    /// that is wrong (a warning) and from a sound track that is just longer (nothing).
    pub fn end(self, stop: impl Fn() -> bool + Clone + Send + 'static) -> Result<End, FramesError> {
        let size = self.converter.video().unwrap_or((self.probe.width, self.probe.height));
        let Self { probe, passed: frames_total, end_s, fps, read, damage, .. } = self;
        let told_s = probe.duration_s;
        let mut longest_s = read.tracks_end_s.unwrap_or(0.0).max(end_s);
        let fewer = frames_total + frames_total / 10 < probe.frames_total;
        let is_unknown = told_s <= 0.0 && probe.has_audio && read.tracks_end_s.is_none();
        let mut warnings = Vec::new();
        let mut is_cut = false;
        if frames_total == 0 || fewer || is_unknown || longest_s + EARLY_END_S < told_s {
            let tail = look(&self.source, &self.limits, &probe, frames_total, stop)?;
            longest_s = longest_s.max(tail.end_s);
            if let Cause::CutOff { expected_s } = tail.cause {
                is_cut = true;
                warnings.push(format!(
                    "The file is damaged or cut off: it should last {expected_s:.1} s, but its pictures end after \
                     {end_s:.1} s. The figures cover the part before."
                ));
            }
        }
        let is_right = told_s > 0.0 && told_s <= longest_s + EARLY_END_S && told_s + SHORT_S >= longest_s;
        // A file that is cut off lasts as long as there is something to see.
        let duration_s = match (is_cut, is_right) {
            (true, _) => end_s,
            (false, true) => told_s,
            (false, false) => longest_s,
        };
        if !is_cut && probe.told_s > 0.0 && (probe.told_s - duration_s).abs() > EARLY_END_S {
            warnings.push(format!(
                "The file says that it lasts {:.1} s, but its pictures and sound last {duration_s:.1} s. The figures cover \
                 what is there.",
                probe.told_s
            ));
        }
        if let Some(at_s) = read.joints.first() {
            warnings.push(format!(
                "The time stamps of the file begin anew, first after {at_s:.1} s, as in recordings that were joined. What \
                 follows is taken to go on from there."
            ));
        }
        if damage.pictures > 0 {
            let Damage { pictures, from_s, to_s } = damage;
            let all = pictures + u64::from(self.samples);
            warnings.push(format!(
                "Some pictures are damaged: {pictures} of the {all} that were to be looked at, between {from_s:.1} s and \
                 {to_s:.1} s. They were left out."
            ));
        }
        Ok(End { frames_total, end_s, size, duration_s, fps, warnings })
    }
}

/// Whether the frame with this number is one of `count` that are evenly spread over `of`.
pub fn is_in_spread(count: u64, of: u64, number: u64) -> bool {
    Selection::Spread { count, of }.asks_for(number)
}

/// How many pictures a video shows, as far as its packets tell; nothing is decoded. Blocks.
///
/// # Errors
/// Those of [`Opened::open`].
pub fn count_pictures(source: &Source, limits: &Video, stop: &dyn Fn() -> bool) -> Result<u64, FramesError> {
    let (_, _, _, packets) = Opened::open(source, limits)?.into_parts();
    Reader::new(packets)?.count_pictures(stop)
}

/// Decoding gives way to what waits for its pictures: a look that is done makes room, and one that is late holds up the end.
fn step_back() {
    const BY: libc::c_int = 10;
    // SAFETY: no memory is involved. On Linux, nice(2) is of the calling thread.
    unsafe { libc::nice(BY) };
}

/// What comes next; `None` when the sender is gone.
fn receive<T>(from: &Receiver<T>, stop: &dyn Fn() -> bool) -> Result<Option<T>, FramesError> {
    loop {
        if stop() {
            return Err(FramesError::Cancelled);
        }
        match from.recv_timeout(ASK_EVERY) {
            Ok(item) => return Ok(Some(item)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use opencv::prelude::*;

    use super::*;
    use crate::config::Settings;
    use crate::test_files;

    fn start() -> Frames {
        let clip = test_files::clip("single_face.mp4");
        let video = Opened::open(&Source::File(clip), &Settings::defaults().unwrap().video).unwrap();
        Frames::start(video, Every::exact(5)).unwrap()
    }

    fn rest(frames: &mut Frames) -> Vec<(u32, f64, Vec<u8>)> {
        std::iter::from_fn(|| frames.next(&|| false).unwrap())
            .map(|sample| (sample.index, sample.time_s, sample.picture.data_bytes().unwrap().to_vec()))
            .collect()
    }

    #[test]
    fn where_a_gpu_fails_the_cpu_goes_on_with_the_next_picture() {
        let mut plain = start();
        let expected = rest(&mut plain);
        let end = plain.end(|| false).unwrap();
        assert!(expected.len() > 4);
        for before in [0, 1, 4] {
            let device: &Device = Box::leak(Box::new(Device::unopened()));
            let mut frames = start();
            frames.device = Some(device);
            let mut given: Vec<_> = (0..before)
                .map(|_| frames.next(&|| false).unwrap().unwrap())
                .map(|sample| (sample.index, sample.time_s, sample.picture.data_bytes().unwrap().to_vec()))
                .collect();
            let (to, broken) = sync_channel(1);
            to.send(Decoded::GpuFailed(ffmpeg_next::Error::External)).unwrap();
            frames.current = Some(broken);
            given.extend(rest(&mut frames));
            assert!(given == expected, "after {before}");
            assert_eq!(frames.end(|| false).unwrap(), end);
            assert_eq!(device.failures(), 1, "the video is sound");
        }
    }
}
