//! The HTTP listener: bounded connections, bounded requests, bounded waiting. A connection that has become a WebSocket is no longer
//! counted here; readers have a limit of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::shutdown::Shutdown;

/// Connections that wait for a request or for its answer, at most; further ones wait to be accepted. With [`REQUEST_BYTES`] each
/// they take 32 MiB.
pub(super) const CONNECTIONS: usize = 1_024;
/// The longest head of a request.
const REQUEST_BYTES: usize = 32 << 10;
/// A request's head must have come by then, also that of the next one on the same connection.
const REQUEST_WAIT: Duration = Duration::from_secs(10);
/// How long to wait after the system has refused a connection: mostly for want of file handles, which others give back.
const RETRY: Duration = Duration::from_millis(100);

/// Serves `routes` on `listener` until a stop is asked for; then takes no more connections and lets those that are open end with
/// their request. Drop it to cut them off.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(shutdown.clone().asked());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stop.as_mut() => break,
        };
        match accepted {
            Ok((socket, place)) => {
                let connection = connection(socket, routes.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, place))
}

async fn connection(socket: TcpStream, routes: Router, shutdown: Shutdown) {
    // A line must not wait for the acknowledgement of the one before it. A socket that refuses is only slower.
    let _ = socket.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_WAIT).max_buf_size(REQUEST_BYTES);
    let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(routes)).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.asked() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
