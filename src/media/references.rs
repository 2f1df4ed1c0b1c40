//! Which pictures an H.264 picture is made of, told from the headers of its slices (ITU-T H.264, 7.3.3 and 8.2).
//!
//! A picture that others refer to is marked so, but not by whom. Encoders let a B picture serve its two neighbours, and the chain
//! of P pictures passes it by: who wants a picture further on can do without. The lists of references that a decoder makes from
//! the slice headers tell.

use h264_reader::Context;
use h264_reader::avcc::AvcDecoderConfigurationRecord;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::{
    DecRefPicMarking, FieldPic, MemoryManagementControlOperation as Operation, ModificationOfPicNums as Modification,
    NumRefIdxActive, PicOrderCountLsb, RefPicListModifications, SliceFamily, SliceHeader,
};
use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::nal::{Nal as _, RefNal};

use super::nal::nal_units;

/// What a picture needs of those before it, by places in the order of decoding.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    /// It is predicted from these.
    pub exact: Vec<u64>,
    /// What a decoder holds when it comes.
    pub held: Vec<u64>,
    /// It asks for each of `exact` by its number. Else its lists hang on all that is held: what a decoder puts in the place of a
    /// picture that is missing has its number, and not the time at which it is shown.
    pub is_by_number: bool,
    /// Where it is held in its turn.
    pub kept: Option<Kept>,
    pub count: Count,
}

/// How a picture tells its place: by its distance from the last reference, in numbers that begin anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// Picture order count.
    pub order: i64,
    /// Steps of `order` until what is told of it begins anew; `None` where nothing is.
    pub orders: Option<i64>,
    /// `frame_num`, which counts references.
    pub number: i64,
    /// References until their numbers begin anew.
    pub numbers: i64,
}

/// How a decoder makes room for a picture.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// These it lets go. Where there are none, the oldest, when `room` are held.
    pub instead_of: Vec<u64>,
    pub room: usize,
}

/// A picture that later ones may refer to.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    place: u64,
    frame_num: i64,
    /// `frame_num` counts to this and begins anew.
    numbers: i64,
    /// Picture order count, and its low and high part.
    order: i64,
    low: i64,
    high: i64,
}

impl Held {
    /// Its number as the slices of a later picture count (8.2.4.1).
    const fn number(&self, later: &Self) -> i64 {
        if self.frame_num > later.frame_num { self.frame_num - later.numbers } else { self.frame_num }
    }
}

/// What a decoder holds, followed through the packets of a stream.
pub(super) struct References {
    context: Context,
    /// Bytes of a NAL unit's size.
    length: usize,
    /// The references that a decoder holds, in the order of decoding; `None` where that has not been understood since the
    /// last IDR picture.
    held: Option<Vec<Held>>,
    /// Of the last reference.
    last: Held,
}

/// What the first slice says of its picture.
struct Picture {
    held: Held,
    /// How many references may be held.
    room: usize,
    /// Of a picture that others may refer to: those that no later one refers to, as differences of their numbers.
    marks: Option<Vec<i64>>,
}

impl References {
    /// For a stream with this `avcC` record; `None` where that is not understood.
    pub fn new(record: &[u8], length: usize) -> Option<Self> {
        let context = AvcDecoderConfigurationRecord::try_from(record).ok()?.create_context().ok()?;
        Some(Self { context, length, held: None, last: Held::default() })
    }

    /// What the picture in a packet needs; `None` where it may need every reference before it.
    pub fn of(&mut self, place: u64, packet: &[u8]) -> Option<Needs> {
        let mut held = self.held.take();
        let needs = self.read(place, packet, &mut held)?;
        self.held = held;
        Some(needs)
    }

