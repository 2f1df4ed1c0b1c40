//! The calls of the services that visage takes over from, one file an endpoint, in the shapes that their clients know.
//! Errors are `{"error": "<sentence>", "code": "<code>"}`. `docs/MIGRATING.md` says what differs.

mod facial_analysis;
mod get_stats;
mod process_frame;
mod save_frame;
mod upload;

use axum::Router;
use axum::routing::{get, post};

use super::Api;

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/api/facial-analysis", post(facial_analysis::handle))
        .route("/process-frame", post(process_frame::handle))
        .route("/upload", post(upload::handle))
        .route("/record_video", post(upload::handle))
        .route("/get_stats", get(get_stats::handle))
        .route("/save_frame", post(save_frame::handle))
        .route("/frames/{frame}", get(save_frame::show).delete(save_frame::erase))
}
