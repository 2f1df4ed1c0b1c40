//! visage analyzes the facial expressions in uploaded videos.
//!
//! The modules, in the order in which a video passes through them:
//!
//! - [`cli`]: one file per subcommand (`serve`, `work`, `analyze`, `compare`, `models`, `eval`, `keys`, `openapi`,
//!   `doctor`).
//! - [`config`]: the settings, one struct per concern; the defaults are embedded from `config/default.toml`.
//! - [`api`]: HTTP: receives uploads, returns states and reports.
//! - [`blob`]: storage of videos until they are analyzed: a folder or an S3 bucket.
//! - [`sources`]: videos that clients name by address: checks addresses, and fetches from them.
//! - [`store`]: the database: jobs (the queue), results, outgoing mail, keys. All SQL is here.
//! - [`worker`]: one job from claim to clean-up, and periodic housekeeping.
//! - [`pipeline`]: turns one video into [`analysis::Findings`]; used by worker, API and command line.
//! - [`overlay`]: writes a video again with the boxes and labels of its analysis.
//! - [`isolation`]: runs [`media`] in confined child processes.
//! - [`media`]: opens video files: probing, frames and sound; writes videos.
//! - [`engine`]: ONNX Runtime: models, sessions, devices, batching. Handles tensors only.
//! - [`vision`]: reads pictures: face detector, landmarks, emotion classifier, head pose, gaze.
//! - [`speech`]: reads sound: voice activity, sound quality, syllable rate.
//! - [`analysis`]: plain types and arithmetic: emotions, observations, tracks, scores, summary.
//! - [`report`]: renders a result for people: HTML, charts, mail.
//! - [`identity`]: ensures that storage and database belong together.
//! - [`confirmation`]: links by which recipients of mails confirm their address.
//! - [`secret`]: keyed hashes with the secret of the installation.
//! - [`share`]: signed links by which a reader without a key sees one result.
//! - [`locale`]: picks the language of texts; the texts are in `locales/`.
//! - [`fault`]: classifies errors by the party at fault: the service, the video or the client.
//! - [`public_network`]: tells public IP addresses from private ones.
//! - [`clock`]: time and random tokens, passed in so that tests can fix them.
//! - [`tls`]: the TLS implementation of all clients in the process.
//! - [`telemetry`]: the log, the counters of `GET /metrics`, and traces.
//!
//! Imports go in one direction only, which docs/ARCHITECTURE.md describes and `tests/it/modules.rs` checks.
//!
//! The feature `video` is on by default. Without it, all modules that need OpenCV or FFmpeg are left out; the engine
//! and the plain types remain.

pub mod analysis;
#[cfg(feature = "video")]
pub mod api;
#[cfg(feature = "video")]
pub mod blob;
#[cfg(feature = "video")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod confirmation;
pub mod engine;
pub mod fault;
#[cfg(feature = "video")]
pub mod identity;
#[cfg(feature = "video")]
pub mod isolation;
pub mod locale;
#[cfg(feature = "video")]
pub mod media;
#[cfg(feature = "video")]
pub mod overlay;
#[cfg(feature = "video")]
pub mod pipeline;
pub mod public_network;
pub mod report;
pub mod secret;
pub mod share;
pub mod sources;
pub mod speech;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod test_files;
pub mod tls;
#[cfg(feature = "video")]
pub mod vision;
#[cfg(feature = "video")]
pub mod worker;
