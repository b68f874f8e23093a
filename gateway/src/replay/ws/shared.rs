//! What all connections share, and the work they have done off the runtime's threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ahead::Ahead;
use super::request::{LogRequest, Start, Target};
use crate::access::{Access, Callers, Identity, Verb};
use crate::clock::Clock;
use crate::id::StepRunId;
use crate::lookup::{StatusFeed, StatusTarget, StepRunLookup};
use crate::replay::archive::{ArchiveError, ArchivedStream, LineArchive, Stretch, Wanted};
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
/// So many answers of the archive are under way at a time, over all readers: 2 MiB each, while the server may be slow.
const ARCHIVE_READS: usize = 4;
/// So many step runs are looked up in the archive at a time: after a restart all readers come at once.
const LOOK_UPS: usize = 16;
/// So many readers have the archive read ahead for them at a time: 2 MiB each, and a query that goes on.
const READERS_AHEAD: usize = 4;
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
    /// Has what the store does not have.
    pub archive: Option<Arc<dyn LineArchive>>,
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
            archive: None,
        }
    }
}

/// See the module's text.
pub(super) struct Shared {
    pub(super) source: Arc<dyn LineSource>,
    pub(super) access: Arc<dyn Access>,
    pub(super) lookup: Arc<dyn StepRunLookup>,
    pub(super) callers: Arc<dyn Callers>,
    pub(super) settings: ReplaySettings,
    pub(super) pool: Pool,
    pub(super) metrics: Metrics,
    connections: AtomicUsize,
    archive_reads: Semaphore,
    look_ups: Semaphore,
    readers_ahead: Arc<Semaphore>,
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

/// A log subscription that is allowed, and what the store has of its stream.
struct Found {
    request: LogRequest,
    tail: Arc<StreamTail>,
    record: Option<StreamRecord>,
    history_end: u64,
}

/// What a load has brought.
pub(super) struct Loaded {
    /// The tail before it.
    pub(super) seen: Seen,
    pub(super) cursor: LineCursor,
    pub(super) page: Page,
    pub(super) room: OwnedSemaphorePermit,
    /// What is being read of what follows, if it came from the archive.
    pub(super) ahead: Option<Ahead>,
}

impl Shared {
    pub(super) fn new(
        source: Arc<dyn LineSource>,
        access: Arc<dyn Access>,
        lookup: Arc<dyn StepRunLookup>,
        callers: Arc<dyn Callers>,
        settings: ReplaySettings,
    ) -> Self {
        let pool = Pool::new(settings.memory / 2);
        let metrics = Metrics::new(settings.clock.clone());
        Self {
            source,
            access,
            lookup,
            callers,
            settings,
            pool,
            metrics,
            connections: AtomicUsize::new(0),
            archive_reads: Semaphore::new(ARCHIVE_READS),
            look_ups: Semaphore::new(LOOK_UPS),
            readers_ahead: Arc::new(Semaphore::new(READERS_AHEAD)),
        }
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
        if !self.access.may(&who, Verb::ReadLogs, Some(&request.step_run)).await {
            return Err(format!("{who} may not read the log of this step run"));
        }
        let found = Arc::clone(&self).off_runtime(move |shared, _| shared.find(request)).await??;
        let Some(archive) = &self.settings.archive else { return Ok(self.begin(found, None)) };
        if found.record.is_some() {
            // What the store lacks of it is asked for when it is missed.
            return Ok(self.begin(found, Some(Ok(None))));
        }
        let step_run = found.request.step_run.clone();
        let place = self.look_ups.acquire().await;
        let archived = archive.stream(&step_run).await;
        drop(place);
        if let Ok(Some(stream)) = &archived
            && found.request.target.contradicts(&stream.pipeline_id, "")
        {
            return Err(NOT_FOUND.to_owned());
        }
        Ok(self.begin(found, Some(archived)))
    }

    /// Follows a step run's status.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) async fn status(
        self: Arc<Self>,
        who: Identity,
        target: Target,
        step_run: StepRunId,
    ) -> Result<StatusFeed, String> {
        if !self.access.may(&who, Verb::ReadStatus, Some(&step_run)).await {
            return Err(format!("{who} may not read the status of this step run"));
        }
        let Target { pipeline_id, job_id, step_run_id } = target;
        let feed = self.lookup.status(StatusTarget { pipeline_id, job_id, step_run_id }).await;
        feed.ok_or_else(|| NOT_FOUND.to_owned())
    }

