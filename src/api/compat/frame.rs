//! `GET /frames/{frame}`: returns a picture that `POST /save_frame` kept.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;
use uuid::Uuid;

use super::error::CompatError;
use super::frames::{FrameError, content_type, keys};
use crate::api::Api;
use crate::api::access::{OptionalKey, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::COMPAT;
use crate::api::upload::error::UploadError;
use crate::blob::BlobError;

type Rule = OptionalKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Get a stored picture
///
/// If the picture was sent with a key, only that key can get it.
#[utoipa::path(get, path = "/frames/{frame}", operation_id = "frame", tag = COMPAT,
    params(("frame" = Uuid, Path, description = "Id of the picture, from `POST /save_frame`")),
    responses((status = 200, description = "The picture, PNG or JPEG", content(("image/png"), ("image/jpeg"))),
              (status = 404, description = "No picture has this id")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(frame): Path<String>,
) -> Result<Response, CompatError> {
    let frame = Uuid::try_parse(&frame).map_err(|_| FrameError::Unknown)?;
    let copy = tokio::task::spawn_blocking(tempfile::NamedTempFile::new).await.map_err(std::io::Error::other);
    let copy = copy.and_then(|made| made).map_err(FrameError::from)?;
    let mut found = false;
    for key in keys(frame, &caller) {
        match api.app.blobs.fetch(&key, copy.path()).await {
            Err(BlobError::NotFound) => {}
            Err(error) => return Err(UploadError::from(error).into()),
            Ok(_) => {
                found = true;
                break;
            }
        }
    }
    if !found {
        return Err(FrameError::Unknown.into());
    }
    let bytes = tokio::fs::read(copy.path()).await.map_err(FrameError::from)?;
    let kind = HeaderValue::from_static(content_type(&bytes).ok_or(FrameError::Unknown)?);
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, bytes).into_response())
}
