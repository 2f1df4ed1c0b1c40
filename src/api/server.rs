//! The listener: serves HTTP/1.1, limits the time and size of request heads, and lets running requests finish on
//! shutdown.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::limits::Peer;
use crate::config::Http;

/// Maximum number of bytes of the head of a request, and of a body that are read at once.
const BUFFER: usize = 64 << 10;

/// Serves until `stop` is cancelled. Then accepts no more connections and waits up to `grace` for running requests.
pub async fn serve(listener: TcpListener, router: Router, http: &Http, stop: CancellationToken, grace: Duration) {
    let mut server = http1::Builder::new();
    // The timeout also closes connections on which no next request arrives.
    let idle = Duration::from_secs(http.idle_timeout_s);
    server.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(BUFFER);
    let connections = TaskTracker::new();
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // The process has too many open files, or the client has disconnected. Neither ends the service.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        // Answers are small and should be sent without delay. If the option cannot be set, the socket still works.
        let _ = socket.set_nodelay(true);
        let router = router.clone();
        let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().call(request)
        });
        let connection = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let stop = stop.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection.with_upgrades());
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(grace_s = grace.as_secs(), "requests were still running after the grace period");
    }
}
