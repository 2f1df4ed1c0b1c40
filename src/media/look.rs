//! What a packet tells of its picture before it is decoded, by codec.

use ffmpeg_next::codec::{Id, Parameters};
use ffmpeg_next::{Stream, ffi};

use super::nal::{extradata, nal_units};
use super::references::References;

/// A codec whose packets tell enough: one packet is one picture, and its time stamp says where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Sizes of NAL units take so many bytes.
    H264 {
        length: usize,
    },
    /// As H.264; and the highest temporal layer, where the header tells.
    Hevc {
        length: usize,
        top_layer: Option<u8>,
    },
    Vp8,
    Vp9,
    Av1,
    /// Every key picture stands for itself.
    Intra,
}

/// Whether decoding may begin at a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    No,
    /// Yes, but pictures that come after it and are shown before it may need those before it.
    Open,
    /// Yes, and nothing after it needs anything before it.
    Closed,
}

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub start: Start,
    /// No other picture needs this one, nor anything else in its packet.
    pub is_droppable: bool,
    /// Something that may count for later pictures comes along.
    pub carries_more: bool,
    /// A picture comes out of it.
    pub is_shown: bool,
    /// It cannot be decoded where decoding began at the start before it.
    pub needs_before: bool,
}

impl Look {
    const PLAIN: Self =
        Self { start: Start::No, is_droppable: false, carries_more: false, is_shown: true, needs_before: false };
}

impl Coding {
    /// How to look into the packets of a stream; `None` where they do not tell enough, as in AVI, which has no time stamps,
    /// and where two fields can be two packets.
    pub fn of(stream: &Stream<'_>, container: &str) -> Option<Self> {
        let parameters = stream.parameters();
        let extra = extradata(&parameters);
        // SAFETY: the parameters live as long as the stream's container. A descriptor, where there is one, is constant.
        let (is_progressive, is_intra) = unsafe {
            let raw = &*parameters.as_ptr();
            let order = raw.field_order;
            let is_progressive =
                order == ffi::AVFieldOrder::AV_FIELD_PROGRESSIVE || order == ffi::AVFieldOrder::AV_FIELD_UNKNOWN;
            let descriptor = ffi::avcodec_descriptor_get(raw.codec_id);
            let is_intra = !descriptor.is_null() && (*descriptor).props & ffi::AV_CODEC_PROP_INTRA_ONLY != 0;
            (is_progressive, is_intra)
        };
        if is_intra {
            return Some(Self::Intra);
        }
        if container.contains("avi") {
            return None;
        }
        let length = |at: usize| extra.get(at).map(|byte| usize::from(byte & 3) + 1);
        match parameters.id() {
            Id::H264 if is_progressive && extra.first() == Some(&1) => Some(Self::H264 { length: length(4)? }),
            Id::HEVC if is_progressive && extra.first() == Some(&1) => {
                let length = length(21)?;
                // ISO/IEC 14496-15, 8.3.3.1: numTemporalLayers, 0 where it is not known.
                let layers = (extra.get(21)? >> 3) & 7;
                Some(Self::Hevc { length, top_layer: layers.checked_sub(1) })
            }
            Id::VP8 => Some(Self::Vp8),
            Id::VP9 => Some(Self::Vp9),
            Id::AV1 => Some(Self::Av1),
            _ => None,
        }
    }

    /// What tells which pictures each picture needs, where the codec's headers do.
    pub fn references(self, parameters: &Parameters) -> Option<References> {
        let Self::H264 { length } = self else { return None };
        References::new(extradata(parameters), length)
    }

    /// Whether packets come in the order in which they are shown.
    pub const fn is_in_order(self) -> bool {
        !matches!(self, Self::H264 { .. } | Self::Hevc { .. })
    }

    /// Looks into a packet, which the container marks as a key or not.
    pub fn look(self, packet: &[u8], is_key: bool) -> Look {
        let key = if is_key { Start::Closed } else { Start::No };
        match self {
            Self::H264 { length } => h264(packet, length),
            Self::Hevc { length, top_layer } => hevc(packet, length, top_layer),
            Self::Vp8 => Look {
                start: key,
                // RFC 6386, 9.1: the fifth bit of a frame is show_frame.
                is_shown: packet.first().is_some_and(|byte| byte & 0x10 != 0),
                ..Look::PLAIN
            },
            Self::Vp9 => Look { start: key, is_shown: vp9_is_shown(packet), ..Look::PLAIN },
            Self::Av1 | Self::Intra => Look { start: key, is_shown: !packet.is_empty(), ..Look::PLAIN },
        }
    }
}

/// ITU-T H.264, 7.3.1 and table 7-1.
fn h264(packet: &[u8], length: usize) -> Look {
    let (mut slices, mut referenced, mut idr, mut other) = (0, false, false, false);
    for unit in nal_units(packet, length) {
        let Some(&head) = unit.first() else { continue };
        match head & 0x1F {
            kind @ (1 | 5) => {
                slices += 1;
                referenced |= head & 0x60 != 0;
                idr |= kind == 5;
            }
            6 | 9 | 12 => {}
            _ => other = true,
        }
    }
    // Recovery points are none: of what follows one, FFmpeg keeps back pictures that it shows when decoding came from
    // further before.
    let start = if idr { Start::Closed } else { Start::No };
    Look { start, is_droppable: slices > 0 && !referenced && !other, carries_more: other, ..Look::PLAIN }
}

