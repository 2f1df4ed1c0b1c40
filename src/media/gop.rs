//! Packets of a group of pictures (GOP), before and after planning. A GOP begins at a random access point and ends
//! before the next one, so different decoders can decode different GOPs.

use super::dependencies::PacketNode;
use super::packet_info::PacketInfo;
use super::references::Dependencies;

/// A packet with its properties.
#[derive(Debug)]
pub(super) struct ParsedPacket<P> {
    pub packet: P,
    /// In bytes.
    pub size: usize,
    /// The position of the frame in presentation order, in units of the stream's time base. It is the time stamp of the
    /// packet, or follows that of the packet before if there is none.
    pub sort_pts: i64,
    /// The time stamp in the file, if there is one.
    pub pts: Option<i64>,
    pub info: PacketInfo,
    /// Set by the planner: see [`PlannedPacket::is_before_first_key`].
    pub is_before_first_key: bool,
    /// The frames that it depends on; `None` if it may depend on every earlier reference frame.
    pub dependencies: Option<Dependencies>,
    /// A reference frame before it is missing from the file, and no key frame came since.
    pub follows_gap: bool,
}

/// A packet whose GOP is not planned yet.
pub(super) struct PendingPacket<P> {
    /// The index of the packet in the stream, in decoding order.
    pub decode_index: u64,
    pub parsed: ParsedPacket<P>,
    /// The number and the time in seconds of its frame, once known; `None` for a frame that is never shown.
    pub shown: Option<(u64, f64)>,
    pub is_numbered: bool,
}

/// A packet to decode.
#[derive(Debug, PartialEq)]
pub(super) struct PlannedPacket<P> {
    pub packet: P,
    /// The number and the time in seconds of its frame; `None` for a frame that is never shown.
    pub shown: Option<(u64, f64)>,
    pub is_sampled: bool,
    /// Decode without the loop filter. That is faster, and the frame and those that refer to it are less exact.
    pub skip_loop_filter: bool,
    /// The packet precedes the first random access point of the stream, so its references may be missing from the file.
    pub is_before_first_key: bool,
    /// A reference frame before it is missing from the file, and no key frame came since.
    pub follows_gap: bool,
    /// The index of the packet in the stream, in decoding order.
    pub decode_index: u64,
    /// The decode indices of its references, if its headers state them.
    pub references: Vec<u64>,
}

impl<P> PlannedPacket<P> {
    /// A packet without known properties.
    pub const fn unparsed(packet: P) -> Self {
        Self {
            packet,
            shown: None,
            is_sampled: true,
            skip_loop_filter: false,
            is_before_first_key: false,
            follows_gap: false,
            decode_index: 0,
            references: Vec::new(),
        }
    }
}

/// The packets to decode of a GOP, or of a part of a long GOP.
#[derive(Debug, PartialEq)]
pub(super) struct GopPart<P> {
    pub packets: Vec<PlannedPacket<P>>,
    /// This is the last part of its GOP.
    pub ends_gop: bool,
}

pub(super) fn nodes<P>(packets: &[PendingPacket<P>]) -> Vec<PacketNode<'_>> {
    packets
        .iter()
        .map(|PendingPacket { decode_index, parsed, .. }| PacketNode {
            decode_index: *decode_index,
            info: parsed.info,
            dependencies: parsed.dependencies.as_ref(),
        })
        .collect()
}
