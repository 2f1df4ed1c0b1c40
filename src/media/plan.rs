//! Decides which packets of a video are decoded, and which of their frames are sampled.
//!
//! Packets arrive in decoding order, each with a time stamp and its [`super::packet_info::PacketInfo`]. These suffice
//! to number the frames without decoding them. Packets that no sampled frame depends on are dropped: non-reference
//! frames, all packets of a GOP after its last sampled frame, and whole GOPs without a sampled frame.

use super::clock::{StreamClock, stamp_s};
use super::dependencies::needed_packets;
use super::fast_sampling::FastSampler;
use super::gop::{GopPart, ParsedPacket, PendingPacket, PlannedPacket, nodes};
use super::packet_info::RandomAccess;
use super::selection::Selection;
use crate::analysis::Sampling;

/// A GOP with more packets than this is output in parts.
const MAX_PART_PACKETS: usize = 512;
/// A GOP with more bytes than this is output in parts.
const MAX_PART_BYTES: usize = 8 << 20;
/// Every frame that is shown before a given frame has arrived this many packets after it: known encoders reorder over
/// at most 64 packets.
const MAX_REORDER: usize = 96;

pub(super) struct Planner<P> {
    selection: Selection,
    sampling: Sampling,
    fast_sampler: FastSampler,
    /// The time base of the stream, in seconds.
    time_base: f64,
    clock: StreamClock,
    /// The packets of the current GOP that were not output yet.
    pending: Vec<PendingPacket<P>>,
    /// The size of `pending`.
    pending_bytes: usize,
    /// An earlier part of the current GOP was output.
    is_continued: bool,
    /// The index in `pending` of a random access point. The GOP ends before it, once all frames that are shown before
    /// it are known.
    next_gop: Option<usize>,
    packets_read: u64,
    frames_numbered: u64,
    is_first_gop: bool,
    /// The stream does not begin with a random access point.
    starts_without_key: bool,
}

impl<P> Planner<P> {
    /// `time_base` is that of the stream, in seconds.
    pub fn new(selection: Selection, sampling: Sampling, time_base: f64, clock: StreamClock) -> Self {
        Self {
            selection,
            sampling,
            fast_sampler: FastSampler::new(selection.interval()),
            time_base,
            clock,
            pending: Vec::new(),
            pending_bytes: 0,
            is_continued: false,
            next_gop: None,
            packets_read: 0,
            frames_numbered: 0,
            is_first_gop: true,
            starts_without_key: false,
        }
    }

    /// The number of frames numbered so far, whether or not they are sampled.
    pub const fn frames_numbered(&self) -> u64 {
        self.frames_numbered
    }

    /// The clock of the numbered frames.
    pub const fn clock(&self) -> &StreamClock {
        &self.clock
    }

    /// Adds the next packet. Returns a part of a GOP once it is complete.
    pub fn push(&mut self, mut parsed: ParsedPacket<P>) -> Option<GopPart<P>> {
        let random_access = parsed.info.random_access;
        let starts_gop = random_access != RandomAccess::No && !self.pending.is_empty();
        if self.packets_read == 0 {
            self.starts_without_key = random_access == RandomAccess::No;
        }
        self.is_first_gop &= !starts_gop;
        parsed.is_before_first_key = self.starts_without_key && self.is_first_gop;
        // At the start of the stream, the references of these frames are missing, and the decoder does not output them.
        parsed.info.is_shown &= !(self.is_first_gop && parsed.info.is_skipped_leading);
        parsed.info.is_shown &= !self.clock.hides(stamp_s(parsed.pts, self.time_base));
        let mut part = None;
        if let Some(at) = self.next_gop {
            if starts_gop || parsed.sort_pts > self.pending[at].parsed.sort_pts {
                part = self.end_gop_before(at);
            } else if self.pending.len() - at > MAX_REORDER {
                // The time stamps are invalid: no later frame follows the key frame in presentation order.
                self.next_gop = None;
            }
        }
        if starts_gop {
            self.next_gop = Some(self.pending.len());
        }
        self.pending_bytes += parsed.size;
        self.pending.push(PendingPacket { decode_index: self.packets_read, parsed, shown: None, is_numbered: false });
        self.packets_read += 1;
        if let (RandomAccess::ClosedGop, None, Some(at)) = (random_access, &part, self.next_gop) {
            part = self.end_gop_before(at);
        }
        part.or_else(|| self.split_long_gop())
    }

