//! Decodes the `Content-Encoding` of a request body (RFC 9110, section 8.4): none, or gzip, which is decompressed as a
//! stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::BodyDataStream;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio_util::io::{StreamReader, poll_read_buf};

use super::error::BodyError;

/// The supported encodings, for the header `Accept-Encoding` of a rejection.
pub const ACCEPTED: &str = "gzip, identity";

/// Size of a decompressed chunk in bytes.
const CHUNK: usize = 64 << 10;
/// Bytes by which the compressed body may exceed the limit on the decompressed body, because gzip makes incompressible
/// data slightly larger.
const SLACK: u64 = 64 << 10;

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    /// Another encoding, or more than one. The body is rejected.
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

/// The size of the body in bytes by its `Content-Length`. `None` for an encoded body, because its header gives the
/// encoded size.
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    length.filter(|_| Encoding::of(headers) == Encoding::Identity)
}

/// A body that is decoded as a stream.
pub enum DecodedBody {
    Plain(BodyDataStream),
    Gzip(Box<GzipDecoder<StreamReader<CompressedBody, Bytes>>>),
    Unknown(BodyDataStream),
}

impl DecodedBody {
    /// `limit` is the largest size of the decoded body in bytes.
    pub fn new(encoding: Encoding, body: BodyDataStream, limit: u64) -> Self {
        match encoding {
            Encoding::Identity => Self::Plain(body),
            Encoding::Gzip => {
                let most = limit.saturating_add(limit / 1000).saturating_add(SLACK);
                let compressed = CompressedBody { body, read: 0, limit, most };
                let mut decoder = GzipDecoder::new(StreamReader::new(compressed));
                // A gzip file is a series of members (RFC 1952, section 2.2).
                decoder.multiple_members(true);
                Self::Gzip(Box::new(decoder))
            }
            Encoding::Unknown => Self::Unknown(body),
        }
    }

    /// Polls for the next decoded chunk. `None` is the end of the body.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Plain(body) => body.poll_next_unpin(cx).map(|chunk| Some(chunk?.map_err(|error| left(&error)))),
            Self::Gzip(decoder) => {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                Poll::Ready(match ready!(poll_read_buf(Pin::new(decoder.as_mut()), cx, &mut chunk)) {
                    Ok(0) => None,
                    Ok(_) => Some(Ok(chunk.freeze())),
                    Err(error) => Some(Err(body_error(error))),
                })
            }
            Self::Unknown(_) => Poll::Ready(Some(Err(BodyError::UnknownEncoding))),
        }
    }

    /// Polls for the next chunk as it was sent. Draining uses this, because it needs no decompression.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        match self {
            Self::Plain(body) | Self::Unknown(body) => body.poll_next_unpin(cx),
            Self::Gzip(decoder) => decoder.get_mut().get_mut().body.poll_next_unpin(cx),
        }
    }
}

/// A compressed body, limited to `most` bytes.
pub struct CompressedBody {
    body: BodyDataStream,
    /// Compressed bytes read so far.
    read: u64,
    /// The limit on decompressed bytes, for the error.
    limit: u64,
    most: u64,
}

impl Stream for CompressedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = match ready!(self.body.poll_next_unpin(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(left(&error))))),
            Some(Ok(chunk)) => chunk,
        };
        self.read += chunk.len() as u64;
        let limit = self.limit;
        let is_within = self.read <= self.most;
        Poll::Ready(Some(if is_within { Ok(chunk) } else { Err(io::Error::other(BodyError::TooLarge { limit })) }))
    }
}

fn left(error: &axum::Error) -> BodyError {
    tracing::debug!(%error, "a client closed the connection before the end of the body");
    BodyError::Left
}

/// The error of the body, if it caused this one; otherwise the error of the decompression.
fn body_error(error: io::Error) -> BodyError {
    error.downcast::<BodyError>().unwrap_or(BodyError::BrokenEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gzip_alone_is_supported() {
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
