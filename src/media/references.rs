//! Reads from slice headers which pictures an H.264 picture refers to (ITU-T H.264, sections 7.3.3 and 8.2).
//!
//! `nal_ref_idc` marks a picture that other pictures may refer to, but does not name them. Encoders often use a B
//! picture as a reference for its two neighbours only, while the P pictures refer to each other. A decoder of later P
//! pictures can then skip that B picture. To find such cases, this module builds the reference picture lists of each
//! slice and tracks the decoded picture buffer (DPB), as a decoder does.
//!
//! Only progressive frames and short-term references are tracked.

use h264_reader::Context;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::{
    DecRefPicMarking, FieldPic, MemoryManagementControlOperation as Mmco, ModificationOfPicNums as Modification,
    NumRefIdxActive, PicOrderCountLsb, RefPicListModifications, SliceFamily, SliceHeader,
};
use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::nal::{Nal as _, RefNal};

use super::damage::MAX_CHAIN;
use super::nal::{nal_units, parameter_sets};

/// The pictures that a picture depends on. Each is identified by its index in decoding order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Dependencies {
    /// The pictures in the reference lists of its slices.
    pub references: Vec<u64>,
    /// The reference frames in the DPB when its decoding begins.
    pub dpb: Vec<u64>,
    /// Whether `ref_pic_list_modification` names every entry of the lists by its number. Otherwise the lists depend on
    /// the whole DPB. A frame that a decoder substitutes for a missing reference has the right number, but not the
    /// right picture order count.
    pub has_explicit_lists: bool,
    /// Its effect on the DPB; `None` for a non-reference picture.
    pub marking: Option<RefPicMarking>,
    pub numbers: PictureNumbers,
}

/// The counters in a slice header from which a decoder derives the position of a picture.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureNumbers {
    /// Picture order count.
    pub poc: i64,
    /// `MaxPicOrderCntLsb`; `None` if the picture order count type is not 0.
    pub max_poc_lsb: Option<i64>,
    pub frame_num: i64,
    /// `MaxFrameNum`: `frame_num` wraps at this value.
    pub max_frame_num: i64,
}

/// Decoded reference picture marking (section 8.2.5) of a reference picture.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct RefPicMarking {
    /// The frames that its memory management control operations (MMCO) remove from the DPB. If empty, the sliding
    /// window removes the oldest frame once the DPB is full.
    pub removed: Vec<u64>,
    /// The capacity of the DPB.
    pub max_num_ref_frames: usize,
}

/// A reference frame in the DPB.
#[derive(Debug, Default, Clone, Copy)]
struct ReferenceFrame {
    decode_index: u64,
    frame_num: i64,
    /// `MaxFrameNum`: `frame_num` wraps at this value.
    max_frame_num: i64,
    /// Picture order count: `poc_msb + poc_lsb`, or less if the bottom field comes first.
    poc: i64,
    poc_lsb: i64,
    poc_msb: i64,
}

impl ReferenceFrame {
    /// `PicNum` relative to the current picture (section 8.2.4.1).
    const fn pic_num(&self, current: &Self) -> i64 {
        if self.frame_num > current.frame_num { self.frame_num - self.max_frame_num } else { self.frame_num }
    }
}

/// Tracks the DPB through the packets of a stream.
pub(super) struct ReferenceTracker {
    context: Context,
    /// Bytes of the size field before each NAL unit.
    length_size: usize,
    /// The reference frames, in decoding order. `None` after a picture that could not be tracked, until the next IDR
    /// picture.
    dpb: Option<Vec<ReferenceFrame>>,
    /// The previous reference picture in decoding order.
    previous: ReferenceFrame,
    /// The number of pictures from a gap in `frame_num` on, if the stream does not allow gaps.
    since_gap: Option<u64>,
}

/// The first slice header of a picture.
struct Picture {
    frame: ReferenceFrame,
    max_num_ref_frames: usize,
    /// The `difference_of_pic_nums` of each MMCO 1; `None` for a non-reference picture.
    mmcos: Option<Vec<i64>>,
}

impl ReferenceTracker {
    /// For a stream with this `avcC` record. Returns `None` if the record cannot be parsed.
    pub fn new(record: &[u8], length_size: usize) -> Option<Self> {
        let context = parameter_sets(record)?;
        Some(Self { context, length_size, dpb: None, previous: ReferenceFrame::default(), since_gap: None })
    }

