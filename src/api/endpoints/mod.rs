//! The native calls, one file each.

pub mod admin;
pub mod analyze_video;
pub mod docs;
pub mod erase;
pub mod events;
pub mod healthz;
pub mod list_analyses;
pub mod metrics;
pub mod readyz;
pub mod report;
pub mod results;
pub mod root;
pub mod start_analysis;
pub mod timeline;
pub mod uploads;
