//! `GET /readyz`: checks that the database and the storage can be written, so that the service can receive requests.
//!
//! The parts are checked once a second at most, regardless of the number of requests.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;
use crate::api::problem::detail;
use crate::api::{Api, Problem};
use crate::blob::{BlobError, BlobStore};
use crate::clock::Clock;
use crate::identity::StorageIdentity;
use crate::store::Store;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

/// How long a result is reused.
const FRESH: Duration = Duration::from_secs(1);
/// Longest time to wait for a part.
const PATIENCE: Duration = Duration::from_secs(3);

/// Checks the parts of the service, and keeps the time and result of the last check.
pub struct Readiness {
    store: Store,
    blobs: Arc<dyn BlobStore>,
    identity: StorageIdentity,
    clock: Arc<dyn Clock>,
    /// The time of the last check, and the parts that failed it.
    last: Mutex<Option<(Instant, Vec<&'static str>)>>,
}

impl Readiness {
    pub fn new(store: Store, blobs: Arc<dyn BlobStore>, identity: StorageIdentity, clock: Arc<dyn Clock>) -> Self {
        Self { store, blobs, identity, clock, last: Mutex::default() }
    }

    /// Answers `GET /readyz`.
    pub(in crate::api) async fn answer(&self) -> Result<Json<Ready>, Problem> {
        let down = self.down().await;
        if down.is_empty() {
            return Ok(Json(Ready { status: "ready" }));
        }
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail::not_ready(down.join(", ")));
        Err(problem.with("down", down).retry_after(5))
    }

    /// Returns the parts that cannot be written.
    async fn down(&self) -> Vec<&'static str> {
        // The lock is held during the check, so that concurrent requests share its result.
        let mut last = self.last.lock().await;
        if let Some((asked, down)) = last.as_ref()
            && asked.elapsed() < FRESH
        {
            return down.clone();
        }
        let now = self.clock.now();
        let (database, storage) =
            tokio::join!(timeout(PATIENCE, self.store.check(now)), timeout(PATIENCE, self.check_storage()));
        let down = [("database", failure(database)), ("storage", failure(storage))]
            .into_iter()
            .filter_map(|(part, failure)| {
                let error = failure?;
                tracing::error!(part, error, "a part of the service cannot be written");
                Some(part)
            })
            .collect::<Vec<_>>();
        *last = Some((Instant::now(), down.clone()));
        down
    }

    /// Checks that the storage can be written and belongs to the database.
    async fn check_storage(&self) -> Result<(), BlobError> {
        self.identity.verify(self.blobs.as_ref()).await?;
        self.blobs.check().await
    }
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

/// Check that the service can take requests
///
/// Writes to the database and the storage, at most once a second. If one of them fails, the answer is 503 and `down`
/// lists it.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = OPERATIONS,
    responses((status = 200, description = "All parts answer", body = Ready),
              (status = 503, description = "A part does not answer")))]
pub(in crate::api) async fn handle(State(api): State<Api>) -> Result<Json<Ready>, Problem> {
    api.readiness.answer().await
}
