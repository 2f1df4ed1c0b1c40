//! The slots for pictures in the memory that a process shares with a child.

use crate::config::Video;

/// The number of slots for pictures. The parent reads one while the child writes the next.
pub const SLOTS: usize = 2;

/// The size of a slot in bytes.
pub const fn slot_bytes(limits: &Video) -> u64 {
    limits.max_pixels.saturating_mul(3)
}
