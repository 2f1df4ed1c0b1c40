//! Pictures of a video, through OpenCV.
//!
//! Every frame is grabbed (decoded) and only the sampled ones are retrieved (converted to BGR and copied): seeking
//! from sample to sample would decode from a key frame each time and is slower on every clip that was measured.

use std::time::{Duration, Instant};

use opencv::core::{self, Mat};
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use super::container::{check_pixels, location, prepare};
use super::probe::check_duration;
use super::tail::{Tail, look, stamps_after};
use super::{Probe, ProbeError, Source};
use crate::config::Video;

/// Frames a second that are assumed where the container tells no rate.
const FALLBACK_FPS: f64 = 25.0;
/// A time stamp this far beyond the container's duration is taken for nonsense, in seconds.
const BEYOND_END_S: f64 = 10.0;
/// Pictures that end this much before the container's end ask for a second look, in seconds.
const EARLY_END_S: f64 = 1.0;

/// How often in a row the decoder is asked for a frame before a missing one is taken for the end.
const MAX_GRABS: u32 = 4096;
/// A failure that took this long is a source that does not answer, and asking again will not help.
const SILENT: Duration = Duration::from_millis(500);

/// Why no more pictures come.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Video(#[from] ProbeError),
    #[error("decoder: {0}")]
    Decoder(#[from] opencv::Error),
}

/// A sampled frame.
pub struct Sample {
    /// Index of the sample, from 0.
    pub index: u32,
    /// Seconds from the start of the video, from the stream's own time stamps; above the sample before.
    pub time_s: f64,
    /// Upright, BGR, 8 bits a channel.
    pub picture: Mat,
}

/// How the pictures ended.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Frames decoded.
    pub frames_total: u64,
    /// Seconds from the start to the end of the last frame.
    pub end_s: f64,
    /// A sentence for the reader where the file ends before its time.
    pub warning: Option<String>,
}

/// The frames of a video from the first to the last.
pub struct Frames {
    source: Source,
    limits: Video,
    capture: VideoCapture,
    probe: Probe,
    every: u64,
    grabbed: u64,
    samples: u32,
    clock: StreamClock,
    /// Times of the frames at the end for which OpenCV has none.
    held_back: Option<std::vec::IntoIter<f64>>,
}

impl Frames {
    /// Opens a probed source for every `every`-th frame, beginning with the first.
    pub fn open(source: &Source, probe: &Probe, every: u32, limits: &Video) -> Result<Self, FramesError> {
        prepare();
        let mut capture = VideoCapture::from_file(&location(source)?, videoio::CAP_FFMPEG)?;
        if !capture.is_opened()? {
            // The probe has opened it, so the video is not at fault.
            return Err(ProbeError::Unreadable("it could be probed but not opened again".to_owned()).into());
        }
        // Whether OpenCV turns pictures depends on its version and FFmpeg's; so it never does and we always do.
        capture.set(videoio::CAP_PROP_ORIENTATION_AUTO, 0.0)?;
        Ok(Self {
            source: source.clone(),
            limits: limits.clone(),
            capture,
            probe: probe.clone(),
            every: u64::from(every.max(1)),
            grabbed: 0,
            samples: 0,
            clock: StreamClock::new(probe),
            held_back: None,
        })
    }

    /// Frames decoded so far.
    pub fn grabbed(&self) -> u64 {
        self.grabbed
    }

