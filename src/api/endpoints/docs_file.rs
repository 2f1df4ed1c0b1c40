//! `GET /docs/{file}`: the files of the viewer that `GET /docs` shows.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa_axum::routes;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::api::Problem;
use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

// These two files make the viewer accessible.
const SCRIPT: &str = include_str!("../../../assets/docs.js");
const STYLE: &str = include_str!("../../../assets/docs.css");
/// Starts the viewer. It replaces the file of this name in the viewer's archive.
const START: &str = include_str!("../../../assets/docs_start.js");

/// The files of Swagger UI by name. They are unpacked once, at the first request.
static VIEWER: LazyLock<HashMap<String, Bytes>> = LazyLock::new(|| unpack(SWAGGER_UI_VENDORED).unwrap_or_default());

/// Get a file of the documentation page
#[utoipa::path(get, path = "/docs/{file}", operation_id = "docs_file", tag = OPERATIONS,
    params(("file" = String, Path, description = "The name of the file")),
    responses((status = 200, description = "The file", body = String, content_type = "*/*"),
              (status = 404, description = "No such file")))]
pub(in crate::api) async fn handle(Path(name): Path<String>) -> Result<Response, Problem> {
    let (kind, file) = match name.as_str() {
        "docs.js" => ("text/javascript; charset=utf-8", SCRIPT.into()),
        "docs.css" => ("text/css; charset=utf-8", STYLE.into()),
        "swagger-initializer.js" => ("text/javascript", START.into()),
        name => {
            let files = tokio::task::spawn_blocking(|| &*VIEWER).await.ok();
            let file = files.and_then(|files| files.get(name)).cloned();
            (content_type(name), file.ok_or_else(|| Problem::of_status(StatusCode::NOT_FOUND))?)
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], file).into_response())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "css" => "text/css",
        "html" => "text/html",
        "js" => "text/javascript",
        "png" => "image/png",
        _ => "application/octet-stream",
    }
}

/// Returns the files in the folder `dist` of a release of Swagger UI: the archive has them as
/// `swagger-ui-VERSION/dist/NAME`.
fn unpack(archive: &[u8]) -> Result<HashMap<String, Bytes>, ZipError> {
    let mut archive = ZipArchive::new(Cursor::new(archive))?;
    let mut files = HashMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let path = file.name()?.into_owned();
        if let [_, "dist", name] = path.split('/').collect::<Vec<_>>()[..]
            && !name.is_empty()
        {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            files.insert(name.to_owned(), bytes.into());
        }
    }
    Ok(files)
}
