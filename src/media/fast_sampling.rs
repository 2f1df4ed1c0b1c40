//! Chooses the frames for `sampling = fast`: frames near the selected ones that take less time to decode.

use super::dependencies::needed_packets;
use super::gop::{PendingPacket, nodes};

/// Chooses frames, one GOP after another.
pub(super) struct FastSampler {
    /// The sampling interval, in frames.
    interval: u64,
    /// The key frame of the next GOP is sampled in place of a selected frame before it.
    samples_next_key: bool,
    /// The number of the last sampled frame.
    last_sampled: Option<u64>,
}

impl FastSampler {
    pub const fn new(interval: u64) -> Self {
        Self { interval, samples_next_key: false, last_sampled: None }
    }

    /// Returns for each packet of a GOP whether its frame is sampled. `is_continued` means that `gop` is the last part
    /// of a longer GOP, and `next` is the number of the key frame of the next GOP.
    ///
    /// If key frames are at most 1.5 intervals apart, only key frames are sampled, and a key frame closer than 0.75
    /// intervals to the previous sample is skipped.
    ///
    /// Otherwise each selected frame is replaced by a key frame within half an interval. If there is none, it is
    /// replaced by the nearest reference frame within a quarter of an interval. A reference frame that the last
    /// reference frame of the GOP depends on is preferred, as it is decoded in any case.
    pub fn choose<P>(&mut self, gop: &[PendingPacket<P>], is_continued: bool, next: Option<u64>) -> Vec<bool> {
        let mut is_sampled = vec![false; gop.len()];
        let numbers = || gop.iter().filter_map(|packet| packet.shown).map(|(number, _)| number);
        let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else { return is_sampled };
        let end = next.unwrap_or(last + 1);
        let key = gop.first().filter(|_| !is_continued).and_then(|packet| packet.shown).map(|(number, _)| number);
        is_sampled[0] = std::mem::take(&mut self.samples_next_key) && key.is_some();
        let has_close_keys = key.is_some_and(|key| 2 * (end - key) <= 3 * self.interval);
        let max_distance = if has_close_keys { self.interval } else { self.interval / 2 };
        let last_reference = gop.iter().rposition(|packet| !packet.parsed.info.is_droppable);
        let is_last_reference: Vec<bool> = (0..gop.len()).map(|index| Some(index) == last_reference).collect();
        let is_on_path = needed_packets(&nodes(gop), &is_last_reference);
        let mut selected = first.next_multiple_of(self.interval);
        while selected < end {
            let to_key = key.map_or(u64::MAX, |key| selected.abs_diff(key));
            let to_next = next.map_or(u64::MAX, |next| next - selected);
            if to_key <= max_distance && to_key <= to_next {
                is_sampled[0] = true;
            } else if to_next <= max_distance {
                self.samples_next_key = true;
            } else {
                let distance = |at: &usize| gop[*at].shown.map_or(u64::MAX, |(number, _)| number.abs_diff(selected));
                let is_near_reference =
                    |at: &usize| !gop[*at].parsed.info.is_droppable && distance(at) <= self.interval / 4;
                let nearest =
                    (0..gop.len()).filter(is_near_reference).min_by_key(|at| (!is_on_path[*at], distance(at)));
                if let Some(at) = nearest.or_else(|| (0..gop.len()).find(|at| distance(at) == 0)) {
                    is_sampled[at] = true;
                }
            }
            selected += self.interval;
        }
        // Encoders insert a key frame at a scene cut, even shortly after the previous key frame.
        let is_close = |key: u64| self.last_sampled.is_some_and(|last| 4 * (key - last) < 3 * self.interval);
        if has_close_keys && key.is_some_and(is_close) {
            is_sampled[0] = false;
        }
        let sampled = is_sampled.iter().zip(gop).filter(|(is_sampled, _)| **is_sampled);
        let sampled = sampled.filter_map(|(_, packet)| packet.shown).map(|(number, _)| number);
        self.last_sampled = sampled.max().or(self.last_sampled);
        is_sampled
    }
}
