//! Opens a session with a mail server that does not support EHLO. RFC 5321, 3.2, requires a client to send HELO in this
//! case. lettre sends EHLO only. So this module exchanges greeting and HELO itself. Then it gives lettre a stream that
//! starts with a greeting and answers lettre's EHLO like a server without extensions.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// The longest reply that is read, in bytes.
const MAX_REPLY: usize = 4096;

/// Opens a session with HELO, without TLS and without a login.
///
/// # Errors
/// The server cannot be reached, or refuses HELO too.
pub async fn connect(host: &str, port: u16, name: &ClientId) -> io::Result<AsyncSmtpConnection> {
    let mut stream = TcpStream::connect((host, port)).await?;
    read_positive_reply(&mut stream).await?;
    stream.write_all(format!("HELO {name}\r\n").as_bytes()).await?;
    read_positive_reply(&mut stream).await?;
    let stream = AfterHelo { stream, prepared: BytesMut::from(&b"220 ready\r\n"[..]), is_greeted: false };
    AsyncSmtpConnection::connect_with_transport(Box::new(stream), name).await.map_err(io::Error::other)
}

/// Reads a complete reply (RFC 5321, 4.2.1), which must be positive.
async fn read_positive_reply(stream: &mut TcpStream) -> io::Result<()> {
    let mut reply = Vec::new();
    while !is_complete(&reply) {
        if reply.len() >= MAX_REPLY || stream.read_buf(&mut reply).await? == 0 {
            return Err(io::Error::other("the server sent no complete reply"));
        }
    }
    if reply.first() == Some(&b'2') { Ok(()) } else { Err(io::Error::other("the server refused HELO too")) }
}

/// Returns whether the reply is complete. In its last line, the code is followed by a space or by nothing.
fn is_complete(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\n") else { return false };
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    last.get(3) != Some(&b'-')
}

/// A stream on which greeting and HELO have been exchanged.
#[derive(Debug)]
struct AfterHelo {
    stream: TcpStream,
    /// Made-up replies, to be read before the data of the server.
    prepared: BytesMut,
    /// The client's EHLO has been answered.
    is_greeted: bool,
}

impl AsyncTokioStream for AfterHelo {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for AfterHelo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prepared.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, to);
        }
        let count = self.prepared.len().min(to.remaining());
        to.put_slice(&self.prepared[..count]);
        self.prepared.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AfterHelo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_greeted {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        // Does not forward the EHLO line.
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if end.is_some() {
            self.is_greeted = true;
            self.prepared.extend_from_slice(b"250 ready\r\n");
        }
        Poll::Ready(Ok(end.map_or(bytes.len(), |end| end + 1)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        for reply in ["250 ready\r\n", "220-mail\r\n220 ready\r\n", "250\r\n", "250 ready\n"] {
            assert!(is_complete(reply.as_bytes()), "{reply}");
        }
        for reply in ["", "250 rea", "220-mail\r\n", "220-mail\r\n220 re"] {
            assert!(!is_complete(reply.as_bytes()), "{reply}");
        }
    }
}
