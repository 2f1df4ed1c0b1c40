//! Derives the times of frames from the time stamps of a stream, even if these are missing, equal or not monotonic.
//!
//! Time 0 is the earliest start of video and sound ([`super::streams::start_s`]), as in players.

use ffmpeg_next::ffi::AV_NOPTS_VALUE;

/// The frame rate if the container states none, in frames a second.
const FALLBACK_FPS: f64 = 25.0;
/// Time stamps closer than this count as equal, in seconds.
const EQUAL_S: f64 = 0.0005;
/// A step back by more than this is a discontinuity, in seconds. A smaller one comes from reordering.
pub(super) const MAX_STEP_BACK_S: f64 = 0.5;
/// A step ahead by more than this is invalid if it also ends after the duration of the container, in seconds.
pub(super) const MAX_STEP_AHEAD_S: f64 = 600.0;
/// The tolerance of the duration of the container, in seconds.
pub(super) const DURATION_TOLERANCE_S: f64 = 10.0;

/// A time stamp in seconds; `None` if it is missing. `time_base` is that of the stream, in seconds.
pub(super) fn stamp_s(ticks: Option<i64>, time_base: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let seconds = ticks.filter(|ticks| *ticks != AV_NOPTS_VALUE)? as f64 * time_base;
    Some(seconds).filter(|seconds| seconds.is_finite())
}

/// The timing that a container states.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ContainerTiming {
    /// Mean frames a second; 0 if unknown.
    pub fps: f64,
    /// Frames a second in the headers of the video stream; 0 if unknown.
    pub coded_fps: f64,
    /// From the start of the video to the end of its longest stream, in seconds; 0 if unknown.
    pub duration_s: f64,
    /// The time stamp at which the video starts, in seconds.
    pub start_s: f64,
    /// The time of the first frame, if the container has decoding time stamps only, as AVI.
    pub first_frame_s: Option<f64>,
    /// Frames with negative time stamps, down to minus this number of seconds, are hidden. It is 0 if the container has
    /// no edit lists.
    pub max_hidden_s: f64,
}

/// Returns finite and strictly increasing times for the frames of a stream.
#[derive(Debug, Clone)]
pub(super) struct StreamClock {
    container: ContainerTiming,
    /// The difference between a time and its time stamp.
    offset_s: f64,
    /// The time of the first frame.
    first_s: Option<f64>,
    /// The time of the last frame, and the latest time stamp, if any.
    last: Option<(f64, Option<f64>)>,
    /// The time between the last two frames.
    step_s: Option<f64>,
    frames: u64,
}

impl StreamClock {
    pub const fn new(container: ContainerTiming) -> Self {
        Self { container, offset_s: -container.start_s, first_s: None, last: None, step_s: None, frames: 0 }
    }

    /// Returns the time of the next frame. `stamp` is its time stamp in seconds.
    pub fn tick(&mut self, stamp: Option<f64>) -> f64 {
        let stamp = stamp.filter(|stamp| stamp.is_finite());
        let time = match self.last {
            None => self.first_time(stamp),
            Some((last, previous)) => match (previous, stamp) {
                (Some(previous), Some(stamp)) => self.next_time(last, previous, stamp),
                // The first time stamp after frames without one.
                (None, Some(stamp)) if stamp + self.offset_s > last && !self.is_invalid_step(last, stamp) => {
                    stamp + self.offset_s
                }
                _ => last + self.frame_duration_s(),
            },
        };
        self.step_s = self.last.map(|(last, _)| time - last);
        self.last = Some((time, stamp.or_else(|| self.last.and_then(|(_, stamp)| stamp))));
        self.first_s.get_or_insert(time);
        self.frames += 1;
        time
    }

    /// Whether an edit list hides the frame with this time stamp. FFmpeg marks most hidden frames itself, but not the
    /// leading frames of an open GOP at which an edit begins: it gives them negative time stamps, and players do not
    /// show them.
    pub fn hides(&self, stamp: Option<f64>) -> bool {
        let from_s = self.container.start_s.min(0.0);
        stamp.is_some_and(|stamp| stamp < from_s - EQUAL_S && stamp > -self.container.max_hidden_s)
    }

