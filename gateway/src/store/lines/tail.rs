//! What is known of one stream in memory: the blocks that are written but not yet indexed, how far it got, and who waits for more.
//!
//! Written by the line log's threads, read by any number of readers without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use crate::block::Block;
use crate::clock::Millis;
use crate::store::Position;
use crate::store::index::StreamRecord;

/// A block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// The number of its first line.
    pub first_line: u64,
    /// How many numbers it takes (0: a gap of unknown size).
    pub lines: u32,
    /// Where it lies in the line log.
    pub position: Position,
}

impl BlockRef {
    /// The number after its last line.
    #[must_use]
    pub fn next_line(&self) -> u64 {
        self.first_line + u64::from(self.lines)
    }
}

/// A block of the tail; its content stays in memory only where a reader waited for it when it was written.
#[derive(Debug, Clone)]
pub struct TailBlock {
    /// Where it is.
    pub place: BlockRef,
    /// What it holds, if kept.
    pub block: Option<Arc<Block>>,
}

/// The blocks that are written but not yet indexed, oldest first. Immutable; one group for each write.
#[derive(Debug, Clone, Default)]
pub struct TailSnapshot {
    groups: Vec<Arc<[TailBlock]>>,
}

impl TailSnapshot {
    /// The blocks, oldest first.
    pub fn blocks(&self) -> impl Iterator<Item = &TailBlock> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

/// One stream as its readers see it.
#[derive(Debug)]
pub struct StreamTail {
    snapshot: ArcSwap<TailSnapshot>,
    record: ArcSwapOption<StreamRecord>,
    next_written: AtomicU64,
    next_durable: AtomicU64,
    arrived: AtomicI64,
    readers: AtomicUsize,
    feeders: AtomicUsize,
    ended: AtomicBool,
    more: Notify,
}

impl StreamTail {
    /// A stream of which `record` is indexed and nothing else is written.
    #[must_use]
    pub fn new(record: Option<StreamRecord>) -> Self {
        let next_line = record.as_ref().map_or(1, |record| record.next_line);
        Self {
            snapshot: ArcSwap::from_pointee(TailSnapshot::default()),
            next_written: AtomicU64::new(next_line),
            next_durable: AtomicU64::new(next_line),
            arrived: AtomicI64::new(0),
            readers: AtomicUsize::new(0),
            feeders: AtomicUsize::new(0),
            ended: AtomicBool::new(record.as_ref().is_some_and(|record| record.ended)),
            record: ArcSwapOption::from_pointee(record),
            more: Notify::new(),
        }
    }

    /// What is known of the stream, with all that is written; nothing before its first line.
    #[must_use]
    pub fn record(&self) -> Option<Arc<StreamRecord>> {
        self.record.load_full()
    }

    /// Where the stream's newest block lies, or what retention noted of the stream after it; 0 if there is none.
    #[must_use]
    pub fn newest(&self) -> Position {
        self.record.load().as_ref().map_or(0, |record| record.newest)
    }

    /// The blocks that are written but not yet indexed. Load it *before* asking the index, then nothing falls between.
    #[must_use]
    pub fn snapshot(&self) -> Arc<TailSnapshot> {
        self.snapshot.load_full()
    }

    /// The number after the last line that readers may see.
    #[must_use]
    pub fn next_written(&self) -> u64 {
        self.next_written.load(Ordering::Acquire)
    }

    /// The number after the last line that a sync covers.
    #[must_use]
    pub fn next_durable(&self) -> u64 {
        self.next_durable.load(Ordering::Acquire)
    }

    /// When the first of the lines of the newest write came, in Unix milliseconds; 0 if there was none yet.
    #[must_use]
    pub fn arrived(&self) -> Millis {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Whether the sender has said that nothing follows.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether anyone waits for lines: then blocks are written at least every 2 ms.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// How many open client streams feed this log stream.
    #[must_use]
    pub fn feeders(&self) -> usize {
        self.feeders.load(Ordering::Acquire)
    }

    /// Resolves at the next write, sync or end after its creation. Create it, look, then await it: no wake-up is lost.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.more.notified()
    }

    /// Counts a reader until the guard is dropped.
    #[must_use]
    pub fn enter_reader(self: &Arc<Self>) -> ReaderGuard {
        self.readers.fetch_add(1, Ordering::Relaxed);
        ReaderGuard(Arc::clone(self))
    }

    /// Counts a feeder until the guard is dropped; then readers are woken, so that they see the end.
    #[must_use]
    pub fn enter_feeder(self: &Arc<Self>) -> FeederGuard {
        self.feeders.fetch_add(1, Ordering::AcqRel);
        FeederGuard(Arc::clone(self))
    }

    /// Publishes blocks whose write has returned, with what is then known of the stream, and wakes readers. `arrived` is when
    /// the first of their lines came. Called by the line
    /// log's writer only.
    pub fn publish(&self, blocks: &Arc<[TailBlock]>, record: StreamRecord, arrived: Millis) {
        self.arrived.store(arrived, Ordering::Relaxed);
        let (next, ended) = (record.next_line, record.ended);
        if !blocks.is_empty() {
            self.snapshot.rcu(|now| {
                let mut groups = now.groups.clone();
                groups.push(Arc::clone(blocks));
                TailSnapshot { groups }
            });
        }
        // After the blocks, so that who reads these two first finds what they speak of.
        self.record.store(Some(Arc::new(record)));
        self.next_written.fetch_max(next, Ordering::AcqRel);
        self.ended.store(ended, Ordering::Release);
        self.more.notify_waiters();
    }

    /// Notes that a sync covers all lines before `next_line`. Called by the line log's syncer only.
    pub fn mark_durable(&self, next_line: u64) {
        self.next_durable.fetch_max(next_line, Ordering::AcqRel);
        self.more.notify_waiters();
    }

    /// Lets go of the blocks that lie before `indexed`: the store finds them now. Called after the index's commit only.
    pub fn forget_before(&self, indexed: Position) {
        self.snapshot.rcu(|now| TailSnapshot {
            groups: now
                .groups
                .iter()
                .filter(|group| group.last().is_some_and(|last| last.place.position >= indexed))
                .cloned()
                .collect(),
        });
    }
}

/// See [`StreamTail::enter_reader`].
#[derive(Debug)]
pub struct ReaderGuard(Arc<StreamTail>);

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`StreamTail::enter_feeder`].
#[derive(Debug)]
pub struct FeederGuard(Arc<StreamTail>);

impl Drop for FeederGuard {
    fn drop(&mut self) {
        self.0.feeders.fetch_sub(1, Ordering::AcqRel);
        self.0.more.notify_waiters();
    }
}
