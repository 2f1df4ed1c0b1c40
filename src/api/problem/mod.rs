//! Errors as `application/problem+json` (RFC 9457).
//!
//! The `detail` tells the client what to do. The internal cause goes to the log and never into an answer. A handler
//! returns a [`Problem`], which has no words. The outermost middleware (`outer`) renders it in the language of the
//! request, with the id of the request.

pub mod detail;

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::upload::encoding::ACCEPTED;
use crate::analysis::{FailureReason, Language};
use crate::blob::BlobError;
use crate::locale;
use crate::report;
use crate::secret::LinkError;
use crate::store::{JobFailure, Scope, StoreError};
use detail::Detail;

/// The code of the problem for an unsupported `Content-Encoding`.
const UNSUPPORTED_ENCODING: &str = "unsupported_encoding";

/// The key of the title of all failures of an analysis.
const FAILED: &str = "analysis_failed";

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable snake_case code.
    pub code: Cow<'static, str>,
    /// The key of the title in the section `problem.title` of `locales/`.
    title: &'static str,
    cause: Box<Cause>,
    /// Seconds after which the client should try again.
    pub retry_after_s: Option<u64>,
    /// Further members, such as the name of the field at fault.
    members: Map<String, Value>,
    shape: Shape,
}

/// The source of the member `detail`.
#[derive(Debug, Clone)]
enum Cause {
    Detail(Detail),
    /// The analysis failed.
    Failure(FailureReason),
    /// A failure that another version stored with this English sentence.
    Stored(String),
}

/// The shape of the body of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// [`ProblemBody`]
    Problem,
    /// [`CompatErrorBody`](super::compat::error::CompatErrorBody)
    ErrorAndCode,
    /// [`ThumbnailsErrorBody`](super::compat::error::ThumbnailsErrorBody)
    Error,
    /// [`DeepFaceErrorBody`](super::compat::error::DeepFaceErrorBody) with `error`
    DeepFaceError,
    /// [`DeepFaceErrorBody`](super::compat::error::DeepFaceErrorBody) with `exception`
    DeepFaceException,
}

/// An error (RFC 9457). Further members may name the field at fault or the limit that was exceeded. `title` and
/// `detail` are in the language of the parameter `language` or of `Accept-Language`, and otherwise in English.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what `Problem::render` writes")]
pub struct ProblemBody {
    /// `urn:visage:problem:<code>`
    r#type: String,
    /// A short text that is the same for every problem with this code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// Stable snake_case code.
    code: String,
    /// The error in this request, and how to fix it.
    detail: String,
    /// The id of the request in the log of the service.
    request_id: String,
}

/// Why an analysis failed: a problem (RFC 9457) without a request.
#[derive(ToSchema)]
#[schema(as = Failure)]
#[expect(dead_code, reason = "describes what `Problem::body` gives")]
pub struct FailureBody {
    /// `urn:visage:problem:<code>`
    r#type: String,
    title: String,
    status: u16,
    /// Stable snake_case code.
    code: String,
    /// The reason, and how to avoid it.
    detail: String,
}

/// Marks the response of an error whose body is not to be replaced by a problem.
#[derive(Debug, Clone, Copy)]
pub struct OwnShape;

impl Problem {
    pub fn new(status: StatusCode, detail: Detail) -> Self {
        Self::of(status, detail.code.into(), detail.code, Cause::Detail(detail))
    }

    /// The analysis of a video failed for this reason.
    pub fn of_failure(status: StatusCode, reason: FailureReason) -> Self {
        Self::of(status, reason.code().into(), FAILED, Cause::Failure(reason))
    }

    /// The analysis failed as stored, with the English sentence that was stored.
    pub fn of_stored_failure(status: StatusCode, failure: &JobFailure) -> Self {
        Self::of(status, failure.code.clone().into(), FAILED, Cause::Stored(failure.detail.clone()))
    }

    fn of(status: StatusCode, code: Cow<'static, str>, title: &'static str, cause: Cause) -> Self {
        let (cause, members) = (Box::new(cause), Map::new());
        Self { status, code, title, cause, retry_after_s: None, members, shape: Shape::Problem }
    }

    /// Replaces the detail by the reason for a failed analysis.
    #[must_use]
    pub fn because(mut self, reason: FailureReason) -> Self {
        *self.cause = Cause::Failure(reason);
        self
    }

