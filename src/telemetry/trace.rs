//! Traces: spans of one request, from its arrival to its mails and webhooks, in several processes.
//!
//! The spans are those of `tracing`. The spans `request`, `job`, `fetch`, `message` and `live` also give the log lines
//! their context. [`step!`](super::step) makes a span of one step in them. The [exporter](super::export) sends them if
//! the settings name a collector; otherwise the functions of this module do nothing.
//!
//! A span never holds an address, a key, a token or a file name. The exporter sends only listed attributes.

use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The longest `tracestate` that is passed on, in bytes. W3C Trace Context asks for 512 at least.
const MAX_STATE: usize = 512;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Whether this process sends traces.
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

pub(super) fn switch_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// The place of a span in its trace, as in the headers `traceparent` and `tracestate` of W3C Trace Context. As text, the
/// two values are separated by a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    /// Parses the values of the headers. `None` if `traceparent` is malformed. A `tracestate` that is malformed or too
    /// long is left out.
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let parent = traceparent.trim();
        if !is_traceparent(parent) {
            return None;
        }
        let state = if tracestate.len() <= MAX_STATE { tracestate } else { "" };
        let context = TraceContextPropagator::new().extract(&Headers([parent.to_owned(), state.to_owned()]));
        let context = context.span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    /// The place of the current span. `None` if there are no traces.
    pub fn current() -> Option<Self> {
        if !is_on() {
            return None;
        }
        let context = Span::current().context().span().span_context().clone();
        context.is_valid().then_some(Self(context))
    }

    /// The names and values of the headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let mut headers = Headers::default();
        let context = Context::new().with_remote_span_context(self.0.clone());
        TraceContextPropagator::new().inject_context(&context, &mut headers);
        Headers::NAMES.into_iter().zip(headers.0).filter(|(_, value)| !value.is_empty())
    }

    /// The id that all spans of the trace share, in hexadecimal.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }
}

impl Display for TraceContext {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (n, (_, value)) in self.headers().enumerate() {
            write!(f, "{}{value}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl FromStr for TraceContext {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (parent, state) = text.split_once(' ').unwrap_or((text, ""));
        Self::parse(parent, state).ok_or(())
    }
}

/// Checks the form of a `traceparent`. The library accepts parts that are too short.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match parts.as_slice() {
        [version, trace, span, flags, rest @ ..] => {
            let is_whole = rest.is_empty() || *version != "00";
            is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2) && is_whole
        }
        _ => false,
    }
}

/// The values of `traceparent` and `tracestate`; empty if there is none.
#[derive(Default)]
struct Headers([String; 2]);

impl Headers {
    const NAMES: [&str; 2] = ["traceparent", "tracestate"];
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        let index = Self::NAMES.iter().position(|name| *name == key)?;
        self.0.get(index).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn keys(&self) -> Vec<&str> {
        Self::NAMES.to_vec()
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        let index = Self::NAMES.iter().position(|name| *name == key);
        if let Some(own) = index.and_then(|index| self.0.get_mut(index)) {
            *own = value;
        }
    }
}

/// Makes a new span the child of `parent`, or the beginning of a trace without one, and gives its log lines the id of the
/// trace. The span needs an empty field `trace_id`. It must not have been entered.
pub fn join(span: &Span, parent: Option<&TraceContext>) {
    if !is_on() {
        return;
    }
    if let Some(TraceContext(parent)) = parent {
        // Ignores the error of a span that a filter disables.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent.clone()));
    }
    let context = span.context().span().span_context().clone();
    if context.is_valid() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
}

/// Gives a span another name in its trace than in the log.
pub fn rename(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Sets an attribute that only the trace has. The exporter sends it if it is listed there.
pub fn attribute(span: &Span, key: &'static str, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// Marks a span as failed, for a reason with this stable code.
pub fn failed(span: &Span, code: impl Into<Value>) {
    span.set_attribute("error.type", code);
    span.set_status(Status::error(""));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_the_same_after_a_way_through_text() {
        for (state, text) in [("", PARENT.to_owned()), ("a=1,b=2 3", format!("{PARENT} a=1,b=2 3"))] {
            let context = TraceContext::parse(PARENT, state).unwrap();
            assert_eq!(context.to_string(), text);
            assert_eq!(text.parse(), Ok(context.clone()));
            assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        }
        let unsampled = PARENT.replace("b7-01", "b7-00");
        assert_eq!(TraceContext::parse(&unsampled, "").unwrap().to_string(), unsampled);
    }

    #[test]
    fn a_malformed_parent_is_no_context() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-1-2-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ann@example.org",
        ] {
            assert_eq!(TraceContext::parse(text, ""), None, "{text}");
        }
        let newer = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(TraceContext::parse(newer, "").is_some());
    }

    #[test]
    fn a_state_that_is_malformed_or_too_long_is_left_out() {
        for state in ["no list".to_owned(), format!("a={}", "x".repeat(MAX_STATE))] {
            let context = TraceContext::parse(PARENT, &state).unwrap();
            assert_eq!(context.to_string(), PARENT, "{state}");
        }
    }

    #[test]
    fn without_a_collector_there_is_no_context() {
        let span = tracing::info_span!("request", trace_id = tracing::field::Empty);
        join(&span, TraceContext::parse(PARENT, "").as_ref());
        assert_eq!(span.in_scope(TraceContext::current), None);
    }
}
