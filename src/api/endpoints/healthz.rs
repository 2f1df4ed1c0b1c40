//! `GET /healthz`: the process runs. Queries no other part, so that a slow database does not cause a restart.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `ok`
    status: &'static str,
}

/// Check that the process runs
///
/// Does not check the database and the storage; `/readyz` checks them.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = OPERATIONS,
    responses((status = 200, description = "The process runs", body = Health)))]
pub(in crate::api) async fn handle() -> Json<Health> {
    Json(Health { status: "ok" })
}
