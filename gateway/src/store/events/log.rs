//! The event log with its threads: one commits, one gives the index what is synced.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel;
#[expect(clippy::disallowed_types, reason = "taken once, at the end")]
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::committer::{Committer, MAX_GROUP_BYTES, MAX_GROUP_EVENTS};
use super::known::IndexBatch;
use super::reader::EventReader;
use super::{Commit, open};
use crate::id::AgentId;
use crate::store::disk::Disk;
use crate::store::index::Index;
use crate::store::index::record::KnownEvent;
use crate::store::segment::{Recovery, SegmentLog, SegmentOptions};
use crate::store::{Position, StoreError};

/// How many commits may wait; further ones wait at the door. Their bytes are bounded by who hands out memory.
const QUEUE: usize = 1_024;

/// How many batches of entries may wait for the index before commits wait for it too.
const UNINDEXED: usize = 2;

/// What the event log is opened with.
pub struct EventLogOptions {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The log's folder.
    pub dir: PathBuf,
    /// How its segments are made.
    pub segments: SegmentOptions,
    /// The index.
    pub index: Arc<dyn Index>,
}

/// The event log. Cloning shares it.
#[derive(Clone)]
pub struct EventLog {
    queue: mpsc::Sender<Ask>,
    log: SegmentLog,
    synced: watch::Receiver<Position>,
    #[expect(clippy::disallowed_types, reason = "taken once, at the end")]
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

enum Ask {
    Commit(Commit),
    /// Events that are to be known though their segment goes.
    Remember(Vec<KnownEvent>, oneshot::Sender<Result<(), StoreError>>),
    Forget(Forget),
    Close,
}

/// Events whose entries the index is to lose.
struct Forget {
    keys: Vec<(AgentId, Box<str>)>,
    before: Position,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// What the index's thread is to do.
enum Work {
    Apply(Arc<IndexBatch>),
    Forget(Forget),
}

impl EventLog {
    /// Opens the log, brings the index up to its end, and starts to take events. Blocks until that is done. See
    /// [`open()`](super::open()) for what happens to an index that is ahead.
    ///
    /// # Errors
    /// The log or the index cannot be opened; no thread can be started.
    pub fn open(options: EventLogOptions) -> Result<(Self, Recovery), StoreError> {
        let EventLogOptions { disk, dir, segments, index } = options;
        let (committer, recovery) = open::open(disk, &dir, segments, Arc::clone(&index))?;
        let log = committer.log().clone();
        let synced = committer.synced();
        let failed = |error| StoreError::io("start a thread for", &dir, error);
        let (queue, asks) = mpsc::channel(QUEUE);
        let indexer = Indexer::start(index, log.clone()).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("arcgate-events".into())
            .spawn(move || run(committer, asks, indexer))
            .map_err(failed)?;
        Ok((Self { queue, log, synced, thread: Arc::new(Some(thread).into()) }, recovery))
    }

    /// Hands over events; waits for room. `commit.reply` gets their fates after the sync that covers them.
    ///
    /// # Errors
    /// [`StoreError::Closed`]: the log is closed.
    pub async fn submit(&self, commit: Commit) -> Result<(), StoreError> {
        self.queue.send(Ask::Commit(commit)).await.map_err(|_| StoreError::Closed)
    }

    /// Reads the events that are synced, from `from` on: 0 for the oldest, else a [`StoredEvent::next`](super::StoredEvent::next)
    /// or an [`EventReader::position`].
    #[must_use]
    pub fn follow(&self, from: Position) -> EventReader {
        EventReader::new(self.log.clone(), from, self.synced.clone())
    }

    /// The end of what is synced, for those who wait for it to move.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<Position> {
        self.synced.clone()
    }

    /// The log beneath: to be read and trimmed.
    #[must_use]
    pub fn segments(&self) -> &SegmentLog {
        &self.log
    }

    /// Appends marks of `events`, so that repeats of them are known when their segment is gone. Blocks until the marks are synced
    /// and indexed.
    ///
    /// # Errors
    /// The log cannot be written, or is closed.
    pub fn remember(&self, events: Vec<KnownEvent>) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.queue.blocking_send(Ask::Remember(events, reply)).map_err(|_| StoreError::Closed)?;
        done.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Makes the index forget events, but for those whose entry lies at or after `before`: marks of them have been appended. Blocks
    /// until that is done.
    ///
    /// # Errors
    /// The index's, which poisons the log; the log is closed.
    pub fn forget(&self, keys: Vec<(AgentId, Box<str>)>, before: Position) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.queue.blocking_send(Ask::Forget(Forget { keys, before, reply })).map_err(|_| StoreError::Closed)?;
        done.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Commits and answers what waits, gives the index all, and ends. Blocks until that is done. Whoever submits later gets
    /// [`StoreError::Closed`].
    pub fn close(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = self.queue.blocking_send(Ask::Close);
            if thread.join().is_err() {
                tracing::error!("the event log's thread has panicked");
            }
        }
    }
}

