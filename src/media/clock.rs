//! The times of a video's pictures and sound: one clock, whatever the file's time stamps do.
//!
//! Zero is where players have it: at the earliest start of pictures and sound ([`super::streams::zero_s`]). A track that
//! begins later stands at its own time.

use ffmpeg_next::Packet;
use ffmpeg_next::format::context::Input;

use super::streams;

/// Frames a second that are assumed where the container tells no rate.
const FALLBACK_FPS: f64 = 25.0;
/// Pictures that are less than this apart have the same time stamp, as far as anybody sees; in seconds.
const SAME_S: f64 = 0.0005;
/// A step back by more than this is no reordering: time stamps begin anew. In seconds.
const BACK_S: f64 = 0.5;
/// A step ahead by more than this is nonsense unless the container's duration covers it, in seconds ...
const AHEAD_S: f64 = 600.0;
/// ... which is taken to be right to within this.
const BEYOND_END_S: f64 = 10.0;

/// What a container tells of the times of its pictures.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Mean frames a second; 0 where that is not known.
    pub fps: f64,
    /// Frames a second that the pictures themselves tell; 0 where they do not.
    pub coded_fps: f64,
    /// From zero to the end of the longest track; 0 where that is not known.
    pub duration_s: f64,
    /// The time stamp at which the video begins, in seconds.
    pub zero_s: f64,
    /// The time of the first picture, where its time stamp does not tell: AVI has those of decoding alone.
    pub first_s: Option<f64>,
}

/// Makes finite, rising times of whatever time stamps a stream has.
#[derive(Debug, Clone)]
pub(super) struct StreamClock {
    told: Told,
    /// Added to a time stamp to get a time.
    offset_s: f64,
    first: Option<f64>,
    /// Time, and time stamp if it has one, of the frame before.
    last: Option<(f64, Option<f64>)>,
    /// From the frame before that one.
    step_s: Option<f64>,
    frames: u64,
}

impl StreamClock {
    pub const fn new(told: Told) -> Self {
        Self { told, offset_s: -told.zero_s, first: None, last: None, step_s: None, frames: 0 }
    }

    /// The time of the next frame, whose stamp is given in seconds.
    pub fn tick(&mut self, stamp: Option<f64>) -> f64 {
        let stamp = stamp.filter(|stamp| stamp.is_finite());
        let time = match self.last {
            None => self.begin(stamp),
            Some((last, before)) => match (before, stamp) {
                (Some(before), Some(stamp)) => self.follow(last, before, stamp),
                // The first stamp after frames that had none.
                (None, Some(stamp)) if stamp + self.offset_s > last && !self.is_absurd(last, stamp) => {
                    stamp + self.offset_s
                }
                _ => last + self.nominal_s(),
            },
        };
        self.step_s = self.last.map(|(last, _)| time - last);
        self.last = Some((time, stamp.or_else(|| self.last.and_then(|(_, stamp)| stamp))));
        self.first.get_or_insert(time);
        self.frames += 1;
        time
    }

    fn begin(&mut self, stamp: Option<f64>) -> f64 {
        let Some(stamp) = stamp else { return self.told.first_s.unwrap_or(0.0) };
        if let Some(first) = self.told.first_s {
            self.offset_s = first - stamp;
            return first;
        }
        let time = stamp + self.offset_s;
        // Nothing is shown before zero, and nothing that begins after the end of the file is believed.
        if (0.0..=self.latest_s().min(AHEAD_S.max(self.told.duration_s))).contains(&time) {
            return time;
        }
        self.offset_s = -stamp;
        0.0
    }

    /// After a frame at `last`, whose stamp was `before`.
    fn follow(&mut self, last: f64, before: f64, stamp: f64) -> f64 {
        let time = stamp + self.offset_s;
        if (stamp - before).abs() < SAME_S {
            return last + self.nominal_s();
        }
        if stamp < before - BACK_S || self.is_absurd(last, stamp) {
            let time = last + self.nominal_s();
            self.offset_s = time - stamp;
            return time;
        }
        // Frames with equal stamps went ahead of the clock: it catches up.
        if time > last { time } else { last + SAME_S }
    }

    fn is_absurd(&self, last: f64, stamp: f64) -> bool {
        let time = stamp + self.offset_s;
        time - last > AHEAD_S && time > self.told.duration_s + BEYOND_END_S
    }

    fn latest_s(&self) -> f64 {
        if self.told.duration_s > 0.0 { self.told.duration_s + BEYOND_END_S } else { f64::INFINITY }
    }

    /// How long a frame is, where no stamps say it.
    fn nominal_s(&self) -> f64 {
        let known = [self.told.coded_fps, self.told.fps].into_iter().find(|fps| *fps > 0.0);
        let nominal = 1.0 / known.unwrap_or(FALLBACK_FPS);
        self.mean_s().filter(|_| !self.is_rate_true()).unwrap_or(nominal)
    }

    /// Mean time from one frame to the next, in seconds.
    fn mean_s(&self) -> Option<f64> {
        let (first, last) = (self.first?, self.time());
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let mean = (last - first) / self.frames.saturating_sub(1) as f64;
        (mean.is_finite() && mean > 0.0).then_some(mean)
    }

