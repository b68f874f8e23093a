//! The data plane as one thing: opened, served, closed.
//!
//! [`Gateway::open`] recovers the store and starts its threads; [`Gateway::serve`] takes agents, [`Gateway::router`] readers;
//! [`Gateway::close`] ends all of it in the order in which nothing is lost. Called by the binary only.

#![expect(clippy::disallowed_types, reason = "the threads are taken out once, at the end")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcgate_api::FILE_DESCRIPTOR_SET;
use arcgate_api::ingest::gateway_service_server::GatewayServiceServer;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::access::{Access, AllowAll, Callers, Everyone};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::decode::{BufferPool, DecodeLimits, Decoder};
use crate::lookup::{NoLookup, StepRunLookup};
use crate::replay::archive::{ClickHouseArchive, LineArchive};
use crate::replay::{Replay, ReplaySettings};
use crate::shard::{ShardSettings, ShardThreads, Shards};

use crate::sink::clickhouse;
use crate::sink::start::Ground;
use crate::sink::{KAFKA_EVENTS, Policy, RunningSinks, Sinks, Undelivered};
use crate::source::announce::AnnouncedLengths;
use crate::source::events::own::OwnEvents;
use crate::source::events::{EventIngest, Outlive};
use crate::source::logs::LogIngest;
use crate::source::server::{self, ServerSettings};
use crate::source::service::Service;
use crate::stop::{Stop, Stopper};
use crate::store::disk::RealDisk;
use crate::store::events::EventLog;
use crate::store::inspect;
use crate::store::lines::{LineStore, LineThreads};
use crate::store::retention::plan::RetentionSettings;
use crate::store::{Logs, Parts, Position, SpaceGate, StoreError};
use crate::tasklog::{CURSOR, TaskLog};
use crate::upkeep::{Charge, Pace, Upkeep};

/// All that can be set of the data plane; see the README for what each does.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The store's folder.
    pub path: PathBuf,
    /// The size at which a log begins its next segment, in bytes.
    pub segment_bytes: u64,
    /// The longest time that lines without a reader wait to be written.
    pub write_interval: Duration,
    /// The longest time between the write of a line and its sync.
    pub sync_interval: Duration,
    /// The largest event, in bytes.
    pub max_event: u64,
    /// What a batch of lines may be.
    pub decode: DecodeLimits,
    /// How long PushLogs waits for room before it drops lines.
    pub queue_wait: Duration,
    /// How many shards; 0 for one a core.
    pub shards: usize,
    /// The bound on memory, in bytes.
    pub memory: u64,
    /// The largest gRPC message, in bytes.
    pub max_message: usize,
    /// Agents' connections at most.
    pub connections: usize,
    /// Readers' connections at most.
    pub readers: usize,
    /// Agents that cannot send a token may push events.
    pub stock_agents: bool,
    /// How long open streams may go on once the gateway stops.
    pub grace: Duration,
    /// What is kept, and for how long.
    pub retention: RetentionSettings,
    /// Has the history that is no longer here.
    pub archive: Option<clickhouse::Server>,
    /// What becomes of what a sink has not taken when retention is to remove it.
    pub undelivered: Policy,
    /// Events are acknowledged once Kafka has them too; an answer waits at most this long.
    pub ack_after_kafka: Option<Duration>,
}

/// Whom the data plane asks: those who know the callers, what they may, and the step runs.
#[derive(Clone)]
pub struct Neighbours {
    /// Who calls.
    pub callers: Arc<dyn Callers>,
    /// What they may.
    pub access: Arc<dyn Access>,
    /// Which step runs there are.
    pub lookup: Arc<dyn StepRunLookup>,
}

impl Default for Neighbours {
    /// Nobody: everyone may do everything, and no step run is known.
    fn default() -> Self {
        Self { callers: Arc::new(Everyone), access: Arc::new(AllowAll), lookup: Arc::new(NoLookup) }
    }
}

/// The data plane.
pub struct Gateway {
    settings: GatewaySettings,
    parts: Parts,
    lines: Arc<LineStore>,
    events: EventLog,
    logs: Arc<LogIngest>,
    event_ingest: Arc<EventIngest>,
    gate: SpaceGate,
    messages: Budget,
    callers: Arc<dyn Callers>,
    own_events: OwnEvents,
    replay: Replay,
    stopper: Stopper,
    threads: Mutex<Option<Threads>>,
}

