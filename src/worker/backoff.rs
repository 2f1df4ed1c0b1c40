//! Exponential backoff.

use std::time::Duration;

/// Returns the wait after attempt number `tried` (from 1): `base * 2^(tried - 1)`, at most `max`.
pub fn backoff(tried: u32, base: Duration, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_maximum() {
        let wait = |tried| backoff(tried, Duration::from_secs(5), Duration::from_secs(60)).as_secs();
        assert_eq!([wait(1), wait(2), wait(3), wait(4), wait(5), wait(6)], [5, 10, 20, 40, 60, 60]);
        assert_eq!((wait(33), wait(u32::MAX)), (60, 60));
    }

    #[test]
    fn a_base_of_zero_gives_no_wait() {
        assert_eq!(backoff(9, Duration::ZERO, Duration::from_secs(60)), Duration::ZERO);
    }
}
