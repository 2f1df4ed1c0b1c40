//! Damaged frames, and the frames predicted from them.
//!
//! FFmpeg marks a frame that it conceals, but not the frames that are predicted from it. These are found here: by the
//! references in the slice headers ([`DamageChain`]), or by the types of the frames ([`AnchorChain`]).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Damage ends this many packets after it began, if no key frame came. Then the encoder has renewed most of the frame,
/// and streams without further key frames exist.
pub(super) const MAX_CHAIN: u64 = 300;
/// A decoder outputs a frame before this many later ones, or never: at most 16 frames are reordered, and the decoder
/// holds back at most 16.
const MAX_OUTPUTS: u64 = 32;

/// Sampled frames that were dropped because they are damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Damage {
    pub frames: u64,
    /// The time of the first damaged frame, in seconds.
    pub from_s: f64,
    /// The time of the last damaged frame, in seconds.
    pub to_s: f64,
}

impl Damage {
    pub fn add(&mut self, time_s: f64) {
        self.merge(Self { frames: 1, from_s: time_s, to_s: time_s });
    }

    /// Adds the damage of another GOP.
    pub fn merge(&mut self, other: Self) {
        match (self.frames, other.frames) {
            (_, 0) => {}
            (0, _) => *self = other,
            _ => {
                self.frames += other.frames;
                (self.from_s, self.to_s) = (self.from_s.min(other.from_s), self.to_s.max(other.to_s));
            }
        }
    }
}

/// A packet in the decoder.
struct Link {
    decode_index: u64,
    references: Vec<u64>,
    /// Whether the frame itself is damaged; `None` until the decoder has output it.
    is_damaged: Option<bool>,
    /// The number of frames that the decoder had output before.
    outputs_before: u64,
}

/// Follows damage along the references of frames, in decoding order.
#[derive(Default)]
pub(super) struct DamageChain {
    /// The packets from the first one on whose frame is not output yet.
    unresolved: VecDeque<Link>,
    /// The damaged frames by decode index, and the decode index at which their damage began.
    origins: HashMap<u64, u64>,
    outputs: u64,
}

impl DamageChain {
    /// Adds the next packet in decoding order.
    pub fn add(&mut self, decode_index: u64, references: Vec<u64>) {
        let link = Link { decode_index, references, is_damaged: None, outputs_before: self.outputs };
        self.unresolved.push_back(link);
    }

    /// Records that the decoder refused a packet.
    pub fn refused(&mut self, decode_index: u64) {
        self.set(decode_index, true);
    }

    /// Records that the decoder output a frame.
    pub fn output(&mut self, decode_index: u64, is_damaged: bool) {
        self.outputs += 1;
        self.set(decode_index, is_damaged);
    }

    fn set(&mut self, decode_index: u64, is_damaged: bool) {
        if let Ok(at) = self.unresolved.binary_search_by_key(&decode_index, |link| link.decode_index) {
            self.unresolved[at].is_damaged = Some(is_damaged);
        } else if is_damaged {
            self.origins.insert(decode_index, decode_index);
        }
        let outputs = self.outputs;
        while let Some(link) = self
            .unresolved
            .pop_front_if(|link| link.is_damaged.is_some() || outputs >= link.outputs_before + MAX_OUTPUTS)
        {
            self.resolve(link);
        }
    }

    fn resolve(&mut self, link: Link) {
        let Link { decode_index, references, is_damaged, .. } = link;
        let inherited = references.iter().filter_map(|reference| self.origins.get(reference)).max().copied();
        let origin = if is_damaged == Some(true) { Some(decode_index) } else { inherited };
        if let Some(origin) = origin.filter(|origin| decode_index - origin <= MAX_CHAIN) {
            self.origins.insert(decode_index, origin);
        }
    }

    /// Whether a frame is damaged, or predicted from a damaged one. `None` while frames that it may be predicted from
    /// are in the decoder.
    pub fn is_damaged(&self, decode_index: u64) -> Option<bool> {
        let is_resolved = self.unresolved.front().is_none_or(|link| decode_index < link.decode_index);
        is_resolved.then(|| self.origins.contains_key(&decode_index))
    }

    /// Ends the waiting for frames that the decoder did not output.
    pub fn finish(&mut self) {
        while let Some(link) = self.unresolved.pop_front() {
            self.resolve(link);
        }
    }
}

/// The type of a frame, if its references are unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameType {
    /// Refers to no other frame (I).
    Intra,
    /// Refers to earlier frames (P).
    Predicted,
    /// Refers to the nearest frames of the two other types before and after it (B).
    Bidirectional,
}

/// Follows damage along frames in presentation order, if their references are unknown.
#[derive(Default)]
pub(super) struct AnchorChain {
    /// The number of frames since the damage began.
    frames_since: Option<u64>,
}

