//! `GET /docs/{file}`: the files of the viewer that `GET /docs` shows.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::api::Problem;
use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

const SCRIPT: &str = include_str!("../../../assets/docs.js");
const STYLE: &str = include_str!("../../../assets/docs.css");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");

/// Get a file of the documentation page
#[utoipa::path(get, path = "/docs/{file}", operation_id = "docs_file", tag = OPERATIONS,
    params(("file" = String, Path, description = "The name of the file")),
    responses((status = 200, description = "The file", body = String, content_type = "*/*"),
              (status = 404, description = "No such file")))]
pub(in crate::api) async fn handle(Path(name): Path<String>) -> Result<Response, Problem> {
    let unknown = || Problem::of_status(StatusCode::NOT_FOUND);
    // These two files make the viewer accessible.
    match name.as_str() {
        "docs.js" => return Ok(([(header::CONTENT_TYPE, JAVASCRIPT)], SCRIPT).into_response()),
        "docs.css" => return Ok(([(header::CONTENT_TYPE, CSS)], STYLE).into_response()),
        _ => {}
    }
    // Without "none", the page would load a badge from the host of a validator.
    let config = Arc::new(Config::from("/openapi.json").validator_url("none").use_base_layout());
    let file = utoipa_swagger_ui::serve(&name, config).ok().flatten().ok_or_else(unknown)?;
    let kind = HeaderValue::from_str(&file.content_type).map_err(|_| unknown())?;
    Ok(([(header::CONTENT_TYPE, kind)], file.bytes.into_owned()).into_response())
}
