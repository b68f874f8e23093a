//! `arcgate serve`: listens, serves, stops in order.
//!
//! The order of a start: log, signals, metrics, listeners (so that a port in use is told before the store is touched), the store's
//! folder (whoever has it is alone), control plane, data plane, `addresses.json`, ready. The order of a stop is the reverse, and bounded by `shutdown.grace`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcgate_control::db::DbError;
use arcgate_gateway::access::{TokenFileError, Tokens};
use arcgate_gateway::clock::{Clock, Millis};
use arcgate_gateway::decode::DecodeLimits;
use arcgate_gateway::gateway::{self, Gateway, GatewaySettings, Neighbours};
use arcgate_gateway::lookup::{NoLookup, StepRunLookup};
use arcgate_gateway::sink::clickhouse::{ClickHouseEvents, ClickHouseLines, Server};
use arcgate_gateway::sink::{CLICKHOUSE_EVENTS, CLICKHOUSE_LOGS, KAFKA_EVENTS, KAFKA_LOGS, Sinks, kafka};
use arcgate_gateway::stop::Stopper;
use arcgate_gateway::store::StoreError;
use arcgate_gateway::store::retention::plan::{MaxSize, RetentionSettings};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::control::{Auth, ControlLookup, ControlPlane};
use crate::ops::addresses::Addresses;
use crate::ops::handles;
use crate::ops::http::{Readiness, router, start_metrics};
use crate::ops::listener;
use crate::ops::shutdown::Shutdown;
use crate::ops::telemetry;
use crate::settings::{Ack, Limits, Listen, Room, Settings};

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
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// A file with a password cannot be read.
    #[error("{0}")]
    Secret(String),
    /// The control plane cannot start.
    #[error("cannot start the control plane: {0}; mend that, or set control.enabled = false")]
    Control(#[from] DbError),
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] StoreError),
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
    let tokens = settings.auth.token_file.as_deref().map(Tokens::read).transpose()?;
    let listeners = Listeners::bind(settings).await?;

    let path = settings.store.path.clone();
    let parts = tokio::task::spawn_blocking(move || gateway::take(&path)).await.map_err(io::Error::other)??;
    let auth = Arc::new(Auth::new(tokens, settings.auth_required(), settings.stock_agents()));
    let mut control = start_control(settings, &auth).await?;
    let lookup: Arc<dyn StepRunLookup> = match &control {
        Some(control) => Arc::new(ControlLookup::new(control.agents().clone())),
        None => Arc::new(NoLookup),
    };
    let neighbours = Neighbours { callers: auth.clone(), access: auth.clone(), lookup: Arc::clone(&lookup) };

    let data_plane = data_plane(settings, &handles::fit(&settings.limits));
    let sinks = sinks(settings, data_plane.archive.as_ref(), &lookup)?;
    drop(lookup);
    let opened = tokio::task::spawn_blocking(move || Gateway::open(parts, data_plane, neighbours, Clock::system(), sinks));
    let gateway = Arc::new(opened.await.map_err(io::Error::other)??);
    if let Some(control) = &mut control {
        control.join(gateway.own_events());
    }

    let stopper = Stopper::default();
    let routes = router(metrics, readiness.clone(), Arc::clone(&gateway)).merge(gateway.router());
    let http = tokio::spawn(listener::serve(listeners.http, routes, shutdown.clone()));
    let agents = Arc::clone(&gateway);
    let wish = stopper.wish();
    let max_message = usize::try_from(settings.grpc.max_message).unwrap_or(usize::MAX);
    let stop = stopper.wish();
    let calls = control.as_ref().map(|control| control.calls(&auth, stop, max_message));
    let others = move |routes| calls.into_iter().fold(routes, |routes, calls| calls.serve(routes));
    let grpc = tokio::spawn(async move { agents.serve(listeners.grpc, others, wish).await });

    let store = &settings.store.path;
    let failed = |source| ServeError::Addresses { path: Addresses::path(store), source };
    listeners.addresses.write(store).map_err(failed)?;
    readiness.set(true);
    let Addresses { grpc: grpc_address, http: http_address, .. } = listeners.addresses;
    tracing::info!(grpc = %grpc_address, http = %http_address, store = %store.display(), "ready");

    shutdown.asked().await;
    readiness.set(false);
    stopper.stop();
    if grpc.await.is_err() {
        tracing::error!("the gRPC listener has panicked");
    }
    // Agents, readers, the control plane and the store have a quarter of the grace each, so that a stop never takes longer than the whole.
    gateway.close_readers(settings.shutdown.grace / 4).await;
    // Readers are gone: what is left is short.
    http.abort();
    if let Some(control) = control {
        control.stop(settings.shutdown.grace / 4).await;
    }
    if timeout(settings.shutdown.grace / 4, gateway.close()).await.is_err() {
        tracing::error!("the store could not be closed within shutdown.grace; what was not synced may be lost");
    }
    Addresses::remove(store);
    tracing::info!("stopped");
    Ok(())
}