    /// Returns the remaining packets at the end of the file.
    pub fn finish(&mut self) -> Option<GopPart<P>> {
        self.number(|_| true);
        let gop = std::mem::take(&mut self.pending);
        self.plan_gop(gop, None)
    }

    /// Ends the GOP before a random access point. The GOP continues if a leading frame (decoded after that point, shown
    /// before it) is selected, as it may refer to frames on both sides.
    fn end_gop_before(&mut self, at: usize) -> Option<GopPart<P>> {
        self.next_gop = None;
        let key_pts = self.pending[at].parsed.sort_pts;
        let is_leading = |packet: &PendingPacket<P>| packet.parsed.sort_pts < key_pts;
        let mut count = 0;
        self.number(|packet| {
            count += 1;
            count <= at || is_leading(packet)
        });
        let mut leading = self.pending[at + 1..].iter().filter(|packet| is_leading(packet));
        if self.sampling == Sampling::Exact && leading.any(|packet| self.is_selected(packet)) {
            return None;
        }
        let mut rest = self.pending.split_off(at);
        rest.retain(|packet| !is_leading(packet));
        self.pending_bytes = rest.iter().map(|packet| packet.parsed.size).sum();
        let gop = std::mem::replace(&mut self.pending, rest);
        self.plan_gop(gop, Some(self.frames_numbered))
    }

    /// Outputs a part of a GOP that is too long to be held in memory.
    fn split_long_gop(&mut self) -> Option<GopPart<P>> {
        let is_long = self.pending.len() > MAX_PART_PACKETS || self.pending_bytes > MAX_PART_BYTES;
        let settled = self.pending.len().saturating_sub(MAX_REORDER);
        if !is_long || settled == 0 || self.next_gop.is_some() {
            return None;
        }
        let latest = self.pending[..settled].iter().map(|packet| packet.parsed.sort_pts).max()?;
        self.number(|packet| packet.parsed.sort_pts <= latest);
        let rest = self.pending.split_off(settled);
        let part = std::mem::replace(&mut self.pending, rest);
        self.pending_bytes = self.pending.iter().map(|packet| packet.parsed.size).sum();
        self.is_continued = true;
        let packets = part.into_iter().filter_map(|packet| {
            let is_sampled = self.is_selected(&packet);
            (is_sampled || !packet.parsed.info.is_droppable).then(|| self.planned(packet, is_sampled))
        });
        Some(GopPart { packets: packets.collect(), ends_gop: false })
    }

    /// Numbers the frames of the chosen pending packets, in presentation order.
    fn number(&mut self, mut is_chosen: impl FnMut(&PendingPacket<P>) -> bool) {
        let mut chosen: Vec<&mut PendingPacket<P>> = Vec::new();
        for packet in &mut self.pending {
            if is_chosen(packet) && !packet.is_numbered {
                chosen.push(packet);
            }
        }
        chosen.sort_by_key(|packet| packet.parsed.sort_pts);
        for packet in chosen {
            packet.is_numbered = true;
            if packet.parsed.info.is_shown {
                let stamp_s = stamp_s(packet.parsed.pts, self.time_base);
                packet.shown = Some((self.frames_numbered, self.clock.tick(stamp_s)));
                self.frames_numbered += 1;
            }
        }
    }

    fn is_selected(&self, packet: &PendingPacket<P>) -> bool {
        packet.shown.is_some_and(|(number, _)| self.selection.selects(number))
    }

