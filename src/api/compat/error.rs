//! The errors of the services whose calls visage takes over, in the shapes that their clients expect.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa::ToSchema;

use crate::api::Problem;
use crate::api::problem::Shape;

/// An error of a call that visage takes over from another service.
#[derive(ToSchema)]
#[schema(as = PlainError)]
#[expect(dead_code, reason = "describes what `Problem::render` writes")]
pub struct CompatErrorBody {
    /// What is wrong, and how to fix it.
    error: String,
    /// Stable snake_case code.
    code: String,
}

/// An error of the Journaling thumbnails API.
#[derive(ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "describes what `Problem::render` writes")]
pub struct ThumbnailsErrorBody {
    /// The error.
    error: String,
}

/// A problem that is rendered as [`CompatErrorBody`].
#[derive(Debug, Clone)]
pub struct CompatError(pub Problem);

impl<E: Into<Problem>> From<E> for CompatError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for CompatError {
    fn into_response(self) -> Response {
        self.0.shaped(Shape::ErrorAndCode).into_response()
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

/// A problem that is rendered as [`ThumbnailsErrorBody`]. An invalid request gets status 400, except for an unsupported
/// `Content-Encoding`, a video that cannot be decoded, and a missing notice.
#[derive(Debug, Clone)]
pub struct ThumbnailsError(pub Problem);

impl<E: Into<Problem>> From<E> for ThumbnailsError {
    fn from(error: E) -> Self {
        let mut problem = error.into();
        let is_wrong_type = problem.status == StatusCode::UNSUPPORTED_MEDIA_TYPE && problem.accepts().is_none();
        let is_invalid = problem.status == StatusCode::UNPROCESSABLE_ENTITY || is_wrong_type;
        if is_invalid && !UNPROCESSABLE.contains(&problem.code.as_ref()) {
            problem.status = StatusCode::BAD_REQUEST;
        }
        Self(problem)
    }
}

impl IntoResponse for ThumbnailsError {
    fn into_response(self) -> Response {
        self.0.shaped(Shape::Error).into_response()
    }
}