impl Gateway {
    /// Opens the logs of a store, whose `parts` are those of the folder in the settings, and starts what works on it; returns once
    /// all that was stored can be read. Needs a runtime, and blocks: call it where that is allowed. `neighbours` are asked from the
    /// first moment on.
    /// `sinks` are started, and not waited for.
    ///
    /// # Errors
    /// The store is damaged beyond what can be set aside, or cannot be read or written.
    pub fn open(
        parts: Parts,
        settings: GatewaySettings,
        neighbours: Neighbours,
        clock: Clock,
        sinks: Sinks,
    ) -> Result<Self, StoreError> {
        crate::metrics::describe();
        let memory = MemoryShares::of(settings.memory);
        let Logs { lines, appender, line_threads, events, recovery } =
            parts.open_logs(settings.segment_bytes, settings.sync_interval, &clock)?;
        tracing::debug!(?recovery, "event log open");
        let no_thread = |error| StoreError::io("start a thread for", &settings.path, error);
        let shard_settings = ShardSettings { shards: shards(settings.shards), write_interval: settings.write_interval };
        let (shards, shard_threads) = Shards::start(&appender, shard_settings).map_err(no_thread)?;
        let Neighbours { callers, access, lookup } = neighbours;
        let pool = BufferPool::new(memory.buffers);
        let line_budget = Budget::new(memory.lines);
        let messages = Budget::new(memory.messages);
        let event_budget = Budget::new(memory.events);
        let gate = SpaceGate::new(&settings.path);
        let ground = Ground {
            disk: Arc::clone(&parts.disk),
            path: &settings.path,
            meta: &parts.meta,
            lines: &lines,
            events: &events,
            clock: clock.clone(),
        };
        let sinks = sinks.start(&ground)?;
        let outlive = settings.ack_after_kafka.map(|patience| Outlive {
            // Without that sink nothing is ever acknowledged: that nobody gets a promise which is not kept.
            cursor: sinks.cursor(KAFKA_EVENTS).unwrap_or_else(|| watch::channel(0).1),
            patience,
        });
        let logs = Arc::new(LogIngest {
            shards,
            store: Arc::clone(&lines),
            gate: gate.clone(),
            access: Arc::clone(&access),
            limits: settings.decode,
            decoder: Decoder::new(settings.decode, Arc::clone(&pool), line_budget.clone()),
            patience: settings.queue_wait,
            clock: clock.clone(),
        });
        let max_event = usize::try_from(settings.max_event).unwrap_or(usize::MAX);
        let event_ingest =
            EventIngest::new(events.clone(), gate.clone(), clock.clone(), max_event, event_budget.clone()).outliving(outlive);
        let event_ingest = Arc::new(event_ingest);
        let own_events = OwnEvents::new(Arc::clone(&event_ingest), events.clone(), parts.meta.store_id());
        let replay_settings = ReplaySettings {
            max_connections: settings.readers,
            memory: memory.readers,
            clock: clock.clone(),
            archive: settings.archive.clone().map(|server| {
                let archive: Arc<dyn LineArchive> = Arc::new(ClickHouseArchive::new(server, parts.meta.store_id()));
                archive
            }),
            ..ReplaySettings::default()
        };
        let source: Arc<LineStore> = Arc::clone(&lines);
        let replay = Replay::new(source, access, Arc::clone(&lookup), Arc::clone(&callers), replay_settings);
        let stopper = Stopper::default();
        let event_limits = DecodeLimits { raw_bytes: settings.max_event, ..settings.decode };
        let task_log = TaskLog {
            events: events.follow(parts.meta.cursor(CURSOR)),
            logs: Arc::clone(&logs),
            decoder: Decoder::new(event_limits, pool, line_budget.clone()),
            meta: Arc::clone(&parts.meta),
            lookup,
        };
        let task_log = tokio::spawn(task_log.run(stopper.wish()));
        let charge = Charge {
            disk: Arc::clone(&parts.disk),
            path: settings.path.clone(),
            meta: Arc::clone(&parts.meta),
            index: Arc::clone(&parts.index),
            lines: appender,
            events: events.clone(),
            gate: gate.clone(),
            undelivered: Undelivered::new(sinks.progress().to_vec(), settings.undelivered),
            budgets: [("lines", line_budget), ("events", event_budget), ("messages", messages.clone())]
                .into_iter()
                .chain(sinks.budgets().iter().cloned())
                .collect(),
            clock,
        };
        let upkeep = Upkeep::start(charge, settings.retention, Pace::default()).map_err(no_thread)?;
        Ok(Self {
            settings,
            gate,
            parts,
            lines,
            events,
            logs,
            event_ingest,
            messages,
            callers,
            own_events,
            replay,
            stopper,
            threads: Mutex::new(Some(Threads { task_log, sinks, upkeep, shards: shard_threads, lines: line_threads })),
        })
    }

    /// The event log, for the control plane.
    #[must_use]
    pub fn own_events(&self) -> OwnEvents {
        self.own_events.clone()
    }

    /// Serves agents, and what `others` adds to the services, on `listener` until it is to `stop`, then lets open streams end, as
    /// long as the grace lasts.
    pub async fn serve(&self, listener: TcpListener, others: impl FnOnce(Routes) -> Routes, stop: Stop) {
        let service = Service {
            logs: Arc::clone(&self.logs),
            events: Arc::clone(&self.event_ingest),
            callers: Arc::clone(&self.callers),
            stock_agents: self.settings.stock_agents,
        };
        let service = GatewayServiceServer::new(service).max_decoding_message_size(self.settings.max_message);

        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<GatewayServiceServer<Service>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1();
        let mut routes = others(Routes::new(service).add_service(health));
        match reflection {
            Ok(reflection) => routes = routes.add_service(reflection),
            Err(error) => tracing::warn!(%error, "gRPC reflection is off"),
        }
        let settings = ServerSettings {
            window_bytes: MemoryShares::of(self.settings.memory).windows,
            connections: self.settings.connections,
            grace: self.settings.grace,
        };
        let messages =
            AnnouncedLengths { max_message: self.settings.max_message as u64, ..AnnouncedLengths::new(self.messages.clone()) };
        server::serve(listener, routes, messages, settings, stop).await;
    }

