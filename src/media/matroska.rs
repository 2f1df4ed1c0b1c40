//! Reads the codec of a track from the header of a Matroska file. FFmpeg does not return the name of a codec that it
//! does not know.

use ffmpeg_next::format::context::Input;

use super::ffi;

/// The identifiers of elements (RFC 9559, section 5.1).
const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_TYPE: u32 = 0x83;
const CODEC_ID: u32 = 0x86;
/// The type of video tracks.
const VIDEO: &[u8] = &[1];
/// The number of bytes that hold the header of an element.
const HEADER: usize = 16;
/// The maximum number of elements that are read to find the tracks.
const MAX_ELEMENTS: usize = 100_000;
/// The maximum number of bytes that are read of the tracks.
const MAX_TRACKS_BYTES: usize = 1 << 20;
/// The maximum number of characters of a name.
const MAX_NAME: usize = 40;

/// The header of an EBML element (RFC 8794, sections 4 to 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    id: u32,
    header_bytes: u64,
    /// `None` for an element of unknown length, which extends to the end of the file or of its parent.
    content_bytes: Option<u64>,
}

impl Element {
    /// The length with the header.
    pub const fn length(&self) -> Option<u64> {
        match self.content_bytes {
            Some(content_bytes) => self.header_bytes.checked_add(content_bytes),
            None => None,
        }
    }
}

/// The element at the start of these bytes.
pub(super) fn element(bytes: &[u8]) -> Option<Element> {
    let id_width = bytes.first()?.leading_zeros() as usize + 1;
    let first = *bytes.get(id_width)?;
    let width = first.leading_zeros() as usize + 1;
    if id_width > 4 || width > 8 {
        return None;
    }
    let id = bytes[..id_width].iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let rest = bytes.get(id_width + 1..id_width + width)?;
    let value =
        rest.iter().fold(u64::from(first) & ((1 << (8 - width)) - 1), |value, byte| value << 8 | u64::from(*byte));
    let unknown = (1 << (7 * width)) - 1;
    let content_bytes = (value != unknown).then_some(value);
    Some(Element { id, header_bytes: (id_width + width) as u64, content_bytes })
}

/// The `CodecID` of the n-th video track, such as `V_MPEG4/ISO/AVC`. Moves the read position.
pub(super) fn video_codec(input: &mut Input, n: usize) -> Option<String> {
    let mut at = 0;
    for _ in 0..MAX_ELEMENTS {
        let mut header = [0; HEADER];
        let element = element(ffi::read_source_at(input, at, &mut header)?)?;
        let content = at.checked_add(element.header_bytes)?;
        match element.id {
            SEGMENT => at = content,
            TRACKS => {
                let length = usize::try_from(element.content_bytes?).ok()?.min(MAX_TRACKS_BYTES);
                let mut tracks = vec![0; length];
                return codec_of(ffi::read_source_at(input, content, &mut tracks)?, n);
            }
            _ => at = at.checked_add(element.length()?)?,
        }
    }
    None
}

/// The `CodecID` of the n-th video track in the content of the element `Tracks`.
pub(super) fn codec_of(tracks: &[u8], n: usize) -> Option<String> {
    let is_video = |entry: &&[u8]| children(entry).any(|(id, content)| id == TRACK_TYPE && content == VIDEO);
    let entries = children(tracks).filter(|(id, _)| *id == TRACK_ENTRY).map(|(_, entry)| entry);
    let entry = entries.filter(is_video).nth(n)?;
    let (_, name) = children(entry).find(|(id, _)| *id == CODEC_ID)?;
    let name = name.split(|byte| *byte == 0).next()?;
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    is_name.then(|| String::from_utf8_lossy(name).into_owned())
}

/// The identifiers and contents of the elements in the content of another.
fn children(content: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let element = element(rest)?;
        let (header, length) = (usize::try_from(element.header_bytes).ok()?, usize::try_from(element.length()?).ok()?);
        let content = rest.get(header..length)?;
        rest = &rest[length..];
        Some((element.id, content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_element_is_read() {
        let length = |bytes: &[u8]| element(bytes).and_then(|element| element.length());
        assert_eq!(length(&[0x1A, 0x45, 0xDF, 0xA3, 0x9F]), Some(5 + 31));
        assert_eq!(length(&[0x18, 0x53, 0x80, 0x67, 0x01, 0, 0, 0, 0, 0, 0x10, 0]), Some(12 + 4096));
        let live = [0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(element(&live), Some(Element { id: SEGMENT, header_bytes: 12, content_bytes: None }));
        for broken in
            [&[][..], &[0], &[0x1A], &[0x1A, 0x45, 0xDF, 0xA3], &[0x1A, 0x45, 0xDF, 0xA3, 0], &[0x42, 0x86, 0x40]]
        {
            assert_eq!(element(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn the_codec_of_a_video_track_is_found() {
        let sound = b"\xAE\x88\x83\x81\x02\x86\x83A_X";
        let first = b"\xAE\x88\x83\x81\x01\x86\x83V_A";
        let second = b"\xAE\x8C\x86\x87V_XYZ\0\0\x83\x81\x01";
        let tracks = [&sound[..], first, second].concat();
        assert_eq!(codec_of(&tracks, 0).as_deref(), Some("V_A"));
        assert_eq!(codec_of(&tracks, 1).as_deref(), Some("V_XYZ"));
        assert_eq!(codec_of(&tracks, 2), None);
        assert_eq!(codec_of(&tracks[..tracks.len() - 1], 1), None, "the entry is cut off");
        for name in ["", "V_\u{1b}[2J", &"V".repeat(MAX_NAME + 1)] {
            let length = |bytes: usize| u8::try_from(bytes).unwrap() | 0x80;
            let entry = [&[0x83, 0x81, 1, 0x86, length(name.len())], name.as_bytes()].concat();
            assert_eq!(codec_of(&[&[0xAE, length(entry.len())], &entry[..]].concat(), 0), None, "{name}");
        }
    }
}
