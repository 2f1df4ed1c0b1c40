//! Uploads, as every call receives them: the body, its form, its errors, and the job that is queued for the video.

pub mod body;
pub mod encoding;
pub mod enqueue;
pub mod error;
pub mod form;
