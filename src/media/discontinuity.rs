//! Corrects discontinuities in the time stamps of a container.

use ffmpeg_next::Packet;
use ffmpeg_next::format::context::Input;

use super::clock::{DURATION_TOLERANCE_S, MAX_STEP_AHEAD_S, MAX_STEP_BACK_S};
use super::streams;

/// The maximum duration of a packet that counts for the end of a stream, in seconds.
const MAX_PACKET_S: f64 = 1.0;
/// The maximum number of discontinuities whose times are stored.
const MAX_STORED: usize = 1000;

/// Makes the time stamps of a container continuous where they start over, as in concatenated recordings. All streams
/// get the same offset, so that video and sound stay in sync. It has to see the packets of all streams.
#[derive(Debug)]
pub(super) struct DiscontinuityCorrector {
    streams: Vec<StreamState>,
    /// Is added to all time stamps, in seconds.
    offset_s: f64,
    /// The end of all packets so far, with the offset, in seconds.
    end_s: f64,
    /// Time stamps up to this one are valid in any case, in seconds.
    max_expected_s: f64,
    /// The times of discontinuities, in seconds from the start of the video.
    discontinuities: Vec<f64>,
    /// The time stamp at which the video starts, in seconds.
    start_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct StreamState {
    /// In seconds; 0 for a stream that is neither video nor sound.
    time_base: f64,
    /// The latest time stamp since the last discontinuity, in seconds.
    latest_s: Option<f64>,
}

impl DiscontinuityCorrector {
    /// Returns `None` for containers that cannot have discontinuities. MP4, for example, stores durations of frames.
    pub fn new(input: &Input, duration_s: f64) -> Option<Self> {
        let name = input.format().name().to_owned();
        if ["mov", "avi", "gif"].iter().any(|kind| name.contains(kind)) {
            return None;
        }
        let streams = input
            .streams()
            .map(|stream| StreamState {
                time_base: if streams::is_timed(&stream) { f64::from(stream.time_base()) } else { 0.0 },
                latest_s: None,
            })
            .collect();
        let start_s = streams::start_s(input);
        Some(Self {
            streams,
            offset_s: 0.0,
            end_s: f64::NEG_INFINITY,
            max_expected_s: start_s + duration_s + DURATION_TOLERANCE_S,
            discontinuities: Vec::new(),
            start_s,
        })
    }

    /// Corrects the time stamps of the next packet of any stream.
    pub fn correct(&mut self, packet: &mut Packet) {
        let stream = self.streams.get(packet.stream()).copied().filter(|stream| stream.time_base > 0.0);
        let Some(StreamState { time_base, latest_s }) = stream else { return };
        let Some(ticks) = packet.pts().or(packet.dts()) else { return };
        #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
        let (stamp, duration) =
            (ticks as f64 * time_base, packet.duration().clamp(0, i64::from(i32::MAX)) as f64 * time_base);
        if let (Some(latest), true) = (latest_s, packet.is_key()) {
            let corrected = stamp + self.offset_s;
            let is_far_ahead = corrected > self.end_s + MAX_STEP_AHEAD_S && corrected > self.max_expected_s;
            if stamp < latest - MAX_STEP_BACK_S || is_far_ahead {
                self.start_over(stamp);
            }
        }
        let corrected = stamp + self.offset_s;
        if corrected <= self.end_s.max(self.start_s) + MAX_STEP_AHEAD_S || corrected <= self.max_expected_s {
            let latest = &mut self.streams[packet.stream()].latest_s;
            *latest = Some(latest.map_or(stamp, |latest| latest.max(stamp)));
            self.end_s = self.end_s.max(corrected + duration.min(MAX_PACKET_S));
        }
        if self.offset_s != 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "bounded by the time stamps of the file")]
            let ticks = (self.offset_s / time_base).round() as i64;
            packet.set_pts(packet.pts().map(|pts| pts.saturating_add(ticks)));
            packet.set_dts(packet.dts().map(|dts| dts.saturating_add(ticks)));
        }
    }

    /// Changes the offset so that a packet with this time stamp follows the end of all packets so far.
    fn start_over(&mut self, stamp: f64) {
        self.offset_s = self.end_s - stamp;
        for stream in &mut self.streams {
            stream.latest_s = None;
        }
        if self.discontinuities.len() < MAX_STORED {
            self.discontinuities.push(self.end_s - self.start_s);
        }
    }

    /// The times of discontinuities, in seconds from the start of the video.
    pub fn discontinuities(&self) -> &[f64] {
        &self.discontinuities
    }

    /// The end of all streams, in seconds from the start of the video.
    pub fn end_s(&self) -> f64 {
        (self.end_s - self.start_s).max(0.0)
    }
}
