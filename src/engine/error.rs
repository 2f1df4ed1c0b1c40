//! Errors of the engine.

use std::path::PathBuf;

use crate::fault::{Fault, Part};

/// Why the engine could not start, load or run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error(
        "ONNX Runtime (1.{} or newer) was found neither in ORT_DYLIB_PATH nor in {}; copy libonnxruntime.so from the \
         Python wheel `onnxruntime` to .runtime/, or set engine.library to the file",
        ort::MINOR_VERSION, list(.searched)
    )]
    LibraryMissing { searched: Vec<PathBuf> },
    #[error("ONNX Runtime's library {} cannot be used: {reason}", path.display())]
    LibraryUnusable { path: PathBuf, reason: String },
    #[error(
        "engine.device = \"cuda\", but CUDA cannot be used: {reason}; fix this, or set engine.device to auto or cpu"
    )]
    NoCuda { reason: String },
    #[error("ONNX Runtime did not start: {reason}")]
    Start { reason: String },

    #[error("the model {name} is not at {}; `visage models pull` fetches it", path.display())]
    ModelMissing { name: String, path: PathBuf },
    #[error(
        "{} is not the model {name} of this version (sha256 {found}, expected {expected}); `visage models pull` \
         fetches it; to use a model of your own, give its file another name", path.display()
    )]
    ModelChanged { name: String, path: PathBuf, expected: String, found: String },
    #[error("the model {name} cannot be read from {}: {reason}", path.display())]
    ModelUnreadable { name: String, path: PathBuf, reason: String },
    #[error("the model {name} cannot be used: {reason}")]
    ModelRefused { name: String, reason: String },

    #[error("the model {model} takes rows of {expected}, not {given:?}")]
    Shape { model: String, expected: String, given: Vec<usize> },
    #[error("the model {model} failed: {reason}")]
    Run { model: String, reason: String },
    #[error("the model {model} has stopped")]
    Stopped { model: String },

    #[error("models/models.toml: {0}")]
    Manifest(String),
}

impl EngineError {
    /// Tells whether the service or the input is at fault. Models get inputs of the same shape for every video, so a
    /// failing model is the service's fault (too little memory, a lost device).
    pub const fn fault(&self) -> Fault {
        match self {
            Self::LibraryMissing { .. }
            | Self::LibraryUnusable { .. }
            | Self::NoCuda { .. }
            | Self::Start { .. }
            | Self::ModelMissing { .. }
            | Self::ModelChanged { .. }
            | Self::ModelUnreadable { .. }
            | Self::ModelRefused { .. }
            | Self::Run { .. }
            | Self::Stopped { .. }
            | Self::Manifest(_) => Fault::Ours(Part::Models),
            Self::Shape { .. } => Fault::Unclear,
        }
    }

    /// Whether the error means that something has to be installed first: a library, a device or a model file.
    pub const fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::LibraryMissing { .. }
                | Self::LibraryUnusable { .. }
                | Self::NoCuda { .. }
                | Self::ModelMissing { .. }
                | Self::ModelChanged { .. }
        )
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
