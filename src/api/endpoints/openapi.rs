//! `GET /openapi.json`: the description of the service in OpenAPI.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::Api;
use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

/// Get the OpenAPI document
///
/// Returns the description of all calls as an OpenAPI 3.1 document. `visage openapi` prints it too.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = OPERATIONS,
    responses((status = 200, description = "The document", body = serde_json::Value)))]
pub(in crate::api) async fn handle(State(api): State<Api>) -> Response {
    Json(api.document.as_ref()).into_response()
}
