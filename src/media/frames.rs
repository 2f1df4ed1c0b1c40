//! The sampled frames of a video: every n-th frame, with as little decoding as possible.
//!
//! One thread reads packets and plans ([`super::plan`]). Other threads decode ([`super::decode`]). The caller's thread
//! converts each frame. All channels between them are bounded, so little of the video is in memory at a time.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use opencv::core::Mat;
use serde::{Deserialize, Serialize};

use super::damage::Damage;
use super::decode::Decoded;
use super::geometry::{Orientation, Placement};
use super::hardware::HwDevice;
use super::limits::check_pixels;
use super::opened::{no_video, undecodable};
use super::picture::Converter;
use super::pieces::Stretch;
use super::position::Position;
use super::reader::{ReadSummary, Reader, ReaderEvent};
use super::selection::Selection;
use super::threads::Threads;
use super::truncation::{Cause, find_cause};
use super::{FramesError, Opened, Probe, Source};
use crate::analysis::{Sampling, Warning};
use crate::config::{Hwaccel, Video};

/// Frames that end this long before the end of the container are an early end, in seconds.
const EARLY_END_S: f64 = 1.0;
/// A container duration that is too short by less than this counts as right, in seconds.
const SHORT_S: f64 = 0.05;
/// How often a wait is interrupted to check for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Which frames are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Every {
    /// Every n-th frame, beginning with the first.
    pub frames: u32,
    /// Whether frames near those may be sampled instead, if they take less time to decode.
    pub sampling: Sampling,
}

impl Every {
    /// Exactly every n-th frame.
    pub const fn exact(frames: u32) -> Self {
        Self { frames, sampling: Sampling::Exact }
    }

    /// The selection of frames by number.
    pub fn selection(self) -> Selection {
        Selection::EveryNth(self.frames.max(1).into())
    }
}

/// A sampled frame.
pub struct Sample {
    /// Index of the sample, from 0.
    pub index: u32,
    /// Seconds from the start of the video (the earliest start of its video and sound), by the time stamps of the
    /// stream. Each sample is later than the one before.
    pub time_s: f64,
    /// Upright, with square pixels, BGR, 8 bits a channel.
    pub picture: Mat,
    /// Maps the picture to the first frame of the video. Frames of a video may differ in size.
    pub placement: Placement,
    /// The [piece](super::Pieces) of the video to which it belongs.
    pub piece: u32,
}

/// Facts about a video that are known after its last frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Frames of the video, whether or not they were decoded.
    pub frames_total: u64,
    /// Seconds from the start of the video to the end of the last frame.
    pub end_s: f64,
    /// Width and height of the first frame as a player shows it.
    pub size: (u32, u32),
    /// Seconds from the start of the video to the end of its longest stream. This is the duration in the container
    /// header, unless that is wrong.
    pub duration_s: f64,
    /// Mean frames a second. This is the rate in the container header, unless that is wrong.
    pub fps: f64,
    /// The last orientation in the stream, if the container has none and it turns or mirrors the frames.
    pub stream_orientation: Option<Orientation>,
    /// Damage, and wrong statements in the file.
    pub warnings: Vec<Warning>,
}

/// Returns the sampled frames of a video in presentation order.
pub struct Frames {
    source: Source,
    selection: Selection,
    sampling: Sampling,
    cores: usize,
    limits: Video,
    probe: Probe,
    /// The frames of the current GOP. This field is before `threads`, so that it is dropped first: a decoder that waits
    /// to send a frame then fails, and its thread can be joined.
    current_gop: Option<Receiver<Decoded>>,
    threads: Threads,
    converter: Converter,
    /// The GPU that decodes the video, if any.
    device: Option<&'static HwDevice>,
    /// The error of the GPU, after which the CPU decodes.
    gpu_error: Option<ffmpeg_next::Error>,
    /// What is decoded.
    stretch: Stretch,
    position: Position,
    /// The piece of the current GOP.
    piece: u32,
    /// Frames passed so far; all frames after the end.
    frames_passed: u64,
    end_s: f64,
    fps: f64,
    read: ReadSummary,
}

