//! A video is cut into pieces of `video.piece_s` seconds. Different workers can decode the pieces of one video.

use serde::{Deserialize, Serialize};

use super::position::Position;

/// The pieces of a video that are decoded. A group of pictures (GOP) is never cut: it belongs to the piece in which its
/// first sample lies. The default is all pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pieces {
    /// The first piece, from 0.
    pub from: u32,
    /// The piece after the last one; `None` to decode to the end of the video.
    pub until: Option<u32>,
}

impl Pieces {
    /// No piece. The packets are read to the end, but none is decoded.
    pub const NONE: Self = Self { from: u32::MAX, until: None };

    /// Whether a video may have no sample in these pieces.
    pub const fn may_be_empty(&self) -> bool {
        self.from > 0 || self.until.is_some()
    }
}

/// Returns the piece to which a GOP with this first sample belongs. `length_s` is the length of a piece.
pub(super) fn piece_at(time_s: f64, length_s: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
    let piece = (time_s / f64::from(length_s.max(1))) as u32;
    // No GOP belongs to `Pieces::NONE`.
    piece.min(u32::MAX - 1)
}

/// What is decoded of a video: from a place on, these pieces.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stretch {
    pub start: Position,
    pub pieces: Pieces,
}

impl From<Position> for Stretch {
    fn from(start: Position) -> Self {
        Self { start, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_belongs_to_one_piece() {
        let at = [-1.0, 0.0, 9.999, 10.0, 25.0, f64::NAN, f64::INFINITY].map(|time_s| piece_at(time_s, 10));
        assert_eq!(at, [0, 0, 0, 1, 2, 0, Pieces::NONE.from - 1]);
        assert_eq!(piece_at(2.5, 0), 2, "a length of 0 counts as 1");
    }
}
