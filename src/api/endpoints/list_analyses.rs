//! `GET /v1/analyses`: lists the analyses of the caller in pages.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::api::access::{Read, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::cursor;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view::{ListedView, NO_STORE};
use crate::api::{Api, Problem};
use crate::store::{JobFilter, Status};

type Rule = RequiredKey<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

const LIMIT: std::ops::RangeInclusive<u32> = 1..=100;
const DEFAULT_LIMIT: u32 = 20;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// Sent at this time or later; ISO 8601 with a zone.
    #[param(value_type = Option<Timestamp>)]
    created_from: Option<String>,
    /// Sent before this time; ISO 8601 with a zone.
    #[param(value_type = Option<Timestamp>)]
    created_before: Option<String>,
    /// At most this many analyses are returned.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Analyses)]
struct Page {
    analyses: Vec<ListedView>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// List analyses
///
/// Lists the analyses that were sent with the key, newest first. A key with the scope `admin` lists those of all keys.
/// Analyses that are sent meanwhile do not change the following pages.
#[utoipa::path(get, path = "/v1/analyses", operation_id = "list_analyses", tag = NATIVE, params(Parameters),
    responses((status = 200, description = "A page of analyses", body = Page),
              (status = 422, description = "A parameter is wrong; `parameter` names it")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|_| bad("query"))?;
    let (mut filter, limit) = parameters.parse()?;
    if !caller.is_admin() {
        filter.owner = Some(caller.owner().unwrap_or_default().to_owned());
    }
    let mut jobs = api.app.store.jobs(&filter, limit + 1).await?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let next = jobs.last().filter(|_| more).map(|job| cursor::encode(job.id));
    let mut analyses = Vec::with_capacity(jobs.len());
    for job in &jobs {
        let place = api.app.store.queue_place(job, api.app.clock.now()).await;
        analyses.push(ListedView::new(&api.app, job, place));
    }
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(Page { analyses, next })).into_response())
}

impl Parameters {
    fn parse(self) -> Result<(JobFilter, u32), Problem> {
        let time = |name, text: Option<String>| text.map(|text| text.parse().map_err(|_| bad(name))).transpose();
        let limit = self.limit.map_or(Some(DEFAULT_LIMIT), |text| text.parse().ok());
        let filter = JobFilter {
            owner: None,
            text: None,
            status: self.status.map(|text| Status::from_name(&text).ok_or_else(|| bad("status"))).transpose()?,
            created_from: time("created_from", self.created_from)?,
            created_before: time("created_before", self.created_before)?,
            below: self.cursor.map(|text| cursor::decode(&text).ok_or_else(|| bad("cursor"))).transpose()?,
        };
        Ok((filter, limit.filter(|limit| LIMIT.contains(limit)).ok_or_else(|| bad("limit"))?))
    }
}

fn bad(parameter: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::bad_parameter_analyses()).with("parameter", parameter)
}
