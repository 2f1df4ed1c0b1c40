//! `DELETE /v1/batches/{id}`: cancels a batch, or erases it with its results.
//!
//! A repeated call to cancel changes nothing. After a call that erases, the id is unknown.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use crate::api::access::{Analyze, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::batch_view;
use crate::api::endpoint::Endpoint;
use crate::api::erasure::delete_video;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::{Api, Problem};

type Rule = OptionalKey<Analyze>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// `true` also erases the results of the batch, and the batch itself.
    #[param(value_type = Option<bool>, default = false)]
    erase: Option<String>,
}

/// Cancel a batch
///
/// Erases the analyses of the batch that have not ended, and keeps the results of the others. The batch ends, and its
/// webhook is sent. A batch that has ended stays as it is.
///
/// With `erase=true`, all its analyses, their results and the batch are erased, and no webhook is sent.
#[utoipa::path(delete, path = "/v1/batches/{id}", operation_id = "cancel_batch", tag = NATIVE,
    params(("id" = Uuid, Path, description = "The id of the batch"), Parameters),
    responses((status = 204, description = "The batch has ended, or is erased"),
              (status = 404, description = "No batch has this id"),
              (status = 422, description = "`erase` is not `true` or `false`")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(id): Path<String>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<StatusCode, Problem> {
    let bad =
        || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::bad_parameter_erase()).with("parameter", "erase");
    let Query(Parameters { erase }) = parameters.map_err(|_| bad())?;
    let erases = erase.map_or(Ok(false), |text| text.parse().map_err(|_| bad()))?;
    let batch = batch_view::find(&api.app, &caller, &id).await?;
    let videos = if erases {
        api.app.store.erase_batch(batch.id).await?.unwrap_or_default()
    } else {
        api.app.store.cancel_batch(batch.id, api.app.clock.now()).await?
    };
    let mut deleted = Ok(());
    for key in videos {
        deleted = deleted.and(delete_video(&api.app, &key).await);
    }
    deleted.map(|()| StatusCode::NO_CONTENT)
}
