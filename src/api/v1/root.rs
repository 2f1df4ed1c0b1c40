//! `GET /`: what this is and where things are.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::Api;

#[derive(Serialize)]
pub struct Root {
    service: &'static str,
    version: &'static str,
    status: &'static str,
    links: Links,
}

#[derive(Serialize)]
struct Links {
    analyze_video: String,
    healthz: String,
    readyz: String,
}

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
        },
    })
}
