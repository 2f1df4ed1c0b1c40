//! The crate `visage_core`: analyzes videos and renders results, without database, S3 and HTTP server. Cargo compiles it
//! while it compiles the crates that only those need.
//!
//! The crate `visage` exports these modules again and describes them.

pub mod analysis;
pub mod clock;
pub mod config;
pub mod confirmation;
pub mod engine;
pub mod fault;
#[cfg(feature = "video")]
pub mod isolation;
pub mod locale;
#[cfg(feature = "video")]
pub mod media;
pub mod memory;
#[cfg(feature = "video")]
pub mod overlay;
#[cfg(feature = "video")]
pub mod pipeline;
pub mod public_network;
pub mod report;
pub mod secret;
pub mod sources;
pub mod speech;
pub mod telemetry;
#[cfg(test)]
mod test_files;
pub mod tls;
#[cfg(feature = "video")]
pub mod vision;
