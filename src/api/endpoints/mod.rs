//! The native calls, one file each.

pub mod admin;
pub mod analyses;
pub mod analyze_video;
pub mod enqueue;
pub mod erase;
pub mod events;
pub mod form;
pub mod healthz;
pub mod metrics;
pub mod readyz;
pub mod refusal;
pub mod report;
pub mod results;
pub mod root;
pub mod start;
pub mod timeline;
pub mod uploads;
pub mod view;
