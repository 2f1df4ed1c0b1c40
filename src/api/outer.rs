//! The outermost middleware: assigns the request id, writes the log line and the row of the request log, sets the
//! headers of every answer, and renders problems.
//!
//! The log line has the template of the route, not the path, because a path can contain the token of an analysis.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use super::auth::SHARE;
use super::limits::RateLimit;
use super::problem::{OwnShape, Problem};
use super::request_log::{self, LogDetails};
use super::{Api, Caller, negotiation};
use crate::analysis::Language;
use crate::store::LogEntry;
use crate::telemetry::trace::{self, TraceContext};
use crate::telemetry::{self, metrics};

/// The id of a request. The log and the answer have it, and the job of a video that the request sends.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub String);

impl RequestId {
    /// The id of the request with these extensions.
    pub fn of(extensions: &Extensions) -> Option<String> {
        extensions.get::<Self>().map(|id| id.0.clone())
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The middleware.
pub(super) async fn middleware(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_sane(id));
    let id = id.map_or_else(|| api.app.tokens.next().to_string(), str::to_owned);
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route = route.to_owned();
    let method = request.method().as_str().to_owned();
    let client_id = request_log::client_id(request.headers());
    let language = negotiation::language_of(&request);
    let has_share_link = request.uri().query().is_some_and(|query| query.contains(SHARE));
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = span(&method, &route, &id, request.headers());
    let begun = Instant::now();
    let mut disconnect_log = DisconnectLog(Some(span.clone()));
    let response = next.run(request).instrument(span.clone()).await;
    disconnect_log.0 = None;
    let mut response = finish(response, &id, language);
    if has_share_link {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let (status, taken) = (response.status().as_u16(), begun.elapsed());
    metrics().answered(&method, &route, status, taken);
    trace::attribute(&span, "http.response.status_code", i64::from(status));
    if response.status().is_server_error() && trace::is_on() {
        trace::failed(&span, status.to_string());
    }
    let latency_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    if request_log::is_logged(&route) {
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

/// The span of a request. Its trace is that of the client, if the request names one. Requests that are not worth a row of
/// the request log are not worth a trace either.
fn span(method: &str, route: &str, request_id: &str, headers: &HeaderMap) -> tracing::Span {
    if !request_log::is_logged(route) {
        return tracing::info_span!(target: telemetry::LOG_ONLY, "request", method, route, request_id);
    }
    let span = tracing::info_span!("request", method, route, request_id, trace_id = Empty);
    if trace::is_on() {
        trace::join(&span, trace_of(headers).as_ref());
        // Clients can send any text as the method.
        let (name, method) = if is_known(method) { (method, method) } else { ("HTTP", "_OTHER") };
        trace::rename(&span, format!("{name} {route}"));
        trace::attribute(&span, "http.request.method", method.to_owned());
        trace::attribute(&span, "http.route", route.to_owned());
    }
    span
}

/// The trace that the headers `traceparent` and `tracestate` name (W3C Trace Context).
fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    let values = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>();
    match values("traceparent").as_slice() {
        [parent] => TraceContext::parse(parent, &values("tracestate").join(",")),
        _ => None,
    }
}

fn is_known(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH")
}

/// Logs that the client disconnected, if it is dropped before the answer is ready.
struct DisconnectLog(Option<tracing::Span>);

impl Drop for DisconnectLog {
    fn drop(&mut self) {
        if let Some(span) = &self.0 {
            span.in_scope(|| tracing::info!("the client disconnected before the answer"));
        }
    }
}

/// Whether an id sent by a client may be written to the log.
fn is_sane(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Renders the problem of a response on `metrics.listen`, in English.
pub(super) fn in_english(response: Response, request_id: Uuid) -> Response {
    finish(response, &request_id.to_string(), Language::EN)
}

/// Renders the problem of a response in this language, and sets the headers of every answer.
fn finish(mut response: Response, request_id: &str, language: Language) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    let own_shape = response.extensions_mut().remove::<OwnShape>().is_some();
    // Errors of the framework become problems too.
    let is_bare = !own_shape && (status.is_client_error() || status.is_server_error());
    let bare = || is_bare.then(|| Problem::of_status(status));
    if let Some(problem) = problem.or_else(bare) {
        let plain = std::mem::replace(&mut response, problem.render(request_id, language));
        if let Some(left) = plain.extensions().get::<RateLimit>() {
            response.extensions_mut().insert(*left);
        }
        if let Some(caller) = plain.extensions().get::<Caller>() {
            response.extensions_mut().insert(caller.clone());
        }
        // The title is the same for every problem with this code, so it has no personal data.
        let title = problem.title(Language::EN).into_owned();
        let details = LogDetails { error_message: Some(title), ..LogDetails::default() };
        response.extensions_mut().insert(details);
        if let Some(allow) = plain.headers().get(header::ALLOW) {
            response.headers_mut().insert(header::ALLOW, allow.clone());
        }
    }
    if let Some(left) = response.extensions_mut().remove::<RateLimit>() {
        left.write_headers(&mut response);
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
    use super::*;

    #[test]
    fn ids_that_could_forge_a_log_line_are_rejected() {
        assert!(is_sane("req-1.A_b"));
        for id in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
            assert!(!is_sane(id), "{id}");
        }
    }

    #[test]
    fn a_trace_is_taken_from_one_header_only() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let of = |headers: &[(&'static str, &str)]| {
            let header = |&(name, value): &(_, &str)| (HeaderName::from_static(name), value.parse().unwrap());
            trace_of(&headers.iter().map(header).collect()).map(|context| context.to_string())
        };
        let (parent, state) = (("traceparent", PARENT), "tracestate");
        assert_eq!(of(&[parent]).as_deref(), Some(PARENT));
        assert_eq!(of(&[parent, (state, "a=1"), (state, "b=2")]), Some(format!("{PARENT} a=1,b=2")));
        for none in [&[][..], &[parent, parent], &[("traceparent", "00-1-2-01")], &[(state, "a=1")]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