    fn first_time(&mut self, stamp: Option<f64>) -> f64 {
        let Some(stamp) = stamp else { return self.container.first_frame_s.unwrap_or(0.0) };
        if let Some(first) = self.container.first_frame_s {
            self.offset_s = first - stamp;
            return first;
        }
        let time = stamp + self.offset_s;
        // A first frame before the start of the video, or after its end, has an invalid time stamp.
        let max = self.max_time_s().min(MAX_STEP_AHEAD_S.max(self.container.duration_s));
        if (0.0..=max).contains(&time) {
            return time;
        }
        self.offset_s = -stamp;
        0.0
    }

    /// The time of a frame that follows a frame at `last`, whose time stamp was `previous`.
    fn next_time(&mut self, last: f64, previous: f64, stamp: f64) -> f64 {
        let time = stamp + self.offset_s;
        if (stamp - previous).abs() < EQUAL_S {
            return last + self.frame_duration_s();
        }
        if stamp < previous - MAX_STEP_BACK_S || self.is_invalid_step(last, stamp) {
            let time = last + self.frame_duration_s();
            self.offset_s = time - stamp;
            return time;
        }
        // After frames with equal time stamps, the clock is ahead and waits for the time stamps.
        if time > last { time } else { last + EQUAL_S }
    }

    fn is_invalid_step(&self, last: f64, stamp: f64) -> bool {
        let time = stamp + self.offset_s;
        time - last > MAX_STEP_AHEAD_S && time > self.container.duration_s + DURATION_TOLERANCE_S
    }

    fn max_time_s(&self) -> f64 {
        let duration_s = self.container.duration_s;
        if duration_s > 0.0 { duration_s + DURATION_TOLERANCE_S } else { f64::INFINITY }
    }

    /// The duration of a frame without a valid time stamp.
    fn frame_duration_s(&self) -> f64 {
        let known = [self.container.coded_fps, self.container.fps].into_iter().find(|fps| *fps > 0.0);
        let nominal = 1.0 / known.unwrap_or(FALLBACK_FPS);
        self.mean_duration_s().filter(|_| !self.is_container_fps_right()).unwrap_or(nominal)
    }

    /// The mean duration of the frames so far, in seconds.
    fn mean_duration_s(&self) -> Option<f64> {
        let (first, last) = (self.first_s?, self.time());
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let mean = (last - first) / self.frames.saturating_sub(1) as f64;
        (mean.is_finite() && mean > 0.0).then_some(mean)
    }

    /// Whether the measured frame rate is that of the container, within 5 %.
    fn is_container_fps_right(&self) -> bool {
        let ratio = self.mean_duration_s().map(|mean| self.container.fps * mean);
        self.container.fps > 0.0 && ratio.is_none_or(|ratio| (0.95..=1.05).contains(&ratio))
    }

    /// Mean frames a second: the rate of the container if it is right, otherwise the measured rate; 0 if both are
    /// unknown.
    pub fn fps(&self) -> f64 {
        let fps = self.container.fps;
        if self.is_container_fps_right() { fps } else { self.mean_duration_s().map_or(fps, |mean| 1.0 / mean) }
    }

    /// The time of the last frame.
    pub fn time(&self) -> f64 {
        self.last.map_or(0.0, |(last, _)| last)
    }

    /// The end of the last frame. Its duration is the mean one, so a pause before it does not count.
    pub fn end(&self) -> f64 {
        if self.frames == 0 {
            return 0.0;
        }
        let nominal = Some(1.0 / self.container.fps).filter(|s| s.is_finite() && self.is_container_fps_right());
        let step = self.step_s.filter(|step| *step > 0.0);
        let known = [nominal, self.mean_duration_s(), step].into_iter().flatten();
        self.time() + known.reduce(f64::min).unwrap_or(1.0 / FALLBACK_FPS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clock(fps: f64, duration_s: f64) -> StreamClock {
        StreamClock::new(ContainerTiming { fps, duration_s, ..ContainerTiming::default() })
    }

    fn times(clock: &mut StreamClock, stamps: &[f64]) -> Vec<f64> {
        stamps.iter().map(|stamp| clock.tick(Some(*stamp))).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.002), "{found:?} {expected:?}");
    }

    #[test]
    fn valid_time_stamps_are_kept() {
        let mut clock = clock(10.0, 5.0);
        let stamps = [0.0, 0.04, 0.5, 0.52, 4.9];
        assert_eq!(times(&mut clock, &stamps), stamps);
    }

