//! The errors of the services whose calls visage takes over, in the shapes that their clients expect.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::problem::OwnShape;
use crate::api::{LogDetails, Problem};

/// An error of a call that visage takes over from another service.
#[derive(ToSchema)]
#[schema(as = PlainError)]
#[expect(dead_code, reason = "describes what `CompatError` writes")]
pub struct CompatErrorBody {
    /// What is wrong, and how to fix it.
    error: String,
    /// Stable snake_case code.
    code: String,
}

/// An error of the Journaling thumbnails API.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ThumbnailsErrorBody {
    /// The error.
    pub error: String,
}

/// A problem that is written as [`CompatErrorBody`].
#[derive(Debug, Clone)]
pub struct CompatError(pub Problem);

impl<E: Into<Problem>> From<E> for CompatError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for CompatError {
    fn into_response(self) -> Response {
        respond(&self.0, json!({"error": self.0.detail, "code": self.0.code}))
    }
}

/// Codes of videos that cannot be decoded, and of a missing notice. They keep status 422.
const UNPROCESSABLE: [&str; 8] = [
    "codec_unknown",
    "codec_not_allowed",
    "container_not_allowed",
    "undecodable",
    "encrypted",
    "still_picture",
    "notice_missing",
    "notice_outdated",
];

/// A problem that is written as [`ThumbnailsErrorBody`]. An invalid request gets status 400, except for an unsupported
/// `Content-Encoding`, a video that cannot be decoded, and a missing notice.
#[derive(Debug, Clone)]
pub struct ThumbnailsError(pub Problem);

impl<E: Into<Problem>> From<E> for ThumbnailsError {
    fn from(error: E) -> Self {
        let mut problem = error.into();
        let is_wrong_type = problem.status == StatusCode::UNSUPPORTED_MEDIA_TYPE && problem.accepts().is_none();
        let is_invalid = problem.status == StatusCode::UNPROCESSABLE_ENTITY || is_wrong_type;
        if is_invalid && !UNPROCESSABLE.contains(&problem.code.as_str()) {
            problem.status = StatusCode::BAD_REQUEST;
        }
        Self(problem)
    }
}

impl IntoResponse for ThumbnailsError {
    fn into_response(self) -> Response {
        let body = ThumbnailsErrorBody { error: self.0.detail.clone() };
        respond(&self.0, body)
    }
}

/// The response to a problem, with this body instead of the document of RFC 9457.
fn respond(problem: &Problem, body: impl Serialize) -> Response {
    let mut response = (problem.status, axum::Json(body)).into_response();
    let details = LogDetails { error_message: Some(problem.title.to_owned()), ..LogDetails::default() };
    response.extensions_mut().insert(details);
    response.extensions_mut().insert(OwnShape);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(accepted) = problem.accepts() {
        headers.insert(header::ACCEPT_ENCODING, accepted);
    }
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
