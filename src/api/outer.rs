//! What is done around every request: its id, its line in the log and its row in the request log, the headers that every answer carries, and the
//! rendering of problems.
//!
//! The log line holds the route's template, never the path: tokens are keys to people's results.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::limits::RateLimit;
use super::problem::{OwnShape, Problem};
use super::request_log::{self, LogDetails};
use super::{Api, Caller};
use crate::store::LogEntry;
use crate::telemetry::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn around(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_sane(id));
    let id = id.map_or_else(|| api.app.tokens.next().to_string(), str::to_owned);
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route = route.to_owned();
    let method = request.method().as_str().to_owned();
    let client_id = request_log::client_id(request.headers());
    let span = tracing::info_span!("request", method, route, request_id = id);
    let begun = Instant::now();
    let mut unanswered = Unanswered(Some(span.clone()));
    let response = next.run(request).instrument(span.clone()).await;
    unanswered.0 = None;
    let mut response = dress(response, &id);
    let (status, taken) = (response.status().as_u16(), begun.elapsed());
    metrics().answered(&method, &route, status, taken);
    let latency_ms = taken.as_millis();
    if request_log::wants(&route) {
        let latency_ms = u64::try_from(latency_ms).unwrap_or(u64::MAX);
        let details = response.extensions_mut().remove::<LogDetails>().unwrap_or_default();
        let caller = response.extensions_mut().remove::<Caller>().unwrap_or_default();
        let failed = || response.status().canonical_reason().filter(|_| status >= 400).map(str::to_owned);
        api.log.put(LogEntry {
            answered_at: api.app.clock.now(),
            method,
            endpoint: route,
            status_code: status,
            latency_ms,
            client_id,
            key_id: caller.owner().map(str::to_owned),
            prediction: details.prediction,
            confidence: details.confidence,
            error_message: details.error_message.or_else(failed),
        });
    }
    span.in_scope(|| {
        if response.status().is_server_error() {
            tracing::warn!(status, latency_ms, "answered");
        } else {
            tracing::info!(status, latency_ms, "answered");
        }
    });
    response
}

/// Logs a request whose client left before the answer.
struct Unanswered(Option<tracing::Span>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(span) = &self.0 {
            span.in_scope(|| tracing::info!("the client left"));
        }
    }
}

/// An id from outside is taken only where it can do no harm in a log.
fn is_sane(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn dress(mut response: Response, request_id: &str) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    let own_shape = response.extensions_mut().remove::<OwnShape>().is_some();
    // What the framework refused by itself gets the same shape.
    let is_bare = !own_shape && (status.is_client_error() || status.is_server_error());
    let bare = || is_bare.then(|| Problem::of_status(status));
    if let Some(problem) = problem.or_else(bare) {
        let plain = std::mem::replace(&mut response, problem.render(request_id));
        if let Some(left) = plain.extensions().get::<RateLimit>() {
            response.extensions_mut().insert(*left);
        }
        if let Some(caller) = plain.extensions().get::<Caller>() {
            response.extensions_mut().insert(caller.clone());
        }
        // A title says the same of every problem of its code, so there is nothing of anybody in it.
        let details = LogDetails { error_message: Some(problem.title.to_owned()), ..LogDetails::default() };
        response.extensions_mut().insert(details);
        if let Some(allow) = plain.headers().get(header::ALLOW) {
            response.headers_mut().insert(header::ALLOW, allow.clone());
        }
    }
    if let Some(left) = response.extensions_mut().remove::<RateLimit>() {
        left.tell(&mut response);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::is_sane;

    #[test]
    fn ids_that_could_forge_a_log_line_are_not_taken() {
        assert!(is_sane("req-1.A_b"));
        for id in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
            assert!(!is_sane(id), "{id}");
        }
    }
}
