//! `GET /docs`: the description of the service as a page to read and to try calls from.
//!
//! The viewer (Swagger UI) is part of the program: the page loads nothing from elsewhere, which its policy also forbids.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use utoipa_swagger_ui::Config;

use crate::api::Problem;
use crate::api::openapi::OPERATIONS;

const PAGE: &str = include_str!("../../../templates/docs.html");

/// The viewer writes styles into the page and draws its icons from data: addresses.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// `GET /docs`
///
/// The description of the service as a page to read and to try calls from. It needs nothing from other hosts.
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = OPERATIONS,
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(in crate::api) async fn handle() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE)).into_response()
}

/// A file of the viewer.
#[utoipa::path(get, path = "/docs/{file}", operation_id = "docs_file", tag = OPERATIONS,
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file", body = String, content_type = "*/*"),
              (status = 404, description = "No such file")))]
pub(in crate::api) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    // "none": no badge from a validator elsewhere.
    let config = Arc::new(Config::from("/openapi.json").validator_url("none"));
    let unknown = || Problem::of_status(axum::http::StatusCode::NOT_FOUND);
    let file = utoipa_swagger_ui::serve(&name, config).ok().flatten().ok_or_else(unknown)?;
    let kind = HeaderValue::from_str(&file.content_type).map_err(|_| unknown())?;
    Ok(([(header::CONTENT_TYPE, kind)], file.bytes.into_owned()).into_response())
}
