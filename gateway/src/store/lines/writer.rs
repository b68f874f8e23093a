//! The thread that writes the line log: all that waits goes into one write, then readers see it.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender};
use crossbeam::sync::Parker;

use super::syncer::Written;
use super::{BlockRef, StreamTail, TailBlock};
use crate::block::{Block, Content, format};
use crate::budget::Permit;
use crate::id::StepRunId;
use crate::store::index::{LineUpdate, StreamRecord, record};
use crate::store::segment::{FrameDraft, FrameKind, LogWriter};
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
    /// The memory the blocks take, given back once they are written.
    pub memory: Vec<Permit>,
}

/// See the module.
pub(super) struct Writer {
    pub(super) log: LogWriter,
    pub(super) input: Receiver<Vec<StreamWrite>>,
    pub(super) written: Sender<Written>,
    pub(super) indexed: Arc<std::sync::atomic::AtomicU64>,
    pub(super) room: Parker,
}

impl Writer {
    /// Runs until every sender is gone, or the log takes no more.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.input.recv() {
            let mut writes = first;
            let mut size = size_of(&writes);
            while size < MAX_WRITE_BYTES {
                let Ok(more) = self.input.try_recv() else { break };
                size += size_of(&more);
                writes.extend(more);
            }
            if let Err(error) = self.write(writes) {
                tracing::error!(%error, "lines could not be written; no more input is taken until a restart");
                self.log.log().poison(&error.to_string());
            }
            self.wait_for_room();
        }
    }

    fn write(&mut self, writes: Vec<StreamWrite>) -> Result<(), StoreError> {
        let bodies: Vec<(FrameKind, [Bytes; 2])> = writes.iter().flat_map(frames_of).collect();
        let drafts: Vec<FrameDraft<'_>> =
            bodies.iter().map(|(kind, parts)| FrameDraft { kind: *kind, parts: parts.as_slice() }).collect();
        let mut positions = Vec::with_capacity(drafts.len());
        self.log.append(&drafts, &mut positions)?;
        metrics::histogram!("arcgate_line_write_bytes").record(size_of(&writes) as f64);
        let mut positions = positions.into_iter();
        let updates = writes.into_iter().map(|write| publish(write, &mut positions)).collect();
        // The syncer ends only after this thread has.
        let _ = self.written.send(Written { end: self.log.end(), updates });
        Ok(())
    }

    fn wait_for_room(&self) {
        use std::sync::atomic::Ordering::Acquire;
        while self.log.end().saturating_sub(self.indexed.load(Acquire)) > MAX_UNINDEXED_BYTES
            && self.log.log().poisoned().is_none()
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

fn frames_of(write: &StreamWrite) -> impl Iterator<Item = (FrameKind, [Bytes; 2])> {
    let mark = write.mark.then(|| (MARK, [record::encode_mark(&write.step_run, &write.record), Bytes::new()]));
    write.blocks.iter().map(|block| (BLOCK, format::encode(block))).chain(mark)
}

/// Shows a stream's blocks to its readers and makes the index's update of them.
fn publish(write: StreamWrite, positions: &mut impl Iterator<Item = Position>) -> (Arc<StreamTail>, LineUpdate) {
    let StreamWrite { step_run, tail, blocks, mut record, mark, memory } = write;
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
    if mark {
        positions.next();
    }
    record.newest = places.last().map_or(record.newest, |place| place.position);
    if record.ended && !tail.is_ended() {
        tail.set_ended(true);
    }
    tail.publish(group);
    drop(memory);
    (tail, LineUpdate { step_run, blocks: places, record })
}
