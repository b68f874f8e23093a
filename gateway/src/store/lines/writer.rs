//! The thread that writes the line log: all that waits goes into one write, then readers see it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender};
use crossbeam::sync::Parker;

use super::syncer::Written;
use super::{BlockRef, StreamTail, TailBlock, fold};
use crate::block::format::{self, FormatError};
use crate::block::{Block, Content};
use crate::budget::Permit;
use crate::clock::Millis;
use crate::id::StepRunId;
use crate::store::index::{LineUpdate, StreamRecord, record};
use crate::store::segment::{FrameDraft, FrameKind, LogWriter, SegmentLog};
use crate::store::{Position, StoreError};

/// A frame that holds a block.
pub const BLOCK: FrameKind = FrameKind(0x81);
/// A frame that holds what is known of a stream beside its blocks.
pub const MARK: FrameKind = FrameKind(0x83);

/// One write takes at most about this many bytes: enough to amortise the system call, small enough for a reader to wait for.
const MAX_WRITE_BYTES: usize = 4 << 20;

/// A block's content stays in memory for its readers up to this size; they read larger ones back from the page cache.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// What lies after "indexed up to" is read again at the next start, so it is bounded: past this the writer waits.
pub(super) const MAX_UNINDEXED_BYTES: u64 = 64 << 20;

/// New blocks of one stream, in order.
pub struct StreamWrite {
    /// The stream.
    pub step_run: StepRunId,
    /// Its tail, where the blocks are published.
    pub tail: Arc<StreamTail>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// What is known of the stream after them.
    pub record: StreamRecord,
    /// Append the record too: it says something that blocks do not.
    pub mark: bool,
    /// When the first of the lines came, in Unix milliseconds.
    pub arrived: Millis,
    /// The memory the blocks take, given back once they are written.
    pub memory: Vec<Permit>,
}

/// Why blocks could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// How long a full disk is left alone.
const RETRY: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Writer {
    pub(super) log: SegmentLog,
    pub(super) appender: LogWriter,
    pub(super) input: Receiver<Vec<StreamWrite>>,
    pub(super) written: Sender<Written>,
    pub(super) indexed: Arc<AtomicU64>,
    pub(super) room: Parker,
    /// The gateway ends: a full disk is an error now, not something to wait for.
    pub(super) closing: Arc<AtomicBool>,
}

impl Writer {
    /// Runs until every sender is gone, or the log takes no more.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.input.recv() {
            self.round(first);
            self.wait_for_room();
        }
    }

    /// Writes `first` and what waits behind it.
    pub(super) fn round(&mut self, first: Vec<StreamWrite>) {
        let mut writes = first;
        let mut size = size_of(&writes);
        while size < MAX_WRITE_BYTES {
            let Ok(more) = self.input.try_recv() else { break };
            size += size_of(&more);
            writes.extend(more);
        }
        if let Err(error) = self.write(writes) {
            tracing::error!(%error, "lines could not be written; no more input is taken until a restart");
            self.log.poison(format!("write lines: {error}"));
        }
    }

    /// Appends, and tries again for as long as the disk is full: senders are held back meanwhile, and what cannot wait is dropped
    /// and counted where it comes in.
    fn append(&mut self, drafts: &[FrameDraft<'_>]) -> Result<Vec<Position>, StoreError> {
        let mut positions = Vec::with_capacity(drafts.len());
        loop {
            match self.appender.append(drafts, &mut positions) {
                Err(error) if error.is_retryable() && !self.closing.load(Acquire) => {
                    tracing::warn!(%error, "lines wait to be written; trying again");
                    positions.clear();
                    std::thread::park_timeout(RETRY);
                }
                appended => return appended.map(|()| positions),
            }
        }
    }

    fn write(&mut self, writes: Vec<StreamWrite>) -> Result<(), WriteError> {
        let bodies: Vec<_> = writes.iter().flat_map(frames_of).collect::<Result<_, FormatError>>()?;
        let drafts: Vec<FrameDraft<'_>> =
            bodies.iter().map(|(kind, parts)| FrameDraft { kind: *kind, parts: parts.as_slice() }).collect();
        let positions = self.append(&drafts)?;
        self.log.count_records(writes.iter().map(records_of).sum());
        metrics::histogram!("arcgate_line_write_bytes").record(size_of(&writes) as f64);
        let mut positions = positions.into_iter();
        let updates = writes.into_iter().map(|write| publish(write, &mut positions)).collect();
        if self.written.send(Written { end: self.appender.end(), updates }).is_err() {
            // It ends only after this thread has, unless it panicked.
            self.log.poison("hand written lines to the thread that syncs them");
        }
        Ok(())
    }

    fn wait_for_room(&self) {
        while self.appender.end().saturating_sub(self.indexed.load(Acquire)) > MAX_UNINDEXED_BYTES
            && self.log.poisoned().is_none()
        {
            self.room.park();
        }
    }
}

fn size_of(writes: &[StreamWrite]) -> usize {
    writes.iter().flat_map(|write| &write.blocks).map(bytes_of).sum()
}

fn bytes_of(block: &Block) -> usize {
    match &block.content {
        Content::Text { bytes, .. } => bytes.len(),
        Content::Gap { .. } => 0,
    }
}

/// How many records a follower of the log finds in a write: as many as `sink::feed` counts.
fn records_of(write: &StreamWrite) -> u64 {
    let of_block = |block: &Block| match block.content {
        Content::Text { .. } => u64::from(block.lines),
        Content::Gap { .. } => 1,
    };
    write.blocks.iter().map(of_block).sum::<u64>() + u64::from(write.mark && write.record.ended)
}

fn frames_of(write: &StreamWrite) -> impl Iterator<Item = Result<(FrameKind, [Bytes; 2]), FormatError>> {
    let mark = write.mark.then(|| Ok((MARK, [record::encode_mark(&write.step_run, &write.record), Bytes::new()])));
    write.blocks.iter().map(|block| Ok((BLOCK, format::encode(block)?))).chain(mark)
}

/// Shows a stream's blocks to its readers and makes the index's update of them.
fn publish(write: StreamWrite, positions: &mut impl Iterator<Item = Position>) -> (Arc<StreamTail>, LineUpdate) {
    let StreamWrite { step_run, tail, blocks, mut record, mark, arrived, memory } = write;
    let keep = tail.has_readers();
    let mut places = Vec::with_capacity(blocks.len());
    let group: Arc<[TailBlock]> = blocks
        .into_iter()
        .zip(&mut *positions)
        .map(|(block, position)| {
            let place = BlockRef { first_line: block.first_line, lines: block.lines, position };
            places.push(place);
            let block = (keep && bytes_of(&block) <= MAX_KEPT_BYTES).then(|| Arc::new(block));
            TailBlock { place, block }
        })
        .collect();
    // Retention marks streams that it does not own, so that what it says may be behind.
    if places.is_empty()
        && let Some(known) = tail.record()
    {
        let mark = std::mem::replace(&mut record, StreamRecord::clone(&known));
        fold::add_mark(&mut record, mark);
    }
    let newest = places.last().map(|place| place.position);
    let newest = if mark { positions.next().or(newest) } else { newest };
    record.newest = newest.unwrap_or(record.newest);
    tail.publish(&group, record.clone(), arrived);
    drop(memory);
    (tail, LineUpdate { step_run, blocks: places, record })
}