    fn read(&mut self, place: u64, packet: &[u8], held: &mut Option<Vec<Held>>) -> Option<Needs> {
        let mut picture = None;
        let mut needs = Needs { is_by_number: true, ..Needs::default() };
        for unit in nal_units(packet, self.length) {
            let Some(head) = unit.first() else { continue };
            let nal = RefNal::new(unit, &[], true);
            match head & 0x1F {
                7 => self.context.put_seq_param_set(SeqParameterSet::from_bits(nal.rbsp_bits()).ok()?),
                8 => {
                    let set = PicParameterSet::from_bits(&self.context, nal.rbsp_bits()).ok()?;
                    self.context.put_pic_param_set(set);
                }
                // Slices in partitions.
                2..=4 => return None,
                kind @ (1 | 5) => {
                    if kind == 5 && picture.is_none() {
                        *held = Some(Vec::new());
                    }
                    let slice = self.slice(place, &nal, held.as_deref()?, &mut needs)?;
                    picture.get_or_insert(slice);
                }
                _ => {}
            }
        }
        if let Some(Picture { held: own, room, marks: Some(marks) }) = picture {
            let held = held.as_mut()?;
            let mut instead_of = Vec::with_capacity(marks.len());
            for difference in &marks {
                let gone = held.iter().position(|other| other.number(&own) == own.frame_num - difference)?;
                instead_of.push(held.remove(gone).place);
            }
            needs.kept = Some(Kept { instead_of, room });
            if marks.is_empty() && held.len() >= room {
                held.remove(0);
            }
            if held.len() >= room {
                return None;
            }
            held.push(own);
            self.last = own;
        }
        needs.exact.sort_unstable();
        needs.exact.dedup();
        Some(needs)
    }

    /// Reads the header of a slice, and adds what it needs.
    fn slice(&self, place: u64, nal: &RefNal<'_>, held: &[Held], needs: &mut Needs) -> Option<Picture> {
        let head = nal.header().ok()?;
        let (header, sps, pps) = SliceHeader::from_bits(&self.context, &mut nal.rbsp_bits(), head, None).ok()?;
        let is_plain = header.field_pic == FieldPic::Frame && matches!(sps.frame_mbs_flags, FrameMbsFlags::Frames);
        if !is_plain || header.redundant_pic_cnt.is_some_and(|count| count > 0) {
            return None;
        }
        let is_idr = header.idr_pic_id.is_some();
        let last = if is_idr { Held::default() } else { self.last };
        let numbers = 1 << sps.log2_max_frame_num();
        let frame_num = i64::from(header.frame_num);
        // A number that is left out is a picture that is lost or was never made.
        if !is_idr && frame_num != (last.frame_num + 1) % numbers {
            return None;
        }
        let (order, low, high) = order(&header, sps, &last)?;
        let own = Held { place, frame_num, numbers, order, low, high };
        needs.count = Count { order, orders: orders(sps), number: frame_num, numbers };
        let (lists, is_by_number) = lists(&header, pps, held, &own)?;
        needs.exact.extend(lists.into_iter().map(|at| held[at].place));
        needs.is_by_number &= is_by_number;
        needs.held = held.iter().map(|other| other.place).collect();
        let marks = match &header.dec_ref_pic_marking {
            None => None,
            Some(DecRefPicMarking::SlidingWindow) => Some(Vec::new()),
            Some(DecRefPicMarking::Idr { long_term_reference_flag, .. }) if !long_term_reference_flag => {
                Some(Vec::new())
            }
            Some(DecRefPicMarking::Idr { .. }) => return None,
            Some(DecRefPicMarking::Adaptive(operations)) => {
                let difference = |operation: &Operation| match operation {
                    Operation::ShortTermUnusedForRef { difference_of_pic_nums_minus1: less } => {
                        Some(i64::from(*less) + 1)
                    }
                    _ => None,
                };
                Some(operations.iter().map(difference).collect::<Option<_>>()?)
            }
        };
        Some(Picture { held: own, room: usize::try_from(sps.max_num_ref_frames).ok()?.max(1), marks })
    }
}

/// How far the low part of the picture order count goes.
fn orders(sps: &SeqParameterSet) -> Option<i64> {
    match sps.pic_order_cnt {
        PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4: bits } => Some(16 << bits),
        _ => None,
    }
}

