//! `GET /v1/admin/jobs`: finds analyses by token, file name, state and key.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::access::{Admin, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view::{NO_STORE, ProgressView, QueueView};
use crate::api::{Api, Problem, cursor};
use crate::store::{JobFilter, Status};

type Rule = RequiredKey<Admin>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Analyses on a page.
const PAGE: u32 = 50;
/// Most characters of a search.
const MAX_SEARCH: usize = 200;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// The beginning of the token, or a part of the file name.
    #[param(value_type = Option<String>, max_length = 200)]
    search: Option<String>,
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// The public id of the key with which the video was sent.
    key: Option<String>,
    /// The `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FoundAnalyses)]
struct Page {
    /// Newest first; at most 50.
    analyses: Vec<Found>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FoundAnalysis)]
struct Found {
    token: Uuid,
    /// Number of the job in the log.
    job: i64,
    file_name: Option<String>,
    status: Status,
    progress: ProgressView,
    /// The place in the queue, as in `GET /results/{token}`.
    queue: Option<QueueView>,
    /// The public id of the key with which the video was sent; null if it was sent without one.
    key: Option<String>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    attempts: u32,
    /// Stable snake_case code of a failed analysis.
    code: Option<String>,
}

/// Find analyses
///
/// Lists the analyses of all keys, and those that were sent without a key. `DELETE /results/{token}` cancels and erases
/// one.
#[utoipa::path(get, path = "/v1/admin/jobs", operation_id = "admin_jobs", tag = NATIVE, params(Parameters),
    responses((status = 200, description = "A page of analyses", body = Page),
              (status = 422, description = "A parameter is wrong; `parameter` names it")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    _: Authorized<Rule>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|_| bad("query"))?;
    if parameters.search.as_ref().is_some_and(|search| search.chars().count() > MAX_SEARCH) {
        return Err(bad("search"));
    }
    let given = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let status = parameters.status.map(|text| Status::from_name(&text).ok_or_else(|| bad("status")));
    let filter = JobFilter {
        owner: given(parameters.key),
        status: status.transpose()?,
        text: given(parameters.search),
        below: parameters.cursor.map(|text| cursor::decode(&text).ok_or_else(|| bad("cursor"))).transpose()?,
        ..JobFilter::default()
    };
    let mut jobs = api.app.store.jobs(&filter, PAGE + 1).await?;
    let more = jobs.len() > PAGE as usize;
    jobs.truncate(PAGE as usize);
    let next = jobs.last().filter(|_| more).map(|job| cursor::encode(job.id));
    let mut analyses = Vec::with_capacity(jobs.len());
    for job in jobs {
        let place = api.app.store.queue_place(&job, api.app.clock.now()).await;
        analyses.push(Found {
            token: job.token,
            job: job.id,
            progress: ProgressView::new(&job),
            queue: place.map(QueueView::from),
            status: job.status,
            key: job.owner,
            file_name: job.file_name,
            created_at: job.created_at,
            finished_at: job.finished_at,
            attempts: job.attempts,
            code: job.failure.map(|failure| failure.code),
        });
    }
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(Page { analyses, next })).into_response())
}

fn bad(parameter: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::bad_parameter_jobs()).with("parameter", parameter)
}