    /// Decodes to the next sampled frame; `None` at the end. `stop` is asked before each frame.
    pub fn next(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Sample>, FramesError> {
        loop {
            if stop() {
                return Err(FramesError::Cancelled);
            }
            if !self.grab(stop)? {
                return Ok(None);
            }
            let stamp = self.capture.get(videoio::CAP_PROP_POS_MSEC)? / 1000.0;
            let stamp = match self.clock.last {
                // No stamp: at its end OpenCV gives the frames that the decoder held back without one.
                Some(last) if stamp == 0.0 => self.held_back_stamp(last),
                _ => stamp,
            };
            let time_s = self.clock.tick(stamp);
            check_duration(time_s, &self.limits)?;
            let wanted = self.grabbed.is_multiple_of(self.every);
            self.grabbed += 1;
            if !wanted {
                continue;
            }
            let mut stored = Mat::default();
            if !self.capture.retrieve(&mut stored, 0)? || stored.empty() {
                continue;
            }
            let size = stored.size()?;
            check_pixels(size.width.unsigned_abs(), size.height.unsigned_abs(), &self.limits)?;
            let index = self.samples;
            self.samples += 1;
            return Ok(Some(Sample { index, time_s, picture: upright(stored, self.probe.quarter_turns)? }));
        }
    }

    /// Decodes the next frame; `false` at the end.
    ///
    /// OpenCV says the same of the end, of one packet that the decoder refuses, and of 512 packets of other tracks in
    /// a row (ten seconds of sound beside a still picture); after these two it goes on when asked again.
    fn grab(&mut self, stop: &dyn Fn() -> bool) -> Result<bool, FramesError> {
        for _ in 0..MAX_GRABS {
            let since = Instant::now();
            if self.capture.grab()? {
                return Ok(true);
            }
            let duration_s = self.probe.duration_s;
            let is_end = duration_s > 0.0 && self.clock.end() + EARLY_END_S >= duration_s;
            if is_end || since.elapsed() > SILENT || stop() {
                break;
            }
        }
        Ok(false)
    }

    /// The stamp of the next frame after `last`, from the packets of the file; nothing usable where they have none.
    fn held_back_stamp(&mut self, last: f64) -> f64 {
        let (source, limits, offset_s) = (&self.source, &self.limits, self.clock.offset_s);
        let stamps = self.held_back.get_or_insert_with(|| match stamps_after(source, limits, last + offset_s) {
            Ok(stamps) => stamps.into_iter(),
            Err(error) => {
                tracing::debug!(%error, "no times for the last frames");
                Vec::new().into_iter()
            }
        });
        stamps.next().unwrap_or(f64::NAN)
    }

    /// After the last frame: how it ended. Where pictures end clearly before the container says, the file is read once
    /// more without decoding, to tell a damaged file (a warning) from a source that broke off (an error) and from a
    /// sound track that is just longer (nothing).
    pub fn end(self, stop: impl Fn() -> bool + Clone + Send + 'static) -> Result<End, FramesError> {
        let end_s = self.clock.end();
        let mut warning = None;
        let (duration_s, fps) = (self.probe.duration_s, self.probe.fps);
        let fewer = self.grabbed + self.grabbed / 10 < self.probe.frames_total;
        if self.grabbed == 0 || fewer || end_s + EARLY_END_S < duration_s {
            warning = match look(&self.source, &self.limits, (duration_s, fps), self.grabbed, stop)? {
                Tail::Complete => None,
                Tail::Truncated { expected_s } => Some(format!(
                    "The file is damaged or cut off: it should last {expected_s:.1} s, but its pictures end after \
                     {end_s:.1} s. The figures cover the part before."
                )),
                Tail::Undecodable => Some(format!(
                    "Some of the pictures are damaged and could not be decoded; the last one stands at {end_s:.1} s. \
                     The figures cover the others."
                )),
            };
        }
        Ok(End { frames_total: self.grabbed, end_s, warning })
    }
}

/// Turns a stored picture clockwise until it stands upright.
fn upright(stored: Mat, quarter_turns: u8) -> Result<Mat, opencv::Error> {
    let code = match quarter_turns {
        1 => core::ROTATE_90_CLOCKWISE,
        2 => core::ROTATE_180,
        3 => core::ROTATE_90_COUNTERCLOCKWISE,
        _ => return Ok(stored),
    };
    let mut turned = Mat::default();
    core::rotate(&stored, &mut turned, code)?;
    Ok(turned)
}

/// Makes finite, rising times of whatever time stamps a stream has.
#[derive(Debug)]
struct StreamClock {
    /// Seconds a frame, on average.
    frame_s: f64,
    /// Stamps beyond this are not believed.
    latest_s: f64,
    /// The first stamp, where it is above 0: times count from the first picture.
    offset_s: f64,
    /// Time of the frame before.
    last: Option<f64>,
}

impl StreamClock {
    fn new(probe: &Probe) -> Self {
        let fps = if probe.fps > 0.0 { probe.fps } else { FALLBACK_FPS };
        let latest_s = if probe.duration_s > 0.0 { probe.duration_s + BEYOND_END_S } else { f64::INFINITY };
        Self { frame_s: 1.0 / fps, latest_s, offset_s: 0.0, last: None }
    }

    /// The time of the next frame, whose stamp is given.
    fn tick(&mut self, stamp: f64) -> f64 {
        let believed = stamp.is_finite() && stamp >= 0.0 && stamp <= self.latest_s;
        let time = match self.last {
            None => {
                self.offset_s = if believed { stamp } else { 0.0 };
                0.0
            }
            Some(last) if believed && stamp - self.offset_s > last => stamp - self.offset_s,
            Some(last) => last + self.frame_s,
        };
        self.last = Some(time);
        time
    }

    /// The end of the last frame.
    fn end(&self) -> f64 {
        self.last.map_or(0.0, |last| last + self.frame_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clock(duration_s: f64) -> StreamClock {
        StreamClock::new(&Probe {
            duration_s,
            fps: 10.0,
            width: 2,
            height: 2,
            codec: "h264".to_owned(),
            frames_total: 0,
            has_audio: false,
            quarter_turns: 0,
        })
    }

    #[test]
    fn true_stamps_are_kept_as_they_are() {
        let mut clock = clock(5.0);
        let stamps = [0.0, 0.04, 0.5, 0.52, 4.9];
        assert_eq!(stamps.map(|stamp| clock.tick(stamp)), stamps);
        assert!((clock.end() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn times_count_from_the_first_picture() {
        let mut clock = clock(5.0);
        let times = [0.08, 0.12, 0.16].map(|stamp| clock.tick(stamp));
        assert!(times.iter().zip([0.0, 0.04, 0.08]).all(|(given, wanted)| (given - wanted).abs() < 1e-9), "{times:?}");
    }

    #[test]
    fn a_stream_without_stamps_gets_times_from_its_rate() {
        let mut clock = clock(0.0);
        let times: Vec<f64> = [0.0; 4].into_iter().map(|stamp| clock.tick(stamp)).collect();
        assert!((times[3] - 0.3).abs() < 1e-9, "{times:?}");
    }

    proptest! {
        #[test]
        fn times_always_rise_and_stay_finite(stamps in prop::collection::vec(any::<f64>(), 1..100)) {
            let mut clock = clock(5.0);
            let mut last = -1.0;
            for stamp in stamps {
                let time = clock.tick(stamp);
                prop_assert!(time.is_finite() && time > last);
                last = time;
            }
        }
    }
}