/// The picture order count (8.2.1), and its low and high part.
fn order(header: &SliceHeader, sps: &SeqParameterSet, last: &Held) -> Option<(i64, i64, i64)> {
    match (orders(sps), &header.pic_order_cnt_lsb) {
        (Some(most), Some(told)) => {
            let (low, bottom) = match told {
                PicOrderCountLsb::Frame(low) => (*low, 0),
                PicOrderCountLsb::FieldsAbsolute { pic_order_cnt_lsb: low, delta_pic_order_cnt_bottom } => {
                    (*low, *delta_pic_order_cnt_bottom)
                }
                PicOrderCountLsb::FieldsDelta(_) => return None,
            };
            let low = i64::from(low);
            let high = if low < last.low && last.low - low >= most / 2 {
                last.high + most
            } else if low > last.low && low - last.low > most / 2 {
                last.high - most
            } else {
                last.high
            };
            Some((high + low + i64::from(bottom).min(0), low, high))
        }
        // Where pictures are shown as they are decoded, there are none that look ahead.
        (None, None) if header.slice_type.family != SliceFamily::B => Some((0, 0, 0)),
        _ => None,
    }
}

/// Which of the pictures held stand in the lists of a slice (8.2.4), and whether it asks for all of them by number.
fn lists(header: &SliceHeader, pps: &PicParameterSet, held: &[Held], own: &Held) -> Option<(Vec<usize>, bool)> {
    let defaults = [pps.num_ref_idx_l0_default_active_minus1, pps.num_ref_idx_l1_default_active_minus1];
    let rooms = match header.num_ref_idx_active {
        None => defaults,
        Some(NumRefIdxActive::P { num_ref_idx_l0_active_minus1: first }) => [first, 0],
        Some(NumRefIdxActive::B { num_ref_idx_l0_active_minus1: first, num_ref_idx_l1_active_minus1: second }) => {
            [first, second]
        }
    };
    let [first_room, second_room] = rooms.map(|room| room as usize + 1);
    match header.ref_pic_list_modification.as_ref()? {
        RefPicListModifications::I => Some((Vec::new(), true)),
        RefPicListModifications::P { ref_pic_list_modification_l0: changes } => {
            // The latest first.
            let list = list((0..held.len()).rev().collect(), first_room, changes, held, own)?;
            let is_by_number = changes.len() >= list.len();
            Some((list, is_by_number))
        }
        RefPicListModifications::B { ref_pic_list_modification_l0: first, ref_pic_list_modification_l1: second } => {
            let mut by_order: Vec<usize> = (0..held.len()).collect();
            by_order.sort_by_key(|at| held[*at].order);
            let (before, after) = by_order.split_at(by_order.partition_point(|at| held[*at].order < own.order));
            let forth: Vec<usize> = before.iter().rev().chain(after).copied().collect();
            let mut back: Vec<usize> = after.iter().chain(before.iter().rev()).copied().collect();
            if back.len() > 1 && back == forth {
                back.swap(0, 1);
            }
            let mut all = list(forth, first_room, first, held, own)?;
            all.extend(list(back, second_room, second, held, own)?);
            Some((all, false))
        }
    }
}

