//! `DELETE /frames/{frame}`: erases a picture that `POST /save_frame` kept.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use utoipa_axum::routes;
use uuid::Uuid;

use super::error::CompatError;
use super::frames::{FrameError, keys};
use crate::api::Api;
use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::COMPAT;

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Erase a stored picture
///
/// If the picture was sent with a key, only that key can erase it.
#[utoipa::path(delete, path = "/frames/{frame}", operation_id = "erase_frame", tag = COMPAT,
    params(("frame" = Uuid, Path, description = "Id of the picture, from `POST /save_frame`")),
    responses((status = 204, description = "The picture is erased, if there was one"),
              (status = 404, description = "The id is not a UUID")))]
pub async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(frame): Path<String>,
) -> Result<StatusCode, CompatError> {
    let frame = Uuid::try_parse(&frame).map_err(|_| FrameError::Unknown)?;
    for key in keys(frame, &caller) {
        api.app.blobs.delete(&key).await?;
        api.app.store.forget_saved_frame(&key).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
