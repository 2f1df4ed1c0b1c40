//! The answer that `POST /upload` and `POST /record_video` of Emotion Detection from Video share.

use axum::Json;
use axum::extract::Request;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::CompatError;
use crate::api::immediate::ImmediateError;
use crate::api::upload;
use crate::api::upload::form::UnknownFields;
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

/// Reads a form with a video and queues its analysis.
pub async fn accept(api: &Api, caller: &Caller, request: Request) -> Result<Response, CompatError> {
    let token = upload::accept(api, caller, request, UnknownFields::Ignore).await.map_err(ImmediateError::from)?;
    let stats = format!("{}/get_stats?token={token}", api.app.settings.http.base_url());
    let links = Links { stats, native: view::Links::new(&api.app, token) };
    Ok(upload::accepted(token, Json(Accepted { token, status: Status::Queued, links })))
}
