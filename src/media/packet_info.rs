//! Reads the properties of a packet from its first bytes, without decoding it.

use ffmpeg_next::Stream;
use ffmpeg_next::codec::{Id, Parameters};

use super::ffi::{self, extradata};
use super::nal::nal_units;
use super::references::ReferenceTracker;

/// A codec whose packets can be parsed: each packet holds one frame, and its time stamp says when that frame is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketParser {
    /// `length_size` is the number of bytes in the size field before each NAL unit.
    H264 {
        length_size: usize,
    },
    /// `max_temporal_id` is the highest `TemporalId`, if the header states it.
    Hevc {
        length_size: usize,
        max_temporal_id: Option<u8>,
    },
    Vp8,
    Vp9,
    Av1,
    /// A codec in which every frame is a key frame.
    IntraOnly,
}

/// Whether decoding can begin at a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RandomAccess {
    No,
    /// Decoding can begin here, but its leading frames (decoded later, shown earlier) may refer to frames before it.
    OpenGop,
    /// Decoding can begin here, and no later frame refers to a frame before it.
    ClosedGop,
}

/// The properties of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketInfo {
    pub random_access: RandomAccess,
    /// No other frame refers to this one, and the packet has nothing else that later packets depend on.
    pub is_droppable: bool,
    /// The packet also has data that later packets may depend on, such as parameter sets.
    pub has_side_units: bool,
    /// The decoder outputs a frame for this packet.
    pub is_shown: bool,
    /// The frame refers to frames before the preceding random access point. It cannot be decoded if decoding began
    /// there (a RASL picture of HEVC).
    pub is_skipped_leading: bool,
}

impl PacketInfo {
    const DEFAULT: Self = Self {
        random_access: RandomAccess::No,
        is_droppable: false,
        has_side_units: false,
        is_shown: true,
        is_skipped_leading: false,
    };
}

impl PacketParser {
    /// Returns the parser for a stream. Returns `None` for other codecs, for AVI (which has no presentation time
    /// stamps), and for interlaced video (where a packet can hold a single field).
    pub fn new(stream: &Stream<'_>, container: &str) -> Option<Self> {
        let parameters = stream.parameters();
        let extradata = extradata(&parameters);
        if ffi::is_intra_only(&parameters) {
            return Some(Self::IntraOnly);
        }
        if container.contains("avi") {
            return None;
        }
        let is_progressive = ffi::is_progressive(&parameters);
        let length_size = |at: usize| extradata.get(at).map(|byte| usize::from(byte & 3) + 1);
        match parameters.id() {
            Id::H264 if is_progressive && extradata.first() == Some(&1) => {
                Some(Self::H264 { length_size: length_size(4)? })
            }
            Id::HEVC if is_progressive && extradata.first() == Some(&1) => {
                let length_size = length_size(21)?;
                // numTemporalLayers is 0 if unknown (ISO/IEC 14496-15, 8.3.3.1).
                let num_temporal_layers = (extradata.get(21)? >> 3) & 7;
                Some(Self::Hevc { length_size, max_temporal_id: num_temporal_layers.checked_sub(1) })
            }
            Id::VP8 => Some(Self::Vp8),
            Id::VP9 => Some(Self::Vp9),
            Id::AV1 => Some(Self::Av1),
            _ => None,
        }
    }

    /// Returns a tracker of references, if the slice headers of this codec can be parsed.
    pub fn references(self, parameters: &Parameters) -> Option<ReferenceTracker> {
        let Self::H264 { length_size } = self else { return None };
        ReferenceTracker::new(extradata(parameters), length_size)
    }

    /// Whether packets are in presentation order.
    pub const fn is_in_presentation_order(self) -> bool {
        !matches!(self, Self::H264 { .. } | Self::Hevc { .. })
    }

