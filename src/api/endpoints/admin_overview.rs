//! `GET /v1/admin/overview`: the queue, the jobs and the workers, for the page at `/admin`.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::access::{Admin, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::view::ProgressView;
use crate::api::{Api, Problem};
use crate::store::{FailedJob, Hour, RunningJob, SILENT_S, WorkerSeen};

type Rule = RequiredKey<Admin>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// The state of the service.
#[derive(Serialize, ToSchema)]
struct Overview {
    queue: QueueView,
    /// Running jobs, oldest first; at most 100.
    running: Vec<RunningView>,
    /// Failed jobs, latest first; at most 100.
    failures: Vec<FailureView>,
    /// Hours for which the videos of failed jobs are kept, so that the jobs can run again
    /// (`retention.failed_videos_h`).
    failed_videos_h: u64,
    workers: Vec<WorkerView>,
    /// Numbers of jobs that ended in each of the last 24 hours, oldest first.
    throughput: Vec<HourView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Queue)]
struct QueueView {
    /// Waiting jobs.
    queued: u64,
    running: u64,
    /// Unsent mails.
    mails: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RunningJob)]
struct RunningView {
    token: Uuid,
    started_at: Option<Timestamp>,
    /// Number of runs so far, including this one.
    attempts: u32,
    worker: Option<String>,
    progress: ProgressView,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FailedJob)]
struct FailureView {
    token: Uuid,
    finished_at: Option<Timestamp>,
    attempts: u32,
    /// Stable snake_case code.
    code: String,
    detail: String,
    /// Whether the video still exists, so that the job can run again.
    can_retry: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Worker)]
struct WorkerView {
    name: String,
    /// Seen within the last 30 seconds.
    alive: bool,
    /// Number of jobs that it runs, at most `concurrency`.
    running: u64,
    concurrency: u64,
    started_at: Timestamp,
    seen_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Hour)]
struct HourView {
    from: Timestamp,
    done: u64,
    failed: u64,
}

impl From<RunningJob> for RunningView {
    fn from(RunningJob { job, worker }: RunningJob) -> Self {
        let progress = ProgressView::new(&job);
        Self { token: job.token, started_at: job.started_at, attempts: job.attempts, worker, progress }
    }
}

impl From<FailedJob> for FailureView {
    fn from(FailedJob { job, has_video }: FailedJob) -> Self {
        let (code, detail) = job.failure.map(|failure| (failure.code, failure.detail)).unwrap_or_default();
        Self {
            token: job.token,
            finished_at: job.finished_at,
            attempts: job.attempts,
            code,
            detail,
            can_retry: has_video,
        }
    }
}

impl From<Hour> for HourView {
    fn from(Hour { from, done, failed }: Hour) -> Self {
        Self { from, done, failed }
    }
}

/// Get the state of the service
///
/// Returns the queue, the running and the failed jobs, the workers, and the numbers of jobs that ended in the last 24
/// hours.
#[utoipa::path(get, path = "/v1/admin/overview", operation_id = "admin_overview", tag = NATIVE,
    responses((status = 200, description = "The current state", body = Overview)))]
pub(in crate::api) async fn handle(State(api): State<Api>, _: Authorized<Rule>) -> Result<Response, Problem> {
    let (store, now) = (&api.app.store, api.app.clock.now());
    let (queued, running) = store.queue_depth().await?;
    let alive_since = now.saturating_sub(SILENT_S.seconds()).unwrap_or(Timestamp::MIN);
    let worker = |seen: WorkerSeen| WorkerView {
        alive: seen.seen_at >= alive_since,
        name: seen.name,
        running: seen.running,
        concurrency: seen.concurrency,
        started_at: seen.started_at,
        seen_at: seen.seen_at,
    };
    let overview = Overview {
        queue: QueueView { queued, running, mails: store.mails_waiting().await? },
        running: store.running_jobs().await?.into_iter().map(RunningView::from).collect(),
        failures: store.failed_jobs().await?.into_iter().map(FailureView::from).collect(),
        failed_videos_h: api.app.settings.retention.failed_videos_h(),
        workers: store.workers().await?.into_iter().map(worker).collect(),
        throughput: store.last_day(now).await?.into_iter().map(HourView::from).collect(),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(overview)).into_response())
}
