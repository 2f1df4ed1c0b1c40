//! NAL units of H.264 and HEVC packets, and parameter sets of H.264.

use h264_reader::Context;
use h264_reader::avcc::AvcDecoderConfigurationRecord;

/// The parameter sets in an `avcC` record (ISO/IEC 14496-15, section 5.3.3.1). Returns `None` if the record or one of
/// them cannot be parsed.
pub(super) fn parameter_sets(record: &[u8]) -> Option<Context> {
    let parsed = AvcDecoderConfigurationRecord::try_from(record).ok()?;
    // The crate panics at an empty unit.
    if has_empty_unit(record)? {
        return None;
    }
    parsed.create_context().ok()
}

fn has_empty_unit(record: &[u8]) -> Option<bool> {
    let (mut count, mut rest) = (record.get(5)? & 0x1F, record.get(6..)?);
    for _kind in ["sequence parameter sets", "picture parameter sets"] {
        for _ in 0..count {
            let (length, units) = rest.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            if length == 0 {
                return Some(true);
            }
            rest = units.get(length..)?;
        }
        (count, rest) = rest.split_first().map_or((0, rest), |(count, rest)| (*count, rest));
    }
    Some(false)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_parameter_set_is_refused() {
        let sps = b"\x67\x42\xC0\x0A\xD9\x04\x7B\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xF1\x22\x64\x80";
        let length = [0, sps.len() as u8];
        let record = |units: &[&[u8]]| [&[1, 0x42, 0xC0, 0x0A, 0xFF], units.concat().as_slice()].concat();
        assert_eq!(parameter_sets(&record(&[&[0xE1], &length, sps, &[0]])).unwrap().sps().count(), 1);
        assert!(parameter_sets(&record(&[&[0xE1, 0, 0, 0]])).is_none());
        assert!(parameter_sets(&record(&[&[0xE1], &length, sps, &[1, 0, 0]])).is_none());
    }
}