    /// Reads the properties of a packet. `is_key` is the container's key frame flag.
    pub fn parse(self, packet: &[u8], is_key: bool) -> PacketInfo {
        let random_access = if is_key { RandomAccess::ClosedGop } else { RandomAccess::No };
        match self {
            Self::H264 { length_size } => h264(packet, length_size),
            Self::Hevc { length_size, max_temporal_id } => hevc(packet, length_size, max_temporal_id),
            Self::Vp8 => PacketInfo {
                random_access,
                // The fifth bit of a frame is show_frame (RFC 6386, section 9.1).
                is_shown: packet.first().is_some_and(|byte| byte & 0x10 != 0),
                ..PacketInfo::DEFAULT
            },
            Self::Vp9 => PacketInfo { random_access, is_shown: is_vp9_shown(packet), ..PacketInfo::DEFAULT },
            Self::Av1 | Self::IntraOnly => {
                PacketInfo { random_access, is_shown: !packet.is_empty(), ..PacketInfo::DEFAULT }
            }
        }
    }
}

/// Reads the NAL unit headers of an access unit (ITU-T H.264, section 7.3.1 and table 7-1).
fn h264(packet: &[u8], length_size: usize) -> PacketInfo {
    let (mut slices, mut is_reference, mut is_idr, mut has_side_units) = (0, false, false, false);
    for unit in nal_units(packet, length_size) {
        let Some(&header) = unit.first() else { continue };
        match header & 0x1F {
            nal_unit_type @ (1 | 5) => {
                slices += 1;
                is_reference |= header & 0x60 != 0;
                is_idr |= nal_unit_type == 5;
            }
            6 | 9 | 12 => {}
            _ => has_side_units = true,
        }
    }
    // A recovery point does not count as a random access point: after a start there, FFmpeg withholds frames that it
    // outputs when decoding began earlier.
    let random_access = if is_idr { RandomAccess::ClosedGop } else { RandomAccess::No };
    let is_droppable = slices > 0 && !is_reference && !has_side_units;
    PacketInfo { random_access, is_droppable, has_side_units, ..PacketInfo::DEFAULT }
}

/// Reads the NAL unit headers of an access unit (ITU-T H.265, section 7.3.1.2 and table 7-1).
fn hevc(packet: &[u8], length_size: usize, max_temporal_id: Option<u8>) -> PacketInfo {
    let (mut slices, mut is_droppable, mut is_skipped_leading) = (0, true, false);
    let mut random_access = RandomAccess::No;
    for unit in nal_units(packet, length_size) {
        let &[first, second, ..] = unit else { continue };
        let nal_unit_type = first >> 1 & 0x3F;
        let nuh_layer_id = (first & 1) << 5 | second >> 3;
        let temporal_id = (second & 7).wrapping_sub(1);
        if nuh_layer_id > 0 {
            // The decoder ignores further views and enhancement layers.
            continue;
        }
        match nal_unit_type {
            0..=31 => {
                slices += 1;
                // Even types below 16 are sub-layer non-reference pictures: only higher temporal layers may refer to
                // them.
                is_droppable &= nal_unit_type < 16 && nal_unit_type % 2 == 0 && Some(temporal_id) == max_temporal_id;
                is_skipped_leading |= matches!(nal_unit_type, 8 | 9);
                random_access = match nal_unit_type {
                    19 | 20 => RandomAccess::ClosedGop,
                    16..=18 | 21 => RandomAccess::OpenGop,
                    _ => random_access,
                };
            }
            35 | 38..=40 => {}
            _ => is_droppable = false,
        }
    }
    let is_droppable = slices > 0 && is_droppable;
    PacketInfo { random_access, is_droppable, is_shown: slices > 0, is_skipped_leading, ..PacketInfo::DEFAULT }
}

