//! `GET /readyz`: database and storage can be written, so requests may be sent here. 503 names the part that cannot.
//!
//! The parts are asked at most once a second, however often this is called.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::access::{Endpoint, Open};
use crate::api::openapi::OPERATIONS;
use crate::api::{Api, AppState, Problem};
use crate::blob::BlobError;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// The last answers: when they were got, and which parts gave none.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, Vec<&'static str>)>>);

impl Readiness {
    /// Parts that are down.
    async fn down(&self, app: &AppState) -> Vec<&'static str> {
        // Held while asking: whoever comes meanwhile shares the answer.
        let mut last = self.0.lock().await;
        if let Some((asked, down)) = last.as_ref()
            && asked.elapsed() < FRESH
        {
            return down.clone();
        }
        let now = app.clock.now();
        let (database, storage) =
            tokio::join!(timeout(PATIENCE, app.store.check(now)), timeout(PATIENCE, storage(app)));
        let down = [("database", failure(database)), ("storage", failure(storage))]
            .into_iter()
            .filter_map(|(part, failure)| {
                let error = failure?;
                tracing::error!(part, error, "not ready");
                Some(part)
            })
            .collect::<Vec<_>>();
        *last = Some((Instant::now(), down.clone()));
        down
    }
}

/// Whether storage can be written and is the one that belongs to the database.
async fn storage(app: &AppState) -> Result<(), BlobError> {
    app.identity.verify(app.blobs.as_ref()).await?;
    app.blobs.check().await
}

fn failure<E: std::fmt::Display>(answer: Result<Result<(), E>, tokio::time::error::Elapsed>) -> Option<String> {
    match answer {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[derive(Serialize, ToSchema)]
pub struct Ready {
    /// `ready`
    status: &'static str,
}

/// Whether requests may be sent here
///
/// Writes to database and storage, at most once a second. 503 names the parts that do not take it under `down`.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = OPERATIONS,
    responses((status = 200, description = "All parts answer", body = Ready),
              (status = 503, description = "A part does not answer")))]
pub(in crate::api) async fn handle(State(api): State<Api>) -> Result<Json<Ready>, Problem> {
    let down = api.readiness.down(&api.app).await;
    if down.is_empty() {
        return Ok(Json(Ready { status: "ready" }));
    }
    let detail = format!("No answer from: {}. Try again in a few seconds.", down.join(", "));
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "A part of the service is down", detail);
    Err(problem.with("down", down).retry_after(5))
}
