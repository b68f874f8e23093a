//! The line log: blocks of lines, written by one thread, synced by another, indexed after the sync.
//!
//! Callers: the shards append, readers and sinks look. `indexed ≤ synced ≤ appended`; a line is shown once the write that
//! holds it has returned, it is durable once a sync covers it.
//!
//! | frame kind | body |
//! |---|---|
//! | 0x81 block | [`crate::block::format`] |
//! | 0x83 mark | [`crate::store::index::record`]: what is known of a stream beside its blocks |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{SendTimeoutError, Sender, bounded};
use crossbeam::sync::Parker;
use tokio::sync::watch;

use super::disk::Disk;
use super::index::{Index, StreamRecord};
use super::segment::{LogKind, SegmentLog, SegmentOptions};
use super::{Position, StoreError};
use crate::block::{Block, format};
use crate::id::StepRunId;
use crate::replay::LineSource;

#[cfg(test)]
pub(crate) mod by_hand;
pub mod fold;
mod rebuild;
mod registry;
mod syncer;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use rebuild::unindexed;
pub use tail::{BlockRef, FeederGuard, ReaderGuard, StreamTail, TailBlock, TailSnapshot};
pub use writer::{BLOCK, MARK, StreamWrite};

use registry::Registry;
use syncer::Syncer;
use writer::Writer;

/// Writes that wait for the writer's thread. Small: shards hold back what does not fit, and coalesce it meanwhile.
const WRITE_QUEUE: usize = 8;

/// Writes that wait for the syncer's thread; bytes are bounded by the log's own limit on what is not indexed.
const SYNC_QUEUE: usize = 4096;

/// The line log and the index beside it, to read.
pub struct LineStore {
    log: SegmentLog,
    index: Arc<dyn Index>,
    registry: Registry,
    epoch: AtomicU32,
    was_cut: bool,
    dir: PathBuf,
    closing: Arc<AtomicBool>,
    following: watch::Receiver<Position>,
}

/// Appends to the line log. Once the last one is dropped, the threads sync what there is and end.
#[derive(Clone)]
pub struct LineAppender {
    store: Arc<LineStore>,
    writes: Sender<Vec<StreamWrite>>,
}

/// The line log's threads; they end once the last [`LineAppender`] is gone.
pub struct LineThreads(Vec<JoinHandle<()>>);

impl LineThreads {
    /// Waits until all that was appended is synced and indexed.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a thread of the line log has panicked; what it had not synced is lost");
            }
        }
    }
}

impl LineAppender {
    /// Hands blocks to the writer; waits while its queue is full.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] or [`StoreError::Closed`]: the blocks are lost.
    pub fn append(&self, writes: Vec<StreamWrite>) -> Result<(), StoreError> {
        self.store.accepts()?;
        self.writes.send(writes).map_err(|_| StoreError::Closed)
    }

    /// As [`LineAppender::append`], but waits at most `patience`.
    ///
    /// # Errors
    /// As there; [`StoreError::Full`] if the writer did not take them in time, as it stands still while the disk is full.
    pub fn append_within(&self, writes: Vec<StreamWrite>, patience: Duration) -> Result<(), StoreError> {
        self.store.accepts()?;
        self.writes.send_timeout(writes, patience).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => StoreError::Full { path: self.store.dir.clone() },
            SendTimeoutError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// The log, to read.
    #[must_use]
    pub fn store(&self) -> &Arc<LineStore> {
        &self.store
    }
}

impl LineStore {
    /// Opens the log in `dir`, brings the index up to it, and starts the writer's and the syncer's threads. `sync_interval` is
    /// the longest time between a write and the sync that covers it.
    ///
    /// # Errors
    /// As [`SegmentLog::open`], and those of the index.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SegmentOptions,
        index: Arc<dyn Index>,
        epoch: u32,
        sync_interval: Duration,
    ) -> Result<(Arc<Self>, LineAppender, LineThreads), StoreError> {
        let (store, appender, writer, syncer) = Self::assemble(disk, dir, options, index, epoch, sync_interval)?;
        let threads = vec![
            spawn("line-writer", move || writer.run()).map_err(|e| StoreError::io("start a thread for", dir, e))?,
            spawn("line-syncer", move || syncer.run()).map_err(|e| StoreError::io("start a thread for", dir, e))?,
        ];
        Ok((store, appender, LineThreads(threads)))
    }