impl AnchorChain {
    /// Whether the next frame is damaged, or predicted from a damaged one before it.
    pub fn next(&mut self, frame_type: FrameType, is_damaged: bool) -> bool {
        self.frames_since = match (frame_type, is_damaged) {
            (FrameType::Bidirectional, _) | (FrameType::Predicted, false) => self.frames_since.map(|count| count + 1),
            (_, true) => Some(0),
            (FrameType::Intra, false) => None,
        };
        self.frames_since = self.frames_since.filter(|count| *count <= MAX_CHAIN);
        is_damaged || self.frames_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The damaged frames of packets with these references, of which the decoder outputs these, in this order. The
    /// frames of `refused` are not output.
    fn damaged(references: &[&[u64]], output: &[u64], concealed: &[u64], refused: &[u64]) -> Vec<u64> {
        let mut chain = DamageChain::default();
        let mut packets = (0..).zip(references).peekable();
        for shown in output {
            while let Some((index, references)) = packets.next_if(|(index, _)| index <= shown) {
                chain.add(index, references.to_vec());
                if refused.contains(&index) {
                    chain.refused(index);
                }
            }
            chain.output(*shown, concealed.contains(shown));
        }
        chain.finish();
        (0..references.len() as u64).filter(|index| chain.is_damaged(*index) == Some(true)).collect()
    }

    /// I P b b P b b I P: the key frame 6 begins anew.
    const GOPS: [&[u64]; 9] = [&[], &[0], &[0, 1], &[0, 1], &[1], &[1, 4], &[1, 4], &[], &[7]];
    const SHOWN: [u64; 9] = [0, 2, 3, 1, 5, 6, 4, 7, 8];

    #[test]
    fn damage_reaches_all_dependent_frames_and_ends_at_a_key_frame() {
        assert_eq!(damaged(&GOPS, &SHOWN, &[], &[]), [] as [u64; 0]);
        assert_eq!(damaged(&GOPS, &SHOWN, &[1], &[]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(damaged(&GOPS, &SHOWN, &[4], &[]), [4, 5, 6]);
        assert_eq!(damaged(&GOPS, &SHOWN, &[3], &[]), [3]);
        assert_eq!(damaged(&GOPS, &SHOWN, &[0], &[]), [0, 1, 2, 3, 4, 5, 6]);
        let shown: Vec<u64> = SHOWN.into_iter().filter(|index| *index != 4).collect();
        assert_eq!(damaged(&GOPS, &shown, &[], &[4]), [4, 5, 6]);
        // The decoder kept a frame to itself, as for an odd order of frames, but decoded it.
        assert_eq!(damaged(&GOPS, &shown, &[], &[]), [] as [u64; 0]);
    }

    #[test]
    fn a_frame_is_undecided_until_its_references_are_output() {
        let mut chain = DamageChain::default();
        for (index, references) in (0..).zip(&GOPS[..3]) {
            chain.add(index, references.to_vec());
        }
        chain.output(0, false);
        assert_eq!((chain.is_damaged(0), chain.is_damaged(2)), (Some(false), None));
        chain.output(2, false);
        assert_eq!(chain.is_damaged(2), None);
        chain.output(1, true);
        assert_eq!((chain.is_damaged(1), chain.is_damaged(2)), (Some(true), Some(true)));
    }

    #[test]
    fn a_frame_that_is_never_output_does_not_hold_up_the_others() {
        let mut chain = DamageChain::default();
        for index in 0..100 {
            chain.add(index, Vec::new());
            if index > 0 {
                chain.output(index, false);
            }
        }
        assert_eq!(chain.is_damaged(99), Some(false));
    }

    #[test]
    fn damage_ends_after_300_packets_without_a_key_frame() {
        let references: Vec<Vec<u64>> = (0..400).map(|index: u64| index.checked_sub(1).into_iter().collect()).collect();
        let references: Vec<&[u64]> = references.iter().map(Vec::as_slice).collect();
        let shown: Vec<u64> = (0..400).collect();
        assert_eq!(damaged(&references, &shown, &[50], &[]), (50..=350).collect::<Vec<_>>());
    }

    #[test]
    fn without_references_damage_reaches_the_next_intra_frame() {
        use FrameType::{Bidirectional as B, Intra as I, Predicted as P};
        let mut chain = AnchorChain::default();
        let frames =
            [(I, false), (B, true), (B, false), (P, false), (P, true), (B, false), (P, false), (I, false), (P, false)];
        let damaged: Vec<bool> = frames.into_iter().map(|(kind, is_damaged)| chain.next(kind, is_damaged)).collect();
        assert_eq!(damaged, [false, true, false, false, true, true, true, false, false]);
    }
}
