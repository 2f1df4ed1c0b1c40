//! A place in a video at which decoding can stop and continue later.

use serde::{Deserialize, Serialize};

use super::damage::Damage;
use super::geometry::Orientation;

/// The place after a sample. Groups of pictures (GOPs) are decoded independently of each other, so decoding continues
/// with the GOP of the next sample. What the decoder has told before is kept, so that the facts about the whole video
/// are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// GOPs that were decoded to their end. GOPs without a sample do not count.
    pub(super) gops: u64,
    /// Samples that were returned.
    pub(super) samples: u32,
    /// The number of the last frame that was returned.
    pub(super) last_number: Option<u64>,
    /// Planned frames that the decoder did not output, in these GOPs.
    pub(super) lost: u64,
    /// The damage in these GOPs.
    pub(super) damage: Damage,
    /// The display size of the first frame.
    pub(super) size: Option<(u32, u32)>,
    /// The last orientation in the stream.
    pub(super) stream_orientation: Option<Orientation>,
    /// The frames are numbered only while they are decoded, so a piece of the video cannot be decoded alone.
    #[serde(default)]
    pub(super) is_counted: bool,
}

impl Position {
    /// The number of samples before this place.
    pub const fn samples(&self) -> u32 {
        self.samples
    }

    /// Whether pieces of the video can be decoded alone.
    pub const fn allows_pieces(&self) -> bool {
        !self.is_counted
    }

    /// The state in which a piece is decoded that begins here.
    pub fn at_piece(&self) -> Self {
        Self { size: self.size, stream_orientation: self.stream_orientation, ..Self::default() }
    }

    /// Moves on over a piece that was decoded alone. `after` is the place at its end.
    pub fn pass_piece(&mut self, after: &Self) {
        self.gops += after.gops;
        self.samples += after.samples;
        self.last_number = after.last_number.or(self.last_number);
        self.lost += after.lost;
        self.damage.merge(after.damage);
        (self.size, self.stream_orientation) = (after.size, after.stream_orientation);
    }

    /// The number of frames before this place, whether or not they were decoded.
    pub fn passed(&self) -> u64 {
        self.last_number.map_or(0, |number| number + 1)
    }
}
