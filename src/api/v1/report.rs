//! `GET /results/{token}/report`: the HTML report that is also mailed.
//!
//! 409 with `Retry-After` while the analysis is unfinished; the problem of a failed one.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::view;
use crate::api::openapi::NATIVE;
use crate::api::{Api, Caller, Problem};
use crate::report::Context;
use crate::store::Status;

/// The page needs nothing from elsewhere, runs nothing and stands in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The report
///
/// The HTML report that is also mailed.
#[utoipa::path(get, path = "/results/{token}/report", operation_id = "report", tag = NATIVE,
    params(("token" = Uuid, Path, description = "From the answer to the upload")),
    responses((status = 200, description = "The report", body = String, content_type = "text/html"),
              (status = 404, description = "No analysis has this token"),
              (status = 409, description = "The analysis is not finished, or was cancelled"),
              (status = 410, description = "The result was erased when its time was over"),
              (status = 422, description = "The video could not be analyzed")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Caller,
    Path(token): Path<String>,
) -> Result<Response, Problem> {
    let token = view::token(&token)?;
    let job = view::find(&api.app, &caller, token).await?;
    match job.status {
        Status::Done => {}
        Status::Failed => return Err(view::failure(&job).unwrap_or_else(Problem::internal)),
        Status::Cancelled => {
            let detail = "The analysis was cancelled. Send the video again for a report.";
            return Err(Problem::new(StatusCode::CONFLICT, "cancelled", "There is no report", detail));
        }
        Status::Queued | Status::Running | Status::Expired => {
            let detail = "The analysis is not finished. GET /results/{token}?wait=30 answers when it is.";
            let problem = Problem::new(StatusCode::CONFLICT, "not_finished", "There is no report yet", detail);
            return Err(problem.retry_after(view::POLL_AGAIN_S));
        }
    }
    let findings = api.app.store.findings(token).await?.ok_or_else(view::unknown)?;
    let result_url = Some(format!("{}/results/{token}", api.app.settings.http.base_url()));
    let context = Context { token, created_at: job.created_at, result_url };
    let reporter = api.app.reporter.clone();
    // Drawing charts is work for the processor.
    let page = tokio::task::spawn_blocking(move || reporter.html(&findings, &context)).await;
    let page = match page {
        Ok(Ok(page)) => page,
        Ok(Err(error)) => {
            tracing::error!(%error, "a report could not be rendered");
            return Err(Problem::internal());
        }
        Err(error) => {
            tracing::error!(%error, "rendering a report panicked");
            return Err(Problem::internal());
        }
    };
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, view::REVALIDATE)];
    Ok((headers, Html(page)).into_response())
}
