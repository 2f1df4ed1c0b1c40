//! Ways in for coverage-guided fuzzing (`fuzz/`) to parsers that nothing outside of [`super`] sees.

use super::clock::{StreamClock, Told};
use super::geometry::{Orientation, PixelAspect, square};
use super::look::Coding;
use super::plan::{Part, Planner, Selection, Unit};
use super::references::References;
use super::tail;
use crate::analysis::Sampling;

/// Bytes of the input, taken from its front; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> [u8; 4] {
        let mut word = [0; 4];
        let taken = self.bytes(4);
        word[..taken.len()].copy_from_slice(taken);
        word
    }

    /// With a length of 16 bits in front.
    fn block(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        self.bytes(length)
    }
}

/// The packets of a stream, looked into and planned. The input: how to sample, the codec, for H.264 its `avcC` record, and then
/// packets, each behind a byte of flags and a step of its time stamp.
///
/// # Panics
/// Where the plan lacks a picture that was asked for, has one twice, or is out of order.
pub fn plan(input: &[u8]) {
    let mut input = Input(input);
    let head = input.byte();
    let every = u64::from(input.byte());
    let selection = if head & 1 == 0 {
        Selection::Every(every)
    } else {
        Selection::Spread { count: every, of: u64::from(input.byte()) }
    };
    let sampling = if head & 2 == 0 { Sampling::Exact } else { Sampling::Fast };
    let length = usize::from(head >> 2 & 3) + 1;
    let coding = match head >> 4 & 7 {
        0..=2 => Coding::H264 { length },
        3 => Coding::Hevc { length, top_layer: None },
        4 => Coding::Hevc { length, top_layer: Some(input.byte() & 7) },
        5 => Coding::Vp8,
        6 => Coding::Vp9,
        _ => Coding::Av1,
    };
    let mut references = match coding {
        Coding::H264 { length } => References::new(input.block(), length),
        _ => None,
    };
    let clock = StreamClock::new(Told { fps: 25.0, ..Told::default() });
    let mut planner = Planner::new(selection, sampling, 0.04, clock);
    let (mut place, mut stamp, mut given, mut shown) = (0_u64, 0_i64, None, Vec::new());
    let mut take = |part: Part<u64>| {
        for planned in part.packets {
            assert!(given < Some(planned.place), "packets are given out in their order");
            assert_eq!(planned.packet, planned.place);
            assert!(planned.needs.iter().all(|need| *need < planned.place), "a picture needs those before it");
            given = Some(planned.place);
            if planned.is_wanted {
                shown.extend(planned.shown.map(|(number, _)| number));
            }
        }
    };
    while !input.0.is_empty() {
        let flags = input.byte();
        stamp = match flags >> 1 & 3 {
            3 => i64::from(i32::from_be_bytes(input.word())) << (flags >> 3 & 31),
            2 => stamp.saturating_sub(i64::from(flags >> 3)),
            _ => stamp.saturating_add(i64::from(flags >> 3)),
        };
        let packet = input.block();
        let look = coding.look(packet, flags & 1 == 1);
        let needs = references.as_mut().and_then(|references| references.of(place, packet));
        let unit = Unit { packet: place, bytes: packet.len(), stamp, told: Some(stamp), look, is_lead: false, needs };
        planner.push(unit).into_iter().for_each(&mut take);
        place += 1;
    }
    planner.finish().into_iter().for_each(&mut take);
    shown.sort_unstable();
    if sampling == Sampling::Exact {
        let asked: Vec<u64> = (0..planner.numbered()).filter(|number| selection.asks_for(*number)).collect();
        assert_eq!(shown, asked, "the pictures that were asked for, each once");
    }
}

/// What headers tell in few bytes: lengths of boxes and elements, display matrices, ratios of a pixel.
///
/// # Panics
/// Where a picture would have more pixels than it may have, or none.
pub fn headers(input: &[u8]) {
    let _ = (tail::box_length(input), tail::element_length(input));
    let orientation = Orientation::of_matrix(input.get(..36).unwrap_or(input)).unwrap_or_default();
    let mut input = Input(input);
    let mut ratio = || ffmpeg_next::Rational(i32::from_be_bytes(input.word()), i32::from_be_bytes(input.word()));
    let (container, own) = (ratio(), ratio());
    let size = (u32::from_be_bytes(input.word()) % 20_000 + 1, u32::from_be_bytes(input.word()) % 20_000 + 1);
    let most = u64::from(size.0) * u64::from(size.1) + u64::from(u16::from_be_bytes([input.byte(), input.byte()]));
    let (width, height) = orientation.size(square(size, PixelAspect::new(container).of(own), most));
    assert!(
        width > 0 && height > 0 && u64::from(width) * u64::from(height) <= most + u64::from(width.max(height)),
        "{width} x {height}"
    );
}
