//! The gRPC listener: HTTP/2 connections with windows that fit into the memory there is, and a bounded end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
const MAX_STREAM_WINDOW: u32 = 4 << 20;
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
    let windows = Windows::new(settings.window_bytes);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stop.asked() => break,
        };
        match accepted {
            Ok((stream, peer)) if windows.open.load(Ordering::Relaxed) < settings.connections => {
                connections.spawn(connection(stream, peer, routes.clone(), windows.enter(), stop.clone()));
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

async fn connection(stream: TcpStream, peer: SocketAddr, routes: Announced<Routes>, connected: Connected, mut stop: Stop) {
    let _ = stream.set_nodelay(true);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_connection_window_size(connected.window())
        .initial_stream_window_size(connected.window().min(MAX_STREAM_WINDOW))
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

/// The memory that windows share.
struct Windows {
    free: AtomicU64,
    open: AtomicUsize,
}

/// A connection's place and its window, as long as it lives.
struct Connected {
    windows: Arc<Windows>,
    bytes: u64,
}

impl Windows {
    fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { free: AtomicU64::new(bytes), open: AtomicUsize::new(0) })
    }

    /// A new connection's window: an eighth of what is free, so that all of them together never pass what there is, but for the
    /// least that HTTP/2 allows.
    fn enter(self: &Arc<Self>) -> Connected {
        metrics::gauge!("arcgate_grpc_connections").increment(1.0);
        self.open.fetch_add(1, Ordering::Relaxed);
        let share = |free: u64| (free / 8).clamp(MIN_WINDOW, MAX_WINDOW).min(free);
        let before = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(free - share(free)));
        Connected { windows: Arc::clone(self), bytes: share(before.unwrap_or(0)) }
    }
}

impl Connected {
    fn window(&self) -> u32 {
        // Fits: it is at most MAX_WINDOW.
        self.bytes.max(MIN_WINDOW) as u32
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        metrics::gauge!("arcgate_grpc_connections").decrement(1.0);
        self.windows.open.fetch_sub(1, Ordering::Relaxed);
        self.windows.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_together_never_pass_what_there_is() {
        let windows = Windows::new(64 << 20);
        let first = windows.enter();
        assert_eq!(first.window(), 8 << 20);
        let others: Vec<_> = (0..1000).map(|_| windows.enter()).collect();
        assert!(first.bytes + others.iter().map(|open| open.bytes).sum::<u64>() <= 64 << 20);
        assert!(others.iter().all(|open| u64::from(open.window()) >= MIN_WINDOW));
        drop((first, others));
        assert_eq!(windows.free.load(Ordering::Relaxed), 64 << 20);
        assert_eq!(windows.open.load(Ordering::Relaxed), 0);
    }
}
