//! Reads the body of a request as a stream. Enforces its maximum size, its longest pause and its minimum rate. Holds at
//! most two chunks in memory. A gzip body is decompressed first (see [`encoding`](super::encoding)).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::encoding::{DecodedBody, Encoding};
use super::error::BodyError;
use crate::config::Http;

/// Maximum number of bytes between the data of two fields: the boundary, the headers and the line ends.
const BETWEEN_FIELDS: usize = 16 << 10;

/// How long the rest of a rejected body is read and discarded. Without that, the client would see a connection reset
/// and not the answer.
const DRAIN: Duration = Duration::from_secs(10);

/// How fast a body has to arrive.
///
/// Each second of waiting for the client takes one second from an allowance, and each `min_rate` bytes add one second.
/// So a client may pause, but a client that is always slow runs out of its allowance.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest pause.
    pub idle: Duration,
    /// Minimum rate in bytes per second; 0: no limit.
    pub min_rate: u64,
}

impl Pace {
    pub const fn of(http: &Http) -> Self {
        Self { idle: Duration::from_secs(http.idle_timeout_s), min_rate: http.min_upload_rate.0 }
    }

    /// The maximum of the allowance. An upload begins with it.
    pub const fn allowance(&self) -> Duration {
        self.idle.saturating_mul(2)
    }
}

/// A shared handle to the body: the form parser reads one clone, and the handler keeps another.
#[derive(Clone)]
pub struct IncomingBody(Arc<Mutex<State>>, Arc<AtomicU64>);

struct State {
    body: DecodedBody,
    limit: u64,
    /// Bytes read so far.
    read: Arc<AtomicU64>,
    pace: Pace,
    /// The rest of the allowance (see [`Pace`]).
    allowance: Duration,
    /// Set while the service waits for the client: the start of the wait, and a timer for its longest duration.
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Bytes that may still come before the data of the next field; `None` within a field.
    between: Option<usize>,
    /// The last poll returned a chunk.
    returned_chunk: bool,
    polled: bool,
    /// The client has stalled or left, so nothing more arrives.
    ended: bool,
}

impl IncomingBody {
    /// `limit` is the largest size of the body in bytes, after decompression.
    pub fn new(headers: &HeaderMap, body: Body, limit: u64, pace: Pace) -> Self {
        let body = DecodedBody::new(Encoding::of(headers), body.into_data_stream(), limit);
        let between = Some(BETWEEN_FIELDS);
        let read = Arc::<AtomicU64>::default();
        let state = State {
            body,
            limit,
            read: read.clone(),
            pace,
            allowance: pace.allowance(),
            pause: None,
            between,
            returned_chunk: false,
            polled: false,
            ended: false,
        };
        Self(Arc::new(Mutex::new(state)), read)
    }

    /// The number of bytes read so far, after decompression.
    pub fn received(&self) -> Arc<AtomicU64> {
        self.1.clone()
    }

    /// Records that the parser looks for the next field.
    pub fn between_fields(&self) {
        self.state(|state| state.between = Some(BETWEEN_FIELDS));
    }

    /// Records that the parser reads the data of a field.
    pub fn in_field(&self) {
        self.state(|state| state.between = None);
    }

    /// Reads and discards the rest of the body in the background, for [`DRAIN`] at most. Does nothing if no more bytes
    /// can arrive: the client has stalled or left, or it `expects_continue` (`Expect: 100-continue`) and nothing was
    /// read.
    pub fn drain(self, expects_continue: bool) {
        if self.state(|state| state.ended || expects_continue && !state.polled) {
            return;
        }
        tokio::spawn(tokio::time::timeout(DRAIN, async move {
            let next = || std::future::poll_fn(|cx| self.state(|state| state.body.poll_sent(cx)));
            while let Some(Ok(_)) = next().await {}
        }));
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock())
    }
}

impl Stream for IncomingBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.state(|state| state.poll(cx))
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.polled = true;
        // The form parser polls until nothing is ready, and only then parses its buffer. Returning one chunk at a time
        // keeps that buffer small even if the client is fast.
        if std::mem::take(&mut self.returned_chunk) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(chunk) = self.body.poll_chunk(cx) else {
            let Pace { idle, min_rate } = self.pace;
            let is_behind = min_rate > 0 && self.allowance < idle;
            let longest = if is_behind { self.allowance } else { idle };
            // The timer runs only while the service waits for the client, not while storage is slow.
            let (_, pause) = self.pause.get_or_insert_with(|| {
                let now = Instant::now();
                (now, Box::pin(tokio::time::sleep_until(now + longest)))
            });
            ready!(pause.as_mut().poll(cx));
            self.ended = true;
            let slow = if is_behind { BodyError::BelowRate { min_rate } } else { BodyError::Idle(idle) };
            return Poll::Ready(Some(Err(slow)));
        };
        if let Some((since, _)) = self.pause.take() {
            self.allowance = self.allowance.saturating_sub(since.elapsed());
        }
        let chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            end => {
                self.ended = matches!(end, Some(Err(BodyError::Left)));
                return Poll::Ready(end);
            }
        };
        let earned_ms = (chunk.len() as u64).saturating_mul(1000).checked_div(self.pace.min_rate).unwrap_or(0);
        let allowance = self.allowance.saturating_add(Duration::from_millis(earned_ms));
        self.allowance = allowance.min(self.pace.allowance());
        let read = self.read.fetch_add(chunk.len() as u64, Ordering::Relaxed) + chunk.len() as u64;
        if read > self.limit {
            return Poll::Ready(Some(Err(BodyError::TooLarge { limit: self.limit })));
        }
        if let Some(left) = &mut self.between {
            if *left == 0 {
                return Poll::Ready(Some(Err(BodyError::Stray)));
            }
            *left = left.saturating_sub(chunk.len());
        }
        self.returned_chunk = true;
        Poll::Ready(Some(Ok(chunk)))
    }
}
