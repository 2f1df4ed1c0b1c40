//! Decodes untrusted videos in child processes, which have no access to files, network and other processes. A hostile
//! file that exploits a decoder reaches nothing but the video that it came with.
//!
//! [`Decoders`] opens videos, in a child for each, or in this process if isolation is switched off or impossible. The
//! parent hands a child an open file, or serves it the bytes of a bucket over a socket. The child sends the properties
//! of the video, decoded pictures and decoded sound. Models run in the parent.
//!
//! A child is started before it is needed, so that a video does not wait for it. It decodes one video and is killed.

mod bytes;
mod child;
mod confine;
mod cores;
mod link;
mod memory;
mod message;
mod probes;
mod process;
mod remote;
mod slots;
mod video;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::config::{Hwaccel, Isolation, Video};
use crate::media::{self, NoHwaccel, Probe, ProbeError, Source};

pub use child::run as run_child;
pub use confine::Confinement;
use cores::Cores;
pub use memory::share_of_memory;
use parking_lot::Mutex;
pub use probes::{Attempt, run_attempt, try_attempts};
use process::{Child, Launcher, Timeouts};
pub use process::{EndCause, SUBCOMMAND};
pub use video::{Frames, OpenVideo, Sound, VideoFile};

/// The settings of decoding cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    #[error(transparent)]
    NoHwaccel(#[from] NoHwaccel),
    #[error(
        "video.isolation = \"require\", but a GPU decodes in this process: set video.hwaccel to none, or isolation to prefer"
    )]
    Gpu,
    #[error(
        "video.isolation = \"require\", but decoder processes have {0}: use a kernel with both, or set it to prefer"
    )]
    Incomplete(Confinement),
    #[error("video.isolation = \"require\", but no decoder process starts: {0}")]
    NotStarted(String),
}

/// The processes that decode videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderMode {
    /// Children with these barriers.
    Children(Confinement),
    /// This process, because isolation is off.
    Off,
    /// This process, because a GPU decodes.
    Gpu,
    /// This process, because children do not start.
    NoChildren,
}

impl std::fmt::Display for DecoderMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Children(confinement) => write!(f, "decoder processes have {confinement}"),
            Self::Off => f.write_str("video.isolation is off"),
            Self::Gpu => f.write_str("a GPU decodes in this process"),
            Self::NoChildren => f.write_str("decoder processes do not start, so this process decodes"),
        }
    }
}

/// Opens videos. A process needs one; clones are cheap and share their state.
#[derive(Clone)]
pub struct Decoders(Arc<Inner>);

struct Inner {
    limits: Video,
    /// Known once the first child is ready.
    mode: OnceLock<DecoderMode>,
    cores: Cores,
    /// `None` if videos are decoded in this process.
    children: Option<Children>,
}

impl Decoders {
    /// Decodes as the settings ask. `program` is visage itself. `keep_spare`: whether the next child is started while
    /// one is in use. The first child gets ready while this process goes on; see [`Decoders::check`].
    pub fn new(limits: &Video, program: PathBuf, keep_spare: bool) -> Result<Self, IsolationError> {
        media::prepare();
        let is_required = limits.isolation == Isolation::Require;
        if limits.isolation == Isolation::Off {
            return Ok(Self::here(limits, DecoderMode::Off));
        }
        if media::hwaccel(limits.hwaccel)?.is_some() {
            return if is_required { Err(IsolationError::Gpu) } else { Ok(Self::here(limits, DecoderMode::Gpu)) };
        }
        // Without a GPU here, a child does not look for one.
        let limits_of_child = Video { hwaccel: Hwaccel::None, ..limits.clone() };
        let launcher = Launcher { program, limits: limits_of_child, timeouts: Timeouts::default() };
        let first = match launcher.start() {
            Ok(first) => first,
            Err(error) if is_required => return Err(IsolationError::NotStarted(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "no decoder process starts");
                return Ok(Self::here(limits, DecoderMode::NoChildren));
            }
        };
        let children = Children { launcher, keep_spare, spare: Mutex::new(Some(first)) };
        let (limits, mode, cores) = (limits.clone(), OnceLock::new(), Cores::new());
        Ok(Self(Arc::new(Inner { limits, mode, cores, children: Some(children) })))
    }

    /// Returns an error if the settings require more isolation than this machine has. Blocks until the first child is
    /// ready. Without this check, a child that is confined less than required ends, and the first video fails.
    pub fn check(&self) -> Result<DecoderMode, IsolationError> {
        let is_required = self.0.limits.isolation == Isolation::Require;
        match self.mode() {
            DecoderMode::Children(confinement) if is_required && !confinement.is_complete() => {
                Err(IsolationError::Incomplete(confinement))
            }
            DecoderMode::NoChildren if is_required => {
                Err(IsolationError::NotStarted("it ended; see the log".to_owned()))
            }
            mode => Ok(mode),
        }
    }

    /// Decodes in this process.
    pub fn in_this_process(limits: &Video) -> Self {
        Self::here(limits, DecoderMode::Off)
    }

    fn here(limits: &Video, mode: DecoderMode) -> Self {
        let mode = OnceLock::from(mode);
        Self(Arc::new(Inner { limits: limits.clone(), mode, cores: Cores::new(), children: None }))
    }

    pub fn limits(&self) -> &Video {
        &self.0.limits
    }

    /// Returns which processes decode. Blocks until the first child is ready.
    pub fn mode(&self) -> DecoderMode {
        *self.0.mode.get_or_init(|| {
            let Some(children) = &self.0.children else { return DecoderMode::NoChildren };
            match children.wait_for_spare() {
                Ok(confinement) => DecoderMode::Children(confinement),
                Err(error) => {
                    tracing::warn!(%error, "no decoder process starts");
                    DecoderMode::NoChildren
                }
            }
        })
    }

    /// Returns the children, or `None` if this process decodes. Returns an error if children are required and do not
    /// start.
    fn children(&self) -> Result<Option<&Children>, ProbeError> {
        let mode = self.check().map_err(|error| ProbeError::DecoderKilled(error.to_string()))?;
        Ok(self.0.children.as_ref().filter(|_| matches!(mode, DecoderMode::Children(_))))
    }

    /// Returns a handle to a video. Does not open it.
    pub fn video(&self, source: &Source) -> VideoFile {
        VideoFile::new(self.clone(), source.clone())
    }

    /// Reads the properties of a video file. Decodes its first frame to check that it can be decoded. Blocks.
    ///
    /// # Errors
    /// Those of [`media::probe`], and [`ProbeError::DecoderEnded`].
    pub fn probe(&self, source: &Source) -> Result<Probe, ProbeError> {
        self.video(source).probe()
    }
}

/// Starts children, one before it is needed.
struct Children {
    launcher: Launcher,
    keep_spare: bool,
    /// A child that waits for its video.
    spare: Mutex<Option<Child>>,
}

impl Children {
    /// Waits until the child that was started first is ready.
    fn wait_for_spare(&self) -> Result<Confinement, ProbeError> {
        let spare = self.spare.lock();
        spare.as_ref().map_or_else(|| Err(ProbeError::DecoderEnded("none is left".to_owned())), Child::wait_until_ready)
    }

    /// Takes a child.
    fn take(&self) -> std::io::Result<Child> {
        let spare = self.spare.lock().take();
        let child = spare.filter(Child::is_alive).map_or_else(|| self.launcher.start(), Ok)?;
        if self.keep_spare {
            // Started here and not on another thread, because it takes about a millisecond. The child gets ready by
            // itself.
            *self.spare.lock() = self.launcher.start().ok();
        }
        Ok(child)
    }
}
