//! The errors of the services whose calls visage takes over, in the shapes that their clients expect.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Problem;
use crate::api::problem::Shape;
use crate::api::problem::detail::{self, Detail};
use crate::api::upload::form::MAX_FACES;

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

/// An error of DeepFace's own REST service: `exception` if the request has no picture, else `error`.
#[derive(ToSchema)]
#[schema(as = DeepFaceError)]
#[expect(dead_code, reason = "describes what `DeepFaceError` writes")]
pub struct DeepFaceErrorBody {
    /// What is wrong, and how to fix it.
    #[schema(value_type = String)]
    error: Option<String>,
    /// What is wrong, and how to fix it.
    #[schema(value_type = String)]
    exception: Option<String>,
    /// Stable snake_case code.
    code: String,
}

/// The answer of DeepFace's own REST service to a missing or wrong key.
#[derive(Serialize, ToSchema)]
#[schema(as = DeepFaceRejection)]
pub struct DeepFaceRejectionBody {
    pub message: &'static str,
}

/// Codes of requests that DeepFace answers with 400: a body that cannot be parsed, a picture that cannot be fetched.
const BAD_REQUEST: [&str; 7] = [
    "bad_body",
    "bad_json",
    "bad_form",
    "picture_urls_off",
    "picture_address_refused",
    "picture_unreachable",
    "picture_refused",
];

/// A problem that is rendered as [`DeepFaceErrorBody`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct DeepFaceError(Problem);

impl<E: Into<Problem>> From<E> for DeepFaceError {
    fn from(error: E) -> Self {
        let problem = error.into();
        let status = if BAD_REQUEST.contains(&&*problem.code) { StatusCode::BAD_REQUEST } else { problem.status };
        Self(problem.with_status(status).shaped(Shape::DeepFaceError))
    }
}

impl DeepFaceError {
    fn new(detail: Detail) -> Self {
        Self(Problem::new(StatusCode::BAD_REQUEST, detail).shaped(Shape::DeepFaceError))
    }

    /// The error of a picture that cannot be read.
    pub fn of_picture(problem: Problem) -> Self {
        Self(problem.with_status(StatusCode::BAD_REQUEST).shaped(Shape::DeepFaceError))
    }

    pub fn missing() -> Self {
        Self(Self::new(detail::missing_picture_img()).0.shaped(Shape::DeepFaceException))
    }

    pub fn not_base64() -> Self {
        Self::new(detail::not_base64_img())
    }

    pub fn refused_actions(names: &[&str]) -> Self {
        Self::new(detail::action_not_supported(names.join(", ")))
    }

    pub fn unknown_action() -> Self {
        Self::new(detail::bad_option_actions())
    }

    pub fn no_anti_spoofing() -> Self {
        Self::new(detail::anti_spoofing_not_supported())
    }

    pub fn bad_switch(name: &str) -> Self {
        Self::new(detail::bad_option_choice(name.to_owned(), detail::Value::Choice(vec!["true", "false"])))
    }

    pub fn bad_max_faces() -> Self {
        Self::new(detail::bad_option_range("max_faces", *MAX_FACES.start(), *MAX_FACES.end()))
    }

    /// In English the first sentences are DeepFace's own, because clients search for them.
    pub fn no_face() -> Self {
        Self::new(detail::no_face_detected())
    }
}

impl IntoResponse for DeepFaceError {
    fn into_response(self) -> Response {
        self.0.into_response()
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