    /// Plans a GOP, or the last part of a long one. `next` is the number of the key frame of the next GOP.
    fn plan_gop(&mut self, gop: Vec<PendingPacket<P>>, next: Option<u64>) -> Option<GopPart<P>> {
        let is_continued = std::mem::take(&mut self.is_continued);
        let is_sampled: Vec<bool> = match self.sampling {
            Sampling::Exact => gop.iter().map(|packet| self.is_selected(packet)).collect(),
            Sampling::Fast => self.fast_sampler.choose(&gop, is_continued, next),
        };
        let is_needed = needed_packets(&nodes(&gop), &is_sampled);
        let mut packets: Vec<_> = gop
            .into_iter()
            .zip(is_sampled)
            .zip(is_needed)
            .filter_map(|((packet, is_sampled), is_needed)| is_needed.then(|| self.planned(packet, is_sampled)))
            .collect();
        if let (Some(last), Sampling::Fast) = (packets.last_mut(), self.sampling) {
            last.skip_loop_filter = true;
        }
        (is_continued || !packets.is_empty()).then_some(GopPart { packets, ends_gop: true })
    }

    fn planned(&self, packet: PendingPacket<P>, is_sampled: bool) -> PlannedPacket<P> {
        // For H.264, errors from skipping the loop filter stay small: after 250 predicted frames, the PSNR is at least
        // 35 dB.
        let skip_loop_filter = self.sampling == Sampling::Fast && packet.parsed.dependencies.is_some();
        let PendingPacket { decode_index, shown, parsed, .. } = packet;
        let ParsedPacket { packet, is_before_first_key, follows_gap, dependencies, .. } = parsed;
        let references = dependencies.map(|dependencies| dependencies.references).unwrap_or_default();
        PlannedPacket {
            packet,
            shown,
            is_sampled,
            skip_loop_filter,
            is_before_first_key,
            follows_gap,
            decode_index,
            references,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::clock::ContainerTiming;
    use super::super::packet_info::PacketInfo;
    use super::super::references::{Dependencies, PictureNumbers, RefPicMarking};
    use super::*;

    /// Packets in decoding order, each as its type and its position in presentation order. Types: `K` key frame of a
    /// closed GOP, `O` key frame of an open GOP, `P` and `B` reference frames, `b` droppable frame.
    fn packets(frames: &[(char, i64)]) -> Vec<ParsedPacket<u64>> {
        let parse = |(packet, (kind, pts)): (u64, &(char, i64))| {
            let random_access = match kind {
                'K' => RandomAccess::ClosedGop,
                'O' => RandomAccess::OpenGop,
                _ => RandomAccess::No,
            };
            let info = PacketInfo {
                random_access,
                is_droppable: *kind == 'b',
                has_side_units: false,
                is_shown: true,
                is_skipped_leading: false,
            };
            ParsedPacket {
                packet,
                size: 1,
                sort_pts: *pts,
                pts: Some(*pts),
                info,
                is_before_first_key: false,
                dependencies: None,
                follows_gap: false,
            }
        };
        (0..).zip(frames).map(parse).collect()
    }

    fn plan(every_nth: u64, sampling: Sampling, packets: Vec<ParsedPacket<u64>>) -> Vec<GopPart<u64>> {
        let clock = StreamClock::new(ContainerTiming { fps: 25.0, ..ContainerTiming::default() });
        let mut planner = Planner::new(Selection::EveryNth(every_nth), sampling, 0.04, clock);
        let mut parts: Vec<_> = packets.into_iter().filter_map(|packet| planner.push(packet)).collect();
        parts.extend(planner.finish());
        parts
    }

    /// The packets of each part, and those whose frames are sampled.
    fn decoded_and_sampled(parts: &[GopPart<u64>]) -> Vec<(Vec<u64>, Vec<u64>)> {
        let decoded = |part: &GopPart<u64>| part.packets.iter().map(|planned| planned.packet).collect();
        let sampled = |part: &GopPart<u64>| {
            part.packets.iter().filter(|planned| planned.is_sampled).map(|planned| planned.packet).collect()
        };
        parts.iter().map(|part| (decoded(part), sampled(part))).collect()
    }

    #[test]
    fn packets_that_no_sample_depends_on_are_dropped() {
        // In presentation order: K b P b P | K b P, with the numbers 0 to 4 and 5 to 7.
        let frames = [('K', 0), ('P', 2), ('b', 1), ('P', 4), ('b', 3), ('K', 5), ('P', 7), ('b', 6)];
        let parts = plan(3, Sampling::Exact, packets(&frames));
        // Number 3 is a droppable frame that needs the references around it. Number 6 is the last one.
        assert_eq!(decoded_and_sampled(&parts), [(vec![0, 1, 3, 4], vec![0, 4]), (vec![5, 6, 7], vec![7])]);
        let parts = plan(5, Sampling::Exact, packets(&frames));
        assert_eq!(decoded_and_sampled(&parts), [(vec![0], vec![0]), (vec![5], vec![5])]);
        let parts = plan(6, Sampling::Exact, packets(&frames));
        assert_eq!(decoded_and_sampled(&parts), [(vec![0], vec![0]), (vec![5, 6, 7], vec![7])]);
    }

    #[test]
    fn gop_without_sample_is_not_decoded() {
        let frames = [('K', 0), ('P', 1), ('K', 2), ('P', 3), ('K', 4), ('P', 5)];
        let parts = plan(4, Sampling::Exact, packets(&frames));
        assert_eq!(decoded_and_sampled(&parts), [(vec![0], vec![0]), (vec![4], vec![4])]);
    }

    #[test]
    fn open_gops_are_decoded_together_only_if_a_leading_frame_is_sampled() {
        // The droppable frame 3 is decoded after the key frame 4 and shown before it.
        let frames = [('K', 0), ('P', 2), ('b', 1), ('O', 4), ('b', 3), ('P', 6), ('b', 5)];
        let parts = plan(3, Sampling::Exact, packets(&frames));
        assert_eq!(decoded_and_sampled(&parts), [(vec![0, 1, 3, 4, 5], vec![0, 4, 5])]);
        let parts = plan(4, Sampling::Exact, packets(&frames));
        assert_eq!(decoded_and_sampled(&parts), [(vec![0], vec![0]), (vec![3], vec![3])]);
    }

    #[test]
    fn fast_sampling_takes_only_key_frames_if_they_are_close() {
        // 30 frames from key frame to key frame, sampled at every 20th.
        let frames: Vec<_> =
            (0..10).flat_map(|gop| (0..30).map(move |at| (if at == 0 { 'K' } else { 'P' }, 30 * gop + at))).collect();
        let parts = plan(20, Sampling::Fast, packets(&frames));
        let decoded: Vec<u64> = parts.iter().flat_map(|part| &part.packets).map(|planned| planned.packet).collect();
        assert_eq!(decoded, (0..10).map(|gop| 30 * gop).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| part.packets[0].is_sampled));
        // Other frames are decoded as well if GOPs are longer than 1.5 intervals.
        let parts = plan(19, Sampling::Fast, packets(&frames));
        assert!(parts.iter().flat_map(|part| &part.packets).count() > 10);
    }

    #[test]
    fn fast_sampling_skips_key_frames_close_to_the_previous_sample() {
        // A key frame every 30 frames, and further ones at scene cuts, sampled at every 20th.
        let keys = [0, 30, 36, 43, 45, 75, 88, 90, 119];
        let frames: Vec<_> = (0..140).map(|at| (if keys.contains(&at) { 'K' } else { 'P' }, at)).collect();
        let parts = decoded_and_sampled(&plan(20, Sampling::Fast, packets(&frames)));
        let sampled: Vec<u64> = parts.into_iter().flat_map(|(_, sampled)| sampled).collect();
        assert_eq!(sampled, [0, 30, 45, 75, 90, 119]);
    }

    #[test]
    fn fast_sampling_takes_a_key_frame_within_half_an_interval_or_a_reference_frame() {
        let gop = |from: i64| {
            let rest = (1..15).flat_map(move |pair| [('P', from + 2 * pair), ('b', from + 2 * pair - 1)]);
            [('K', from)].into_iter().chain(rest).collect::<Vec<_>>()
        };
        let frames: Vec<_> = [gop(0), gop(29), gop(58)].concat();
        let parts = plan(20, Sampling::Fast, packets(&frames));
        let numbers: Vec<Vec<u64>> = parts
            .iter()
            .map(|part| part.packets.iter().filter(|p| p.is_sampled).filter_map(|p| p.shown.map(|(n, _)| n)).collect())
            .collect();
        // 20 is replaced by 29. 40 is further than half an interval from both key frames, so a frame near it is
        // decoded.
        assert_eq!(numbers.len(), 3);
        assert_eq!((numbers[0].as_slice(), numbers[1][0], numbers[2][0]), ([0].as_slice(), 29, 58));
        assert!(parts[0].packets.len() == 1 && parts[0].packets[0].skip_loop_filter);
    }

    /// Like `packets`, with dependencies: P frames refer to the K or P frame before them, with explicit lists; B frames
    /// refer to the K or P frames around them. The DPB has a capacity of four, and a B frame removes the B frame before
    /// it.
    fn packets_with_dependencies(frames: &[(char, i64)]) -> Vec<ParsedPacket<u64>> {
        let mut packets = packets(frames);
        let (mut dpb, mut chain, mut last_b) = (Vec::<u64>::new(), Vec::new(), None);
        for (at, (kind, pts)) in (0..).zip(frames) {
            if *kind == 'K' {
                (dpb, chain, last_b) = (Vec::new(), Vec::new(), None);
            }
            let count = if *kind == 'P' { 1 } else { 2 };
            let mut dependencies = Dependencies {
                references: chain.iter().rev().take(count).copied().collect(),
                dpb: dpb.clone(),
                has_explicit_lists: matches!(kind, 'K' | 'P'),
                marking: None,
                numbers: PictureNumbers { poc: *pts, max_poc_lsb: Some(16), frame_num: 0, max_frame_num: 16 },
            };
            if *kind != 'b' {
                let removed: Vec<u64> = if *kind == 'B' { last_b.replace(at).into_iter().collect() } else { vec![] };
                dpb.retain(|index| !removed.contains(index));
                if removed.is_empty() && dpb.len() == 4 {
                    dpb.remove(0);
                }
                dpb.push(at);
                dependencies.marking = Some(RefPicMarking { removed, max_num_ref_frames: 4 });
            }
            if matches!(kind, 'K' | 'P') {
                chain.push(at);
            }
            packets[at as usize].dependencies = Some(dependencies);
        }
        packets
    }

    #[test]
    fn reference_frames_that_no_sample_depends_on_are_dropped() {
        // In presentation order: K b B b P b B b P b B b P.
        let mini_gop = |from: i64| [('P', from + 4), ('B', from + 2), ('b', from + 1), ('b', from + 3)];
        let frames = [&[('K', 0)][..], &mini_gop(0), &mini_gop(4), &mini_gop(8)].concat();
        let exact = |every_nth, packets| decoded_and_sampled(&plan(every_nth, Sampling::Exact, packets));
        assert_eq!(exact(12, packets_with_dependencies(&frames)), [(vec![0, 1, 5, 9], vec![0, 9])]);
        // Number 6 is a B frame: its lists depend on the whole DPB, with the B frame of the mini-GOP before.
        assert_eq!(exact(6, packets_with_dependencies(&frames)), [(vec![0, 1, 2, 5, 6, 9], vec![0, 6, 9])]);
        // Without known dependencies, all reference frames are needed.
        assert_eq!(exact(12, packets(&frames)), [(vec![0, 1, 2, 5, 6, 9], vec![0, 9])]);
        // Fast sampling takes a P frame in place of number 10, a B frame.
        let longer = [&frames[..], &mini_gop(12), &mini_gop(16)].concat();
        let parts = plan(10, Sampling::Fast, packets_with_dependencies(&longer));
        assert_eq!(decoded_and_sampled(&parts), [(vec![0, 1, 5, 9, 13, 17], vec![0, 5, 17])]);
        assert!(parts.iter().flat_map(|part| &part.packets).all(|planned| planned.skip_loop_filter));
        // A packet with parameter sets is decoded in any case.
        let mut packets = packets_with_dependencies(&frames);
        packets[2].info.has_side_units = true;
        assert_eq!(exact(12, packets), [(vec![0, 1, 2, 5, 9], vec![0, 9])]);
    }

    #[test]
    fn skipped_references_do_not_make_frame_counters_ambiguous() {
        // Every fourth frame has no references. A decoder resolves picture order counts less than 8 apart.
        let frames: Vec<_> = (0..30).map(|at| (if at == 0 { 'K' } else { 'P' }, at)).collect();
        let packets = || {
            let mut packets = packets_with_dependencies(&frames);
            for at in (0..30).step_by(4) {
                packets[at].dependencies.as_mut().unwrap().references.clear();
            }
            packets
        };
        let every_fourth: Vec<u64> = (0..29).step_by(4).collect();
        let parts = plan(4, Sampling::Exact, packets());
        assert_eq!(decoded_and_sampled(&parts), [(every_fourth.clone(), every_fourth)]);
        let parts = plan(12, Sampling::Exact, packets());
        let decoded = &decoded_and_sampled(&parts)[0].0;
        assert!(decoded.windows(2).all(|pair| pair[1] - pair[0] < 8), "{decoded:?}");
        assert!(decoded.len() < 30);
    }

    prop_compose! {
        /// GOPs of mini-GOPs: a reference frame, then the frames shown before it, the middle one of which is a
        /// reference.
        fn video()(gops in prop::collection::vec(prop::collection::vec(0_i64..6, 0..12), 1..8)) -> Vec<(char, i64)> {
            let (mut frames, mut next) = (Vec::new(), 0);
            for gop in gops {
                frames.push(('K', next));
                next += 1;
                for between in gop {
                    frames.push(('P', next + between));
                    frames.extend((0..between).map(|at| (if at == between / 2 { 'B' } else { 'b' }, next + at)));
                    next += between + 1;
                }
            }
            frames
        }
    }

    proptest! {
        #[test]
        fn every_nth_frame_is_sampled_and_all_references_before_it_are_decoded(frames in video(), n in 1_u64..40) {
            let parts = plan(n, Sampling::Exact, packets(&frames));
            let all = || parts.iter().flat_map(|part| &part.packets);
            let mut sampled: Vec<u64> =
                all().filter(|p| p.is_sampled).filter_map(|p| p.shown).map(|(number, _)| number).collect();
            sampled.sort_unstable();
            let count = frames.len() as u64;
            prop_assert_eq!(sampled, (0..count).step_by(n as usize).collect::<Vec<_>>());
            for planned in all() {
                // The time stamps count frames, so they are the frame numbers.
                let number = frames[planned.packet as usize].1 as u64;
                prop_assert_eq!(planned.shown.map(|(number, _)| number), Some(number));
            }
            for part in &parts {
                let first = part.packets[0].packet;
                prop_assert_eq!(frames[first as usize].0, 'K');
                let last = part.packets[part.packets.len() - 1].packet;
                let decoded: Vec<u64> = part.packets.iter().map(|planned| planned.packet).collect();
                let references = (first..last).filter(|at| frames[*at as usize].0 != 'b');
                prop_assert!(references.into_iter().all(|at| decoded.contains(&at)));
            }
        }

        #[test]
        fn frames_with_invalid_time_stamps_are_numbered_once(
            stamps in prop::collection::vec((0_usize..5, any::<i64>()), 1..400),
        ) {
            let frames: Vec<_> =
                stamps.into_iter().map(|(kind, pts)| (['K', 'O', 'P', 'b', 'b'][kind], pts)).collect();
            for sampling in [Sampling::Exact, Sampling::Fast] {
                let numbers: Vec<u64> = plan(7, sampling, packets(&frames))
                    .iter()
                    .flat_map(|part| &part.packets)
                    .filter_map(|planned| planned.shown)
                    .map(|(number, _)| number)
                    .collect();
                let mut distinct = numbers.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), numbers.len());
            }
        }
    }
}
