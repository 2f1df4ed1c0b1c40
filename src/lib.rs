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
//! - [`memory`]: settings of the memory allocator.
//! - [`telemetry`]: the log, the counters of `GET /metrics`, and traces.
//!
//! The modules that need neither the database nor S3 nor the HTTP server are in the crate `visage_core`
//! (`src/core.rs`). They are exported here as well.
//!
//! Imports go in one direction only, which docs/ARCHITECTURE.md describes and `tests/it/modules.rs` checks.
//!
//! The feature `video` is on by default. Without it, all modules that need OpenCV or FFmpeg are left out; the engine
//! and the plain types remain.

pub use visage_core::{
    analysis, clock, config, confirmation, engine, fault, locale, memory, public_network, report, secret, sources,
    speech, telemetry, tls,
};
#[cfg(feature = "video")]
pub use visage_core::{isolation, media, overlay, pipeline, vision};

#[cfg(feature = "video")]
pub mod api;
#[cfg(feature = "video")]
pub mod blob;
#[cfg(feature = "video")]
pub mod cli;
#[cfg(feature = "video")]
pub mod identity;
pub mod share;
pub mod store;
#[cfg(feature = "video")]
pub mod worker;