    /// Opens the log, and leaves its work to be started.
    fn assemble(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SegmentOptions,
        index: Arc<dyn Index>,
        epoch: u32,
        sync_interval: Duration,
    ) -> Result<(Arc<Self>, LineAppender, Writer, Syncer), StoreError> {
        let (log, log_writer, was_cut) = rebuild::open(disk, dir, options, index.as_ref())?;
        let (writes, input) = bounded(WRITE_QUEUE);
        let (written, from_writer) = bounded(SYNC_QUEUE);
        let indexed = Arc::new(AtomicU64::new(log.synced()));
        let (synced, following) = watch::channel(log.synced());
        let room = Parker::new();
        let syncer = Syncer {
            log: log.clone(),
            index: Arc::clone(&index),
            written: from_writer,
            interval: sync_interval,
            indexed: Arc::clone(&indexed),
            synced,
            room: room.unparker().clone(),
        };
        let closing = Arc::new(AtomicBool::new(false));
        let writer =
            Writer { log: log.clone(), appender: log_writer, input, written, indexed, room, closing: Arc::clone(&closing) };
        let (registry, epoch, dir) = (Registry::default(), AtomicU32::new(epoch), dir.to_owned());
        let store = Arc::new(Self { log, index, registry, epoch, was_cut, dir, closing, following });
        Ok((Arc::clone(&store), LineAppender { store, writes }, writer, syncer))
    }

    /// Whether the log takes input.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] if it does not.
    pub fn accepts(&self) -> Result<(), StoreError> {
        self.log.poisoned().map_or(Ok(()), |why| Err(StoreError::Poisoned { why }))
    }

    /// From now on lines that find a full disk are lost instead of waiting for room: the gateway ends, and must.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// The log beneath, to read and to trim.
    #[must_use]
    pub fn log(&self) -> &SegmentLog {
        &self.log
    }

    /// The store's epoch: raised when a power loss may have taken back lines that were shown.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether opening has found less of the log than was indexed: lines that were shown are gone, so that their numbers will be
    /// given again, and that needs another epoch.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Begins another epoch. To be called before the first append only.
    pub fn begin_epoch(&self, epoch: u32) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// What is known of a stream, with all that is written. Reads the disk if the stream is not in memory.
    ///
    /// # Errors
    /// The index's.
    pub fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError> {
        match self.registry.get(step_run) {
            Some(tail) => Ok(tail.record().map(|record| StreamRecord::clone(&record))),
            None => self.index.stream(step_run),
        }
    }

    /// The stream's tail, whether or not it has lines yet. Reads the disk if the stream is not in memory.
    ///
    /// # Errors
    /// The index's.
    pub fn tail(&self, step_run: &StepRunId) -> Result<Arc<StreamTail>, StoreError> {
        loop {
            let departures = self.registry.departures();
            if let Some(tail) = self.registry.get(step_run) {
                return Ok(tail);
            }
            // Nobody writes to a stream that is not in memory, so the record is still true when the tail is put in, unless it was
            // in memory meanwhile.
            let record = self.index.stream(step_run)?;
            if let Some(tail) = self.registry.get_or_insert(step_run, departures, || StreamTail::new(record)) {
                return Ok(tail);
            }
        }
    }

    /// Lets go of a stream if nobody but the caller holds its `tail`, which the caller then lets go of too; says whether so.
    pub fn release(&self, step_run: &StepRunId, tail: &Arc<StreamTail>) -> bool {
        self.registry.release(step_run, tail)
    }

    /// Lets go of the streams that nobody holds: what readers and retention leave behind. All of such a stream is indexed, since
    /// the line log's own threads hold it until then.
    pub fn release_unused(&self) {
        self.registry.release_unused();
    }

