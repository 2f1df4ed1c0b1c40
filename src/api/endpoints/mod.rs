//! The native calls. Each endpoint has a file of its own.

pub mod abort_upload;
pub mod admin_overview;
pub mod admin_retry;
pub mod analyze_video;
pub mod begin_upload;
pub mod confirm_mail;
pub mod docs;
pub mod docs_file;
pub mod erase;
pub mod events;
pub mod healthz;
pub mod list_analyses;
pub mod metrics;
pub mod notice;
pub mod openapi;
pub mod readyz;
pub mod report;
pub mod results;
pub mod root;
pub mod send_part;
pub mod share;
pub mod start_analysis;
pub mod timeline;
pub mod upload_state;
