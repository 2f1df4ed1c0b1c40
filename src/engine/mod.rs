//! ONNX Runtime: models, sessions, devices, batching. Handles tensors only, and
//! uses neither OpenCV nor FFmpeg.
//!
//! - [`library`] finds ONNX Runtime's shared library and checks its version before it is used.
//! - [`manifest`] lists the known model files. [`fetch`] downloads them. [`tflite`] converts some of them from
//!   TensorFlow Lite.
//! - [`Engine`] starts the runtime once per process and loads model files.
//! - [`Model`] runs independent rows. The requests of all callers meet in one queue, and threads with one session each
//!   run them in batches.
//! - [`Sequence`] runs calls that cannot be batched: each depends on the one before, or the model takes one row per
//!   call.
//!
//! On the CPU a session runs on one core, and at most `engine.threads` sessions of all models run at the same time. A
//! model gets another session when all of its sessions are busy. On a GPU each model has one session and larger
//! batches.

mod bound;
mod error;
pub mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
mod half_precision;
pub mod library;
pub mod manifest;
mod model;
mod model_file;
mod queue;
mod rewrite;
mod runtime;
mod sequence;
pub mod tflite;

pub use error::EngineError;
pub use model::{Model, Port};
pub use queue::{Ticket, live};
pub use runtime::{ActiveDevice, Engine};
pub use sequence::{Sequence, Turn};
