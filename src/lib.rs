//! visage: upload a video, get back what the faces in it showed.
//!
//! The modules, in the order a video walks through them:
//!
//! - [`cli`]: one file a subcommand (`serve`, `work`, `analyze`, `models`, `keys`, `doctor`).
//! - [`config`]: the settings, one struct a concern, defaults embedded from `config/default.toml`.
//! - [`api`]: HTTP. Takes uploads, answers with states and reports.
//! - [`blob`]: where videos lie: a folder or an S3 bucket.
//! - [`store`]: the database: jobs (the queue), results, outgoing mail, keys. All SQL is here.
//! - [`worker`]: one job from claim to clean-up, and the housekeeping beside it.
//! - [`pipeline`]: a video in, [`analysis::Findings`] out; used by worker and command line alike.
//! - [`media`]: opens video files: probing, frames and sound.
//! - [`engine`]: ONNX Runtime: models, sessions, devices, batching. Knows tensors, no faces and no sound.
//! - [`vision`]: what pictures say: face detector, landmarks, emotion classifier, head pose, gaze.
//! - [`speech`]: what sound says: voice activity, sound quality, rate of syllables.
//! - [`analysis`]: plain types and arithmetic: emotions, observations, tracks, scores, summary.
//! - [`report`]: views of a result for people: HTML, charts, mail.
//! - [`identity`]: which storage belongs to which database.
//! - [`locale`]: what is said to people, in their language; texts are in `locales/`.
//! - [`fault`]: whose fault an error is: the service's, the video's or the client's.
//! - [`clock`]: time and tokens, passed in so that tests can fix them.
//! - [`tls`]: the implementation of TLS that every client of the process uses.
//! - [`telemetry`]: the program's log, and what it counts for `GET /metrics`.
//!
//! Nothing imports upward: `analysis` and `engine` are the ground, `vision`, `speech` and `media` stand on them,
//! `pipeline` on those; `blob`, `store` and `report` beside it; `worker` and `api` on top, `cli` last.

//!
//! Without the feature `video` (on by default) what needs OpenCV or FFmpeg is left out: the engine and plain types remain.

rust_i18n::i18n!("locales", fallback = "en");

pub mod analysis;
#[cfg(feature = "video")]
pub mod api;
#[cfg(feature = "video")]
pub mod blob;
#[cfg(feature = "video")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod fault;
#[cfg(feature = "video")]
pub mod identity;
pub mod locale;
#[cfg(feature = "video")]
pub mod media;
#[cfg(feature = "video")]
pub mod pipeline;
pub mod report;
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
