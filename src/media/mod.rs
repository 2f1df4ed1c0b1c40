//! Opens video files: reads their properties ([`probe`]), their frames ([`Frames`]) and their sound ([`Sound`]). Also
//! writes videos ([`VideoWriter`]). This module must not import faces or the database.
//!
//! All functions block. Call them from dedicated threads, never on the async runtime.
//!
//! Files are untrusted, so the use of FFmpeg is restricted: only the supported containers (no playlists and no concat
//! scripts, which name other files) and codecs, only the protocol of the source, a time limit for slow servers, and a
//! check of the frame size before memory for a frame is allocated.
//!
//! A packet is decoded to a frame. A sampled frame is converted to a picture: upright, with square pixels, BGR.

mod audio;
mod boomerang;
mod budget;
mod clock;
mod codecs;
mod container;
mod cost;
mod damage;
mod decode;
mod dependencies;
mod discontinuity;
mod error;
mod fast_sampling;
mod ffi;
mod fit;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod geometry;
mod gop;
mod hardware;
mod limits;
mod matroska;
mod mix;
mod nal;
mod opened;
mod packet_info;
mod picture;
mod pieces;
mod plan;
mod position;
mod probe;
mod read_at;
mod reader;
mod references;
mod rehearsal;
mod selection;
mod setup;
mod source;
mod streams;
mod threads;
mod truncation;
mod writer;

pub use audio::{SOUND_RATE, Sound, SoundError, SoundFormat};
pub use boomerang::{Boomerang, CLIP_FPS, ClipFailure, ClipFormat, missing_encoders};
pub use codecs::{UnknownCodec, check_extra_codecs};
pub use container::ReadDeadline;
pub use error::{FramesError, NoHwaccel, ProbeError};
pub use ffi::{close_inherited_files, exit_now};
pub use fit::fit;
pub use frames::{End, Every, Frames, Sample, count_frames};
pub use geometry::{Orientation, Placement};
pub use hardware::hwaccel;
pub use opened::{Opened, probe};
pub use pieces::{Pieces, Stretch};
pub use position::Position;
pub use probe::{HEAD, Probe, needs_more, sniff};
pub use read_at::{ReadAt, ReadError};
pub use selection::{Selection, is_in_spread};
pub use setup::prepare;
pub use source::{OpenFile, Source};
pub use writer::{VideoForm, VideoWriter, WriteError, check_encoders};
