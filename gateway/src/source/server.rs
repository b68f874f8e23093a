//! The gRPC listener: HTTP/2 connections with windows that fit into the memory there is, and a bounded end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::service::Routes;
use tower::Layer;

use super::announce::{Announced, AnnouncedLengths};
use crate::stop::Stop;

/// The smallest window of a connection: HTTP/2's own default.
const MIN_WINDOW: u64 = 64 << 10;
/// The largest: with 1 MiB frames it makes the wire cost half of what the default windows do.
const MAX_WINDOW: u64 = 16 << 20;
/// A stream's window is at most this; a connection's share goes to few streams.
const MAX_STREAM_WINDOW: u64 = 4 << 20;
/// Large frames: fewer of them.
const FRAME_BYTES: u32 = 1 << 20;
/// Streams a client may have open on one connection.
const STREAMS: u32 = 10_000;
/// A connection that says nothing is asked this often whether it lives, and closed when it does not answer as long.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How the listener works.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettings {
    /// Memory that the windows of all connections share, in bytes.
    pub window_bytes: u64,
    /// Connections at most.
    pub connections: usize,
    /// How long streams may go on once the gateway stops.
    pub grace: Duration,
}

/// Serves `routes` on `listener` until it is to `stop`, then lets open streams end within the grace. Messages are let in as
/// `messages` says.
pub async fn serve(listener: TcpListener, routes: Routes, messages: AnnouncedLengths, settings: ServerSettings, mut stop: Stop) {
    let routes = messages.layer(routes);
    let open = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stop.asked() => break,
        };
        match accepted {
            Ok((stream, peer)) if open.load(Ordering::Relaxed) < settings.connections => {
                let guard = Connected::new(&open);
                let window = window(settings.window_bytes, open.load(Ordering::Relaxed));
                connections.spawn(connection(stream, peer, routes.clone(), window, stop.clone(), guard));
            }
            Ok((_, peer)) => {
                tracing::warn!(%peer, limit = settings.connections, "connection refused: there are too many; raise [limits] connections");
            }
            Err(error) => {
                // Mostly too many open files: those that are open may end meanwhile.
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let ended = tokio::time::timeout(settings.grace, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(open = connections.len(), "connections did not end in time and are closed");
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Announced<Routes>,
    window: u64,
    mut stop: Stop,
    _guard: Connected,
) {
    let _ = stream.set_nodelay(true);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_connection_window_size(window as u32)
        .initial_stream_window_size(window.min(MAX_STREAM_WINDOW) as u32)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.asked() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// A new connection's share of the memory for windows.
fn window(all: u64, connections: usize) -> u64 {
    (all / connections.max(1) as u64).clamp(MIN_WINDOW, MAX_WINDOW)
}

/// Counts a connection as long as it lives.
struct Connected(Arc<AtomicUsize>);

impl Connected {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        metrics::gauge!("arcgate_grpc_connections").increment(1.0);
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        metrics::gauge!("arcgate_grpc_connections").decrement(1.0);
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_share_within_bounds() {
        assert_eq!(window(64 << 20, 1), MAX_WINDOW);
        assert_eq!(window(64 << 20, 64), 1 << 20);
        assert_eq!(window(64 << 20, 100_000), MIN_WINDOW);
    }
}