/// The committer's thread.
fn run(mut committer: Committer, mut asks: mpsc::Receiver<Ask>, mut indexer: Indexer) {
    while let Some(ask) = asks.blocking_recv() {
        let mut group = Vec::new();
        let mut marks = Vec::new();
        let mut events = 0;
        let mut bytes = 0;
        let mut next = Some(ask);
        while let Some(ask) = next {
            match ask {
                Ask::Commit(commit) => {
                    events += commit.events.len();
                    bytes += commit.bytes();
                    group.push(commit);
                }
                Ask::Remember(events, reply) => marks.push((events, reply)),
                // By the thread that adds to the index, so that nothing is forgotten that it has just added. If it is gone, whoever
                // waits for the reply hears that.
                Ask::Forget(forget) => drop(indexer.work.send(Work::Forget(forget))),
                Ask::Close => asks.close(),
            }
            next = if events < MAX_GROUP_EVENTS && bytes < MAX_GROUP_BYTES { asks.try_recv().ok() } else { None };
        }
        if !group.is_empty() {
            committer.commit(group);
        }
        for (events, reply) in marks {
            let _ = reply.send(committer.remember(&events).and_then(|()| indexer.catch_up(&mut committer)));
        }
        indexer.hand_over(&mut committer, false);
    }
    indexer.hand_over(&mut committer, true);
    indexer.finish();
}

/// The committer's end of the thread that writes to the index.
struct Indexer {
    work: channel::Sender<Work>,
    done: channel::Receiver<Position>,
    thread: JoinHandle<()>,
}

impl Indexer {
    fn start(index: Arc<dyn Index>, log: SegmentLog) -> std::io::Result<Self> {
        let (work, waiting) = channel::bounded(UNINDEXED);
        let (tell, done) = channel::bounded(UNINDEXED);
        let thread = std::thread::Builder::new().name("arcgate-event-index".into()).spawn(move || {
            for work in waiting {
                let batch = match work {
                    Work::Apply(batch) => batch,
                    Work::Forget(Forget { keys, before, reply }) => {
                        let forgotten = forget(&*index, keys, before).inspect_err(|_| log.poison("write to the index"));
                        let _ = reply.send(forgotten);
                        continue;
                    }
                };
                assert!(batch.up_to() <= log.synced(), "the index would cover bytes that are not synced");
                if let Err(error) = batch.apply(&*index) {
                    tracing::error!(%error, "events cannot be indexed; the store takes no more input until a restart");
                    log.poison("write to the index");
                    return;
                }
                if tell.send(batch.up_to()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { work, done, thread })
    }

    /// Gives the index what is due (or all there is), and lets go of what it has.
    fn hand_over(&mut self, committer: &mut Committer, all: bool) {
        while let Ok(up_to) = self.done.try_recv() {
            committer.indexed(up_to);
        }
        if self.wait(committer, UNINDEXED - 1).is_err() {
            return;
        }
        if let Some(batch) = committer.seal(all) {
            // If nobody takes it, the log is poisoned.
            let _ = self.work.send(Work::Apply(batch));
        }
    }

    /// Gives the index all there is, and waits until it has it.
    fn catch_up(&mut self, committer: &mut Committer) -> Result<(), StoreError> {
        self.hand_over(committer, true);
        self.wait(committer, 0)
    }

    /// Waits until at most `left` batches are on their way to the index.
    fn wait(&mut self, committer: &mut Committer, left: usize) -> Result<(), StoreError> {
        while committer.unindexed() > left {
            let failed = |_| StoreError::Poisoned { why: "write to the index".into() };
            committer.indexed(self.done.recv().map_err(failed)?);
        }
        Ok(())
    }

    fn finish(self) {
        drop(self.work);
        if self.thread.join().is_err() {
            tracing::error!("the event index's thread has panicked");
        }
    }
}

/// Forgets the events whose entries lie before `before`.
fn forget(index: &dyn Index, keys: Vec<(AgentId, Box<str>)>, before: Position) -> Result<(), StoreError> {
    let mut old = Vec::with_capacity(keys.len());
    for (agent, name) in keys {
        if index.event(&agent, &name)?.is_some_and(|entry| entry.position < before) {
            old.push((agent, name));
        }
    }
    index.forget_events(&old)
}
