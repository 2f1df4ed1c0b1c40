//! The endings of names by which files in folders are taken for videos, pictures or neither.

use std::path::Path;

/// Videos and pictures, also those of formats that are not read: they fail with the reason, and are not missed silently.
const MEDIA: [&str; 38] = [
    "3g2", "3gp", "asf", "avi", "avif", "bmp", "divx", "f4v", "flv", "gif", "heic", "heif", "jfif", "jpe", "jpeg",
    "jpg", "jxl", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mxf", "ogv", "png", "qt", "rm", "rmvb",
    "tif", "tiff", "vob", "webm", "webp", "wmv", "wtv",
];
/// Sound in the containers of videos.
const SOUND: [&str; 5] = ["f4a", "m4a", "m4b", "m4r", "mka"];

/// What the name of a file says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Media,
    /// No pictures to analyze.
    Sound,
    /// The content has to tell: `.ts` is a video or a program in TypeScript.
    Other,
}

pub fn named(path: &Path) -> Named {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if MEDIA.contains(&&*ending) {
        Named::Media
    } else if SOUND.contains(&&*ending) {
        Named::Sound
    } else {
        Named::Other
    }
}