    #[test]
    fn first_frame_after_the_start_keeps_its_time_and_none_is_before_the_start() {
        for (start_s, first, expected) in [(0.0, 3.0, 3.0), (8000.0, 8000.07, 0.07), (1.4, 1.4, 0.0), (0.0, -0.5, 0.0)]
        {
            let mut clock = StreamClock::new(ContainerTiming {
                fps: 25.0,
                duration_s: 20.0,
                start_s,
                ..ContainerTiming::default()
            });
            assert_near(
                &times(&mut clock, &[first, first + 0.04, first + 0.08]),
                &[expected, expected + 0.04, expected + 0.08],
            );
        }
        // The container has decoding time stamps only.
        let mut late = StreamClock::new(ContainerTiming {
            fps: 25.0,
            duration_s: 20.0,
            first_frame_s: Some(0.5),
            ..ContainerTiming::default()
        });
        assert_near(&times(&mut late, &[0.08, 0.12]), &[0.5, 0.54]);
        // The first time stamp is after the end of the file.
        assert_near(&times(&mut clock(25.0, 20.0), &[5000.0, 5000.04]), &[0.0, 0.04]);
    }

    #[test]
    fn times_without_time_stamps_follow_from_the_frame_rate() {
        for (fps, step) in [(10.0, 0.1), (0.0, 0.04)] {
            let mut clock = clock(fps, 0.0);
            let times: Vec<f64> = [None; 4].into_iter().map(|stamp| clock.tick(stamp)).collect();
            assert_near(&times, &[0.0, step, 2.0 * step, 3.0 * step]);
            assert!((clock.end() - 4.0 * step).abs() < 1e-9);
        }
    }

    #[test]
    fn frames_with_equal_time_stamps_get_increasing_times_without_drift() {
        assert_near(&times(&mut clock(10.0, 0.0), &[0.0; 5]), &[0.0, 0.1, 0.2, 0.3, 0.4]);
        // The unit of the time stamps is a thousand times too small.
        let tiny: Vec<f64> = (0..5).map(|n| f64::from(n) / 15_360.0).collect();
        assert_near(&times(&mut clock(30.0, 0.0), &tiny), &[0.0, 0.033, 0.067, 0.1, 0.133]);
        let pairs: Vec<f64> = (0..100).map(|n| f64::from(n / 2) * 0.08).collect();
        let found = times(&mut clock(10.0, 0.0), &pairs);
        assert!(found.iter().zip(&pairs).all(|(time, stamp)| (time - stamp).abs() < 0.15), "{found:?}");
    }

    #[test]
    fn times_continue_over_a_discontinuity() {
        let expected = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5];
        assert_near(&times(&mut clock(10.0, 3.0), &[5.0, 5.1, 5.2, 0.0, 0.1, 0.2]), &[5.0, 5.1, 5.2, 5.3, 5.4, 5.5]);
        assert_near(&times(&mut clock(10.0, 3.0), &[0.0, 0.1, 0.2, 9000.0, 9000.1, 9000.2]), &expected);
        assert_near(&times(&mut clock(10.0, 3.0), &[0.0, 0.1, 0.2, 9000.0, 0.4, 0.5]), &expected);
        // A pause is kept, even if the duration of the container is too short.
        assert_near(&times(&mut clock(10.0, 3.0), &[0.0, 2.9, 60.0, 60.1]), &[0.0, 2.9, 60.0, 60.1]);
    }

    #[test]
    fn wrong_frame_rate_of_the_container_is_replaced_by_the_measured_one() {
        for (stated, actual, expected) in
            [(1000.0, 30.0, 30.0), (29.97, 6.7, 6.7), (29.97, 30.0, 29.97), (0.0, 12.0, 12.0)]
        {
            let mut clock = clock(stated, 0.0);
            for n in 0..60 {
                clock.tick(Some(f64::from(n) / actual));
            }
            assert!((clock.fps() - expected).abs() < 0.01, "{stated}: {}", clock.fps());
            assert!((clock.end() - 60.0 / actual).abs() < 0.005, "{stated}: {}", clock.end());
        }
    }

    proptest! {
        #[test]
        fn times_are_finite_and_strictly_increasing(stamps in prop::collection::vec(any::<f64>(), 1..100)) {
            let mut clock = clock(10.0, 5.0);
            let mut last = -1.0;
            for stamp in stamps {
                let time = clock.tick(Some(stamp));
                prop_assert!(time.is_finite() && time > last);
                last = time;
            }
        }
    }
}
