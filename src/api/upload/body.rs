//! The body of an upload on its way in: at most so many bytes, no pause longer than so long, and at no time more than
//! a chunk or two in memory. A gzip body ([`encoding`](super::encoding)) is decompressed first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use super::encoding::{Decoded, Encoding};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("more than {limit} bytes came")]
    TooLarge { limit: u64 },
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// Bytes that belong to no field: no boundary, or headers of a field without end.
    #[error("too many bytes outside of fields")]
    Stray,
    #[error("the client left")]
    Left,
    #[error("a Content-Encoding that is not taken")]
    UnknownEncoding,
    #[error("not what its Content-Encoding says, or cut off")]
    BrokenEncoding,
}

/// Bytes that may come between two fields: boundary, headers, line ends.
const BETWEEN_FIELDS: usize = 16 << 10;

/// How long what a refused client still sends is read and thrown away, so that it sees the answer instead of a reset.
const DRAIN: Duration = Duration::from_secs(10);

/// A handle on the body: one copy is read by the form parser, the other stays with the handler.
#[derive(Clone)]
pub struct Incoming(Arc<Mutex<State>>);

struct State {
    body: Decoded,
    limit: u64,
    taken: u64,
    idle: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// Bytes still allowed before the next field's data; `None` within a field.
    between: Option<usize>,
    /// A chunk was just given out.
    gave: bool,
    polled: bool,
}

impl Incoming {
    /// `limit`: most bytes of the body, decompressed where its `Content-Encoding` is gzip.
    pub fn new(headers: &HeaderMap, body: Body, limit: u64, idle: Duration) -> Self {
        let body = Decoded::new(Encoding::of(headers), body.into_data_stream(), limit);
        let between = Some(BETWEEN_FIELDS);
        let state = State { body, limit, taken: 0, idle, pause: None, between, gave: false, polled: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The parser now looks for the next field.
    pub fn between_fields(&self) {
        self.state(|state| state.between = Some(BETWEEN_FIELDS));
    }

    /// The parser now reads a field's data.
    pub fn in_field(&self) {
        self.state(|state| state.between = None);
    }

    /// Reads and throws away what still comes, for a while, in the background. `waits` says that the client asked
    /// to be told before it sends (`Expect: 100-continue`): if nothing was read yet, nothing will come.
    pub fn drain(self, waits: bool) {
        if waits && !self.state(|state| state.polled) {
            return;
        }
        tokio::spawn(tokio::time::timeout(DRAIN, async move {
            let next = || std::future::poll_fn(|cx| self.state(|state| state.body.poll_sent(cx)));
            while let Some(Ok(_)) = next().await {}
        }));
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.state(|state| state.poll(cx))
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.polled = true;
        // The form parser reads until nothing is ready before it looks at what it has. One chunk at a time keeps its
        // buffer from growing with a fast client.
        if std::mem::take(&mut self.gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(chunk) = self.body.poll_chunk(cx) else {
            let idle = self.idle;
            // Runs only while the client is waited for: slow storage is not its fault.
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
            ready!(pause.as_mut().poll(cx));
            return Poll::Ready(Some(Err(BodyError::Idle(idle))));
        };
        self.pause = None;
        let chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            end => return Poll::Ready(end),
        };
        self.taken += chunk.len() as u64;
        if self.taken > self.limit {
            return Poll::Ready(Some(Err(BodyError::TooLarge { limit: self.limit })));
        }
        if let Some(left) = &mut self.between {
            if *left == 0 {
                return Poll::Ready(Some(Err(BodyError::Stray)));
            }
            *left = left.saturating_sub(chunk.len());
        }
        self.gave = true;
        Poll::Ready(Some(Ok(chunk)))
    }
}
