//! Why an input has no result: a code for programs and a sentence for people.

use std::path::Path;

use crate::analysis::Language;
use crate::cli::analyze::picture;
use crate::media::ProbeError;
use crate::overlay::OverlayError;
use crate::pipeline::{PictureError, PipelineError};
use crate::report;

/// Why an input has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// As in docs/API.md, in the table of the errors.
    pub code: &'static str,
    pub text: String,
}

impl Failed {
    pub fn unreadable(error: &std::io::Error) -> Self {
        Self { code: "source_unreadable", text: format!("cannot be read: {error}") }
    }

    pub fn not_a_file() -> Self {
        Self { code: "source_unreadable", text: "is neither a file nor a folder".to_owned() }
    }

    /// The input was written to while it was analyzed.
    pub fn changed() -> Self {
        Self { code: "source_changed", text: "changed while it was analyzed: run the command again".to_owned() }
    }

    /// The overlay could not be drawn or encoded.
    pub fn no_overlay(error: &OverlayError) -> Self {
        Self { code: "internal_error", text: format!("no overlay could be made: {error}") }
    }

    /// The program panicked.
    pub fn panicked() -> Self {
        Self { code: "internal_error", text: "the program panicked, which is a defect of visage".to_owned() }
    }
}

impl From<PipelineError> for Failed {
    fn from(error: PipelineError) -> Self {
        let code = error.reason().code();
        let text = match error {
            PipelineError::Video(ProbeError::Unreadable(reason)) => format!("cannot be read: {reason}"),
            PipelineError::Video(_) => report::failure(&error.reason(), Language::EN),
            error => error.to_string(),
        };
        Self { code, text }
    }
}

impl From<PictureError> for Failed {
    fn from(error: PictureError) -> Self {
        let code = match error {
            PictureError::Pipeline(error) => return error.into(),
            PictureError::Empty => "empty_picture",
            PictureError::OtherFormat { .. } => "picture_format_not_supported",
            PictureError::Video | PictureError::NotAPicture => "not_a_picture",
            PictureError::TooLarge { .. } => "picture_too_large",
            PictureError::Damaged { .. } => "picture_damaged",
        };
        Self { code, text: picture::words(&error) }
    }
}

/// Returns a path for people and for tables: as text, without characters that control a terminal.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_without_control_characters() {
        use std::os::unix::ffi::OsStrExt;
        let path = |bytes: &[u8]| shown(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(path("dir/Jörg 1.mp4".as_bytes()), "dir/Jörg 1.mp4");
        assert_eq!(path(b"a\x1b[2Jb\nc\xff"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
    }
}