/// A list, changed as a slice asks (8.2.4.3), as long as it has room.
fn list(mut list: Vec<usize>, room: usize, changes: &[Modification], held: &[Held], own: &Held) -> Option<Vec<usize>> {
    let mut number = own.frame_num;
    for (at, change) in changes.iter().enumerate() {
        number += match change {
            Modification::Subtract(less) => -i64::from(*less) - 1,
            Modification::Add(more) => i64::from(*more) + 1,
            _ => return None,
        };
        number = number.rem_euclid(own.numbers);
        let wanted = if number > own.frame_num { number - own.numbers } else { number };
        let picture = held.iter().position(|other| other.number(own) == wanted)?;
        let mut index = 0;
        list.retain(|other| {
            index += 1;
            index <= at || *other != picture
        });
        list.insert(at.min(list.len()), picture);
    }
    list.truncate(room);
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a video of 13 pictures by x264 (veryfast, three B pictures between two P): the `avcC` record ...
    const RECORD: &str = "0164000affe100186764000aacd94426c044000003000400000300c83c48965801000468ef8fcbfdf8f800";
    /// ... and the beginning of each slice with the picture's number, in the order of decoding: I P B b b P B b b P B b b.
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

    fn references() -> References {
        References::new(&bytes(RECORD), 4).unwrap()
    }

    /// By the numbers of pictures.
    fn needs_of(slices: &[(u64, &str)]) -> Vec<Option<Vec<u64>>> {
        let mut references = references();
        let number = |place: &u64| slices[*place as usize].0;
        let needs = (0..).zip(slices).map(|(place, (_, slice))| references.of(place, &packet(slice)));
        needs.map(|needs| needs.map(|needs| needs.exact.iter().map(number).collect())).collect()
    }

    #[test]
    fn p_pictures_pass_by_the_b_pictures_that_others_refer_to() {
        let needs: Vec<Vec<u64>> = needs_of(&SLICES).into_iter().map(Option::unwrap).collect();
        let group = |from: u64| {
            let (before, middle, after) = (from, from + 2, from + 4);
            [vec![before], vec![before, after], vec![before, middle], vec![after, middle]]
        };
        assert_eq!(needs[0], [] as [u64; 0]);
        for (n, from) in [0, 4, 8].into_iter().enumerate() {
            assert_eq!(needs[1 + 4 * n..5 + 4 * n], group(from), "after {from}");
        }
    }

    #[test]
    fn what_is_held_and_let_go_is_followed() {
        let mut references = references();
        let needs: Vec<Needs> =
            (0..).zip(SLICES).map(|(place, (_, slice))| references.of(place, &packet(slice)).unwrap()).collect();
        // There is room for four.
        let held: Vec<&[u64]> = needs.iter().map(|needs| &needs.held[..]).collect();
        assert_eq!(held[..6], [&[][..], &[0], &[0, 1], &[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]);
        // A B picture lets the one before it go, and what is older.
        let kept = |instead_of: &[u64]| Some(Kept { instead_of: instead_of.to_vec(), room: 4 });
        assert_eq!((&needs[5].kept, held[6]), (&kept(&[]), &[0, 1, 2, 5][..]));
        assert_eq!((&needs[6].kept, held[7]), (&kept(&[0, 2]), &[1, 5, 6][..]));
        assert_eq!(needs[3].kept, None);
        let by_number: Vec<bool> = needs.iter().map(|needs| needs.is_by_number).collect();
        assert_eq!(by_number[..6], [true, false, false, false, false, true]);
    }

    #[test]
    fn after_a_picture_that_is_lost_nothing_is_known_until_the_next_start() {
        let lost = [&SLICES[..1], &SLICES[2..6], &SLICES[..2]].concat();
        let known: Vec<bool> = needs_of(&lost).iter().map(Option::is_some).collect();
        assert_eq!(known, [true, false, false, false, false, true, true]);
    }

    #[test]
    fn damaged_headers_are_unknown_and_no_trouble() {
        assert!(References::new(&[], 4).is_none());
        assert!(References::new(&bytes(RECORD)[..20], 4).is_none());
        for end in 0..packet(SLICES[0].1).len() {
            references().of(0, &packet(SLICES[0].1)[..end]);
        }
        for slice in ["41", "01", "65", "65ffffff", "4100000000", "67", "68", "21"] {
            assert_eq!(references().of(0, &packet(slice)), None, "{slice}");
        }
    }

    #[test]
    fn a_list_is_changed_as_the_slice_asks() {
        let own = Held { frame_num: 5, numbers: 16, ..Held::default() };
        let held: Vec<Held> =
            [14, 15, 0, 3].map(|frame_num| Held { frame_num, numbers: 16, ..Held::default() }).to_vec();
        let changed = |changes: &[Modification], room| list(vec![3, 2, 1, 0], room, changes, &held, &own);
        assert_eq!(changed(&[], 2), Some(vec![3, 2]));
        assert_eq!(changed(&[Modification::Subtract(4)], 3), Some(vec![2, 3, 1]), "5 - 5 = 0");
        // 5 - 7 = -2: number 14, from before the numbers began anew; then 2 more are 0, and once more.
        assert_eq!(changed(&[Modification::Subtract(6)], 3), Some(vec![0, 3, 2]));
        assert_eq!(changed(&[Modification::Subtract(6), Modification::Add(1)], 3), Some(vec![0, 2, 3]));
        assert_eq!(changed(&[Modification::Subtract(6), Modification::Subtract(15)], 3), Some(vec![0, 0, 3]));
        assert_eq!(changed(&[Modification::Subtract(0)], 3), None, "there is no 4");
        assert_eq!(changed(&[Modification::LongTermRef(0)], 3), None);
    }
}
