//! All sinks of a gateway: built by the binary, started with the store, stopped before it closes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::batch::{Batch, EventBatch, LineBatch};
use super::cursor::{Saved, SinkCursor};
use super::delivery::Delivery;
use super::feed::{EventFeed, Feed, LineFeed};
use super::lag::Progress;
use super::runner::{Pace, Runner, RunnerParts};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::stop::Stopper;
use crate::store::disk::Disk;
use crate::store::events::EventLog;
use crate::store::lines::LineStore;
use crate::store::meta::StoreMeta;
use crate::store::segment::LogKind;
use crate::store::{Position, StoreError};

/// What part of `[limits] memory` the sinks of one service share: a sixteenth.
const MEMORY_SHARE: u64 = 16;

type Start = Box<dyn FnOnce(&Ground<'_>, &mut RunningSinks) -> Result<(), StoreError> + Send>;

/// The sinks that are turned on, with their deliveries, before there is a store.
pub struct Sinks {
    memory: u64,
    budgets: Vec<(&'static str, Budget)>,
    starts: Vec<Start>,
}

/// What sinks stand on.
pub(crate) struct Ground<'a> {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: &'a Path,
    pub(crate) meta: &'a StoreMeta,
    pub(crate) lines: &'a Arc<LineStore>,
    pub(crate) events: &'a EventLog,
    pub(crate) clock: Clock,
}

/// The sinks at work.
pub struct RunningSinks {
    budgets: Vec<(&'static str, Budget)>,
    progress: Vec<Arc<Progress>>,
    tasks: Vec<JoinHandle<()>>,
    stopper: Stopper,
    counting: Arc<AtomicBool>,
}

impl Sinks {
    /// None yet. `memory` is the gateway's bound, in bytes.
    #[must_use]
    pub fn new(memory: u64) -> Self {
        Self { memory, budgets: Vec::new(), starts: Vec::new() }
    }

    /// What deliveries to a service may buffer, all together: each takes from it what it holds. Each service has its own, so
    /// that one that takes nothing holds up no other.
    pub fn memory(&mut self, service: &'static str) -> Budget {
        let memory = Budget::new(self.memory / MEMORY_SHARE);
        self.budgets.push((service, memory.clone()));
        memory
    }

    /// Turns on a sink of lines. The name is that of its files, so it never changes.
    pub fn add_lines<D: Delivery<Batch = LineBatch>>(&mut self, name: &'static str, delivery: D) {
        self.starts.push(Box::new(move |ground, running| {
            let feed = LineFeed::new(Arc::clone(ground.lines), ground.meta.store_id());
            running.start(ground, name, LogKind::Lines, feed, delivery)
        }));
    }

    /// Turns on a sink of events. The name is that of its files, so it never changes.
    pub fn add_events<D: Delivery<Batch = EventBatch>>(&mut self, name: &'static str, delivery: D) {
        self.starts.push(Box::new(move |ground, running| {
            let feed = EventFeed::new(ground.events, ground.meta.store_id());
            running.start(ground, name, LogKind::Events, feed, delivery)
        }));
    }

    /// Opens their cursors and starts them. Needs a runtime, and blocks.
    ///
    /// # Errors
    /// A cursor cannot be read.
    pub(crate) fn start(self, ground: &Ground<'_>) -> Result<RunningSinks, StoreError> {
        let mut running = RunningSinks {
            budgets: self.budgets,
            progress: Vec::new(),
            tasks: Vec::new(),
            stopper: Stopper::default(),
            counting: Arc::new(AtomicBool::new(false)),
        };
        for start in self.starts {
            start(ground, &mut running)?;
        }
        Ok(running)
    }
}

impl RunningSinks {
    fn start<F: Feed, D: Delivery<Batch = Batch<F>>>(
        &mut self,
        ground: &Ground<'_>,
        name: &'static str,
        kind: LogKind,
        feed: F,
        delivery: D,
    ) -> Result<(), StoreError> {
        let mut cursor = SinkCursor::open(&*ground.disk, ground.path, name, ground.meta.store_id())?;
        let (start, end) = (feed.log().start(), feed.log().synced());
        let progress = Arc::new(place(name, kind, &mut cursor, start, end)?);
        let from = progress.cursor();
        let parts = RunnerParts {
            name,
            feed: feed.clone(),
            delivery,
            cursor,
            progress: Arc::clone(&progress),
            epoch: ground.meta.epoch(),
            disk: Arc::clone(&ground.disk),
            clock: ground.clock.clone(),
            pace: Pace::default(),
        };
        self.tasks.push(tokio::spawn(Runner::new(parts, ground.path).run(self.stopper.wish())));
        let (counter, stopped) = (Arc::clone(&progress), Arc::clone(&self.counting));
        tokio::task::spawn_blocking(move || counter.count_waiting(&feed, from, end, &stopped));
        self.progress.push(progress);
        Ok(())
    }

    /// What deliveries may buffer, a budget for each service.
    #[must_use]
    pub fn budgets(&self) -> &[(&'static str, Budget)] {
        &self.budgets
    }

    /// How far they are.
    #[must_use]
    pub fn progress(&self) -> &[Arc<Progress>] {
        &self.progress
    }

    /// The cursor of a sink, for those who wait for it to move; `None` if it is not turned on.
    #[must_use]
    pub fn cursor(&self, name: &str) -> Option<watch::Receiver<Position>> {
        self.progress.iter().find(|sink| sink.name() == name).map(|sink| sink.follow())
    }

    /// Ends them all, within [`Pace::stop_within`] and a write to the disk after that.
    pub async fn stop(self) {
        self.stopper.stop();
        self.counting.store(true, Ordering::Relaxed);
        for (task, sink) in self.tasks.into_iter().zip(&self.progress) {
            if task.await.is_err() {
                tracing::error!(sink = sink.name(), "the sink has panicked; what it had not saved is delivered again");
            }
        }
    }
}

/// Says where a sink is in a log from `start` to `end`, and counts what it has lost while it was off.
fn place(
    name: &'static str,
    kind: LogKind,
    cursor: &mut SinkCursor,
    start: Position,
    end: Position,
) -> Result<Progress, StoreError> {
    let Some(Saved { cursor: at, .. }) = cursor.saved().cloned() else {
        cursor.save(Saved { cursor: start, ends: Vec::new() })?;
        return Ok(Progress::new(name, kind, start));
    };
    if at > end {
        // Only a disk that forgets what it has synced does this.
        tracing::error!(
            sink = name,
            at,
            end,
            "the log ends before the sink's cursor: the disk has lost what it held; what is new is delivered"
        );
        cursor.reset(end)?;
        return Ok(Progress::new(name, kind, end));
    }
    let progress = Progress::new(name, kind, at);
    if at < start {
        tracing::error!(
            sink = name,
            from = at,
            to = start,
            "retention has removed what the sink had not taken while it was off; it will never get it"
        );
        progress.lose(start, 0, start - at);
    }
    Ok(progress)
}
