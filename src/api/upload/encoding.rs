//! The `Content-Encoding` of a request's body: none, or gzip (RFC 9110, 8.4), which is decompressed as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::BodyDataStream;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio_util::io::{StreamReader, poll_read_buf};

use super::body::BodyError;

/// The encodings that a body may have, as the header `Accept-Encoding` of a refusal lists them.
pub const ACCEPTED: &str = "gzip, identity";

/// Bytes of one decompressed chunk.
const CHUNK: usize = 64 << 10;
/// Compressed bytes that may come beyond the limit on decompressed ones: gzip lets incompressible bytes grow a little.
const SLACK: u64 = 64 << 10;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    /// Another one, or more than one: refused.
    Unknown,
}

impl Encoding {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut encoding = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
                encoding = match (encoding, name.to_ascii_lowercase().as_str()) {
                    (_, "" | "identity") => encoding,
                    (Self::Identity, "gzip" | "x-gzip") => Self::Gzip,
                    _ => return Self::Unknown,
                };
            }
        }
        encoding
    }
}

/// The bytes that the header `Content-Length` announces; `None` also for an encoded body, whose decoded size it does not tell.
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    length.filter(|_| Encoding::of(headers) == Encoding::Identity)
}

/// The decoded bytes of a body.
pub enum Decoded {
    Plain(BodyDataStream),
    Gzip(Box<GzipDecoder<StreamReader<Compressed, Bytes>>>),
    Unknown(BodyDataStream),
}

impl Decoded {
    /// `limit`: most decoded bytes that will be read.
    pub fn new(encoding: Encoding, body: BodyDataStream, limit: u64) -> Self {
        match encoding {
            Encoding::Identity => Self::Plain(body),
            Encoding::Gzip => {
                let most = limit.saturating_add(limit / 1000).saturating_add(SLACK);
                let compressed = Compressed { body, taken: 0, limit, most };
                let mut decoder = GzipDecoder::new(StreamReader::new(compressed));
                // RFC 1952, 2.2: a file is a series of members.
                decoder.multiple_members(true);
                Self::Gzip(Box::new(decoder))
            }
            Encoding::Unknown => Self::Unknown(body),
        }
    }

    /// The next chunk; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Plain(body) => body.poll_next_unpin(cx).map(|chunk| Some(chunk?.map_err(|error| left(&error)))),
            Self::Gzip(decoder) => {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                Poll::Ready(match ready!(poll_read_buf(Pin::new(decoder.as_mut()), cx, &mut chunk)) {
                    Ok(0) => None,
                    Ok(_) => Some(Ok(chunk.freeze())),
                    Err(error) => Some(Err(unread(error))),
                })
            }
            Self::Unknown(_) => Poll::Ready(Some(Err(BodyError::UnknownEncoding))),
        }
    }

    /// The next bytes as they were sent, for reading over them without decompressing.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        match self {
            Self::Plain(body) | Self::Unknown(body) => body.poll_next_unpin(cx),
            Self::Gzip(decoder) => decoder.get_mut().get_mut().body.poll_next_unpin(cx),
        }
    }
}

/// The compressed bytes of a body: at most so many, however little comes out of them.
pub struct Compressed {
    body: BodyDataStream,
    taken: u64,
    limit: u64,
    most: u64,
}

impl Stream for Compressed {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = match ready!(self.body.poll_next_unpin(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(left(&error))))),
            Some(Ok(chunk)) => chunk,
        };
        self.taken += chunk.len() as u64;
        let limit = self.limit;
        let is_within = self.taken <= self.most;
        Poll::Ready(Some(if is_within { Ok(chunk) } else { Err(io::Error::other(BodyError::TooLarge { limit })) }))
    }
}

fn left(error: &axum::Error) -> BodyError {
    tracing::debug!(%error, "an upload broke off");
    BodyError::Left
}

/// Tells an error of the body from one of the decompression.
fn unread(error: io::Error) -> BodyError {
    error.downcast::<BodyError>().unwrap_or(BodyError::BrokenEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_known_by_its_names_and_alone() {
        let of = |values: &[&str]| {
            let value = |text: &&str| (header::CONTENT_ENCODING, text.parse().unwrap());
            Encoding::of(&values.iter().map(value).collect())
        };
        for values in [&[][..], &[""], &["identity"], &["Identity, identity"]] {
            assert_eq!(of(values), Encoding::Identity, "{values:?}");
        }
        for values in [&["gzip"][..], &["GZip"], &["x-gzip"], &["identity, gzip"], &["gzip", "identity"]] {
            assert_eq!(of(values), Encoding::Gzip, "{values:?}");
        }
        for values in [&["br"][..], &["deflate"], &["zstd"], &["gzip, gzip"], &["gzip", "br"], &["aws-chunked"]] {
            assert_eq!(of(values), Encoding::Unknown, "{values:?}");
        }
    }
}
