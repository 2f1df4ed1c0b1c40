//! `GET /metrics`: the metrics of this process for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::{Timestamp, ToSpan};
use utoipa_axum::routes;

use crate::api::access::{Logs, OptionalKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::OPERATIONS;
use crate::api::{Api, Problem};
use crate::store::{SILENT_S, Store, StoreError};
use crate::telemetry::{Queues, metrics};

type Rule = OptionalKey<Logs>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The content type of the text format that Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Get metrics for Prometheus
///
/// Returns the numbers of answers, jobs, frames and model calls since this process started, and the lengths of the
/// queues that all processes share. If the service requires keys, the key needs the scope `logs`.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = OPERATIONS,
    responses((status = 200, description = "In the text format of OpenMetrics", body = String,
                  content_type = "application/openmetrics-text")))]
pub(in crate::api) async fn handle(State(api): State<Api>, _: Authorized<Rule>) -> Result<Response, Problem> {
    Ok(text(&api.app.store, api.app.clock.now()).await?)
}

/// The metrics at this time.
pub async fn text(store: &Store, now: Timestamp) -> Result<Response, StoreError> {
    let (jobs_waiting, jobs_running) = store.queue_depth().await?;
    let mails_waiting = store.mails_waiting().await?;
    let alive = now.saturating_sub(SILENT_S.seconds()).unwrap_or(Timestamp::MIN);
    let workers = store.workers().await?.iter().filter(|worker| worker.seen_at >= alive).count() as u64;
    let (oldest_waiting_job_s, oldest_waiting_message_s) = store.longest_waits(now).await?;
    let text = metrics().text(Queues {
        jobs_waiting,
        jobs_running,
        mails_waiting,
        workers,
        oldest_waiting_job_s,
        oldest_waiting_message_s,
    });
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS), (header::CACHE_CONTROL, "no-store")], text).into_response())
}
