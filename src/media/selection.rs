//! Which frames of a video are sampled, by their numbers in presentation order.

use serde::{Deserialize, Serialize};

/// A rule that selects frames by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Every n-th frame, beginning with the first.
    EveryNth(u64),
    /// `count` frames, spread evenly over the first `of` frames: if these are divided into `count` parts of equal
    /// length, the first frame of each part.
    Spread { count: u64, of: u64 },
}

impl Selection {
    pub fn selects(self, number: u64) -> bool {
        match self {
            Self::EveryNth(n) => number.is_multiple_of(n.max(1)),
            Self::Spread { count, of } if of <= count => number < of,
            Self::Spread { count, of } => {
                let part = number.saturating_mul(count).div_ceil(of);
                part < count && part.saturating_mul(of) / count == number
            }
        }
    }

    /// The mean distance between selected frames, in frames.
    pub fn interval(self) -> u64 {
        match self {
            Self::EveryNth(n) => n.max(1),
            Self::Spread { count, of } => (of / count.max(1)).max(1),
        }
    }
}

/// Whether the frame with this number is one of `count` frames that are spread evenly over the first `of` frames.
pub fn is_in_spread(count: u64, of: u64, number: u64) -> bool {
    Selection::Spread { count, of }.selects(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_selects_the_first_frame_of_each_part() {
        let selected = |count, of| -> Vec<u64> {
            (0..of + 10).filter(|number| Selection::Spread { count, of }.selects(*number)).collect()
        };
        assert_eq!(selected(3, 9), [0, 3, 6]);
        assert_eq!(selected(3, 11), [0, 3, 7]);
        assert_eq!(selected(5, 4), [0, 1, 2, 3]);
        assert_eq!(selected(3, 0), [] as [u64; 0]);
        for of in 15..200 {
            let selected = selected(15, of);
            assert_eq!(selected, (0..15).map(|part| part * of / 15).collect::<Vec<_>>(), "of {of}");
        }
    }
}
