//! Entry points for coverage-guided fuzzing (`fuzz/`) of the code that parses bodies and parameters of requests.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::upload::form::{self, UnknownFields, VideoSink};
use super::{
    immediate, json_body,
    upload::body::{IncomingBody, Pace},
};
use crate::analysis::Options;
use crate::blob::{BlobError, Upload};
use crate::config::{Settings, Video};

/// Maximum number of decoded bytes of a body.
const LIMIT: u64 = 1 << 20;

// Made once: each of them takes longer than parsing an input.
static LIMITS: LazyLock<Video> = LazyLock::new(|| Settings::defaults().expect("the settings have defaults").video);
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().build().expect("a runtime on the current thread starts")
});

/// Writes a video to memory.
#[derive(Clone, Default)]
struct MemorySink(Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl VideoSink for MemorySink {
    async fn begin(&self) -> Result<Box<dyn Upload>, BlobError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Upload for MemorySink {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.0.lock().extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<u64, BlobError> {
        Ok(self.0.lock().len() as u64)
    }

    async fn abort(self: Box<Self>) -> Result<(), BlobError> {
        Ok(())
    }
}

/// Reads an upload as a multipart form. The input is a byte of flags, a byte with the size of chunks, the query up to a
/// line end, and the body with the boundary `x`.
///
/// # Panics
/// If more than `LIMIT` bytes of the video are written.
pub fn upload(input: &[u8]) {
    let [flags, size, rest @ ..] = input else { return };
    let (query, sent) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let sent = Bytes::copy_from_slice(sent.strip_prefix(b"\n").unwrap_or(sent));
    let Ok(uri) = format!("/api/v1/analyses?{}", String::from_utf8_lossy(query)).parse::<axum::http::Uri>() else {
        return;
    };
    let mut request = Request::post(uri).header(header::CONTENT_TYPE, "multipart/form-data; boundary=x");
    if flags & 1 == 1 {
        request = request.header(header::CONTENT_ENCODING, "gzip");
    }
    let Ok(request) = request.body(()) else { return };
    let (head, ()) = request.into_parts();
    let step = usize::from(*size) + 1;
    let chunks: Vec<_> = (0..sent.len())
        .step_by(step)
        .map(|from| Ok::<_, std::io::Error>(sent.slice(from..sent.len().min(from + step))))
        .collect();
    let unknown = if flags & 2 == 0 { UnknownFields::Reject } else { UnknownFields::Ignore };
    let sink = MemorySink::default();
    RUNTIME.block_on(async {
        let body = Body::from_stream(stream::iter(chunks));
        let incoming =
            IncomingBody::new(&head.headers, body, LIMIT, Pace { idle: Duration::from_secs(30), min_rate: 0 });
        let form = form::read(&head, &incoming, &sink, &LIMITS, Options::new(20, 5), unknown).await;
        if let Ok(form) = form {
            assert!(form.recipients.len() <= form::MAX_RECIPIENTS && form.content_sha256.len() == 64);
        }
    });
    assert!(sink.0.lock().len() as u64 <= LIMIT);
}

/// Parses a JSON body with a video in base64.
pub fn clip(input: &[u8]) {
    if let Ok((request, _)) = immediate::parse(input) {
        let _ = (request.check_format(&["gif", "webp"]).is_ok(), request.duration_s().is_ok());
    }
}

/// Decodes a video in base64, with or without a data: address in front.
///
/// # Panics
/// If decoding encoded bytes does not return the same bytes.
pub fn base64(input: &[u8]) {
    use ::base64::Engine;
    use ::base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

    if let Ok(text) = std::str::from_utf8(input) {
        let _ = immediate::decode(text);
    }
    if !input.is_empty() {
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let text = engine.encode(input);
            for text in [text.clone(), format!("data:video/webm;codecs=vp8,opus;base64,{text}")] {
                assert!(immediate::decode(&text).is_ok_and(|bytes| bytes == input), "{text}");
            }
        }
    }
}

/// Parses values of parameters and headers.
pub fn values(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = (json_body::number(text), json_body::whole(text), json_body::switch(text));
    let _ = (super::cursor::decode(text), immediate::decode_face_state(text));
    let _ = crate::analysis::Language::from_tag(text);
    let _ = text.parse::<crate::config::ByteSize>();
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ACCEPT, header::CONTENT_LENGTH] {
        if let Ok(value) = text.parse() {
            let headers: HeaderMap = [(name, value)].into_iter().collect();
            let _ = (form::boundary(&headers).is_ok(), super::upload::encoding::Encoding::of(&headers));
            let _ = (super::upload::encoding::announced(&headers), super::negotiation::prefers_csv(&headers));
        }
    }
}
