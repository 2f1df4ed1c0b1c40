//! `GET /logs` of the Journaling thumbnails API: lists the request log.
//!
//! Errors have the shape of that API, `{"error": "..."}`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOf, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::error::ThumbnailsError;
use crate::api::access::{Logs, ThumbnailsKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::json_body::without_byte_order_mark;
use crate::api::openapi::THUMBNAILS;
use crate::api::problem::detail::{self, Detail};
use crate::api::{Api, Problem};
use crate::store::{LogEntry, LogFilter};

type Rule = ThumbnailsKey<Logs>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

/// Maximum number of entries in an answer.
const LIMIT: u32 = 1000;
/// Maximum size of a body with filters, in bytes.
const MAX_BODY: usize = 16 << 10;

/// The filters of a request. In a query, all values are text; in JSON, they may also be numbers and booleans.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filters {
    /// Answered at this time or later (ISO 8601). A date without a time includes the whole day.
    #[param(schema_with = date_or_time)]
    start_date: Option<Value>,
    /// Answered at this time or earlier (ISO 8601). A date without a time includes the whole day.
    #[param(schema_with = date_or_time)]
    end_date: Option<Value>,
    #[param(value_type = Option<u16>, minimum = 100, maximum = 999)]
    status_code: Option<Value>,
    /// `True` for statuses below 400, `False` for the others.
    #[param(value_type = Option<bool>)]
    success: Option<Value>,
    /// Name of the client, from `X-Client-ID`.
    #[param(value_type = Option<String>)]
    client_id: Option<Value>,
    /// At most this many entries are returned.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<Value>,
}

fn date_or_time() -> Schema {
    let text = |format| ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)));
    let empty = ObjectBuilder::new().schema_type(Type::String).max_length(Some(0));
    OneOf::builder().item(text(KnownFormat::DateTime)).item(text(KnownFormat::Date)).item(empty).build().into()
}

#[derive(Serialize, ToSchema)]
#[schema(as = Logs)]
struct LogPage {
    /// Newest first.
    logs: Vec<Entry>,
    count: usize,
    /// Whether there are more entries than `limit`.
    more: bool,
    latency_ms: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LogEntry)]
struct Entry {
    timestamp: Timestamp,
    request_method: String,
    endpoint: String,
    status_code: u16,
    latency_ms: u64,
    client_id: Option<String>,
    success: bool,
    prediction: Option<String>,
    confidence: Option<f64>,
    error_message: Option<String>,
}

impl From<LogEntry> for Entry {
    fn from(entry: LogEntry) -> Self {
        Self {
            timestamp: entry.answered_at,
            request_method: entry.method,
            endpoint: entry.endpoint,
            status_code: entry.status_code,
            latency_ms: entry.latency_ms,
            client_id: entry.client_id,
            success: entry.status_code < 400,
            prediction: entry.prediction,
            confidence: entry.confidence,
            error_message: entry.error_message,
        }
    }
}

/// List requests
///
/// Lists the requests that were sent with the key, newest first. A key with the scope `admin` lists those of all
/// callers. The key needs the scope `logs`. Filters are query parameters or members of a JSON body; the body takes
/// precedence.
#[utoipa::path(get, path = "/logs", operation_id = "logs", tag = THUMBNAILS, params(Filters),
    responses((status = 200, description = "The entries", body = LogPage),
              (status = 400, description = "A filter is invalid")))]
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    query: Result<Query<Filters>, axum::extract::rejection::QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let begun = Instant::now();
    let filters = match query {
        Ok(Query(query)) => filters(query, body).await,
        Err(_) => Err(detail::filter_query()),
    };
    let (mut filter, limit) = match filters.and_then(Filters::parse) {
        Ok(parsed) => parsed,
        Err(detail) => return Ok(ThumbnailsError(Problem::new(StatusCode::BAD_REQUEST, detail)).into_response()),
    };
    if !caller.is_admin() {
        filter.key_id = caller.owner().map(str::to_owned);
    }
    let mut entries = api.app.store.logged_requests(&filter, limit + 1).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let logs: Vec<_> = entries.into_iter().map(Entry::from).collect();
    let latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(LogPage { count: logs.len(), logs, more, latency_ms }).into_response())
}

/// Returns the filters of the query, overridden by those of the body.
async fn filters(query: Filters, body: Body) -> Result<Filters, Detail> {
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| detail::filter_body())?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(query);
    }
    let body: Filters = serde_json::from_slice(without_byte_order_mark(&body)).map_err(|_| detail::filter_json())?;
    Ok(Filters {
        start_date: body.start_date.or(query.start_date),
        end_date: body.end_date.or(query.end_date),
        status_code: body.status_code.or(query.status_code),
        success: body.success.or(query.success),
        client_id: body.client_id.or(query.client_id),
        limit: body.limit.or(query.limit),
    })
}

