//! Errors as `application/problem+json` (RFC 9457).
//!
//! The `detail` tells the client what to do. The internal cause goes to the log and never into an answer. A handler
//! returns a [`Problem`], and the outermost middleware (`outer`) renders it with the id of the request.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::upload::encoding::ACCEPTED;
use super::upload::error::UNSUPPORTED_ENCODING;
use crate::blob::BlobError;
use crate::secret::LinkError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable snake_case code.
    pub code: String,
    /// A short text that is the same for every problem with this code.
    pub title: &'static str,
    /// The error in this request, and how to fix it.
    pub detail: String,
    /// Seconds after which the client should try again.
    pub retry_after_s: Option<u64>,
    /// Further members, such as the name of the field at fault.
    pub members: Map<String, Value>,
}

/// An error (RFC 9457). Further members may name the field at fault or the limit that was exceeded.
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

    /// The service failed. The log has the cause.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The service failed",
            "Try again later. If it fails again, send the request_id to the operator.",
        )
    }

    /// A part of the service, such as the database, does not answer.
    pub fn unavailable(part: &'static str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{part}_unavailable"),
            "A part of the service is unavailable",
            format!("The {part} does not answer. Try again in a few seconds."),
        )
        .retry_after(5)
    }

    /// The problem for an error status of the framework.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, title, detail) = match status {
            StatusCode::NOT_FOUND => ("not_found", "No such page", "GET / lists the parts of the service."),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "The method is not allowed", "The Allow header lists the methods of this path.")
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "The body is too large", "Send a smaller body."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                "unsupported_media_type",
                "The content type is not supported",
                "Send a content type that the call accepts.",
            ),
            StatusCode::REQUEST_TIMEOUT => {
                ("request_timeout", "The request was too slow", "Send the request without pauses.")
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                return Self::new(status, "timeout", "The request took too long", "Try again in a few seconds.")
                    .retry_after(5);
            }
            status if status.is_server_error() => return Self { status, ..Self::internal() },
            _ => ("bad_request", "The request is invalid", "Compare it with the documentation of the call."),
        };
        Self::new(status, code, title, detail)
    }

    /// The members of the document, without the id of the request.
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

    /// The supported content encodings, if the problem is an unsupported one (RFC 9110, section 15.5.16).
    pub fn accepts(&self) -> Option<HeaderValue> {
        (self.code == UNSUPPORTED_ENCODING).then(|| HeaderValue::from_static(ACCEPTED))
    }

    /// The header `WWW-Authenticate`, if the problem is a missing, invalid or insufficient key (RFC 6750, section 3).
    pub fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match (self.status, self.code.as_str()) {
            (StatusCode::UNAUTHORIZED, "wrong_key") => "Bearer realm=\"visage\", error=\"invalid_token\"",
            (StatusCode::UNAUTHORIZED, _) => "Bearer realm=\"visage\"",
            (StatusCode::FORBIDDEN, "scope_required") => "Bearer realm=\"visage\", error=\"insufficient_scope\"",
            _ => return None,
        }))
    }

    /// The response to the request with this id.
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

impl Problem {
    /// The problem of a link in a mail, for a program. A browser gets a page.
    pub fn of_mail_link(error: LinkError) -> Self {
        let (status, code, title, detail) = match error {
            LinkError::Invalid => {
                (StatusCode::NOT_FOUND, "unknown_link", "No such link", "Open the whole address from the mail.")
            }
            LinkError::Expired => {
                (StatusCode::GONE, "link_expired", "The link has expired", "Send the video again, to get a new mail.")
            }
        };
        Self::new(status, code, title, detail)
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
            _ => Self::unavailable("database"),
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        tracing::error!(%error, "a request failed in the storage");
        Self::unavailable("storage")
    }
}
