//! Opens video files: what is in them ([`probe`]), their pictures ([`Frames`]) and their sound ([`Sound`]). Knows no
//! faces and no database.
//!
//! Everything here blocks: call it from threads of its own, never on the async runtime.
//!
//! Files come from strangers, so every way into FFmpeg is narrowed: only the containers that visage takes (no
//! playlists, no concat scripts, nothing that names other files), only the protocol that the source needs, a time
//! limit for servers that stall, and a look at the picture's size before room is made for one.

mod audio;
mod clip;
mod clock;
mod container;
mod decode;
mod dependencies;
mod discontinuity;
mod error;
mod fast_sampling;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod geometry;
mod gop;
mod hardware;
mod mix;
mod nal;
mod opened;
mod packet_info;
mod picture;
mod plan;
mod probe;
mod reader;
mod references;
mod selection;
mod streams;
mod threads;
mod truncation;

use std::path::PathBuf;

pub use audio::{SOUND_RATE, Sound, SoundError};
pub use clip::{Boomerang, CLIP_FPS, ClipFailure, ClipFormat, missing_encoders};
pub use container::prepare;
pub use error::{FramesError, ProbeError};
pub use frames::{End, Every, Frames, Sample, count_pictures};
pub use geometry::Placement;
pub use hardware::{NoHwaccel, hwaccel};
pub use opened::{Opened, probe};
pub use probe::{HEAD, Probe, sniff};
pub use selection::is_in_spread;

/// Where the decoder reads a video from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// An http(s) address that serves ranges, such as a presigned one. Never logged.
    Url(String),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Url(_) => f.write_str("Url(..)"),
        }
    }
}
