//! The limits on the size, the duration and the pixels of videos.

use super::ProbeError;
use crate::config::Video;

/// The pixel limit for decoders. It has a margin, because decoders round the sides of a frame up to whole blocks.
pub(super) fn max_decoder_pixels(limits: &Video) -> i64 {
    let pixels = limits.max_pixels.saturating_add(limits.max_pixels / 8).saturating_add(1 << 16);
    i64::try_from(pixels.min(i32::MAX as u64)).unwrap_or(i64::MAX)
}

/// Returns an error if a frame has more pixels than the limit.
pub(super) fn check_pixels(width: u32, height: u32, limits: &Video) -> Result<(), ProbeError> {
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(ProbeError::TooLarge { width, height, limit: limits.max_pixels });
    }
    Ok(())
}

/// The limit on frames times pixels.
pub(super) const fn max_total_pixels(limits: &Video) -> u64 {
    limits.max_total_megapixels.saturating_mul(1_000_000)
}

/// The limit on a video's duration, in seconds.
pub(super) const fn max_duration_s(limits: &Video) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no limit is that long")]
    {
        limits.max_duration_s as f64
    }
}

/// Returns an error if a video is longer than the limit.
pub(super) fn check_duration(duration_s: f64, limits: &Video) -> Result<(), ProbeError> {
    if duration_s > max_duration_s(limits) {
        return Err(ProbeError::TooLong { duration_s, limit_s: limits.max_duration_s });
    }
    Ok(())
}
