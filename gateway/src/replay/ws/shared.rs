//! What all connections share, and the work they have done off the runtime's threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::request::{LogRequest, Start, Target};
use crate::access::{Access, Identity, Tokens, Verb};
use crate::clock::Clock;
use crate::id::StepRunId;
use crate::lookup::{StatusSnapshot, StepRunLookup};
use crate::replay::cursor::{KEPT_EPOCHS, LineCursor, Seen};
use crate::replay::metrics::Metrics;
use crate::replay::page::Page;
use crate::replay::pool::Pool;
use crate::replay::source::LineSource;
use crate::store::StoreError;
use crate::store::index::StreamRecord;
use crate::store::lines::StreamTail;

/// What is known of a step run contradicts the request, or nothing is known where something must be.
pub(super) const NOT_FOUND: &str = "step run not found";
/// A connection may always buffer this much …
const LEAST_BUFFER: usize = 4 << 10;
/// … and never more than about this: a chunk of 200 usual lines.
const MOST_BUFFER: usize = 128 << 10;

/// Bounds of the readers' side.
#[derive(Clone)]
pub struct ReplaySettings {
    /// How many WebSocket connections may be open.
    pub max_connections: usize,
    /// About how many bytes all readers together may hold: half for what waits to be sent, half for what was read.
    pub memory: usize,
    /// A longer message closes its connection, in bytes.
    pub max_message: u64,
    /// How often a connection is pinged.
    pub ping_every: Duration,
    /// A client from which nothing is heard for so long is gone.
    pub silence: Duration,
    /// How long an ended stream must be quiet before `eof` is sent.
    pub quiet: Duration,
    /// Tells when lines went missing of which nothing is stored.
    pub clock: Clock,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            memory: 80 << 20,
            max_message: 10 << 20,
            ping_every: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            quiet: Duration::from_secs(2),
            clock: Clock::system(),
        }
    }
}

/// See the module's text.
pub(super) struct Shared {
    pub(super) source: Arc<dyn LineSource>,
    pub(super) access: Arc<dyn Access>,
    pub(super) lookup: Arc<dyn StepRunLookup>,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) settings: ReplaySettings,
    pub(super) pool: Pool,
    pub(super) metrics: Metrics,
    connections: AtomicUsize,
}

/// A connection's place among those that may be open.
pub(super) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.decrement(1.0);
    }
}

/// A log subscription that may begin.
pub(super) struct Opened {
    pub(super) request: LogRequest,
    pub(super) tail: Arc<StreamTail>,
    pub(super) cursor: LineCursor,
    pub(super) history_end: u64,
    pub(super) epoch: u32,
}

/// What a load has brought.
pub(super) struct Loaded {
    /// The tail before it.
    pub(super) seen: Seen,
    pub(super) cursor: LineCursor,
    pub(super) page: Page,
    pub(super) room: OwnedSemaphorePermit,
}

impl Shared {
    pub(super) fn new(
        source: Arc<dyn LineSource>,
        access: Arc<dyn Access>,
        lookup: Arc<dyn StepRunLookup>,
        tokens: Option<Arc<Tokens>>,
        settings: ReplaySettings,
    ) -> Self {
        let pool = Pool::new(settings.memory / 2);
        let metrics = Metrics::new(settings.clock.clone());
        Self { source, access, lookup, tokens, settings, pool, metrics, connections: AtomicUsize::new(0) }
    }

    /// A place for one more connection, if there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let most = self.settings.max_connections;
        let more = |open: usize| (open < most).then_some(open + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.metrics.connections.increment(1.0);
        Some(Place(Arc::clone(self)))
    }

    /// How much a connection may buffer now: its share of the memory.
    pub(super) fn buffer(&self) -> usize {
        let open = self.connections.load(Ordering::Relaxed).max(1);
        (self.settings.memory / 2 / open).clamp(LEAST_BUFFER, MOST_BUFFER)
    }

