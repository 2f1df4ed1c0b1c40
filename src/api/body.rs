//! Small bodies: JSON objects that say what to do.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use serde::de::DeserializeOwned;

use super::incoming::Incoming;
use super::v1::analyze_video::{self, AnalyzeError};
use super::{Api, Problem};

/// Most bytes of a JSON body that holds no video.
const SMALL: u64 = 64 << 10;

/// The JSON body of a request.
pub async fn json<T: DeserializeOwned>(api: &Api, request: Request) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    let incoming = Incoming::new(body, SMALL, Duration::from_secs(api.app.settings.http.idle_timeout_s));
    if !is_json(&head.headers) {
        incoming.drain(head.headers.contains_key(header::EXPECT));
        let detail = "Send a JSON object with Content-Type: application/json.";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "not_json", "Not JSON", detail));
    }
    let bytes = whole(api, &head.headers, incoming, SMALL).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        if error.is_data() {
            return wrong(&format!("{}.", first_upper(&error.to_string())));
        }
        let detail = "The body is not a JSON object. Compare it with the documentation of the call.";
        Problem::new(StatusCode::BAD_REQUEST, "bad_json", "The body cannot be read", detail)
    })
}

/// A body whose members are not what the call wants.
pub fn wrong(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_body", "A member of the body is wrong", detail)
}

/// All bytes of a body, held in memory; what is refused is drained.
pub async fn whole(api: &Api, headers: &HeaderMap, incoming: Incoming, limit: u64) -> Result<Bytes, AnalyzeError> {
    let limit_s = api.app.settings.http.max_upload_s;
    incoming.in_field();
    let read = async {
        analyze_video::check_announced(headers, limit)?;
        let (mut chunks, mut bytes) = (incoming.clone(), BytesMut::new());
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let read = tokio::time::timeout(Duration::from_secs(limit_s), read).await;
    let read = read.unwrap_or(Err(AnalyzeError::TooSlow { limit_s }));
    read.inspect_err(|error| analyze_video::refuse(error, headers, incoming))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn first_upper(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}
