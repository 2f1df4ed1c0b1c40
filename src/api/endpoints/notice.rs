//! `GET /v1/notice`: what people must be told before their faces and voices are analyzed.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::analysis::Language;
use crate::api::Api;
use crate::api::access::Open;
use crate::api::endpoint::Endpoint;
use crate::api::negotiation;
use crate::api::openapi::OPERATIONS;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Open>(routes!(handle))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// Language of the text, such as `de`; by default that of the browser.
    language: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NoticeText)]
struct Body {
    /// Whether requests without `notice=given` are rejected.
    required: bool,
    /// Send it back as `notice_version` if you have shown `text`.
    version: String,
    language: Language,
    /// Paragraphs, separated by empty lines.
    text: String,
    /// Name of the person or organisation that uses the service.
    operator: String,
    /// Address of the operator's privacy information; null if there is none.
    link: Option<String>,
}

/// Get the notice
///
/// Returns the text that people must be told before their faces and voices are analyzed: what is measured, for which
/// purpose and by whom, how long it is kept, and that they may say no. Show it to them, then send the video with
/// `notice=given` and `notice_version`.
#[utoipa::path(get, path = "/v1/notice", operation_id = "notice", tag = OPERATIONS, params(Parameters),
    responses((status = 200, description = "The notice", body = Body)))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let (notice, required) = (api.app.reporter.notice(), api.app.settings.notice.required);
    let language = negotiation::language(parameters.language.as_deref(), &headers);
    let body = Body {
        required,
        version: notice.version.clone(),
        language,
        text: notice.text(language).to_owned(),
        operator: notice.operator.clone(),
        link: Some(notice.link.clone()).filter(|link| !link.is_empty()),
    };
    ([(header::CACHE_CONTROL, "no-cache"), (header::VARY, "accept-language")], Json(body)).into_response()
}
