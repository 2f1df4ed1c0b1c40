//! Cursors of paged lists: a number in base64url, opaque to clients.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The cursor of this position.
pub fn encode(position: i64) -> String {
    URL_SAFE_NO_PAD.encode(position.to_be_bytes())
}

/// The position of a cursor; `None` for text that is no cursor.
pub fn decode(text: &str) -> Option<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_an_encoded_cursor_gives_its_position() {
        assert_eq!(decode(&encode(1234)), Some(1234));
        assert_eq!((decode("5"), decode("nonsense"), decode("")), (None, None, None));
    }
}
