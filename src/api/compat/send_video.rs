//! `POST /upload` and `POST /record_video` of Emotion Detection from Video: store a video from a disk or a camera and
//! queue its analysis.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::PlainVideoForm;
use super::error::CompatError;
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::immediate::ImmediateError;
use crate::api::openapi::COMPAT;
use crate::api::upload;
use crate::api::upload::form::UnknownFields;
use crate::api::view;
use crate::api::{Api, Caller};
use crate::store::Status;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn upload_endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(upload))
}

pub(in crate::api) fn record_video_endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(record_video))
}

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

/// The refusals of both calls.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes the refusals of `accept`")]
enum Refusal {
    #[response(status = 400, description = "The body is not a form, has no file, or was cut off")]
    BadForm,
    #[response(status = 408, description = "The upload stalled or took too long")]
    TooSlow,
    #[response(status = 413, description = "More than `http.max_upload`")]
    TooLarge,
    #[response(status = 422, description = "The video cannot be analyzed, or an option is out of range")]
    Unusable,
    #[response(status = 429, description = "Too many uploads at once; `Retry-After` says when to try again")]
    TooMany,
    #[response(status = 507, description = "The storage is full")]
    StorageFull,
}

/// Reads a form with a video and queues its analysis.
async fn accept(api: &Api, caller: &Caller, request: Request) -> Result<Response, CompatError> {
    let token = upload::accept(api, caller, request, UnknownFields::Ignore).await.map_err(ImmediateError::from)?;
    let stats = format!("{}/get_stats?token={token}", api.app.settings.http.base_url());
    let links = Links { stats, native: view::Links::new(&api.app, token) };
    Ok(upload::accepted(token, Json(Accepted { token, status: Status::Queued, links })))
}

/// Send a video file
///
/// The call `POST /upload` of Emotion Detection from Video. Stores a video and queues its analysis. `links.stats` is
/// the address of the statistics.
#[utoipa::path(post, path = "/upload", operation_id = "upload", tag = COMPAT,
    request_body(content = PlainVideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted), Refusal))]
async fn upload(State(api): State<Api>, caller: Authorized<Rule>, request: Request) -> Result<Response, CompatError> {
    accept(&api, &caller, request).await
}

/// Send a recorded video
///
/// The call `POST /record_video` of Emotion Detection from Video. Stores a video and queues its analysis. `links.stats`
/// is the address of the statistics.
#[utoipa::path(post, path = "/record_video", operation_id = "record_video", tag = COMPAT,
    request_body(content = PlainVideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted), Refusal))]
async fn record_video(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, CompatError> {
    accept(&api, &caller, request).await
}