impl Frames {
    /// Starts to decode an open video, on this number of CPU cores at most.
    pub fn start(video: Opened, every: Every, cores: usize) -> Result<Self, FramesError> {
        Self::select(video, every.selection(), every.sampling, Stretch::default(), cores)
    }

    /// Like [`Frames::start`], for `count` frames that are spread evenly over the first `of` frames of the video.
    pub fn spread(video: Opened, count: u64, of: u64, cores: usize) -> Result<Self, FramesError> {
        Self::select(video, Selection::Spread { count, of }, Sampling::Exact, Stretch::default(), cores)
    }

    /// Decodes only this stretch. Its samples are the same as if the whole video was decoded.
    pub fn select(
        video: Opened,
        selection: Selection,
        sampling: Sampling,
        stretch: Stretch,
        cores: usize,
    ) -> Result<Self, FramesError> {
        let (source, limits, probe, packets) = video.into_parts();
        let clock = probe.clock();
        // A decoded frame has 12 bits a pixel in the most common format.
        let frame_size = u64::from(probe.width) * u64::from(probe.height) * 3 / 2;
        let (threads, device) =
            Threads::start(packets, (selection, sampling), stretch, clock, &limits, (cores, frame_size))?;
        let start = stretch.start;
        let mut converter = Converter::new(probe.display, limits.max_pixels);
        converter.continue_at(&start);
        Ok(Self {
            source,
            limits,
            probe,
            current_gop: None,
            converter,
            selection,
            sampling,
            cores,
            device,
            gpu_error: None,
            stretch,
            position: Position { is_counted: !threads.numbers_frames, ..start },
            piece: 0,
            frames_passed: start.passed(),
            threads,
            end_s: 0.0,
            fps: 0.0,
            read: ReadSummary::default(),
        })
    }

    /// Turns all further pictures clockwise, in addition to the orientation of the video. Their placements undo the
    /// turn.
    pub const fn turn(&mut self, quarter_turns: u8) {
        self.converter.turn(quarter_turns);
    }

    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The number of frames passed so far, whether or not they were decoded.
    pub fn passed(&self) -> u64 {
        self.frames_passed
    }