/// Whether a packet outputs a frame (VP9 bitstream specification, section 6.2 and annex B). The last frame of a
/// superframe is shown.
fn is_vp9_shown(packet: &[u8]) -> bool {
    let (Some(&first), Some(&last)) = (packet.first(), packet.last()) else { return false };
    if last & 0xE0 == 0xC0 {
        return true;
    }
    let profile = (first >> 5 & 1) | (first >> 3 & 2);
    // frame_marker (2 bits), profile (2 bits, and a reserved bit in profile 3), show_existing_frame, frame_type,
    // show_frame.
    let show_existing_frame = if profile == 3 { 5 } else { 4 };
    let bit = |at: u8| first >> (7 - at) & 1 == 1;
    bit(show_existing_frame) || bit(show_existing_frame + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NAL units, each preceded by its size in four bytes.
    fn packet(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&u32::try_from(unit.len()).unwrap().to_be_bytes(), *unit].concat()).collect()
    }

    #[test]
    fn h264_packet_with_only_non_reference_slices_is_droppable() {
        let info = |units: &[&[u8]]| h264(&packet(units), 4);
        assert!(info(&[&[0x01, 0x9E]]).is_droppable);
        assert!(info(&[&[0x09, 0xF0], &[0x06, 0x05, 0x01, 0x00, 0x80], &[0x01, 0x9E], &[0x01, 0x9E]]).is_droppable);
        assert!(!info(&[&[0x41, 0x9E]]).is_droppable);
        assert!(!info(&[&[0x01, 0x9E], &[0x41, 0x9E]]).is_droppable);
        assert!(!info(&[&[0x68, 0xCE], &[0x01, 0x9E]]).is_droppable, "has a parameter set");
        assert!(!info(&[]).is_droppable);
    }

    #[test]
    fn h264_random_access_points_are_idr_pictures() {
        let random_access = |units: &[&[u8]]| h264(&packet(units), 4).random_access;
        assert_eq!(random_access(&[&[0x67], &[0x68], &[0x65, 0x88]]), RandomAccess::ClosedGop);
        let recovery_point = random_access(&[&[0x06, 0x06, 0x01, 0xC4, 0x80], &[0x61, 0x88]]);
        assert_eq!(recovery_point, RandomAccess::No, "a recovery point");
        assert_eq!(random_access(&[&[0x61, 0x88]]), RandomAccess::No);
    }

    #[test]
    fn hevc_packet_is_droppable_only_in_the_highest_temporal_layer() {
        let info = |units: &[&[u8]], max_temporal_id| hevc(&packet(units), 4, max_temporal_id);
        assert!(info(&[&[0x00, 0x01, 0]], Some(0)).is_droppable, "TRAIL_N");
        assert!(!info(&[&[0x00, 0x01, 0]], Some(1)).is_droppable, "a higher layer may refer to it");
        assert!(!info(&[&[0x00, 0x01, 0]], None).is_droppable);
        assert!(!info(&[&[0x02, 0x01, 0]], Some(0)).is_droppable, "TRAIL_R");
        assert!(info(&[&[0x10, 0x01, 0]], Some(0)).is_skipped_leading, "RASL_N");
        assert_eq!(info(&[&[0x28, 0x01, 0]], Some(0)).random_access, RandomAccess::ClosedGop, "IDR_N_LP");
        assert_eq!(info(&[&[0x2A, 0x01, 0]], Some(0)).random_access, RandomAccess::OpenGop, "CRA");
        assert!(info(&[&[0x00, 0x01, 0], &[0x01, 0x09, 0]], Some(0)).is_droppable, "a second view is ignored");
    }

    #[test]
    fn hidden_vp8_and_vp9_frames_are_found() {
        assert!(PacketParser::Vp8.parse(&[0x10, 0, 0], true).is_shown);
        assert!(!PacketParser::Vp8.parse(&[0x01, 0, 0], false).is_shown);
        assert!(is_vp9_shown(&[0b1000_0010, 0]), "show_frame");
        assert!(is_vp9_shown(&[0b1000_1000, 0]), "show_existing_frame");
        assert!(!is_vp9_shown(&[0b1000_0100, 0]), "hidden");
        assert!(is_vp9_shown(&[0b1000_0100, 0, 0xC1]), "a superframe");
    }

    #[test]
    fn truncated_packets_are_parsed_without_panic() {
        for packet in [&[][..], &[0], &[0, 0, 0], &[0xFF, 0xFF, 0xFF, 0xFF], &[0, 0, 0, 9, 0x41]] {
            let _ = (h264(packet, 4), hevc(packet, 4, Some(0)), is_vp9_shown(packet));
        }
    }
}