impl Filters {
    fn parse(self) -> Result<(LogFilter, u32), Detail> {
        let filter = LogFilter {
            from: time(self.start_date, false).ok_or_else(|| detail::filter_date("start_date"))?,
            before: time(self.end_date, true).ok_or_else(|| detail::filter_date("end_date"))?,
            status_code: parsed(self.status_code, |text| text.parse().ok().filter(|code| (100..1000).contains(code)))
                .ok_or_else(detail::filter_status_code)?,
            success: parsed(self.success, |text| text.to_ascii_lowercase().parse().ok())
                .ok_or_else(detail::filter_success)?,
            client_id: parsed(self.client_id, |text| Some(text.to_owned())).ok_or_else(detail::filter_client_id)?,
            key_id: None,
        };
        let limit = parsed(self.limit, |text| text.parse().ok().filter(|limit| (1..=LIMIT).contains(limit)))
            .ok_or_else(|| detail::filter_limit(LIMIT))?;
        Ok((filter, limit.unwrap_or(LIMIT)))
    }
}

/// Parses a filter. Returns `Some(None)` if it is missing or empty, and `None` if it is invalid.
#[expect(clippy::option_option, reason = "missing is not wrong")]
fn parsed<T>(given: Option<Value>, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    let text = match given {
        None | Some(Value::Null) => return Some(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Some(None),
        Some(Value::String(text)) => text,
        Some(other @ (Value::Number(_) | Value::Bool(_))) => other.to_string(),
        Some(_) => return None,
    };
    parse(text.trim()).map(Some)
}

/// Parses a time or a day. Of a day, returns the start, or the start of the next day if `is_end`. An end is exclusive,
/// so a time is moved by 1 ms if `is_end`.
#[expect(clippy::option_option, reason = "missing is not wrong")]
fn time(given: Option<Value>, is_end: bool) -> Option<Option<Timestamp>> {
    parsed(given, |text| {
        if let Ok(time) = text.parse::<Timestamp>() {
            return if is_end { time.checked_add(1.millisecond()).ok() } else { Some(time) };
        }
        let utc = |time: jiff::civil::DateTime| Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp());
        if text.len() > "2026-01-02".len() {
            // Python's isoformat() writes a time without a zone. It counts as UTC.
            let time = utc(text.parse().ok()?)?;
            return if is_end { time.checked_add(1.millisecond()).ok() } else { Some(time) };
        }
        let day: Date = text.parse().ok()?;
        let day = if is_end { day.checked_add(1.day()).ok()? } else { day };
        utc(day.at(0, 0, 0, 0))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(filters: Value) -> Result<(LogFilter, u32), Detail> {
        serde_json::from_value::<Filters>(filters).unwrap().parse()
    }

    #[test]
    fn filters_may_be_text_numbers_or_booleans() {
        let as_text =
            parse(json!({"status_code": "404", "success": "False", "limit": "5", "client_id": "app"})).unwrap();
        let plain = parse(json!({"status_code": 404, "success": false, "limit": 5, "client_id": "app"})).unwrap();
        assert_eq!(as_text, plain);
        assert_eq!((plain.0.status_code, plain.0.success, plain.1), (Some(404), Some(false), 5));
        let empty = parse(json!({"status_code": "", "success": null, "start_date": " "})).unwrap();
        assert_eq!(empty, (LogFilter::default(), LIMIT));
    }

    #[test]
    fn a_date_includes_the_whole_day_and_a_time_without_a_zone_is_utc() {
        let (day, _) = parse(json!({"start_date": "2026-01-02", "end_date": "2026-01-02"})).unwrap();
        assert_eq!(day.from, "2026-01-02T00:00:00Z".parse().ok());
        assert_eq!(day.before, "2026-01-03T00:00:00Z".parse().ok());
        let (times, _) =
            parse(json!({"start_date": "2026-01-02T03:04:05.123456", "end_date": "2026-01-02T04:00:00+01:00"}))
                .unwrap();
        assert_eq!(times.from, "2026-01-02T03:04:05.123456Z".parse().ok());
        assert_eq!(times.before, "2026-01-02T03:00:00.001Z".parse().ok());
    }

    #[test]
    fn an_error_names_the_invalid_filter() {
        for (name, value) in [
            ("start_date", json!("yesterday")),
            ("end_date", json!("2026-13-01")),
            ("status_code", json!("7")),
            ("success", json!("maybe")),
            ("client_id", json!(["a"])),
            ("limit", json!(1001)),
        ] {
            let reason = parse(json!({ name: value })).unwrap_err().to_string();
            assert!(reason.starts_with(name), "{reason}");
        }
    }
}
