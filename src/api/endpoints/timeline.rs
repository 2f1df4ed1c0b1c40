//! `GET /results/{token}/timeline`: the observations of each face in each sample, ordered by time and then by face.

use std::fmt::Write;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use crate::analysis::{Detail, TimelineRow};
use crate::api::access::{OptionalKeyOrShare, Read};
use crate::api::auth::Authorized;
use crate::api::cursor;
use crate::api::endpoint::Endpoint;
use crate::api::negotiation::prefers_csv;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view;
use crate::api::{Api, Problem};
use crate::store::{Store, StoreError};

type Rule = OptionalKeyOrShare<Read>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

const LIMIT: std::ops::RangeInclusive<usize> = 1..=5000;
const DEFAULT_LIMIT: usize = 500;
/// Rows that are read at once for CSV.
const CSV_ROWS: usize = 1000;
const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");
const FILE: HeaderValue = HeaderValue::from_static("attachment; filename=\"timeline.csv\"");

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Parameters {
    /// The `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
    /// At most this many rows are returned. Without it, CSV has all rows.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 5000, default = 500)]
    limit: Option<String>,
    /// `json` or `csv`. Overrides `Accept`.
    #[param(value_type = Option<Format>, inline)]
    format: Option<String>,
}

/// The format of the rows.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `handle` reads")]
enum Format {
    Json,
    Csv,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TimelinePage)]
struct Page {
    /// The usual time between samples, in seconds.
    interval_s: f64,
    rows: Vec<TimelineRow>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// Get the timeline
///
/// Returns a row for each face in each sample: box, head pose, gaze, probabilities of the emotions, valence, arousal
/// and quality. Rows are ordered by time, then by face. JSON is returned in pages, CSV as one table (`Accept:
/// text/csv`).
#[utoipa::path(get, path = "/results/{token}/timeline", operation_id = "timeline", tag = NATIVE,
    params(("token" = Uuid, Path, description = "The token of the analysis"), Parameters),
    responses((status = 200, description = "Rows of the timeline",
               content((Page = "application/json"), (String = "text/csv"))),
              (status = 404, description = "No analysis has this token"),
              (status = 409, description = "The analysis is not finished, or was cancelled"),
              (status = 410, description = "The result has expired"),
              (status = 422,
                  description = "A parameter is wrong; `parameter` names it. Or the video could not be analyzed")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(token): Path<String>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = view::shared_token(&caller, &token)?;
    let Query(Parameters { cursor, limit, format }) = parameters.map_err(|_| bad("query"))?;
    let from = cursor.map(|text| row(&text).ok_or_else(|| bad("cursor"))).transpose()?.unwrap_or(0);
    let limit = limit
        .map(|text| text.parse().ok().filter(|limit| LIMIT.contains(limit)).ok_or_else(|| bad("limit")))
        .transpose()?;
    let csv = match format.as_deref() {
        None => prefers_csv(&headers),
        Some("csv") => true,
        Some("json") => false,
        Some(_) => return Err(bad("format")),
    };
    let job = view::done(&api.app, &caller, token).await?;
    let mut response = if csv {
        let most = limit.unwrap_or(usize::MAX);
        let expressions = job.options.detail == Some(Detail::Expressions);
        let headers = [(header::CONTENT_TYPE, CSV), (header::CONTENT_DISPOSITION, FILE)];
        (headers, table(api.app.store.clone(), token, from, most, expressions)).into_response()
    } else {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        let page = api.app.store.timeline(token, from, limit).await?.ok_or_else(view::unknown)?;
        let next = page.more.then(|| cursor_of(from + page.rows.len()));
        Json(Page { interval_s: page.interval_s, rows: page.rows, next }).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, view::NO_STORE);
    answer.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Streams at most `most` rows as CSV. `expressions` adds the columns with movements of the face.
fn table(store: Store, token: Uuid, from: usize, most: usize, expressions: bool) -> Body {
    let header = Bytes::from(format!("{}\r\n", TimelineRow::csv_header(expressions)));
    let first = stream::once(std::future::ready(Ok::<_, StoreError>(header)));
    let rows = stream::try_unfold(Some((from, most)), move |place| {
        let store = store.clone();
        async move {
            let Some((from, left)) = place.filter(|(_, left)| *left > 0) else { return Ok(None) };
            let Some(page) = store.timeline(token, from, CSV_ROWS.min(left)).await? else { return Ok(None) };
            let mut lines = String::new();
            for row in &page.rows {
                let _ = write!(lines, "{}\r\n", row.csv(expressions));
            }
            let count = page.rows.len();
            let next = page.more.then(|| (from + count, left - count));
            Ok(Some((Bytes::from(lines), next)))
        }
    });
    Body::from_stream(futures_util::StreamExt::chain(first, rows))
}

/// The row at which a page with this cursor begins.
fn row(text: &str) -> Option<usize> {
    // The highest bit counts, too: a cursor beyond the end gives an empty page.
    Some(usize::try_from(cursor::decode(text)?.cast_unsigned()).unwrap_or(usize::MAX))
}

fn cursor_of(row: usize) -> String {
    cursor::encode(i64::try_from(row).unwrap_or(i64::MAX))
}

fn bad(parameter: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail::bad_parameter_timeline()).with("parameter", parameter)
}
