//! `GET /v1/uploads/{upload}`: the state of an upload in parts.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::upload::parts::{self, UploadView};
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Get the state of an upload
///
/// Returns which parts were sent, and new addresses for all parts, so that a client can resume the upload.
#[utoipa::path(get, path = "/v1/uploads/{upload}", operation_id = "upload_state", tag = NATIVE,
    params(("upload" = Uuid, Path, description = "The id of the upload")),
    responses((status = 200, description = "The state", body = UploadView),
              (status = 404, description = "No upload has this id, or it has expired"),
              (status = 409, description = "Its analysis was started")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(upload): Path<String>,
) -> Result<Response, Problem> {
    let upload = parts::find_open(&api, &caller, &upload).await?;
    let present = parts::present(&api, &upload).await?;
    let view = UploadView::new(&api, &upload, &present).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}
