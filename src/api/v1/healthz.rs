//! `GET /healthz`: the process lives. Asks nobody, so that a slow database does not get the process restarted.

use axum::Json;
use serde_json::{Value, json};

pub(in crate::api) async fn handle() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