    /// Returns the dependencies of the picture in a packet, or `None` if it may depend on every earlier reference.
    pub fn dependencies(&mut self, decode_index: u64, packet: &[u8]) -> Option<Dependencies> {
        let mut dpb = self.dpb.take();
        let dependencies = self.read(decode_index, packet, &mut dpb)?;
        self.dpb = dpb;
        Some(dependencies)
    }

    /// Whether a reference picture before the last one given to [`Self::dependencies`] is missing from the stream, with
    /// no key picture since. `is_key` is the container's flag of that picture.
    pub fn follows_gap(&mut self, is_key: bool) -> bool {
        self.since_gap = self.since_gap.map(|count| count + 1).filter(|count| !is_key && *count <= MAX_CHAIN);
        self.since_gap.is_some()
    }

    fn read(
        &mut self,
        decode_index: u64,
        packet: &[u8],
        dpb: &mut Option<Vec<ReferenceFrame>>,
    ) -> Option<Dependencies> {
        let mut picture = None;
        let mut dependencies = Dependencies { has_explicit_lists: true, ..Dependencies::default() };
        for unit in nal_units(packet, self.length_size) {
            let Some(header) = unit.first() else { continue };
            let nal = RefNal::new(unit, &[], true);
            match header & 0x1F {
                7 => self.context.put_seq_param_set(SeqParameterSet::from_bits(nal.rbsp_bits()).ok()?),
                8 => {
                    let pps = PicParameterSet::from_bits(&self.context, nal.rbsp_bits()).ok()?;
                    self.context.put_pic_param_set(pps);
                }
                // Slice data partitions are not tracked.
                2..=4 => return None,
                nal_unit_type @ (1 | 5) => {
                    if nal_unit_type == 5 && picture.is_none() {
                        *dpb = Some(Vec::new());
                        self.since_gap = None;
                    }
                    let slice = self.slice(decode_index, &nal, dpb.as_deref()?, &mut dependencies)?;
                    picture.get_or_insert(slice);
                }
                _ => {}
            }
        }
        if let Some(Picture { frame, max_num_ref_frames, mmcos: Some(mmcos) }) = picture {
            let dpb = dpb.as_mut()?;
            let mut removed = Vec::with_capacity(mmcos.len());
            for difference in &mmcos {
                let pic_num = frame.frame_num - difference;
                let index = dpb.iter().position(|reference| reference.pic_num(&frame) == pic_num)?;
                removed.push(dpb.remove(index).decode_index);
            }
            dependencies.marking = Some(RefPicMarking { removed, max_num_ref_frames });
            if mmcos.is_empty() && dpb.len() >= max_num_ref_frames {
                dpb.remove(0);
            }
            if dpb.len() >= max_num_ref_frames {
                return None;
            }
            dpb.push(frame);
            self.previous = frame;
        }
        dependencies.references.sort_unstable();
        dependencies.references.dedup();
        Some(dependencies)
    }

    /// Reads a slice header and adds its references to the dependencies.
    fn slice(
        &mut self,
        decode_index: u64,
        nal: &RefNal<'_>,
        dpb: &[ReferenceFrame],
        dependencies: &mut Dependencies,
    ) -> Option<Picture> {
        let nal_header = nal.header().ok()?;
        let (header, sps, pps) = SliceHeader::from_bits(&self.context, &mut nal.rbsp_bits(), nal_header, None).ok()?;
        let is_progressive =
            header.field_pic == FieldPic::Frame && matches!(sps.frame_mbs_flags, FrameMbsFlags::Frames);
        if !is_progressive || header.redundant_pic_cnt.is_some_and(|count| count > 0) {
            return None;
        }
        let is_idr = header.idr_pic_id.is_some();
        let previous = if is_idr { ReferenceFrame::default() } else { self.previous };
        let max_frame_num = 1 << sps.log2_max_frame_num();
        let frame_num = i64::from(header.frame_num);
        // A gap in frame_num means a lost picture, or one that was never encoded.
        if !is_idr && frame_num != (previous.frame_num + 1) % max_frame_num {
            if !sps.gaps_in_frame_num_value_allowed_flag && frame_num != previous.frame_num {
                self.since_gap = Some(0);
            }
            return None;
        }
        let (poc, poc_lsb, poc_msb) = picture_order_count(&header, sps, &previous)?;
        let frame = ReferenceFrame { decode_index, frame_num, max_frame_num, poc, poc_lsb, poc_msb };
        dependencies.numbers = PictureNumbers { poc, max_poc_lsb: max_poc_lsb(sps), frame_num, max_frame_num };
        let (entries, is_explicit) = reference_lists(&header, pps, dpb, &frame)?;
        dependencies.references.extend(entries.into_iter().map(|index| dpb[index].decode_index));
        dependencies.has_explicit_lists &= is_explicit;
        dependencies.dpb = dpb.iter().map(|reference| reference.decode_index).collect();
        let mmcos = match &header.dec_ref_pic_marking {
            None => None,
            Some(DecRefPicMarking::SlidingWindow) => Some(Vec::new()),
            Some(DecRefPicMarking::Idr { long_term_reference_flag, .. }) if !long_term_reference_flag => {
                Some(Vec::new())
            }
            Some(DecRefPicMarking::Idr { .. }) => return None,
            Some(DecRefPicMarking::Adaptive(operations)) => {
                let difference = |operation: &Mmco| match operation {
                    Mmco::ShortTermUnusedForRef { difference_of_pic_nums_minus1 } => {
                        Some(i64::from(*difference_of_pic_nums_minus1) + 1)
                    }
                    _ => None,
                };
                Some(operations.iter().map(difference).collect::<Option<_>>()?)
            }
        };
        let max_num_ref_frames = usize::try_from(sps.max_num_ref_frames).ok()?.max(1);
        Some(Picture { frame, max_num_ref_frames, mmcos })
    }
}

