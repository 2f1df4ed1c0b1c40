//! `POST /upload` and `POST /record_video` of Emotion Detection from Video: take a video, chosen from a disk or recorded
//! with a camera, and queue its analysis.
//!
//! `multipart/form-data` with the file in `video`; `sample_every` and `max_faces` as in `POST /analyze-video`, other
//! fields are read over. **202** gives `token`, `status` and `links`, of which `stats` leads to the statistics. Refusals:
//! 400 (no file), 408, 413, 422, 429.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;
use uuid::Uuid;

use crate::api::problem::Plain;
use crate::api::sync::SyncError;
use crate::api::v1::analyze_video;
use crate::api::v1::form::Unknown;
use crate::api::v1::view;
use crate::api::{Api, Caller};
use crate::store::Status;

#[derive(Serialize)]
pub struct Accepted {
    token: Uuid,
    status: Status,
    links: Links,
}

#[derive(Serialize)]
struct Links {
    stats: String,
    #[serde(flatten)]
    native: view::Links,
}

pub async fn handle(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Plain> {
    let token = analyze_video::accept(&api, &caller, request, Unknown::Skip).await.map_err(SyncError::from)?;
    let stats = format!("{}/get_stats?token={token}", api.app.settings.http.base_url());
    let links = Links { stats, native: view::Links::new(&api.app, token) };
    Ok(analyze_video::queued(token, Json(Accepted { token, status: Status::Queued, links })))
}