    /// Where decoding can continue, after the last sample that was returned.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns the next sampled frame, or `None` at the end. A video without a single sample is an error. `stop` is
    /// called from time to time.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Sample>, FramesError> {
        loop {
            if let Some(gop) = &self.current_gop {
                match receive(gop, stop)? {
                    Some(Decoded::Frame { number, .. }) if self.was_returned(number) => {}
                    Some(Decoded::Frame { frame, number, time_s }) => {
                        self.frames_passed = self.frames_passed.max(number + 1);
                        check_pixels(frame.width(), frame.height(), &self.limits)?;
                        let (picture, placement) = self.converter.picture(&frame)?;
                        let index = self.position.samples;
                        self.position.samples += 1;
                        self.position.last_number = Some(number);
                        self.converter.write_to(&mut self.position);
                        return Ok(Some(Sample { index, time_s, picture, placement, piece: self.piece }));
                    }
                    Some(Decoded::Done(summary)) => {
                        self.position.gops += 1;
                        self.position.lost += summary.lost;
                        self.position.damage.merge(summary.damage);
                        if let Some((frames, clock)) = summary.counted {
                            (self.frames_passed, self.end_s, self.fps) = (frames, clock.end(), clock.fps());
                        }
                    }
                    Some(Decoded::Failed(error)) => return Err(error),
                    Some(Decoded::GpuFailed(error)) => self.restart_on_cpu(error)?,
                    None => self.current_gop = None,
                }
                continue;
            }
            let Some(events) = &self.threads.events else { return Ok(None) };
            match receive(events, stop)? {
                Some(ReaderEvent::Gop(frames, piece)) => (self.current_gop, self.piece) = (Some(frames), piece),
                Some(ReaderEvent::End(read)) => {
                    self.finish(read);
                    // The first frame is always selected, so a video without samples has no decodable frame.
                    return match (self.position.samples, self.read.packets) {
                        _ if self.stretch.pieces.may_be_empty() => Ok(None),
                        (0, 0) => Err(no_video(&self.source).into()),
                        (0, _) => Err(undecodable(&self.source, self.probe.codec.clone()).into()),
                        _ => Ok(None),
                    };
                }
                Some(ReaderEvent::Failed(error)) => return Err(error),
                // The reader always sends a last event, unless its thread panics.
                None => return Err(FramesError::Decoder("a thread panicked".to_owned())),
            }
        }
    }

    /// Takes over the totals after the last packet.
    fn finish(&mut self, read: ReadSummary) {
        if let Some((frames, clock)) = &read.numbered {
            (self.frames_passed, self.end_s, self.fps) =
                (frames.saturating_sub(self.position.lost), clock.end(), clock.fps());
        }
        self.read = read;
        self.threads.events = None;
        match (self.device, self.gpu_error) {
            (Some(device), None) => device.record_success(),
            // The CPU decoded every frame, so the video is not the cause.
            (Some(device), Some(error)) if self.position.lost == 0 => device.record_failure(error),
            _ => {}
        }
    }

    /// Decodes the video again from its start, without the GPU. Frames that were returned before are skipped.
    fn restart_on_cpu(&mut self, error: ffmpeg_next::Error) -> Result<(), FramesError> {
        tracing::warn!(%error, "decoding on the GPU failed; the CPU decodes the video");
        let limits = Video { hwaccel: Hwaccel::None, ..self.limits.clone() };
        let video = Opened::open(&self.source, &limits)?;
        self.current_gop = None;
        self.threads.stop();
        let mut restarted = Self::select(video, self.selection, self.sampling, self.stretch, self.cores)?;
        // The converter keeps the size of the first frame.
        std::mem::swap(&mut restarted.converter, &mut self.converter);
        let Self { device, position, frames_passed, .. } = *self;
        // Damage is counted again from the start.
        let start = self.stretch.start;
        let position = Position { gops: start.gops, lost: start.lost, damage: start.damage, ..position };
        *self = Self { device, gpu_error: Some(error), position, frames_passed, ..restarted };
        Ok(())
    }

    /// Whether this frame was returned before the GPU failed, or belongs to the beginning of the first GOP, which was
    /// returned before `start`.
    fn was_returned(&self, number: u64) -> bool {
        let may_be = self.gpu_error.is_some() || self.position.gops == self.stretch.start.gops;
        may_be && Some(number) <= self.position.last_number
    }

    /// Returns the facts that are known after the last frame. If the frames ended early, this reads the file again
    /// without decoding, to find the cause: a connection that broke off (an error), a truncated file or a wrong header
    /// (a warning each), or a longer sound stream (no warning).
    pub fn end(self, stop: impl Fn() -> bool + Clone + Send + 'static) -> Result<End, FramesError> {
        let size = self.converter.video().unwrap_or((self.probe.width, self.probe.height));
        let stream_orientation = self.converter.stream_orientation();
        let Self { probe, frames_passed: frames_total, end_s, fps, read, position, .. } = self;
        let header_s = probe.duration_s;
        let mut longest_s = read.streams_end_s.unwrap_or(0.0).max(end_s);
        let has_fewer_frames = frames_total + frames_total / 10 < probe.frames_total;
        let is_duration_unknown = header_s <= 0.0 && probe.has_audio && read.streams_end_s.is_none();
        let ends_early = longest_s + EARLY_END_S < header_s;
        let mut warnings = Vec::new();
        let mut is_truncated = false;
        if frames_total == 0 || has_fewer_frames || is_duration_unknown || ends_early {
            let found = find_cause(&self.source, &self.limits, &probe, frames_total, stop)?;
            longest_s = longest_s.max(found.end_s);
            if let Cause::Truncated { expected_s } = found.cause {
                is_truncated = true;
                warnings.push(Warning::VideoCutOff { expected_s, end_s });
            }
        }
        let is_header_right = header_s > 0.0 && header_s <= longest_s + EARLY_END_S && header_s + SHORT_S >= longest_s;
        // The duration of a truncated file is that of its frames.
        let duration_s = match (is_truncated, is_header_right) {
            (true, _) => end_s,
            (false, true) => header_s,
            (false, false) => longest_s,
        };
        let said_s = probe.header_duration_s;
        if !is_truncated && said_s > 0.0 && (said_s - duration_s).abs() > EARLY_END_S {
            warnings.push(Warning::WrongDuration { said_s, found_s: duration_s });
        }
        warnings.extend(read.discontinuities.first().map(|at_s| Warning::TimeStampsRestart { at_s: *at_s }));
        let Damage { frames: damaged, from_s, to_s } = position.damage;
        if damaged > 0 {
            let sought = damaged + u64::from(position.samples);
            warnings.push(Warning::PicturesDamaged { damaged, sought, from_s, to_s });
        }
        Ok(End { frames_total, end_s, size, duration_s, fps, stream_orientation, warnings })
    }
}