/// `MaxPicOrderCntLsb`; `None` if the picture order count type is not 0.
fn max_poc_lsb(sps: &SeqParameterSet) -> Option<i64> {
    match sps.pic_order_cnt {
        PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4: bits } => Some(16 << bits),
        _ => None,
    }
}

/// The picture order count (section 8.2.1), and its least and most significant part.
fn picture_order_count(
    header: &SliceHeader,
    sps: &SeqParameterSet,
    previous: &ReferenceFrame,
) -> Option<(i64, i64, i64)> {
    match (max_poc_lsb(sps), &header.pic_order_cnt_lsb) {
        (Some(max_lsb), Some(pic_order_cnt_lsb)) => {
            let (lsb, delta_bottom) = match pic_order_cnt_lsb {
                PicOrderCountLsb::Frame(lsb) => (*lsb, 0),
                PicOrderCountLsb::FieldsAbsolute { pic_order_cnt_lsb: lsb, delta_pic_order_cnt_bottom } => {
                    (*lsb, *delta_pic_order_cnt_bottom)
                }
                PicOrderCountLsb::FieldsDelta(_) => return None,
            };
            let lsb = i64::from(lsb);
            let msb = if lsb < previous.poc_lsb && previous.poc_lsb - lsb >= max_lsb / 2 {
                previous.poc_msb + max_lsb
            } else if lsb > previous.poc_lsb && lsb - previous.poc_lsb > max_lsb / 2 {
                previous.poc_msb - max_lsb
            } else {
                previous.poc_msb
            };
            Some((msb + lsb + i64::from(delta_bottom).min(0), lsb, msb))
        }
        // P lists are ordered by frame_num. Only B lists need the picture order count.
        (None, None) if header.slice_type.family != SliceFamily::B => Some((0, 0, 0)),
        _ => None,
    }
}