    /// Replaces the detail, and keeps the code.
    #[must_use]
    pub fn telling(mut self, detail: Detail) -> Self {
        *self.cause = Cause::Detail(detail);
        self
    }

    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sets the shape of the body.
    #[must_use]
    pub fn shaped(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// The key of the request lacks this scope.
    pub fn scope_required(scope: Scope) -> Self {
        let name = scope.name();
        Self::new(StatusCode::FORBIDDEN, detail::scope_required(name)).with("scope", name)
    }

    /// The service failed. The log has the cause.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail::internal())
    }

    /// The database or the storage does not answer, as this detail says.
    pub fn unavailable(detail: Detail) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5)
    }

    /// The problem for an error status of the framework.
    pub fn of_status(status: StatusCode) -> Self {
        let detail = match status {
            StatusCode::NOT_FOUND => detail::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => detail::method_not_allowed(),
            StatusCode::PAYLOAD_TOO_LARGE => detail::too_large(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => detail::unsupported_media_type(),
            StatusCode::REQUEST_TIMEOUT => detail::request_timeout(),
            StatusCode::SERVICE_UNAVAILABLE => return Self::new(status, detail::timeout()).retry_after(5),
            status if status.is_server_error() => detail::internal(),
            _ => detail::bad_request(),
        };
        Self::new(status, detail)
    }

    /// A short text that is the same for every problem with this code.
    pub fn title(&self, language: Language) -> Cow<'static, str> {
        locale::text(language, &format!("problem.title.{}", self.title))
    }

    /// The error in this request, and how to fix it.
    pub fn detail(&self, language: Language) -> String {
        match self.cause.as_ref() {
            Cause::Detail(detail) => detail.text(language),
            Cause::Failure(reason) => report::failure(reason, language),
            Cause::Stored(detail) => detail.clone(),
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The members of the document, without the id of the request.
    pub fn body(&self, language: Language) -> Map<String, Value> {
        let standing = json!({
            "type": format!("urn:visage:problem:{}", self.code),
            "title": self.title(language),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail(language),
        });
        let mut body = match standing {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        body.extend(self.members.clone());
        body
    }

    /// The supported content encodings, if the problem is an unsupported one (RFC 9110, section 15.5.16).
    pub fn accepts(&self) -> Option<HeaderValue> {
        (self.code == UNSUPPORTED_ENCODING).then(|| HeaderValue::from_static(ACCEPTED))
    }

    /// The header `WWW-Authenticate`, if the problem is a missing, invalid or insufficient key (RFC 6750, section 3).
    pub fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match (self.status, self.code.as_ref()) {
            (StatusCode::UNAUTHORIZED, "wrong_key") => "Bearer realm=\"visage\", error=\"invalid_token\"",
            (StatusCode::UNAUTHORIZED, _) => "Bearer realm=\"visage\"",
            (StatusCode::FORBIDDEN, "scope_required") => "Bearer realm=\"visage\", error=\"insufficient_scope\"",
            _ => return None,
        }))
    }

    /// The response to the request with this id.
    pub fn render(&self, request_id: &str, language: Language) -> Response {
        let detail = || self.detail(language);
        let (kind, body) = match self.shape {
            Shape::Problem => {
                let mut body = self.body(language);
                body.insert("request_id".to_owned(), request_id.into());
                ("application/problem+json", Value::Object(body))
            }
            Shape::ErrorAndCode => ("application/json", json!({"error": detail(), "code": self.code})),
            Shape::Error => ("application/json", json!({"error": detail()})),
            Shape::DeepFaceError => {
                let error = format!("Exception while analyzing: {}", detail());
                ("application/json", json!({"error": error, "code": self.code}))
            }
            Shape::DeepFaceException => ("application/json", json!({"exception": detail(), "code": self.code})),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(accepted) = self.accepts() {
            headers.insert(header::ACCEPT_ENCODING, accepted);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl Problem {
    /// The problem of a link in a mail, for a program. A browser gets a page.
    pub fn of_mail_link(error: LinkError) -> Self {
        match error {
            LinkError::Invalid => Self::new(StatusCode::NOT_FOUND, detail::unknown_link()),
            LinkError::Expired => Self::new(StatusCode::GONE, detail::link_expired()),
        }
    }
}

/// In English, for the log.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail(Language::EN))
    }
}

impl IntoResponse for Problem {
    /// Puts the problem into the extensions of the response. The outermost middleware renders it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request failed in the database");
        match error {
            StoreError::Corrupt { .. } => Self::internal(),
            _ => Self::unavailable(detail::database_unavailable()),
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        tracing::error!(%error, "a request failed in the storage");
        Self::unavailable(detail::storage_unavailable())
    }
}
