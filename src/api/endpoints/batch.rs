//! `GET /v1/batches/{id}`: the state of a batch and of each of its items.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::access::{OptionalKey, Read};
use crate::api::auth::Authorized;
use crate::api::batch_view::{self, BatchView};
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::view::{NO_STORE, POLL_AGAIN_S};
use crate::api::{Api, Problem};

type Rule = OptionalKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Get the state of a batch
///
/// Returns the progress of a batch, and the token, the state and the failure of each item. While the batch runs,
/// `Retry-After` says when to ask again.
#[utoipa::path(get, path = "/v1/batches/{id}", operation_id = "batch", tag = NATIVE,
    params(("id" = Uuid, Path, description = "The id of the batch")),
    responses((status = 200, description = "The state", body = BatchView),
              (status = 404, description = "No batch has this id")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let batch = batch_view::find(&api.app, &caller, &id).await?;
    let items = api.app.store.batch_items(batch.id).await?;
    let mut response = Json(BatchView::new(&api.app, &batch, items)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    if batch.ended_at.is_none() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    }
    Ok(response)
}