/// Builds the reference lists of a slice (section 8.2.4). Returns indices into the DPB, and whether the slice names
/// every entry by its number.
fn reference_lists(
    header: &SliceHeader,
    pps: &PicParameterSet,
    dpb: &[ReferenceFrame],
    current: &ReferenceFrame,
) -> Option<(Vec<usize>, bool)> {
    let num_ref_idx_minus1 = match header.num_ref_idx_active {
        None => [pps.num_ref_idx_l0_default_active_minus1, pps.num_ref_idx_l1_default_active_minus1],
        Some(NumRefIdxActive::P { num_ref_idx_l0_active_minus1: l0 }) => [l0, 0],
        Some(NumRefIdxActive::B { num_ref_idx_l0_active_minus1: l0, num_ref_idx_l1_active_minus1: l1 }) => [l0, l1],
    };
    let [l0_length, l1_length] = num_ref_idx_minus1.map(|minus1| minus1 as usize + 1);
    match header.ref_pic_list_modification.as_ref()? {
        RefPicListModifications::I => Some((Vec::new(), true)),
        RefPicListModifications::P { ref_pic_list_modification_l0: modifications } => {
            // The initial list is in descending order of PicNum (section 8.2.4.2.1).
            let initial = (0..dpb.len()).rev().collect();
            let l0 = modified_list(initial, l0_length, modifications, dpb, current)?;
            let is_explicit = modifications.len() >= l0.len();
            Some((l0, is_explicit))
        }
        RefPicListModifications::B { ref_pic_list_modification_l0, ref_pic_list_modification_l1 } => {
            // Section 8.2.4.2.3.
            let mut by_poc: Vec<usize> = (0..dpb.len()).collect();
            by_poc.sort_by_key(|index| dpb[*index].poc);
            let (before, after) = by_poc.split_at(by_poc.partition_point(|index| dpb[*index].poc < current.poc));
            let l0: Vec<usize> = before.iter().rev().chain(after).copied().collect();
            let mut l1: Vec<usize> = after.iter().chain(before.iter().rev()).copied().collect();
            if l1.len() > 1 && l1 == l0 {
                l1.swap(0, 1);
            }
            let mut entries = modified_list(l0, l0_length, ref_pic_list_modification_l0, dpb, current)?;
            entries.extend(modified_list(l1, l1_length, ref_pic_list_modification_l1, dpb, current)?);
            Some((entries, false))
        }
    }
}

