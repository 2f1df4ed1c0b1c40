//! `GET /results/{token}/report`: the HTML report that is also mailed.
//!
//! An unfinished analysis gives 409 with `Retry-After`. A failed one gives its problem.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use utoipa_axum::routes;

use crate::analysis::Language;
use crate::api::access::{OptionalKeyOrShare, Read};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::negotiation;
use crate::api::openapi::NATIVE;
use crate::api::view;
use crate::api::{Api, Problem};
use crate::report::Context;
use crate::share;
use crate::store::Job;

type Rule = OptionalKeyOrShare<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Deserialize)]
pub struct Parameters {
    language: Option<String>,
    share: Option<String>,
}

/// The `Content-Security-Policy` of the report: it loads nothing from other hosts, runs no scripts, and cannot be
/// framed.
fn policy(style: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// Get the report
///
/// Returns the report as an HTML page. The mail has its headline, figures and advice, and a link to it.
#[utoipa::path(get, path = "/results/{token}/report", operation_id = "report", tag = NATIVE,
    params(("token" = Uuid, Path, description = "The token of the analysis"),
           ("language" = Option<String>, Query, description = "Language of the report, such as `de`; by default that \
                                                               of the upload, then that of the browser")),
    responses((status = 200, description = "The report", body = String, content_type = "text/html"),
              (status = 404, description = "No analysis has this token"),
              (status = 409, description = "The analysis is not finished, or was cancelled"),
              (status = 410, description = "The result has expired"),
              (status = 422, description = "The video could not be analyzed")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = view::shared_token(&caller, &token)?;
    let job = view::done(&api.app, &caller, token).await?;
    let findings = api.app.store.findings(token).await?.ok_or_else(view::unknown)?;
    let result_url = match &parameters.share {
        Some(share) if caller.shares(token) => share::address(&api.app.settings, caller.id_of(token), share),
        _ => format!("{}/results/{token}", api.app.settings.http.base_url()),
    };
    let asked = parameters.language.as_deref().and_then(Language::from_tag).or(job.options.language);
    let language = asked.unwrap_or_else(|| negotiation::language(None, &headers));
    let (result_url, Job { created_at, file_name, notice, .. }) = (Some(result_url), job);
    let context =
        Context { token: caller.id_of(token), created_at, language, file_name, result_url, withdraw_url: None, notice };
    let reporter = api.app.reporter.clone();
    let policy = policy(reporter.style_source());
    // Drawing charts blocks the thread.
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
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, view::NO_STORE)];
    Ok((headers, Html(page)).into_response())
}
