//! A session with a mail server that does not know EHLO: RFC 5321, 3.2, asks a client to say HELO then. lettre says only
//! EHLO, so greeting and HELO are exchanged here, and lettre gets a stream that begins with a greeting and answers its EHLO
//! with the name of a server without extensions.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// Longest reply that is read.
const REPLY: usize = 4096;

/// Opens a session by HELO, without TLS and without a login.
///
/// # Errors
/// Where the server cannot be reached or refuses this too.
pub async fn connect(host: &str, port: u16, name: &ClientId) -> io::Result<AsyncSmtpConnection> {
    let mut stream = TcpStream::connect((host, port)).await?;
    positive(&mut stream).await?;
    stream.write_all(format!("HELO {name}\r\n").as_bytes()).await?;
    positive(&mut stream).await?;
    let stream = AfterHelo { stream, ahead: BytesMut::from(&b"220 ready\r\n"[..]), is_greeted: false };
    AsyncSmtpConnection::connect_with_transport(Box::new(stream), name).await.map_err(io::Error::other)
}

/// Reads a whole reply (RFC 5321, 4.2.1) that says yes.
async fn positive(stream: &mut TcpStream) -> io::Result<()> {
    let mut reply = Vec::new();
    while !is_whole(&reply) {
        if reply.len() >= REPLY || stream.read_buf(&mut reply).await? == 0 {
            return Err(io::Error::other("the server gave no whole reply"));
        }
    }
    if reply.first() == Some(&b'2') { Ok(()) } else { Err(io::Error::other("the server refused HELO too")) }
}

/// Whether the last line is there: its code is followed by a space, or by nothing.
fn is_whole(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\n") else { return false };
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    last.get(3) != Some(&b'-')
}

/// A stream on which greeting and HELO were exchanged.
#[derive(Debug)]
struct AfterHelo {
    stream: TcpStream,
    /// To be read before what the server sends.
    ahead: BytesMut,
    /// The client's EHLO has been taken and answered.
    is_greeted: bool,
}

impl AsyncTokioStream for AfterHelo {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for AfterHelo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, to);
        }
        let count = self.ahead.len().min(to.remaining());
        to.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AfterHelo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_greeted {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        // The line of EHLO stays here.
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if end.is_some() {
            self.is_greeted = true;
            self.ahead.extend_from_slice(b"250 ready\r\n");
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
    use super::is_whole;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        for reply in ["250 ready\r\n", "220-mail\r\n220 ready\r\n", "250\r\n", "250 ready\n"] {
            assert!(is_whole(reply.as_bytes()), "{reply}");
        }
        for reply in ["", "250 rea", "220-mail\r\n", "220-mail\r\n220 re"] {
            assert!(!is_whole(reply.as_bytes()), "{reply}");
        }
    }
}