/// Applies the modifications of a slice to an initial list (section 8.2.4.3) and truncates it to `length`.
fn modified_list(
    mut list: Vec<usize>,
    length: usize,
    modifications: &[Modification],
    dpb: &[ReferenceFrame],
    current: &ReferenceFrame,
) -> Option<Vec<usize>> {
    let mut pic_num_pred = current.frame_num;
    for (ref_idx, modification) in modifications.iter().enumerate() {
        pic_num_pred += match modification {
            Modification::Subtract(abs_diff_pic_num_minus1) => -i64::from(*abs_diff_pic_num_minus1) - 1,
            Modification::Add(abs_diff_pic_num_minus1) => i64::from(*abs_diff_pic_num_minus1) + 1,
            _ => return None,
        };
        pic_num_pred = pic_num_pred.rem_euclid(current.max_frame_num);
        let pic_num =
            if pic_num_pred > current.frame_num { pic_num_pred - current.max_frame_num } else { pic_num_pred };
        let reference = dpb.iter().position(|reference| reference.pic_num(current) == pic_num)?;
        let mut entries = 0;
        list.retain(|entry| {
            entries += 1;
            entries <= ref_idx || *entry != reference
        });
        list.insert(ref_idx.min(list.len()), reference);
    }
    list.truncate(length);
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `avcC` record of a video of 13 pictures, encoded with x264 (veryfast, three B pictures between two P
    /// pictures).
    const RECORD: &str = "0164000affe100186764000aacd94426c044000003000400000300c83c48965801000468ef8fcbfdf8f800";
    /// The beginning of the slice of each picture of that video, and the picture's number in output order. The pictures
    /// are in decoding order: I P B b b P B b b P B b b.
    const SLICES: [(u64, &str); 13] = [
        (0, "6588840057e9d7ad71924bafe85a"),
        (4, "419a24188affb7d2834c8797c1d0"),
        (2, "419e424216fffeed7b9ca5b7f4a2"),
        (1, "019e61442dfffeed75af270c8339"),
        (3, "019e63442dfff0c94d6ffb9e1b03"),
        (8, "419a68344c467fc539b6e11aea11"),
        (6, "419e8645112c25ffb217049c658c"),
        (5, "019ea5442dff90871787f6263d55"),
        (7, "019ea7442dffc162b6a70dc581cc"),
        (12, "419aac344c42dfd60c9b2452eaa2"),
        (10, "419eca45152c25fffef4de0bd5c0"),
        (9, "019ee9442dfffeec7786f5d2d732"),
        (11, "019eeb442dffc07b6a487e659379"),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn packet(slice: &str) -> Vec<u8> {
        let slice = bytes(slice);
        [&(slice.len() as u32).to_be_bytes()[..], &slice].concat()
    }

    fn tracker() -> ReferenceTracker {
        ReferenceTracker::new(&bytes(RECORD), 4).unwrap()
    }

    /// The references of each picture, by their numbers in output order.
    fn references_of(slices: &[(u64, &str)]) -> Vec<Option<Vec<u64>>> {
        let mut tracker = tracker();
        let number = |decode_index: &u64| slices[*decode_index as usize].0;
        let dependencies = (0..).zip(slices).map(|(index, (_, slice))| tracker.dependencies(index, &packet(slice)));
        dependencies.map(|found| found.map(|found| found.references.iter().map(number).collect())).collect()
    }

    #[test]
    fn p_pictures_do_not_refer_to_reference_b_pictures() {
        let references: Vec<Vec<u64>> = references_of(&SLICES).into_iter().map(Option::unwrap).collect();
        let mini_gop = |from: u64| {
            let (before, middle, after) = (from, from + 2, from + 4);
            [vec![before], vec![before, after], vec![before, middle], vec![after, middle]]
        };
        assert_eq!(references[0], [] as [u64; 0]);
        for (n, from) in [0, 4, 8].into_iter().enumerate() {
            assert_eq!(references[1 + 4 * n..5 + 4 * n], mini_gop(from), "after {from}");
        }
    }

    #[test]
    fn dpb_is_tracked() {
        let mut tracker = tracker();
        let dependencies: Vec<Dependencies> =
            (0..).zip(SLICES).map(|(index, (_, slice))| tracker.dependencies(index, &packet(slice)).unwrap()).collect();
        // The DPB has a capacity of four.
        let dpb: Vec<&[u64]> = dependencies.iter().map(|dependencies| &dependencies.dpb[..]).collect();
        assert_eq!(dpb[..6], [&[][..], &[0], &[0, 1], &[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]);
        // The MMCOs of a B picture remove the previous B picture and older pictures.
        let marking = |removed: &[u64]| Some(RefPicMarking { removed: removed.to_vec(), max_num_ref_frames: 4 });
        assert_eq!((&dependencies[5].marking, dpb[6]), (&marking(&[]), &[0, 1, 2, 5][..]));
        assert_eq!((&dependencies[6].marking, dpb[7]), (&marking(&[0, 2]), &[1, 5, 6][..]));
        assert_eq!(dependencies[3].marking, None);
        let explicit: Vec<bool> = dependencies.iter().map(|dependencies| dependencies.has_explicit_lists).collect();
        assert_eq!(explicit[..6], [true, false, false, false, false, true]);
    }

    #[test]
    fn dependencies_are_unknown_from_a_lost_picture_to_the_next_idr() {
        let lost = [&SLICES[..1], &SLICES[2..6], &SLICES[..2]].concat();
        let known: Vec<bool> = references_of(&lost).iter().map(Option::is_some).collect();
        assert_eq!(known, [true, false, false, false, false, true, true]);
    }

    #[test]
    fn damaged_headers_yield_no_dependencies() {
        assert!(ReferenceTracker::new(&[], 4).is_none());
        assert!(ReferenceTracker::new(&bytes(RECORD)[..20], 4).is_none());
        for end in 0..packet(SLICES[0].1).len() {
            tracker().dependencies(0, &packet(SLICES[0].1)[..end]);
        }
        for slice in ["41", "01", "65", "65ffffff", "4100000000", "67", "68", "21"] {
            assert_eq!(tracker().dependencies(0, &packet(slice)), None, "{slice}");
        }
    }

    #[test]
    fn list_modifications_are_applied() {
        let frame = |frame_num| ReferenceFrame { frame_num, max_frame_num: 16, ..ReferenceFrame::default() };
        let (current, dpb) = (frame(5), [14, 15, 0, 3].map(frame));
        let modified = |modifications: &[Modification], length| {
            modified_list(vec![3, 2, 1, 0], length, modifications, &dpb, &current)
        };
        assert_eq!(modified(&[], 2), Some(vec![3, 2]));
        assert_eq!(modified(&[Modification::Subtract(4)], 3), Some(vec![2, 3, 1]), "5 - 5 = 0");
        // 5 - 7 = -2 is frame_num 14, from before the wrap. Adding 2 gives 0, and subtracting 16 gives -2 again.
        assert_eq!(modified(&[Modification::Subtract(6)], 3), Some(vec![0, 3, 2]));
        assert_eq!(modified(&[Modification::Subtract(6), Modification::Add(1)], 3), Some(vec![0, 2, 3]));
        assert_eq!(modified(&[Modification::Subtract(6), Modification::Subtract(15)], 3), Some(vec![0, 0, 3]));
        assert_eq!(modified(&[Modification::Subtract(0)], 3), None, "there is no 4");
        assert_eq!(modified(&[Modification::LongTermRef(0)], 3), None);
    }
}
