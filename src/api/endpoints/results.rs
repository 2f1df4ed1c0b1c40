//! `GET /results/{token}`: the state of an analysis, and the result once it is done.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::analysis::Language;
use crate::api::openapi::NATIVE;
use crate::api::view::{self, JobView};
use crate::api::{Api, AppState, Caller, Problem};
use crate::report;
use crate::store::{Job, Sight, StoredAnalysis};

/// What may stand in `wait`; more than the settings allow is taken for what they do.
const LONGEST_WAIT_S: u64 = 86_400;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// Seconds to hold the answer back until the analysis is finished or, with `If-None-Match`, until anything has
    /// changed; at most `http.max_wait_s`.
    #[param(value_type = Option<u32>, maximum = 86_400)]
    wait: Option<String>,
    /// `en` or `de`: of the sentences in the result (`feedback`, `warnings`); by default English.
    language: Option<String>,
}

/// State and result
///
/// The state of an analysis, and the result once `status` is `done`. A failed analysis is a 200 too, with a problem under
/// `error`. `Retry-After` says when to ask again; `ETag` and `If-None-Match` save unchanged answers.
#[utoipa::path(get, path = "/results/{token}", operation_id = "result", tag = NATIVE,
    params(("token" = Uuid, Path, description = "From the answer to the upload"), Parameters),
    responses((status = 200, description = "The state", body = JobView,
                  headers(("etag" = String, description = "Of this state"))),
              (status = 304, description = "Nothing has changed since `If-None-Match`"),
              (status = 404, description = "No analysis has this token"),
              (status = 410, description = "The result was erased when its time was over"),
              (status = 422, description = "`wait` is no number of seconds")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Caller,
    Path(token): Path<String>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = view::token(&token)?;
    let Query(Parameters { wait, language }) = parameters.map_err(|_| bad_wait())?;
    let wait = wait_of(wait.as_deref(), api.app.settings.http.max_wait_s)?;
    let (job, stored) = job_after(&api.app, &caller, token, wait, &headers).await?;
    let etag = view::etag(&job);
    let mut response = if view::matches(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let analysis = stored.map(|stored| in_language(stored, language.as_deref())).transpose()?;
        Json(JobView::new(&api.app, &job, analysis)).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, view::REVALIDATE);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.insert(header::ETAG, etag);
    }
    if !view::is_settled(&job) {
        answer.insert(header::RETRY_AFTER, HeaderValue::from(view::POLL_AGAIN_S));
    }
    Ok(response)
}

/// The analysis as it is stored, unless its sentences are to be in another language.
fn in_language(stored: StoredAnalysis, language: Option<&str>) -> Result<Box<RawValue>, Problem> {
    let Some(language) = language.and_then(Language::from_tag) else { return Ok(stored.into_json()?) };
    let mut analysis = stored.read()?;
    report::translate(&mut analysis, language);
    serde_json::value::to_raw_value(&analysis).map_err(|_| Problem::internal())
}

/// The job, and its analysis if there is one, once it is worth an answer: finished, changed since `If-None-Match`, or after `wait`.
pub(in crate::api) async fn job_after(
    app: &AppState,
    caller: &Caller,
    token: Uuid,
    wait: Duration,
    headers: &HeaderMap,
) -> Result<(Job, Option<StoredAnalysis>), Problem> {
    let until = Instant::now() + wait;
    // Before the first look, so that no change is missed after it.
    let mut waiter = (!wait.is_zero()).then(|| app.store.wait_for(token));
    loop {
        let (job, analysis) = view::find_with_analysis(app, caller, token).await?;
        let is_conditional = headers.contains_key(header::IF_NONE_MATCH);
        let is_news = |job: &Job| view::is_settled(job) || is_conditional && !view::matches(headers, &view::etag(job));
        let waiter = match &mut waiter {
            Some(waiter) if !is_news(&job) && Instant::now() < until && !app.stop.is_cancelled() => waiter,
            _ => return Ok((job, analysis)),
        };
        let mut version = job.version;
        let worth_a_look = async {
            // A client that waits for the end gets no answer while only the progress changes.
            while let Sight::Job(job) = waiter.changed(version, until.saturating_duration_since(Instant::now())).await {
                if is_news(&job) {
                    return;
                }
                version = job.version;
            }
        };
        tokio::select! {
            () = worth_a_look => {}
            () = app.stop.cancelled() => {}
        }
    }
}

pub(in crate::api) fn wait_of(text: Option<&str>, most_s: u64) -> Result<Duration, Problem> {
    let seconds = match text {
        None => 0,
        Some(text) => text.parse().ok().filter(|seconds| *seconds <= LONGEST_WAIT_S).ok_or_else(bad_wait)?,
    };
    Ok(Duration::from_secs(seconds.min(most_s)))
}

fn bad_wait() -> Problem {
    let detail = "Give wait as whole seconds up to a day, such as ?wait=30.";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_wait", "Not a time to wait", detail).with("parameter", "wait")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_whole_seconds_and_bounded() {
        assert_eq!(wait_of(None, 60).unwrap(), Duration::ZERO);
        assert_eq!(wait_of(Some("30"), 60).unwrap(), Duration::from_secs(30));
        assert_eq!(wait_of(Some("3600"), 60).unwrap(), Duration::from_secs(60));
        for text in ["", "-1", "1.5", "soon", "86401", "99999999999999999999999"] {
            assert_eq!(wait_of(Some(text), 60).unwrap_err().code, "bad_wait", "{text}");
        }
    }
}