/// The control plane, if it is turned on.
async fn start_control(settings: &Settings, auth: &Auth) -> Result<Option<ControlPlane>, ServeError> {
    let control = &settings.control;
    if !control.enabled {
        return Ok(None);
    }
    let location = control.location(&settings.store.path).map_err(ServeError::Secret)?;
    let control = ControlPlane::start(&location, control.agents()).await?;
    auth.knows(control.agents().clone());
    Ok(Some(control))
}

/// The sinks that are turned on.
fn sinks(settings: &Settings, server: Option<&Server>, lookup: &Arc<dyn StepRunLookup>) -> Result<Sinks, ServeError> {
    let mut sinks = Sinks::new(settings.limits.memory);
    if let Some(kafka) = settings.kafka.sinks().map_err(ServeError::Secret)? {
        let memory = sinks.memory("kafka");
        if settings.kafka.events {
            sinks.add_events(KAFKA_EVENTS, kafka::events(&kafka, &memory, Arc::clone(lookup)));
        }
        if settings.kafka.logs != "off" {
            sinks.add_lines(KAFKA_LOGS, kafka::lines(&kafka, &memory));
        }
    }
    if let Some(server) = server {
        let memory = sinks.memory("clickhouse");
        sinks.add_events(CLICKHOUSE_EVENTS, ClickHouseEvents::new(server.clone(), memory.clone()));
        sinks.add_lines(CLICKHOUSE_LOGS, ClickHouseLines::new(server.clone(), memory, Arc::clone(lookup)));
    }
    Ok(sinks)
}

/// The settings of the data plane.
fn data_plane(settings: &Settings, limits: &Limits) -> GatewaySettings {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    GatewaySettings {
        path: settings.store.path.clone(),
        segment_bytes: settings.store.segment_bytes,
        write_interval: settings.store.write_interval,
        sync_interval: settings.store.sync_interval,
        max_event: settings.events.max_event,
        decode: DecodeLimits { raw_bytes: settings.logs.max_batch, line_bytes: bytes(settings.logs.max_line) },
        queue_wait: settings.logs.queue_wait,
        shards: settings.logs.shards as usize,
        memory: settings.limits.memory,
        max_message: bytes(settings.grpc.max_message),
        connections: limits.connections as usize,
        readers: limits.readers as usize,
        stock_agents: settings.stock_agents(),
        grace: settings.shutdown.grace / 4,
        retention: retention(settings),
        archive: settings.clickhouse.sink().map(Server::new),
        undelivered: settings.retention.undelivered,
        ack_after_kafka: (settings.events.ack == Ack::Kafka).then_some(settings.events.ack_timeout),
    }
}

fn retention(settings: &Settings) -> RetentionSettings {
    let millis = |time: Duration| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX);
    RetentionSettings {
        max_age: millis(settings.store.retention_age),
        max_size: match settings.store.retention_bytes {
            Room::Bytes(bytes) => MaxSize::Bytes(bytes),
            Room::Percent(percent) => MaxSize::Percent(percent),
        },
        dedup_window: millis(settings.events.dedup_window),
        dedup_bytes: settings.events.dedup_bytes,
    }
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
