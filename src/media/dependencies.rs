//! Finds the packets that a decoder needs to output the sampled frames of a group of pictures (GOP).

use super::packet_info::{PacketInfo, RandomAccess};
use super::references::{Dependencies, PictureNumbers};

/// A packet of a GOP and its dependencies.
pub(super) struct PacketNode<'a> {
    /// The index of the packet in the stream, in decoding order.
    pub decode_index: u64,
    pub info: PacketInfo,
    /// The frames that it depends on; `None` if it may depend on every earlier reference frame.
    pub dependencies: Option<&'a Dependencies>,
}

/// How a packet is used in decoding the sampled frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Unused,
    /// Its frame has to be in the decoded picture buffer (DPB), but no needed frame is predicted from its pixels.
    DpbEntry,
    /// Its frame is sampled, or a needed frame is predicted from it.
    Pixels,
}

/// Returns for each packet of a GOP whether it has to be decoded to output the sampled frames.
pub(super) fn needed_packets(packets: &[PacketNode<'_>], is_sampled: &[bool]) -> Vec<bool> {
    let mut is_forced = vec![false; packets.len()];
    loop {
        let uses = uses(packets, is_sampled, &is_forced);
        let mut is_complete = true;
        for index in missing_references(packets, &uses) {
            is_complete &= std::mem::replace(&mut is_forced[index], true);
        }
        if is_complete {
            return uses.into_iter().map(|used| used > Use::Unused).collect();
        }
    }
}

/// Walks back from the last sampled frame and collects references. Packets in `is_forced` are decoded in any case.
fn uses(packets: &[PacketNode<'_>], is_sampled: &[bool], is_forced: &[bool]) -> Vec<Use> {
    let mut uses = vec![Use::Unused; packets.len()];
    // Set once a needed frame has unknown dependencies: then every earlier reference frame is needed.
    let mut needs_all_references = false;
    let end = is_sampled.iter().rposition(|is_sampled| *is_sampled).map_or(0, |last| last + 1);
    for index in (0..end).rev() {
        let PacketNode { info, dependencies, .. } = &packets[index];
        if is_sampled[index] || needs_all_references && !info.is_droppable {
            uses[index] = Use::Pixels;
        } else if info.has_side_units || is_forced[index] {
            uses[index] = uses[index].max(Use::DpbEntry);
        }
        if uses[index] < Use::Pixels {
            continue;
        }
        let Some(dependencies) = dependencies else {
            needs_all_references = true;
            continue;
        };
        // A reference that is not found here belongs to a part of the GOP that was decoded before.
        let find = |index: &u64| packets.binary_search_by_key(index, |packet| packet.decode_index).ok();
        for reference in dependencies.references.iter().filter_map(find) {
            uses[reference] = Use::Pixels;
        }
        if !dependencies.has_explicit_lists {
            for reference in dependencies.dpb.iter().filter_map(find) {
                uses[reference] = uses[reference].max(Use::DpbEntry);
            }
        }
    }
    uses
}

/// Simulates the decoded picture buffer when only the needed packets are decoded. Returns the indices of packets that
/// have to be decoded as well:
/// - those whose memory management control operations remove frames, if a frame would otherwise find wrong references;
/// - the skipped reference frames before a frame whose counters could not be derived without them.
fn missing_references(packets: &[PacketNode<'_>], uses: &[Use]) -> Vec<usize> {
    let end = uses.iter().rposition(|used| *used > Use::Unused).map_or(0, |last| last + 1);
    let mut dpb: Option<Vec<u64>> = None;
    let mut last_decoded_reference = None::<(usize, PictureNumbers)>;
    let mut skipped_references = 0;
    let mut missing = Vec::new();
    for index in 0..end {
        let PacketNode { info, dependencies, .. } = &packets[index];
        // Every reference before a frame with unknown dependencies is decoded, so none is missing there.
        let Some(dependencies) = dependencies else { break };
        // In a GOP that continues, all earlier references were decoded.
        let dpb = dpb.get_or_insert_with(|| dependencies.dpb.clone());
        if info.random_access == RandomAccess::ClosedGop {
            dpb.clear();
            (last_decoded_reference, skipped_references) = (None, 0);
        }
        if let (true, Some((before, previous))) = (uses[index] > Use::Unused, last_decoded_reference) {
            let PictureNumbers { poc, max_poc_lsb, frame_num, max_frame_num } = dependencies.numbers;
            let is_ambiguous = max_poc_lsb.is_some_and(|max| 2 * (poc - previous.poc).abs() >= max)
                || skipped_references >= max_frame_num - 1;
            // Picture order count types 1 and 2 count the wraps of frame_num (sections 8.2.1.2 and 8.2.1.3). After a
            // gap in frame_num, FFmpeg counts a wrap only at frame_num 0.
            let misses_wrap = max_poc_lsb.is_none() && frame_num < previous.frame_num && frame_num != 0;
            if is_ambiguous || misses_wrap {
                missing.extend((before + 1..index).filter(|between| !packets[*between].info.is_droppable));
            }
        }
        let has_references = if dependencies.has_explicit_lists {
            dependencies.references.iter().all(|reference| dpb.contains(reference))
        } else {
            *dpb == dependencies.dpb
        };
        if uses[index] == Use::Pixels && !has_references {
            let is_stale = |frame: &u64| dpb.contains(frame) && !dependencies.dpb.contains(frame);
            let removes_stale = |packet: &PacketNode<'_>| {
                let marking = packet.dependencies.and_then(|dependencies| dependencies.marking.as_ref());
                marking.is_some_and(|marking| marking.removed.iter().any(is_stale))
            };
            let count = missing.len();
            let unused = (0..index).filter(|earlier| uses[*earlier] == Use::Unused);
            missing.extend(unused.filter(|earlier| removes_stale(&packets[*earlier])));
            if missing.len() == count {
                // The cause is unknown: decode every earlier reference frame.
                missing.extend((0..index).filter(|earlier| !packets[*earlier].info.is_droppable));
            }
        }
        if let Some(marking) = &dependencies.marking {
            let is_decoded = uses[index] > Use::Unused;
            if is_decoded {
                (last_decoded_reference, skipped_references) = (Some((index, dependencies.numbers)), 0);
            } else {
                skipped_references += 1;
            }
            // FFmpeg adds a substitute frame for a skipped reference, with the sliding window.
            let removed: &[u64] = if is_decoded { &marking.removed } else { &[] };
            dpb.retain(|frame| !removed.contains(frame));
            if removed.is_empty() && dpb.len() >= marking.max_num_ref_frames {
                dpb.remove(0);
            }
            dpb.push(packets[index].decode_index);
        }
    }
    missing
}
