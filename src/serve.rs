//! `arcgate serve`: listens, serves, stops in order.
//!
//! The order of a start: log, signals, metrics, listeners (so that a port in use is told before the store is touched), data plane,
//! `addresses.json`, ready. The order of a stop is the reverse, and bounded by `shutdown.grace`.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::ops::addresses::Addresses;
use crate::ops::http::{Readiness, router, start_metrics};
use crate::ops::shutdown::Shutdown;
use crate::ops::telemetry;
use crate::settings::{Listen, Settings};

/// Why the gateway did not start, or ended. None of it goes away by trying again without mending something.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot log.
    #[error("{0}")]
    Log(String),
    /// The system gives no threads, handlers or the like.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// It cannot count.
    #[error("cannot start metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// It cannot listen.
    #[error("cannot listen on {address} ({key}): {source}; stop what listens there, or choose another address")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The addresses cannot be written down.
    #[error("cannot write {}: {source}", path.display())]
    Addresses {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs a gateway until it is asked to stop.
///
/// # Errors
/// It cannot start.
pub fn run(settings: &Settings) -> Result<(), ServeError> {
    telemetry::start(&settings.log).map_err(ServeError::Log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("arcgate").build()?;
    let outcome = runtime.block_on(serve(settings));
    // What still blocks has had its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: &Settings) -> Result<(), ServeError> {
    let shutdown = Shutdown::on_signals()?;
    let metrics = start_metrics()?;
    let readiness = Readiness::default();
    let listeners = Listeners::bind(settings).await?;
    std::fs::create_dir_all(&settings.store.path)?;

    let routes = router(metrics, readiness.clone());
    let http = axum::serve(listeners.http, routes).with_graceful_shutdown(shutdown.clone().asked());
    let http = tokio::spawn(http.into_future());

    let store = &settings.store.path;
    let failed = |source| ServeError::Addresses { path: Addresses::path(store), source };
    listeners.addresses.write(store).map_err(failed)?;
    readiness.set(true);
    let Addresses { grpc, http: http_address, .. } = listeners.addresses;
    tracing::info!(%grpc, http = %http_address, store = %store.display(), "ready");

    shutdown.asked().await;
    readiness.set(false);
    if timeout(settings.shutdown.grace, http).await.is_err() {
        tracing::warn!(grace = ?settings.shutdown.grace, "some connections did not end within shutdown.grace");
    }
    Addresses::remove(store);
    tracing::info!("stopped");
    Ok(())
}

/// The sockets of a gateway, before anyone is served.
#[derive(Debug)]
pub struct Listeners {
    /// For agents.
    pub grpc: TcpListener,
    /// For readers and operators.
    pub http: TcpListener,
    /// Where they really are.
    pub addresses: Addresses,
}

impl Listeners {
    /// Listens where the settings say.
    ///
    /// # Errors
    /// An address is in use or not ours.
    pub async fn bind(settings: &Settings) -> Result<Self, ServeError> {
        let grpc = bind("grpc.listen", settings.grpc.listen).await?;
        let http = bind("http.listen", settings.http.listen).await?;
        let addresses = Addresses { grpc: grpc.local_addr()?, http: http.local_addr()?, pid: std::process::id() };
        Ok(Self { grpc, http, addresses })
    }
}

async fn bind(key: &'static str, Listen(address): Listen) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { key, address, source })
}
