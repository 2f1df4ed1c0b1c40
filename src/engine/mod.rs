//! ONNX Runtime: models, sessions, devices, batching. Knows tensors, no faces and no sound, and not OpenCV.
//!
//! - [`library`] finds ONNX Runtime's shared library and looks at its version before anything is asked of it.
//! - [`manifest`] lists the model files that the program knows, [`fetch`] gets them, [`tflite`] makes some of them from networks
//!   in the format of TensorFlow Lite.
//! - [`Engine`] starts the runtime once a process and turns a model file into a [`Model`].
//! - [`Model`] runs rows: the requests of all callers meet in one queue, and threads with a session each make batches of them.
//! - [`Sequence`] runs calls that depend on each other, or that take one row, with any inputs; nothing to batch there.
//!
//! On the CPU a session runs on one core, and at most `engine.threads` of them run at a time, of all models together; a model
//! that is asked for more than one session can give gets another. On a GPU there is one session a model, with larger batches.

mod bound;
mod error;
pub mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
mod half_precision;
pub mod library;
pub mod manifest;
mod model;
mod queue;
mod rewrite;
mod runtime;
mod sequence;
pub mod tflite;

pub use error::EngineError;
pub use model::{Model, Port};
pub use queue::Ticket;
pub use runtime::{Engine, Taken};
pub use sequence::{Sequence, Turn};