    /// Whether the frames come as often as the container says.
    fn is_rate_true(&self) -> bool {
        let share = self.mean_s().map(|mean| self.told.fps * mean);
        self.told.fps > 0.0 && share.is_none_or(|share| (0.95..=1.05).contains(&share))
    }

    /// Mean frames a second: as the container says where that is so, else as counted; 0 where neither is known.
    pub fn fps(&self) -> f64 {
        if self.is_rate_true() { self.told.fps } else { self.mean_s().map_or(self.told.fps, |mean| 1.0 / mean) }
    }

    /// The time of the last frame.
    pub fn time(&self) -> f64 {
        self.last.map_or(0.0, |(last, _)| last)
    }

    /// The end of the last frame. It lasts as long as most do: a pause before it says nothing.
    pub fn end(&self) -> f64 {
        if self.frames == 0 {
            return 0.0;
        }
        let told = Some(1.0 / self.told.fps).filter(|told| told.is_finite() && self.is_rate_true());
        let known = [told, self.mean_s(), self.step_s.filter(|step| *step > 0.0)].into_iter().flatten();
        self.time() + known.reduce(f64::min).unwrap_or(1.0 / FALLBACK_FPS)
    }
}

/// Carries the time stamps of a container on where they begin anew, as in two recordings that were joined: for all of its
/// streams alike, so that pictures and sound stay together. It has to see the packets of all of them.
#[derive(Debug)]
pub(super) struct Joiner {
    streams: Vec<Seen>,
    /// Added to what the file says, in seconds.
    offset_s: f64,
    /// The end of all that came, the offset added.
    end_s: f64,
    /// Time stamps up to here are believed in any case.
    told_end_s: f64,
    /// Where they began anew, in seconds from the file's first time stamp.
    joints: Vec<f64>,
    start_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Seconds a tick; 0 for a stream that is neither pictures nor sound.
    base: f64,
    /// The latest time stamp since the last joint, in seconds.
    latest_s: Option<f64>,
}

impl Joiner {
    /// Most joints that are remembered.
    const MOST: usize = 1000;

    /// For an open container; `None` where time stamps cannot begin anew: tables of MP4 hold the lengths of frames.
    pub fn new(input: &Input, duration_s: f64) -> Option<Self> {
        let name = input.format().name().to_owned();
        if ["mov", "avi", "gif"].iter().any(|kind| name.contains(kind)) {
            return None;
        }
        let streams = input
            .streams()
            .map(|stream| Seen {
                base: if streams::is_timed(&stream) { f64::from(stream.time_base()) } else { 0.0 },
                latest_s: None,
            })
            .collect();
        let start_s = streams::zero_s(input);
        Some(Self {
            streams,
            offset_s: 0.0,
            end_s: f64::NEG_INFINITY,
            told_end_s: start_s + duration_s + BEYOND_END_S,
            joints: Vec::new(),
            start_s,
        })
    }

