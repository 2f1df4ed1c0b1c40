//! A collector of traces on loopback: takes OTLP over HTTP and decodes the spans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

/// A received span.
#[derive(Debug, Clone)]
pub struct Received {
    pub trace: String,
    pub id: String,
    /// Empty if the span begins the trace.
    pub parent: String,
    pub name: String,
    /// As in OTLP: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    pub is_failed: bool,
    pub start_ns: u64,
    pub end_ns: u64,
    pub attributes: BTreeMap<String, String>,
    /// The attributes of the process.
    pub resource: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
pub struct Collector {
    came: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

async fn receive(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) {
    collector.came.lock().unwrap().push((headers, body));
}

impl Collector {
    /// Starts the collector and returns its address.
    pub async fn start(&self) -> String {
        let router = Router::new().route("/v1/traces", post(receive)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.came.lock().unwrap().clone()
    }

    /// Returns the spans so far, in the order of their beginnings.
    pub fn spans(&self) -> Vec<Received> {
        let mut spans = Vec::new();
        for (_, body) in self.requests() {
            let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
            for group in request.resource_spans {
                let resource = group.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
                let found = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(found.map(|span| received(span, resource.clone())));
            }
        }
        spans.sort_by_key(|span| span.start_ns);
        spans
    }

    /// Waits until a span of this name has come.
    pub async fn got(&self, name: &str) {
        let waiting = async {
            while !self.spans().iter().any(|span| span.name == name) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("no span {name} came"));
    }
}

fn received(span: Span, resource: BTreeMap<String, String>) -> Received {
    assert!(span.events.is_empty() && span.links.is_empty(), "{span:?}");
    let status = span.status.unwrap_or_default();
    assert_eq!(status.message, "");
    Received {
        trace: hex::encode(span.trace_id),
        id: hex::encode(span.span_id),
        parent: hex::encode(span.parent_span_id),
        name: span.name,
        kind: span.kind,
        is_failed: status.code == 2,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        resource,
    }
}

fn attributes(given: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{}: {other:?}", attribute.key),
        };
        (attribute.key, value)
    };
    given.into_iter().map(text).collect()
}
