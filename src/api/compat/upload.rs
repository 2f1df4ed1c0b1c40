//! `POST /upload` and `POST /record_video` of Emotion Detection from Video: take a video, chosen from a disk or recorded
//! with a camera, and queue its analysis.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::PlainVideoForm;
use crate::api::endpoints::analyze_video;
use crate::api::immediate::SyncError;
use crate::api::openapi::COMPAT;
use crate::api::problem::Plain;
use crate::api::upload::form::Unknown;
use crate::api::view;
use crate::api::{Api, Caller};
use crate::store::Status;

#[derive(Serialize, ToSchema)]
#[schema(as = Uploaded)]
pub struct Accepted {
    token: Uuid,
    status: Status,
    links: Links,
}

#[derive(Serialize, ToSchema)]
#[schema(as = UploadedLinks)]
struct Links {
    stats: String,
    #[serde(flatten)]
    native: view::Links,
}

/// Send a video from a disk
///
/// `POST /upload` of Emotion Detection from Video: takes a video and queues its analysis. `stats` of `links` leads to the
/// statistics.
#[utoipa::path(post, path = "/upload", operation_id = "upload", tag = COMPAT,
    request_body(content = PlainVideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted),
              (status = 400, description = "No form or no file in it, or the upload broke off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 422, description = "No video that can be analyzed, or an option is out of range"),
              (status = 429, description = "Too many uploads at once; `Retry-After` says when to try again")))]
pub async fn handle(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Plain> {
    take(&api, &caller, request).await
}

/// Send a video from a camera
///
/// `POST /record_video` of Emotion Detection from Video: takes a video and queues its analysis. `stats` of `links` leads to the
/// statistics.
#[utoipa::path(post, path = "/record_video", operation_id = "record_video", tag = COMPAT,
    request_body(content = PlainVideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted),
              (status = 400, description = "No form or no file in it, or the upload broke off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 422, description = "No video that can be analyzed, or an option is out of range"),
              (status = 429, description = "Too many uploads at once; `Retry-After` says when to try again")))]
pub async fn recorded(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Plain> {
    take(&api, &caller, request).await
}

async fn take(api: &Api, caller: &Caller, request: Request) -> Result<Response, Plain> {
    let token = analyze_video::accept(api, caller, request, Unknown::Skip).await.map_err(SyncError::from)?;
    let stats = format!("{}/get_stats?token={token}", api.app.settings.http.base_url());
    let links = Links { stats, native: view::Links::new(&api.app, token) };
    Ok(analyze_video::queued(token, Json(Accepted { token, status: Status::Queued, links })))
}
