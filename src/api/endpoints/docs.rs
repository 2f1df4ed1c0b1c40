//! `GET /docs`: a page that shows the description of the service and can send requests.
//!
//! The viewer (Swagger UI) is part of the program. The page loads nothing from other hosts, and its policy forbids it.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

const PAGE: &str = include_str!("../../../templates/docs.html");

/// The `Content-Security-Policy`. The viewer needs icons from data: addresses. It sets styles by scripts, and adds one
/// style sheet, which the hash names.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' \
     'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Open the documentation
///
/// Returns this page, which shows the calls of the service and can send requests. It loads nothing from other hosts.
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = OPERATIONS,
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(in crate::api) async fn handle() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE)).into_response()
}
