//! Refusals and failures as `application/problem+json` (RFC 9457).
//!
//! What a client reads says what to do; what happened inside goes to the log, never into an answer. A handler returns
//! a [`Problem`]; the outermost layer (see `outer`) writes it, with the request's id.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::LogDetails;
use super::upload::encoding::ACCEPTED;
use super::upload::error::UNSUPPORTED_ENCODING;
use crate::blob::BlobError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable snake_case code.
    pub code: String,
    /// The same for every problem of this code.
    pub title: &'static str,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// Seconds after which another try makes sense.
    pub retry_after_s: Option<u64>,
    /// Further members, such as the name of the field at fault.
    pub members: Map<String, Value>,
}

/// How a problem is written (RFC 9457). Further members may say which field is at fault, or which limit was passed.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what `Problem::render` writes")]
pub struct ProblemBody {
    /// `urn:visage:problem:<code>`
    r#type: String,
    /// The same for every problem of this code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// Stable snake_case code.
    code: String,
    /// What is wrong this time, and what to do.
    detail: String,
    /// Names the request in the service's log.
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
    /// What is wrong, and what to do.
    detail: String,
}

/// How [`Plain`] is written.
#[derive(ToSchema)]
#[schema(as = PlainError)]
#[expect(dead_code, reason = "describes what `Plain` writes")]
pub struct PlainBody {
    /// What is wrong and what to do, in a sentence.
    error: String,
    /// Stable snake_case code.
    code: String,
}

/// How the thumbnails service writes an error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
}

/// A problem in the shape of the services that visage takes over from: `{"error": "<sentence>", "code": "<code>"}`.
#[derive(Debug, Clone)]
pub struct Plain(pub Problem);

impl<E: Into<Problem>> From<E> for Plain {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let accepted = problem.accepts();
        let body = json!({"error": problem.detail, "code": problem.code});
        let mut response = (problem.status, axum::Json(body)).into_response();
        let details = LogDetails { error_message: Some(problem.title.to_owned()), ..LogDetails::default() };
        response.extensions_mut().insert(details);
        response.extensions_mut().insert(OwnShape);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(accepted) = accepted {
            headers.insert(header::ACCEPT_ENCODING, accepted);
        }
        if let Some(seconds) = problem.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Videos that cannot be decoded, by code: 422 in every call.
const UNDECODABLE: [&str; 4] = ["codec_unknown", "undecodable", "encrypted", "still_picture"];

/// A problem in the shape of the thumbnails service: `{"error": "<sentence>"}`, and 400 for whatever is wrong with a request
/// but its `Content-Encoding` and a video that cannot be decoded.
#[derive(Debug, Clone)]
pub struct Bare(pub Problem);

impl<E: Into<Problem>> From<E> for Bare {
    fn from(error: E) -> Self {
        let mut problem = error.into();
        let is_of_content = problem.status == StatusCode::UNSUPPORTED_MEDIA_TYPE && problem.accepts().is_none();
        let is_refused = problem.status == StatusCode::UNPROCESSABLE_ENTITY || is_of_content;
        if is_refused && !UNDECODABLE.contains(&problem.code.as_str()) {
            problem.status = StatusCode::BAD_REQUEST;
        }
        Self(problem)
    }
}

impl IntoResponse for Bare {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let accepted = problem.accepts();
        let mut response = (problem.status, axum::Json(ErrorBody { error: problem.detail })).into_response();
        let details = LogDetails { error_message: Some(problem.title.to_owned()), ..LogDetails::default() };
        response.extensions_mut().insert(details);
        response.extensions_mut().insert(OwnShape);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(accepted) = accepted {
            headers.insert(header::ACCEPT_ENCODING, accepted);
        }
        if let Some(seconds) = problem.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Marks an error that is written in a shape of its own and stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct OwnShape;

impl Problem {
    pub fn new(status: StatusCode, code: impl Into<String>, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code: code.into(), title, detail: detail.into(), retry_after_s: None, members: Map::new() }
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

    /// Something went wrong here; the log says what.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong here",
            "Try again later; if it stays, report the request_id to the operator.",
        )
    }

    /// A part that the service needs does not answer.
    pub fn unavailable(part: &'static str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{part}_unavailable"),
            "The service cannot do this now",
            format!("The {part} does not answer at the moment. Try again in a few seconds."),
        )
        .retry_after(5)
    }

    /// The problem of a bare status, as the framework gives it.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, title, detail) = match status {
            StatusCode::NOT_FOUND => ("not_found", "No such page", "GET / lists what is here."),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "Not with this method", "The Allow header lists the methods of this path.")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "Too large", "Send less."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("unsupported_media_type", "Not this content type", "Send the content type that the call asks for.")
            }
            StatusCode::REQUEST_TIMEOUT => ("request_timeout", "Too slow", "Send the request without pauses."),
            StatusCode::SERVICE_UNAVAILABLE => {
                return Self::new(status, "timeout", "It took too long", "Try again in a few seconds.").retry_after(5);
            }
            status if status.is_server_error() => return Self { status, ..Self::internal() },
            _ => ("bad_request", "The request cannot be understood", "Compare it with the documentation of the call."),
        };
        Self::new(status, code, title, detail)
    }

    /// The members of the document, without those that belong to one request.
    pub fn body(&self) -> Map<String, Value> {
        let standing = json!({
            "type": format!("urn:visage:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let mut body = match standing {
            Value::Object(body) => body,
            _ => Map::new(),
        };
        body.extend(self.members.clone());
        body
    }

    /// The content encodings that are taken instead of the refused one (RFC 9110, 15.5.16).
    pub fn accepts(&self) -> Option<HeaderValue> {
        (self.code == UNSUPPORTED_ENCODING).then(|| HeaderValue::from_static(ACCEPTED))
    }

    /// What a refusal for want of a good key says beside it (RFC 6750, 3).
    pub fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match (self.status, self.code.as_str()) {
            (StatusCode::UNAUTHORIZED, "wrong_key") => "Bearer realm=\"visage\", error=\"invalid_token\"",
            (StatusCode::UNAUTHORIZED, _) => "Bearer realm=\"visage\"",
            (StatusCode::FORBIDDEN, "scope_required") => "Bearer realm=\"visage\", error=\"insufficient_scope\"",
            _ => return None,
        }))
    }

    /// The answer, for the request of that id.
    pub fn render(&self, request_id: &str) -> Response {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(flatten)]
            body: Map<String, Value>,
            request_id: &'a str,
        }
        let mut response = (self.status, axum::Json(Document { body: self.body(), request_id })).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
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

impl IntoResponse for Problem {
    /// Carried as an extension until the outermost layer renders it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database failed a request");
        match error {
            StoreError::Corrupt { .. } => Self::internal(),
            _ => Self::unavailable("database"),
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        tracing::error!(%error, "the storage failed a request");
        Self::unavailable("storage")
    }
}