/// Counts the frames of a video from its packets, without decoding. Blocks.
///
/// # Errors
/// Those of [`Opened::open`].
pub fn count_frames(source: &Source, limits: &Video, stop: &dyn Fn() -> bool) -> Result<u64, FramesError> {
    let (_, _, probe, packets) = Opened::open(source, limits)?.into_parts();
    Reader::new(packets, Stretch::default())?.count_frames(&probe.clock(), stop)
}

/// Receives the next message; `None` once the sender is dropped.
fn receive<T>(from: &Receiver<T>, stop: &dyn Fn() -> bool) -> Result<Option<T>, FramesError> {
    loop {
        if stop() {
            return Err(FramesError::Cancelled);
        }
        match from.recv_timeout(POLL_INTERVAL) {
            Ok(message) => return Ok(Some(message)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use opencv::prelude::*;

    use super::*;
    use crate::config::Settings;
    use crate::test_files;

    fn start() -> Frames {
        let clip = test_files::clip("single_face.mp4");
        let video = Opened::open(&Source::File(clip), &Settings::defaults().unwrap().video).unwrap();
        Frames::start(video, Every::exact(5), 2).unwrap()
    }

    fn rest(frames: &mut Frames) -> Vec<(u32, f64, Vec<u8>)> {
        std::iter::from_fn(|| frames.next(&|| false).unwrap())
            .map(|sample| (sample.index, sample.time_s, sample.picture.data_bytes().unwrap().to_vec()))
            .collect()
    }

    #[test]
    fn the_cpu_continues_with_the_next_sample_after_a_gpu_failure() {
        let mut plain = start();
        let expected = rest(&mut plain);
        let end = plain.end(|| false).unwrap();
        assert!(expected.len() > 4);
        for before in [0, 1, 4] {
            let device: &HwDevice = Box::leak(Box::new(HwDevice::unopened()));
            let mut frames = start();
            frames.device = Some(device);
            let mut returned: Vec<_> = (0..before)
                .map(|_| frames.next(&|| false).unwrap().unwrap())
                .map(|sample| (sample.index, sample.time_s, sample.picture.data_bytes().unwrap().to_vec()))
                .collect();
            let (sender, failed_gop) = sync_channel(1);
            sender.send(Decoded::GpuFailed(ffmpeg_next::Error::External)).unwrap();
            frames.current_gop = Some(failed_gop);
            returned.extend(rest(&mut frames));
            assert!(returned == expected, "after {before}");
            assert_eq!(frames.end(|| false).unwrap(), end);
            assert_eq!(device.failures(), 1, "the CPU decoded every frame");
        }
    }
}