    /// Opens a log subscription.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) async fn open(self: Arc<Self>, who: Identity, request: LogRequest) -> Result<Opened, String> {
        self.off_runtime(move |shared, _| shared.open_now(&who, request)).await?
    }

    /// A step run's status.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) async fn status(
        self: Arc<Self>,
        who: Identity,
        target: Target,
        step_run: StepRunId,
    ) -> Result<StatusSnapshot, String> {
        let find = move |shared: &Self, _| {
            if !shared.access.may(&who, Verb::ReadStatus, Some(&step_run)) {
                return Err(format!("{who} may not read the status of this step run"));
            }
            let known = shared
                .lookup
                .status(&step_run)
                .filter(|known| !target.contradicts(&known.parents.pipeline_id, &known.parents.job_id));
            known.ok_or_else(|| NOT_FOUND.to_owned())
        };
        self.off_runtime(find).await?
    }

    /// Asks the store for what comes next.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) async fn load(self: Arc<Self>, mut cursor: LineCursor, tail: Arc<StreamTail>) -> Result<Loaded, String> {
        let load = move |shared: &Self, mut room| -> Result<Loaded, StoreError> {
            let seen = Seen::of(&tail);
            let mut page = shared.pool.page();
            shared.pool.with_reader(|reader| cursor.load(&*shared.source, &tail, reader, &mut page))?;
            Pool::shrink(&mut room, &page);
            Ok(Loaded { seen, cursor, page, room })
        };
        self.off_runtime(load).await?.map_err(|error| cannot_load(&error))
    }

    async fn off_runtime<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self, OwnedSemaphorePermit) -> T + Send + 'static,
    ) -> Result<T, String> {
        let room = self.pool.room().await.ok_or("the gateway is stopping")?;
        let done = tokio::task::spawn_blocking(move || work(&self, room)).await;
        done.map_err(|error| format!("load history failed: {error}"))
    }

    fn open_now(&self, who: &Identity, request: LogRequest) -> Result<Opened, String> {
        let LogRequest { target, step_run, start, epoch, .. } = &request;
        if !self.access.may(who, Verb::ReadLogs, Some(step_run)) {
            return Err(format!("{who} may not read the log of this step run"));
        }
        if self.lookup.parents(step_run).is_some_and(|known| target.contradicts(&known.pipeline_id, &known.job_id)) {
            return Err(NOT_FOUND.to_owned());
        }
        let tail = self.source.tail(step_run).map_err(|error| cannot_load(&error))?;
        let record = self.source.stream(step_run).map_err(|error| cannot_load(&error))?;
        let history_end = tail.next_written();
        let mut first = match start {
            Start::Line(line) => *line,
            Start::Tail(lines) => history_end.saturating_sub(*lines).max(1),
        };
        if record.as_ref().is_some_and(|known| target.contradicts(&known.pipeline_id, "")) {
            return Err(NOT_FOUND.to_owned());
        }
        if let Some(epoch) = epoch.filter(|epoch| *epoch < self.source.epoch()) {
            first = first.min(first_since(record.as_ref(), epoch));
        }
        let cursor = LineCursor::new(step_run.clone(), first, self.settings.clock.clone());
        Ok(Opened { request, tail, cursor, history_end, epoch: self.source.epoch() })
    }
}

/// The first line that may be another one than a client has seen under `epoch`, which is not the store's any more.
pub(super) fn first_since(record: Option<&StreamRecord>, epoch: u32) -> u64 {
    let Some(record) = record else { return 1 };
    let newer = record.epochs.iter().filter(|(newer, _)| *newer > epoch);
    if record.epochs.len() >= KEPT_EPOCHS && newer.clone().count() == record.epochs.len() {
        // Older epochs are forgotten: any line may be.
        return 1;
    }
    newer.map(|(_, line)| *line).min().unwrap_or(record.next_line)
}

fn cannot_load(error: &StoreError) -> String {
    format!("load history failed: {error}")
}
