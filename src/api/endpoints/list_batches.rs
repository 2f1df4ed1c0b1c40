//! `GET /v1/batches`: lists the batches of the caller in pages.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::access::{Read, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::batch_view::ListedBatchView;
use crate::api::cursor;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view::NO_STORE;
use crate::api::{Api, Problem};

type Rule = RequiredKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

const LIMIT: std::ops::RangeInclusive<u32> = 1..=100;
const DEFAULT_LIMIT: u32 = 20;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// At most this many batches are returned.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Batches)]
struct Page {
    batches: Vec<ListedBatchView>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// List batches
///
/// Lists the batches that were sent with the key, newest first. A key with the scope `admin` lists those of all keys.
/// Batches that are sent meanwhile do not change the following pages.
#[utoipa::path(get, path = "/v1/batches", operation_id = "list_batches", tag = NATIVE, params(Parameters),
    responses((status = 200, description = "A page of batches", body = Page),
              (status = 422, description = "A parameter is wrong; `parameter` names it")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Parameters { limit, cursor }) = parameters.map_err(|_| bad("query"))?;
    let limit = limit.map_or(Some(DEFAULT_LIMIT), |text| text.parse().ok());
    let limit = limit.filter(|limit| LIMIT.contains(limit)).ok_or_else(|| bad("limit"))?;
    let below = cursor.map(|text| cursor::decode(&text).ok_or_else(|| bad("cursor"))).transpose()?;
    let owner = (!caller.is_admin()).then(|| caller.owner().unwrap_or_default());
    let store = &api.app.store;
    let mut batches = store.batches(owner, below, limit + 1).await?;
    let more = batches.len() > limit as usize;
    batches.truncate(limit as usize);
    let next = batches.last().filter(|_| more).map(|batch| cursor::encode(batch.number));
    let ids: Vec<_> = batches.iter().map(|batch| batch.id).collect();
    let states = store.batch_states(&ids).await?;
    let batches = batches.iter().map(|batch| ListedBatchView::new(&api.app, batch, &states)).collect();
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(Page { batches, next })).into_response())
}

fn bad(parameter: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::bad_parameter_batches()).with("parameter", parameter)
}