    /// Asks the store for what comes next, and the archive for what the store does not have, unless it is what is read `ahead`.
    ///
    /// # Errors
    /// What to tell the client.
    pub(super) async fn load(
        self: Arc<Self>,
        cursor: LineCursor,
        tail: Arc<StreamTail>,
        ahead: Option<Ahead>,
    ) -> Result<Loaded, String> {
        let (mut loaded, wanted) = Arc::clone(&self).load_once(cursor, Arc::clone(&tail)).await?;
        let Some(wanted) = wanted else { return Ok(loaded) };
        // Memory for pages is for those whose lines are here: it is not held while the archive takes its time.
        let mut cursor = loaded.cursor;
        drop(loaded.room);
        self.pool.give(loaded.page);
        let (answer, ahead) = self.ask(wanted, ahead).await;
        cursor.archived(answer);
        (loaded, _) = self.load_once(cursor, tail).await?;
        Ok(Loaded { ahead, ..loaded })
    }

    async fn load_once(
        self: Arc<Self>,
        mut cursor: LineCursor,
        tail: Arc<StreamTail>,
    ) -> Result<(Loaded, Option<Wanted>), String> {
        let load = move |shared: &Self, mut room| -> Result<(Loaded, Option<Wanted>), StoreError> {
            let seen = Seen::of(&tail);
            let mut page = shared.pool.page();
            let wanted = shared.pool.with_reader(|reader| cursor.load(&*shared.source, &tail, reader, &mut page))?;
            Pool::shrink(&mut room, &page);
            Ok((Loaded { seen, cursor, page, room, ahead: None }, wanted))
        };
        self.off_runtime(load).await?.map_err(|error| cannot_load(&error))
    }

    /// What the archive has of what is wanted; and what follows it, if that may be read ahead.
    async fn ask(&self, wanted: Wanted, mut ahead: Option<Ahead>) -> (Result<Stretch, ArchiveError>, Option<Ahead>) {
        if let Some(reading) = &mut ahead
            && let Some(stretch) = reading.take(&wanted).await
        {
            return (Ok(stretch), ahead);
        }
        let futile = ahead.filter(Ahead::is_futile);
        let nobody = || Err(ArchiveError("the gateway is stopping".into()));
        let (Some(archive), Ok(place)) = (&self.settings.archive, self.archive_reads.acquire().await) else {
            return (nobody(), None);
        };
        let stretch = archive.read(wanted.clone()).await;
        drop(place);
        let ahead = match &stretch {
            _ if futile.is_some() => futile,
            Ok(stretch) if stretch.until < wanted.until && stretch.is_all_lines() => {
                let place = Arc::clone(&self.readers_ahead).try_acquire_owned().ok();
                let rest = Wanted { from: stretch.until, stream: stretch.stream.clone(), ..wanted };
                place.map(|place| Ahead::start(Arc::clone(archive), rest, place))
            }
            _ => None,
        };
        (stretch, ahead)
    }

    async fn off_runtime<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self, OwnedSemaphorePermit) -> T + Send + 'static,
    ) -> Result<T, String> {
        let room = self.pool.room().await.ok_or("the gateway is stopping")?;
        let done = tokio::task::spawn_blocking(move || work(&self, room)).await;
        done.map_err(|error| format!("load history failed: {error}"))
    }

    /// What the store has of a stream that may be read.
    fn find(&self, request: LogRequest) -> Result<Found, String> {
        let LogRequest { target, step_run, .. } = &request;
        if self.lookup.parents(step_run).is_some_and(|known| target.contradicts(&known.pipeline_id, &known.job_id)) {
            return Err(NOT_FOUND.to_owned());
        }
        let tail = self.source.tail(step_run).map_err(|error| cannot_load(&error))?;
        let record = self.source.stream(step_run).map_err(|error| cannot_load(&error))?;
        if record.as_ref().is_some_and(|known| target.contradicts(&known.pipeline_id, "")) {
            return Err(NOT_FOUND.to_owned());
        }
        Ok(Found { history_end: tail.next_written(), request, tail, record })
    }

    /// A cursor at the place where a subscription is to begin. `archived`: what the archive said, if there is one.
    fn begin(&self, found: Found, archived: Option<Result<Option<Arc<ArchivedStream>>, ArchiveError>>) -> Opened {
        let Found { request, tail, record, mut history_end } = found;
        if let Some(Ok(Some(stream))) = &archived {
            history_end = history_end.max(stream.next_line);
        }
        let mut first = match request.start {
            Start::Line(line) => line,
            Start::Tail(lines) => history_end.saturating_sub(lines).max(1),
        };
        if let Some(epoch) = request.epoch.filter(|epoch| *epoch < self.source.epoch()) {
            first = first.min(first_since(record.as_ref(), epoch));
        }
        let mut cursor = LineCursor::new(request.step_run.clone(), first, self.settings.clock.clone());
        match archived {
            None => {}
            Some(Ok(stream)) => cursor = cursor.with_archive(history_end, stream),
            Some(Err(error)) => {
                cursor = cursor.with_archive(history_end, None);
                cursor.archived(Err(error));
            }
        }
        Opened { request, tail, cursor, history_end, epoch: self.source.epoch() }
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