/// ITU-T H.265, 7.3.1.2 and table 7-1.
fn hevc(packet: &[u8], length: usize, top_layer: Option<u8>) -> Look {
    let (mut slices, mut droppable, mut start, mut skipped) = (0, true, Start::No, false);
    for unit in nal_units(packet, length) {
        let &[head, tail, ..] = unit else { continue };
        let (kind, layer, time) = (head >> 1 & 0x3F, (head & 1) << 5 | tail >> 3, (tail & 7).wrapping_sub(1));
        if layer > 0 {
            // A second view or a finer layer: the decoder passes over it.
            continue;
        }
        match kind {
            0..=31 => {
                slices += 1;
                // Even kinds below 16 are not referenced within their temporal layer; above the top one there is none.
                droppable &= kind < 16 && kind % 2 == 0 && Some(time) == top_layer;
                skipped |= matches!(kind, 8 | 9);
                start = match kind {
                    19 | 20 => Start::Closed,
                    16..=18 | 21 => Start::Open,
                    _ => start,
                };
            }
            35 | 38..=40 => {}
            _ => droppable = false,
        }
    }
    let is_droppable = slices > 0 && droppable;
    Look { start, is_droppable, is_shown: slices > 0, needs_before: skipped, ..Look::PLAIN }
}

/// VP9 bitstream specification, 6.2 and annex B: a superframe ends in the one picture that is shown.
fn vp9_is_shown(packet: &[u8]) -> bool {
    let (Some(&first), Some(&last)) = (packet.first(), packet.last()) else { return false };
    if last & 0xE0 == 0xC0 {
        return true;
    }
    let profile = (first >> 5 & 1) | (first >> 3 & 2);
    // frame_marker (2), profile (2, and a reserved bit for the highest), show_existing_frame, frame_type, show_frame.
    let at = if profile == 3 { 5 } else { 4 };
    let bit = |at: u8| first >> (7 - at) & 1 == 1;
    bit(at) || bit(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NAL units behind sizes of four bytes.
    fn packet(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&u32::try_from(unit.len()).unwrap().to_be_bytes(), *unit].concat()).collect()
    }

    #[test]
    fn an_h264_picture_is_droppable_when_no_slice_of_it_is_referenced_and_nothing_else_is_carried() {
        let look = |units: &[&[u8]]| h264(&packet(units), 4);
        assert!(look(&[&[0x01, 0x9E]]).is_droppable);
        assert!(look(&[&[0x09, 0xF0], &[0x06, 0x05, 0x01, 0x00, 0x80], &[0x01, 0x9E], &[0x01, 0x9E]]).is_droppable);
        assert!(!look(&[&[0x41, 0x9E]]).is_droppable);
        assert!(!look(&[&[0x01, 0x9E], &[0x41, 0x9E]]).is_droppable);
        assert!(!look(&[&[0x68, 0xCE], &[0x01, 0x9E]]).is_droppable, "parameters come along");
        assert!(!look(&[]).is_droppable);
    }

    #[test]
    fn h264_may_begin_at_an_idr_picture_alone() {
        let start = |units: &[&[u8]]| h264(&packet(units), 4).start;
        assert_eq!(start(&[&[0x67], &[0x68], &[0x65, 0x88]]), Start::Closed);
        assert_eq!(start(&[&[0x06, 0x06, 0x01, 0xC4, 0x80], &[0x61, 0x88]]), Start::No, "a recovery point");
        assert_eq!(start(&[&[0x61, 0x88]]), Start::No);
    }

    #[test]
    fn an_hevc_picture_is_droppable_in_the_top_layer_alone() {
        let look = |units: &[&[u8]], top| hevc(&packet(units), 4, top);
        assert!(look(&[&[0x00, 0x01, 0]], Some(0)).is_droppable, "TRAIL_N");
        assert!(!look(&[&[0x00, 0x01, 0]], Some(1)).is_droppable, "the layer above may need it");
        assert!(!look(&[&[0x00, 0x01, 0]], None).is_droppable);
        assert!(!look(&[&[0x02, 0x01, 0]], Some(0)).is_droppable, "TRAIL_R");
        assert!(look(&[&[0x10, 0x01, 0]], Some(0)).needs_before, "RASL_N");
        assert_eq!(look(&[&[0x28, 0x01, 0]], Some(0)).start, Start::Closed, "IDR_N_LP");
        assert_eq!(look(&[&[0x2A, 0x01, 0]], Some(0)).start, Start::Open, "CRA");
        assert!(look(&[&[0x00, 0x01, 0], &[0x01, 0x09, 0]], Some(0)).is_droppable, "a second view counts for nothing");
    }

    #[test]
    fn vp8_and_vp9_tell_hidden_pictures() {
        assert!(Coding::Vp8.look(&[0x10, 0, 0], true).is_shown);
        assert!(!Coding::Vp8.look(&[0x01, 0, 0], false).is_shown);
        assert!(vp9_is_shown(&[0b1000_0010, 0]), "show_frame");
        assert!(vp9_is_shown(&[0b1000_1000, 0]), "show_existing_frame");
        assert!(!vp9_is_shown(&[0b1000_0100, 0]), "hidden");
        assert!(vp9_is_shown(&[0b1000_0100, 0, 0xC1]), "a superframe");
    }

    #[test]
    fn damaged_packets_are_looked_at_as_far_as_they_go() {
        for packet in [&[][..], &[0], &[0, 0, 0], &[0xFF, 0xFF, 0xFF, 0xFF], &[0, 0, 0, 9, 0x41]] {
            let _ = (h264(packet, 4), hevc(packet, 4, Some(0)), vp9_is_shown(packet));
        }
    }
}
