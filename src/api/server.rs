//! The listener: HTTP/1.1 with limits on slow and swollen requests, and a shutdown that lets running ones finish.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::limits::Peer;
use crate::config::Http;

/// Most bytes of a request's head, and of a body read at once.
const BUFFER: usize = 64 << 10;

/// Serves until `stop` is cancelled; then takes no more connections and gives running requests `grace` to finish.
pub async fn serve(listener: TcpListener, router: Router, http: &Http, stop: CancellationToken, grace: Duration) {
    let mut server = http1::Builder::new();
    // Also ends connections on which no next request comes.
    let idle = Duration::from_secs(http.idle_timeout_s);
    server.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(BUFFER);
    let graceful = GracefulShutdown::new();
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Too many open files, or a client gone before it was accepted: neither ends the service.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        // Answers are small and should leave at once; a socket that refuses still works.
        let _ = socket.set_nodelay(true);
        let router = router.clone();
        let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().call(request)
        });
        let connection = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace_s = grace.as_secs(), "some requests did not finish in time");
    }
}
