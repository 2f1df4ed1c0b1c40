//! The text `face_state`, by which a client keeps the ids of people from one request with pictures to the next.
//!
//! It has the colours of the people's hair, skin and clothes ([`People`]) in base64url, with a version in front and a
//! checksum at the end. The service stores nothing. The text is not signed: a client that makes one of its own changes
//! only the ids in its own answers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::analysis::People;

/// Maximum number of characters.
pub const MAX_FACE_STATE: usize = 48 << 10;
/// The characters of base64url.
pub const FACE_STATE_PATTERN: &str = "^[A-Za-z0-9_-]*$";

/// Changes when the appearances of an older version cannot be compared any more.
const VERSION: u8 = 1;
/// Bytes of the checksum.
const CHECKSUM: usize = 8;

/// Writes the people as text.
pub fn encode(people: &People) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(people.to_bytes());
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum[..CHECKSUM]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads the people of a text. Empty text, which a web form may send, means nobody. Returns `None` for text that
/// [`encode`] did not write, or that another version wrote.
pub fn decode(text: &str) -> Option<People> {
    let text = text.trim();
    if text.is_empty() {
        return Some(People::default());
    }
    if text.len() > MAX_FACE_STATE {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    if Sha256::digest(content)[..CHECKSUM] != checksum[..] {
        return None;
    }
    let (version, people) = content.split_first()?;
    if *version == VERSION { People::from_bytes(people) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Appearance;

    fn people(count: u8) -> People {
        let mut people = People::default();
        let colours: Vec<[f32; 3]> = (0..200_u8)
            .map(|n| [f32::from(n) / 2.0, f32::from(n % 80) - 30.0, f32::from(n.wrapping_mul(37) % 80) - 30.0])
            .collect();
        let faces: Vec<Appearance> =
            (0..count).map(|n| Appearance::of([&colours, &colours[usize::from(n)..], &colours])).collect();
        people.assign(&faces);
        people
    }

    #[test]
    fn a_state_gives_back_its_people_and_stays_below_the_limit() {
        for count in [0, 1, 40] {
            let text = encode(&people(count));
            assert!(text.len() <= MAX_FACE_STATE, "{}", text.len());
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
            let read = decode(&format!(" {text}\n")).unwrap();
            assert_eq!(encode(&read), text);
        }
        assert_eq!(decode(""), Some(People::default()));
    }

    #[test]
    fn changed_text_other_versions_and_garbage_are_not_read() {
        let text = encode(&people(2));
        assert!(decode(&text).is_some());
        for place in [0, 3, text.len() / 2, text.len() - 1] {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(decode(std::str::from_utf8(&changed).unwrap()), None, "{place}");
        }
        let mut newer = vec![VERSION + 1];
        newer.extend(people(1).to_bytes());
        let checksum = Sha256::digest(&newer);
        newer.extend_from_slice(&checksum[..CHECKSUM]);
        assert_eq!(decode(&URL_SAFE_NO_PAD.encode(newer)), None);
        let long = "A".repeat(MAX_FACE_STATE + 1);
        for garbage in ["A", "AAAA", "nonsense!", "{}", &text[..text.len() - 4], &long] {
            assert_eq!(decode(garbage), None, "{garbage}");
        }
    }
}
