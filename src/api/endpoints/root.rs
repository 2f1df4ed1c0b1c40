//! `GET /`: the name and version of the service, and links to its parts.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::Api;
use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
pub struct Root {
    service: &'static str,
    version: &'static str,
    status: &'static str,
    links: Links,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RootLinks)]
struct Links {
    analyze_video: String,
    healthz: String,
    readyz: String,
    openapi: String,
    docs: String,
}

/// Get name and version
///
/// Returns the name and the version of the service, and links to its parts. A browser gets the page instead.
#[utoipa::path(get, path = "/", operation_id = "root", tag = OPERATIONS,
    responses((status = 200, description = "The service runs", body = Root)))]
pub(in crate::api) async fn handle(State(api): State<Api>) -> Json<Root> {
    let base = api.app.settings.http.base_url();
    Json(Root {
        service: "visage",
        version: env!("CARGO_PKG_VERSION"),
        status: "ok",
        links: Links {
            analyze_video: format!("{base}/analyze-video"),
            healthz: format!("{base}/healthz"),
            readyz: format!("{base}/readyz"),
            openapi: format!("{base}/openapi.json"),
            docs: format!("{base}/docs"),
        },
    })
}