    /// The readers' routes.
    pub fn router(&self) -> axum::Router {
        self.replay.router()
    }

    /// Whether the gateway takes input.
    ///
    /// # Errors
    /// Why it does not.
    pub fn ready(&self) -> Result<(), StoreError> {
        self.lines.accepts()?;
        self.gate.check()?;
        self.events.segments().poisoned().map_or(Ok(()), |why| Err(StoreError::Poisoned { why }))
    }

    /// Takes no more readers, tells those that are there, and waits for them, at most `bound`.
    pub async fn close_readers(&self, bound: Duration) {
        if !self.replay.close(bound).await {
            tracing::warn!("readers did not end in time and are cut off");
        }
    }

    /// Ends everything else: what was accepted is written and synced, and the store is closed in order. Call it once, after
    /// [`Gateway::serve`] has returned and readers are closed.
    pub async fn close(&self) {
        self.stopper.stop();
        let Some(threads) = self.threads.lock().take() else { return };
        let Threads { task_log, sinks, upkeep, shards, lines: line_threads } = threads;
        let _ = task_log.await;
        sinks.stop().await;
        let (logs, lines, events, meta) =
            (Arc::clone(&self.logs), Arc::clone(&self.lines), self.events.clone(), Arc::clone(&self.parts.meta));
        let closed = tokio::task::spawn_blocking(move || {
            upkeep.stop();
            lines.close();
            logs.shards.close();
            shards.join();
            line_threads.join();
            events.close();
            // After a poisoning nobody knows what is on disk: the next start must not take it for a clean end.
            match lines.accepts() {
                Ok(()) if events.segments().poisoned().is_none() => meta.close_clean(),
                _ => meta.note_poisoned(),
            }
        });
        match closed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store could not be closed in order; the next start takes longer"),
            Err(error) => tracing::error!(%error, "closing the store has panicked"),
        }
    }
}

/// What works on the store, to be waited for at the end.
struct Threads {
    task_log: JoinHandle<()>,
    sinks: RunningSinks,
    upkeep: Upkeep,
    shards: ShardThreads,
    lines: LineThreads,
}

/// What [`reindex`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reindexed {
    /// Log streams.
    pub streams: u64,
    /// Lines in them.
    pub lines: u64,
    /// Frames of the event log: events, dead letters, marks.
    pub events: u64,
}

/// Takes the folder of a store, which is made if it is missing, for this process.
///
/// # Errors
/// Another process has it, another version wrote it, or it cannot be read or written.
pub fn take(path: &Path) -> Result<Parts, StoreError> {
    Parts::open(Arc::new(RealDisk), path)
}

/// Deletes the index of the store in `path` and builds it anew from the logs.
///
/// # Errors
/// As [`Gateway::open`].
pub fn reindex(path: &Path) -> Result<Reindexed, StoreError> {
    let parts = Parts::open_without_index(Arc::new(RealDisk), path)?;
    // Nothing is appended, so that the size of segments does not matter.
    let Logs { lines, appender, line_threads, events, recovery } =
        parts.open_logs(Position::MAX, Duration::from_secs(1), &Clock::system())?;
    drop((lines, appender));
    line_threads.join();
    events.close();
    let mut reindexed = Reindexed { streams: 0, lines: 0, events: recovery.frames };
    for stream in inspect::streams(&*parts.index) {
        reindexed.streams += 1;
        reindexed.lines += stream?.1.lines;
    }
    parts.meta.close_clean()?;
    Ok(reindexed)
}

/// How the memory there is gets divided; the sinks of each service have a sixteenth of it ([`Sinks::new`]). What is left is for the process itself, and
/// for lines that are for a moment there twice: as they came and compressed.
struct MemoryShares {
    /// Messages that are announced and not yet handled.
    messages: u64,
    /// Lines between their arrival and their write.
    lines: u64,
    /// Events between their arrival and their sync.
    events: u64,
    /// Windows of agents' connections.
    windows: u64,
    /// Readers.
    readers: usize,
    /// Buffers kept to be used again.
    buffers: usize,
}

impl MemoryShares {
    fn of(memory: u64) -> Self {
        let part = memory / 16;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            messages: 4 * part,
            lines: 3 * part,
            events: part,
            windows: part,
            readers: size(2 * part),
            buffers: size(part / 2),
        }
    }
}

/// More shards than cores only add hand-overs; one owner each is enough for a core's worth of lines.
fn shards(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(16),
        some => some,
    }
}
