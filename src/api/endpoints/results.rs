//! `GET /results/{token}`: the state of an analysis, and the result once it is done.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;
use utoipa_axum::routes;

use crate::analysis::Language;
use crate::api::access::{OptionalKeyOrShare, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::view::{self, JobView};
use crate::api::wait;
use crate::api::{Api, Problem};
use crate::report;
use crate::store::StoredAnalysis;

type Rule = OptionalKeyOrShare<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// Wait up to this many seconds for the end of the analysis or, with `If-None-Match`, for the next change. At most
    /// `http.max_wait_s`.
    #[param(value_type = Option<u32>, maximum = 86_400)]
    wait: Option<String>,
    /// Language of the sentences in `feedback`, `warnings` and `error`, such as `de`. English by default.
    language: Option<String>,
}

/// Get the state and the result
///
/// Returns the state of an analysis, and its result when `status` is `done`. If the analysis failed, the HTTP status is
/// 200 too, and `error` gives the reason. `Retry-After` says when to ask again.
///
/// With the `ETag` of an earlier answer in `If-None-Match`, an unchanged state is answered with 304 and no body. A
/// change of `queue` alone does not change the `ETag` and does not end `wait`.
#[utoipa::path(get, path = "/results/{token}", operation_id = "result", tag = NATIVE,
    params(("token" = Uuid, Path, description = "The token of the analysis"), Parameters),
    responses((status = 200, description = "The state", body = JobView,
                  headers(("etag" = String, description = "Tag of this state"))),
              (status = 304, description = "Nothing has changed since `If-None-Match`"),
              (status = 404, description = "No analysis has this token"),
              (status = 410, description = "The result has expired"),
              (status = 422, description = "`wait` is not a number of seconds")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = view::shared_token(&caller, &token)?;
    let Query(Parameters { wait, language }) = parameters.map_err(|_| wait::bad_wait())?;
    let longest = wait::duration(wait.as_deref(), api.app.settings.http.max_wait_s)?;
    let language = language.as_deref().and_then(Language::from_tag);
    let (job, stored) = wait::job_after(&api.app, &caller, token, longest, &headers).await?;
    let etag = view::etag(&job);
    let mut response = if view::matches(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let analysis = stored.map(|stored| in_language(stored, language)).transpose()?;
        let place = api.app.store.queue_place(&job, api.app.clock.now()).await;
        Json(JobView::new(&api.app, caller.id_of(token), &job, place, analysis, language)).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, view::NO_STORE);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.insert(header::ETAG, etag);
    }
    if !view::is_settled(&job) {
        answer.insert(header::RETRY_AFTER, HeaderValue::from(view::POLL_AGAIN_S));
    }
    Ok(response)
}

/// The analysis as it is stored, unless its sentences are to be in another language.
fn in_language(stored: StoredAnalysis, language: Option<Language>) -> Result<Box<RawValue>, Problem> {
    let Some(language) = language else { return Ok(stored.into_json()?) };
    let mut analysis = stored.read()?;
    report::tell(&mut analysis, language);
    serde_json::value::to_raw_value(&analysis).map_err(|_| Problem::internal())
}