    /// Looks at the next packet of any stream, and moves its time stamps where they began anew before.
    pub fn pass(&mut self, packet: &mut Packet) {
        let Some(seen) = self.streams.get(packet.stream()).copied().filter(|seen| seen.base > 0.0) else { return };
        let Some(ticks) = packet.pts().or(packet.dts()) else { return };
        #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
        let (stamp, length) =
            (ticks as f64 * seen.base, packet.duration().clamp(0, i64::from(i32::MAX)) as f64 * seen.base);
        if let (Some(latest), true) = (seen.latest_s, packet.is_key()) {
            let is_far_ahead = stamp + self.offset_s > self.end_s + AHEAD_S && stamp + self.offset_s > self.told_end_s;
            if stamp < latest - BACK_S || is_far_ahead {
                self.join(stamp);
            }
        }
        let begins = stamp + self.offset_s;
        if begins <= self.end_s.max(self.start_s) + AHEAD_S || begins <= self.told_end_s {
            let latest = &mut self.streams[packet.stream()].latest_s;
            *latest = Some(latest.map_or(stamp, |latest| latest.max(stamp)));
            self.end_s = self.end_s.max(begins + length.min(1.0));
        }
        if self.offset_s != 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "bounded by the time stamps of the file")]
            let ticks = (self.offset_s / seen.base).round() as i64;
            packet.set_pts(packet.pts().map(|pts| pts.saturating_add(ticks)));
            packet.set_dts(packet.dts().map(|dts| dts.saturating_add(ticks)));
        }
    }

    /// What comes now follows on what came.
    fn join(&mut self, stamp: f64) {
        self.offset_s = self.end_s - stamp;
        for seen in &mut self.streams {
            seen.latest_s = None;
        }
        if self.joints.len() < Self::MOST {
            self.joints.push(self.end_s - self.start_s);
        }
    }

    /// Where time stamps began anew, in seconds from the beginning.
    pub fn joints(&self) -> &[f64] {
        &self.joints
    }

    /// The end of all streams, in seconds from the beginning.
    pub fn end_s(&self) -> f64 {
        (self.end_s - self.start_s).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clock(fps: f64, duration_s: f64) -> StreamClock {
        StreamClock::new(Told { fps, duration_s, ..Told::default() })
    }

    fn times(clock: &mut StreamClock, stamps: &[f64]) -> Vec<f64> {
        stamps.iter().map(|stamp| clock.tick(Some(*stamp))).collect()
    }

    fn assert_near(given: &[f64], wanted: &[f64]) {
        assert_eq!(given.len(), wanted.len());
        assert!(given.iter().zip(wanted).all(|(given, wanted)| (given - wanted).abs() < 0.002), "{given:?} {wanted:?}");
    }

    #[test]
    fn true_stamps_are_kept_as_they_are() {
        let mut clock = clock(10.0, 5.0);
        let stamps = [0.0, 0.04, 0.5, 0.52, 4.9];
        assert_eq!(times(&mut clock, &stamps), stamps);
    }

    #[test]
    fn pictures_that_begin_after_zero_stand_at_their_time_and_none_stands_before_it() {
        for (zero_s, first, begins) in [(0.0, 3.0, 3.0), (8000.0, 8000.07, 0.07), (1.4, 1.4, 0.0), (0.0, -0.5, 0.0)] {
            let mut clock = StreamClock::new(Told { fps: 25.0, duration_s: 20.0, zero_s, ..Told::default() });
            assert_near(
                &times(&mut clock, &[first, first + 0.04, first + 0.08]),
                &[begins, begins + 0.04, begins + 0.08],
            );
        }
        // Where the first time stamp does not tell when its picture is shown.
        let mut late = StreamClock::new(Told { fps: 25.0, duration_s: 20.0, first_s: Some(0.5), ..Told::default() });
        assert_near(&times(&mut late, &[0.08, 0.12]), &[0.5, 0.54]);
        // One that begins after the end of the file.
        assert_near(&times(&mut clock(25.0, 20.0), &[5000.0, 5000.04]), &[0.0, 0.04]);
    }

    #[test]
    fn a_stream_without_stamps_gets_times_from_its_rate() {
        for (fps, step) in [(10.0, 0.1), (0.0, 0.04)] {
            let mut clock = clock(fps, 0.0);
            let times: Vec<f64> = [None; 4].into_iter().map(|stamp| clock.tick(stamp)).collect();
            assert_near(&times, &[0.0, step, 2.0 * step, 3.0 * step]);
            assert!((clock.end() - 4.0 * step).abs() < 1e-9);
        }
    }

    #[test]
    fn equal_stamps_follow_each_other_and_do_not_run_away() {
        assert_near(&times(&mut clock(10.0, 0.0), &[0.0; 5]), &[0.0, 0.1, 0.2, 0.3, 0.4]);
        // Stamps of a unit that is a thousand times too small.
        let tiny: Vec<f64> = (0..5).map(|n| f64::from(n) / 15_360.0).collect();
        assert_near(&times(&mut clock(30.0, 0.0), &tiny), &[0.0, 0.033, 0.067, 0.1, 0.133]);
        let pairs: Vec<f64> = (0..100).map(|n| f64::from(n / 2) * 0.08).collect();
        let given = times(&mut clock(10.0, 0.0), &pairs);
        assert!(given.iter().zip(&pairs).all(|(given, stamp)| (given - stamp).abs() < 0.15), "{given:?}");
    }

    #[test]
    fn stamps_that_begin_anew_or_leap_go_on_from_the_frame_before() {
        let wanted = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5];
        assert_near(&times(&mut clock(10.0, 3.0), &[5.0, 5.1, 5.2, 0.0, 0.1, 0.2]), &[5.0, 5.1, 5.2, 5.3, 5.4, 5.5]);
        assert_near(&times(&mut clock(10.0, 3.0), &[0.0, 0.1, 0.2, 9000.0, 9000.1, 9000.2]), &wanted);
        assert_near(&times(&mut clock(10.0, 3.0), &[0.0, 0.1, 0.2, 9000.0, 0.4, 0.5]), &wanted);
        // A duration that is too short makes no leap of a pause.
        assert_near(&times(&mut clock(10.0, 3.0), &[0.0, 2.9, 60.0, 60.1]), &[0.0, 2.9, 60.0, 60.1]);
    }

    #[test]
    fn a_rate_that_is_not_so_is_counted() {
        for (told, stamps, fps) in [(1000.0, 30.0, 30.0), (29.97, 6.7, 6.7), (29.97, 30.0, 29.97), (0.0, 12.0, 12.0)] {
            let mut clock = clock(told, 0.0);
            for n in 0..60 {
                clock.tick(Some(f64::from(n) / stamps));
            }
            assert!((clock.fps() - fps).abs() < 0.01, "{told}: {}", clock.fps());
            assert!((clock.end() - 60.0 / stamps).abs() < 0.005, "{told}: {}", clock.end());
        }
    }

    proptest! {
        #[test]
        fn times_always_rise_and_stay_finite(stamps in prop::collection::vec(any::<f64>(), 1..100)) {
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
