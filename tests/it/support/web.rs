//! A web server that serves a video, and misbehaves at some paths.
//!
//! It listens at [`OUTSIDE`]. The tests list that address in `sources.private_networks`, so it stands for a server on
//! the public internet, and every other address of this machine for a private network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::smtp::Certificate;

/// The address of the server.
pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// A connection that is held open ends after this time.
const HELD: Duration = Duration::from_secs(600);

/// A running server. It ends on drop.
pub struct WebServer {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    video: Vec<u8>,
    /// The paths of all requests.
    requests: Mutex<Vec<String>>,
    /// Number of connections that are held open at `/held.mp4`.
    held: AtomicUsize,
}

impl WebServer {
    pub async fn start(video: Vec<u8>) -> Self {
        Self::with_tls(video, None).await
    }

    /// Starts a server, over TLS if there is a certificate.
    pub async fn with_tls(video: Vec<u8>, certificate: Option<&Certificate>) -> Self {
        let listener = TcpListener::bind((OUTSIDE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = certificate.map(acceptor);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State { video, requests: Mutex::default(), held: AtomicUsize::new(0) });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (state, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(socket, &state).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => answer(socket, &state).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Self { address, scheme, state, task }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Returns the number of requests for a path, without its query.
    pub fn requests(&self, path: &str) -> usize {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|request| request.split('?').next() == Some(path)).count()
    }

    /// Waits until this number of connections is held open at `/held.mp4`.
    pub async fn holds(&self, count: usize) {
        let waiting = async {
            while self.state.held.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("the server holds another number");
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    visage::tls::use_ring();
    let chain = vec![CertificateDer::from_pem_file(&certificate.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers one request and closes the connection.
async fn answer(mut socket: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).await? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let earlier = {
        let mut requests = state.requests.lock().unwrap();
        requests.push(target.clone());
        requests.iter().filter(|request| request.split('?').next() == Some(path)).count() - 1
    };
    let (video, size) = (&state.video[..], state.video.len());
    let ok = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let send = match path {
        "/chunked.mp4" => {
            socket.write_all(chunked.as_bytes()).await?;
            for part in video.chunks(1000) {
                socket.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
                socket.write_all(part).await?;
                socket.write_all(b"\r\n").await?;
            }
            b"0\r\n\r\n".to_vec()
        }
        // Announces more than it sends.
        "/short.mp4" => [ok(size * 2).as_bytes(), video].concat(),
        // Sends more than it announces.
        "/long.mp4" => [ok(size / 2).as_bytes(), video].concat(),
        "/broken-once.mp4" if earlier == 0 => [ok(size).as_bytes(), &video[..size / 2]].concat(),
        "/busy-once.mp4" if earlier == 0 => b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/busy.mp4" => b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/endless.mp4" => {
            socket.write_all(chunked.as_bytes()).await?;
            let part = [format!("{size:x}\r\n").as_bytes(), video, b"\r\n"].concat();
            loop {
                socket.write_all(&part).await?;
            }
        }
        "/slow.mp4" => {
            socket.write_all(ok(size).as_bytes()).await?;
            for byte in video {
                socket.write_all(&[*byte]).await?;
                socket.flush().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            return Ok(());
        }
        "/stalled.mp4" => {
            socket.write_all(&[ok(size).as_bytes(), &video[..size / 2]].concat()).await?;
            socket.flush().await?;
            tokio::time::sleep(HELD).await;
            return Ok(());
        }
        "/silent.mp4" => {
            tokio::time::sleep(HELD).await;
            return Ok(());
        }
        // Sends half of the video to the first client, and then nothing until the client leaves.
        "/held.mp4" if earlier == 0 => {
            socket.write_all(&[ok(size).as_bytes(), &video[..size / 2]].concat()).await?;
            socket.flush().await?;
            state.held.fetch_add(1, Ordering::SeqCst);
            let left = tokio::time::timeout(HELD, socket.read(&mut byte)).await;
            state.held.fetch_sub(1, Ordering::SeqCst);
            return left.map(|_| ()).map_err(std::io::Error::other);
        }
        "/huge.mp4" => [ok(1 << 50).as_bytes(), video].concat(),
        "/page.html" => {
            let page = "<!doctype html><title>Log in</title><p>This video needs an account.</p>".repeat(20);
            [ok(page.len()).as_bytes(), page.as_bytes()].concat()
        }
        "/empty.mp4" => ok(0).into_bytes(),
        "/garbage" => b"\x15\x03\x01\x00\x02\x02\x16 not HTTP at all\r\n\r\n".to_vec(),
        "/headers" => [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), "a".repeat(2 << 20).as_bytes()].concat(),
        "/partial.mp4" => {
            let head = format!("HTTP/1.1 206 Partial\r\ncontent-length: {size}\r\n\r\n");
            [head.as_bytes(), video].concat()
        }
        "/loop" => b"HTTP/1.1 302 Found\r\nlocation: /loop\r\ncontent-length: 0\r\n\r\n".to_vec(),
        // Redirects to the address in the query, as it is.
        "/redirect" => format!("HTTP/1.1 307 Moved\r\nlocation: {query}\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        "/video.mp4" | "/held.mp4" | "/broken-once.mp4" | "/busy-once.mp4" => [ok(size).as_bytes(), video].concat(),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found".to_vec(),
    };
    socket.write_all(&send).await?;
    socket.shutdown().await
}
