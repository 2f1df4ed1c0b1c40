//! NAL units of H.264 and HEVC packets.

/// The NAL units of a packet, each preceded by its size in `length_size` bytes. A truncated last unit is returned as
/// far as it goes.
pub(super) fn nal_units(packet: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        let (size, after) = rest.split_at_checked(length_size)?;
        let size = size.iter().fold(0_usize, |size, byte| size << 8 | usize::from(*byte));
        let (unit, after) = after.split_at(size.min(after.len()));
        rest = after;
        Some(unit)
    })
}
