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
}

impl Position {
    /// The number of samples before this place.
    pub const fn samples(&self) -> u32 {
        self.samples
    }

    /// The number of frames before this place, whether or not they were decoded.
    pub fn passed(&self) -> u64 {
        self.last_number.map_or(0, |number| number + 1)
    }
}
