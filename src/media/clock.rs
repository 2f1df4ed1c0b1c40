//! The times of a stream's pictures.

use super::Probe;

/// Frames a second that are assumed where the container tells no rate.
const FALLBACK_FPS: f64 = 25.0;
/// A time stamp this far beyond the container's duration is taken for nonsense, in seconds.
const BEYOND_END_S: f64 = 10.0;

/// Makes finite, rising times of whatever time stamps a stream has.
#[derive(Debug, Clone)]
pub(super) struct StreamClock {
    /// Seconds a frame, on average.
    frame_s: f64,
    /// Stamps beyond this are not believed.
    latest_s: f64,
    /// The first stamp: times count from the first picture.
    offset_s: f64,
    /// Time of the frame before.
    last: Option<f64>,
}

impl StreamClock {
    pub fn new(probe: &Probe) -> Self {
        let fps = if probe.fps > 0.0 { probe.fps } else { FALLBACK_FPS };
        let latest_s = if probe.duration_s > 0.0 { probe.duration_s + BEYOND_END_S } else { f64::INFINITY };
        Self { frame_s: 1.0 / fps, latest_s, offset_s: 0.0, last: None }
    }

    /// The time of the next frame, whose stamp is given in seconds.
    pub fn tick(&mut self, stamp: Option<f64>) -> f64 {
        let stamp = stamp.filter(|stamp| stamp.is_finite());
        let time = match (self.last, stamp) {
            (None, _) => {
                self.offset_s = stamp.unwrap_or(0.0);
                0.0
            }
            (Some(last), Some(stamp)) if stamp - self.offset_s > last && stamp - self.offset_s <= self.latest_s => {
                stamp - self.offset_s
            }
            (Some(last), _) => last + self.frame_s,
        };
        self.last = Some(time);
        time
    }

    /// The time of the last frame.
    pub fn time(&self) -> f64 {
        self.last.unwrap_or(0.0)
    }

    /// The end of the last frame.
    pub fn end(&self) -> f64 {
        self.last.map_or(0.0, |last| last + self.frame_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::picture::Shown;

    fn clock(duration_s: f64) -> StreamClock {
        StreamClock::new(&Probe {
            duration_s,
            fps: 10.0,
            width: 2,
            height: 2,
            codec: "h264".to_owned(),
            frames_total: 0,
            has_audio: false,
            shown: Shown::default(),
        })
    }

    #[test]
    fn true_stamps_are_kept_as_they_are() {
        let mut clock = clock(5.0);
        let stamps = [0.0, 0.04, 0.5, 0.52, 4.9];
        assert_eq!(stamps.map(|stamp| clock.tick(Some(stamp))), stamps);
        assert!((clock.end() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn times_count_from_the_first_picture_wherever_its_stamp_stands() {
        for first in [0.08, -0.5, 3600.0] {
            let mut clock = clock(5.0);
            let times = [0.0, 0.04, 0.08].map(|stamp| clock.tick(Some(first + stamp)));
            let near = times.iter().zip([0.0, 0.04, 0.08]).all(|(given, wanted)| (given - wanted).abs() < 1e-9);
            assert!(near, "{times:?}");
        }
    }

    #[test]
    fn a_stream_without_stamps_gets_times_from_its_rate() {
        let mut clock = clock(0.0);
        let times: Vec<f64> = [None; 4].into_iter().map(|stamp| clock.tick(stamp)).collect();
        assert!((times[3] - 0.3).abs() < 1e-9, "{times:?}");
    }

    proptest! {
        #[test]
        fn times_always_rise_and_stay_finite(stamps in prop::collection::vec(any::<f64>(), 1..100)) {
            let mut clock = clock(5.0);
            let mut last = -1.0;
            for stamp in stamps {
                let time = clock.tick(Some(stamp));
                prop_assert!(time.is_finite() && time > last);
                last = time;
            }
        }
    }
}
