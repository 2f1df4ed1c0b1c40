//! `DELETE /v1/uploads/{upload}`: deletes an upload in parts.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use utoipa_axum::routes;

use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::upload::parts;
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Delete an upload
///
/// Deletes an upload whose analysis was not started, and its parts.
#[utoipa::path(delete, path = "/v1/uploads/{upload}", operation_id = "abort_upload", tag = NATIVE,
    params(("upload" = Uuid, Path, description = "The id of the upload")),
    responses((status = 204, description = "The upload and its parts are deleted"),
              (status = 404, description = "No upload has this id, or it has expired"),
              (status = 409, description = "Its analysis was started; `DELETE /results/{token}` erases it")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(upload): Path<String>,
) -> Result<StatusCode, Problem> {
    let upload = parts::find_open(&api, &caller, &upload).await?;
    api.app.blobs.abort_parts(&upload.video_key, &upload.handle).await?;
    api.app.blobs.delete(&upload.video_key).await?;
    api.app.store.forget_upload(upload.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
