//! `POST /record_video` of Emotion Detection from Video: stores a video from a camera and queues its analysis.

use axum::extract::{Request, State};
use axum::response::Response;
use utoipa_axum::routes;

use super::PlainVideoForm;
use super::error::CompatError;
use super::queue::{Accepted, accept};
use crate::api::Api;
use crate::api::access::{Analyze, Authorized, Endpoint, OptionalKey};
use crate::api::openapi::COMPAT;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Send a video from a camera
///
/// `POST /record_video` of Emotion Detection from Video. Stores a video and queues its analysis. `links.stats` is the
/// address of the statistics.
#[utoipa::path(post, path = "/record_video", operation_id = "record_video", tag = COMPAT,
    request_body(content = PlainVideoForm, content_type = "multipart/form-data"),
    responses((status = 202, description = "The analysis is queued", body = Accepted),
              (status = 400, description = "The body is not a form, has no file, or was cut off"),
              (status = 408, description = "The upload stalled or took too long"),
              (status = 413, description = "More than `http.max_upload`"),
              (status = 422, description = "The video cannot be analyzed, or an option is out of range"),
              (status = 429, description = "Too many uploads at once; `Retry-After` says when to try again"),
              (status = 507, description = "The storage is full")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    request: Request,
) -> Result<Response, CompatError> {
    accept(&api, &caller, request).await
}
