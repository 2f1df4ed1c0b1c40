//! Sets up FFmpeg.

use std::sync::Once;

use ffmpeg_next as ffmpeg;

/// Sets up FFmpeg. Further calls do nothing.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::format::network::init();
        // Without this, FFmpeg's errors have no text.
        ffmpeg::util::error::register_all();
        // FFmpeg's messages about damaged files do not help operators, and may contain a URL.
        ffmpeg::util::log::set_level(ffmpeg::util::log::Level::Quiet);
    });
}