    /// Makes the index forget a stream, unless it is in memory, where it may be added to; says whether it did.
    ///
    /// # Errors
    /// The index's.
    pub fn forget_unless_open(&self, step_run: &StepRunId) -> Result<bool, StoreError> {
        self.registry.while_absent(step_run, || self.index.forget_stream(step_run))
    }

    /// The end of what is synced and indexed, for those who wait for it to move. Its sender goes when the log is closed.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<Position> {
        self.following.clone()
    }

    /// Up to where the log is indexed.
    ///
    /// # Errors
    /// The index's.
    pub fn indexed(&self) -> Result<Position, StoreError> {
        self.index.indexed(LogKind::Lines)
    }

    /// How many streams are in memory.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.registry.len()
    }

    /// The block that holds `line`, if any, and those after it, in order, at most `limit`. Reads the disk unless the tail
    /// answers.
    ///
    /// # Errors
    /// The index's.
    pub fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<TailBlock>, StoreError> {
        // The tail first: a block leaves it only after the index has it, so nothing falls between the two.
        let snapshot = self.registry.get(step_run).map(|tail| tail.snapshot()).unwrap_or_default();
        // Not if it begins with `line`: a gap of unknown size may stand before it, in the index.
        let in_tail = snapshot.blocks().next().is_some_and(|oldest| oldest.place.first_line < line);
        let mut found: Vec<TailBlock> = if in_tail {
            Vec::new()
        } else {
            self.indexed_from(step_run, line, limit)?.into_iter().map(|place| TailBlock { place, block: None }).collect()
        };
        if found.len() < limit {
            let known = found.last().map_or(0, |last| last.place.position);
            let more = snapshot.blocks().filter(|block| {
                block.place.position > known && (block.place.next_line() > line || block.place.first_line >= line)
            });
            found.extend(more.take(limit - found.len()).cloned());
        }
        Ok(found)
    }

    /// As [`Self::blocks_from`], of what is indexed. Entries of removed segments, which a crash of retention can leave, are passed
    /// over.
    fn indexed_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<BlockRef>, StoreError> {
        let oldest = self.log.start();
        let mut from = line;
        let mut kept: Vec<BlockRef> = Vec::new();
        loop {
            let places = self.index.blocks_from(step_run, from, limit)?;
            let known = kept.last().map_or(0, |last| last.position);
            kept.extend(places.iter().filter(|place| place.position >= oldest && place.position > known));
            match places.last() {
                Some(last) if places.len() == limit && kept.len() < limit && last.next_line() > from => from = last.next_line(),
                _ => break,
            }
        }
        kept.truncate(limit);
        Ok(kept)
    }

    /// The block at a place. Reads the disk.
    ///
    /// # Errors
    /// As [`SegmentLog::read`]; [`StoreError::Damaged`] if the frame holds no readable block.
    pub fn read(&self, place: &BlockRef) -> Result<Block, StoreError> {
        let block = self.log.read(place.position).and_then(|frame| {
            format::decode(&frame.body).map_err(|_| self.log.damaged(place.position, "the frame holds no readable block"))
        });
        if let Err(error @ StoreError::Damaged { .. }) = &block {
            tracing::error!(%error, "lines cannot be read; readers see a gap. `arcgate store verify` finds what else is damaged");
            metrics::counter!("arcgate_store_damaged_reads_total").increment(1);
        }
        block
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

impl LineSource for LineStore {
    fn tail(&self, step_run: &StepRunId) -> Result<Arc<StreamTail>, StoreError> {
        Self::tail(self, step_run)
    }

    fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError> {
        Self::stream(self, step_run)
    }

    fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<TailBlock>, StoreError> {
        Self::blocks_from(self, step_run, line, limit)
    }

    fn read(&self, place: &BlockRef) -> Result<Block, StoreError> {
        Self::read(self, place)
    }

    fn epoch(&self) -> u32 {
        Self::epoch(self)
    }
}
