//! Entry points for coverage-guided fuzzing (`fuzz/`) of parsers that are private to [`super`].

use super::clock::{ContainerTiming, StreamClock};
use super::geometry::{Orientation, PixelAspect, square_pixel_size};
use super::gop::{GopPart, ParsedPacket};
use super::packet_info::PacketParser;
use super::plan::Planner;
use super::references::ReferenceTracker;
use super::selection::Selection;
use super::{matroska, truncation};
use crate::analysis::Sampling;

/// Reads values from the front of the fuzzer's input. Missing bytes are read as zeros.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn word(&mut self) -> [u8; 4] {
        let mut word = [0; 4];
        let bytes = self.bytes(4);
        word[..bytes.len()].copy_from_slice(bytes);
        word
    }

    /// Bytes that are preceded by a length of 16 bits.
    fn block(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        self.bytes(length)
    }
}

/// Parses and plans the packets of a stream. The input holds the sampling, the codec, the `avcC` record for H.264, and
/// packets. Each packet is preceded by a byte of flags and the difference of its time stamp.
///
/// # Panics
/// If a selected frame is missing from the plan or is in it twice, or if packets are out of order.
pub fn plan(input: &[u8]) {
    let mut input = Input(input);
    let head = input.byte();
    let n = u64::from(input.byte());
    let selection = if head & 1 == 0 {
        Selection::EveryNth(n)
    } else {
        Selection::Spread { count: n, of: u64::from(input.byte()) }
    };
    let sampling = if head & 2 == 0 { Sampling::Exact } else { Sampling::Fast };
    let length_size = usize::from(head >> 2 & 3) + 1;
    let parser = match head >> 4 & 7 {
        0..=2 => PacketParser::H264 { length_size },
        3 => PacketParser::Hevc { length_size, max_temporal_id: None },
        4 => PacketParser::Hevc { length_size, max_temporal_id: Some(input.byte() & 7) },
        5 => PacketParser::Vp8,
        6 => PacketParser::Vp9,
        _ => PacketParser::Av1,
    };
    let mut references = match parser {
        PacketParser::H264 { length_size } => ReferenceTracker::new(input.block(), length_size),
        _ => None,
    };
    let clock = StreamClock::new(ContainerTiming { fps: 25.0, ..ContainerTiming::default() });
    let mut planner = Planner::new(selection, sampling, 0.04, clock);
    let (mut decode_index, mut pts, mut last, mut sampled) = (0_u64, 0_i64, None, Vec::new());
    let mut take = |part: GopPart<u64>| {
        for planned in part.packets {
            assert!(last < Some(planned.decode_index), "packets are in decoding order");
            assert_eq!(planned.packet, planned.decode_index);
            let is_earlier = |reference: &u64| *reference < planned.decode_index;
            assert!(planned.references.iter().all(is_earlier), "references are earlier packets");
            last = Some(planned.decode_index);
            if planned.is_sampled {
                sampled.extend(planned.shown.map(|(number, _)| number));
            }
        }
    };
    while !input.0.is_empty() {
        let flags = input.byte();
        pts = match flags >> 1 & 3 {
            3 => i64::from(i32::from_be_bytes(input.word())) << (flags >> 3 & 31),
            2 => pts.saturating_sub(i64::from(flags >> 3)),
            _ => pts.saturating_add(i64::from(flags >> 3)),
        };
        let packet = input.block();
        let is_key = flags & 1 == 1;
        let info = parser.parse(packet, is_key);
        let dependencies = references.as_mut().and_then(|references| references.dependencies(decode_index, packet));
        let follows_gap = references.as_mut().is_some_and(|references| references.follows_gap(is_key));
        let parsed = ParsedPacket {
            packet: decode_index,
            size: packet.len(),
            sort_pts: pts,
            pts: Some(pts),
            info,
            is_before_first_key: false,
            dependencies,
            follows_gap,
        };
        planner.push(parsed).into_iter().for_each(&mut take);
        decode_index += 1;
    }
    planner.finish().into_iter().for_each(&mut take);
    sampled.sort_unstable();
    if sampling == Sampling::Exact {
        let selected: Vec<u64> = (0..planner.frames_numbered()).filter(|number| selection.selects(*number)).collect();
        assert_eq!(sampled, selected, "each selected frame is sampled once");
    }
}

/// Parses lengths of boxes, elements of Matroska, display matrices, and pixel aspect ratios.
///
/// # Panics
/// If a picture would be empty, or larger than the limit.
pub fn headers(input: &[u8]) {
    let _ = (truncation::box_length(input), matroska::element(input), matroska::codec_of(input, 0));
    let orientation = Orientation::of_matrix(input.get(..36).unwrap_or(input)).unwrap_or_default();
    let mut input = Input(input);
    let mut ratio = || ffmpeg_next::Rational(i32::from_be_bytes(input.word()), i32::from_be_bytes(input.word()));
    let (container, coded) = (ratio(), ratio());
    let size = (u32::from_be_bytes(input.word()) % 20_000 + 1, u32::from_be_bytes(input.word()) % 20_000 + 1);
    let max_pixels =
        u64::from(size.0) * u64::from(size.1) + u64::from(u16::from_be_bytes([input.byte(), input.byte()]));
    let (width, height) = orientation.size(square_pixel_size(size, PixelAspect::new(container).of(coded), max_pixels));
    assert!(
        width > 0 && height > 0 && u64::from(width) * u64::from(height) <= max_pixels + u64::from(width.max(height)),
        "{width} x {height}"
    );
}
