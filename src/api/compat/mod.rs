//! The calls of the services that visage takes over from, one file an endpoint, in the shapes that their clients know.
//! Errors are `{"error": "<sentence>", "code": "<code>"}`. `docs/MIGRATING.md` says what differs.

mod facial_analysis;
mod process_frame;

use axum::Router;
use axum::routing::post;

use super::Api;

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/api/facial-analysis", post(facial_analysis::handle))
        .route("/process-frame", post(process_frame::handle))
}
