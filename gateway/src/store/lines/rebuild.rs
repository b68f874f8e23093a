//! Opening the line log: recover its end, then bring the index up to it. With an index that is missing or ahead of the log this
//! is the reindex of everything.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{BLOCK, BlockRef, MARK, fold};
use crate::block::format::{self, FormatError};
use crate::id::StepRunId;
use crate::store::disk::Disk;
use crate::store::index::{Index, LineUpdate, StreamRecord, record};
use crate::store::segment::{Frame, LogKind, LogWriter, Scanned, SegmentLog, SegmentOptions};
use crate::store::{Position, StoreError};

/// The index is written after this many frames, so that a reindex of any size takes little memory.
const FRAMES_A_BATCH: usize = 20_000;

/// Opens the log and indexes what the index lacks of it. Says whether the log had been longer.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: SegmentOptions,
    index: &dyn Index,
) -> Result<(SegmentLog, LogWriter, bool), StoreError> {
    let indexed = index.indexed(LogKind::Lines)?;
    let (log, writer, recovery) = SegmentLog::open(disk, dir, options, indexed, &mut |_| Ok(()))?;
    if recovery.index_ahead {
        tracing::warn!(indexed, end = log.synced(), "the index is ahead of the line log; it is built anew");
        index.clear()?;
    }
    catch_up(&log, index)?;
    Ok((log, writer, recovery.index_ahead))
}

/// Indexes what the index lacks of the log.
pub(super) fn catch_up(log: &SegmentLog, index: &dyn Index) -> Result<(), StoreError> {
    let from = index.indexed(LogKind::Lines)?.max(log.start());
    let mut batch = Batch { updates: HashMap::new(), frames: 0, index, log };
    for item in log.scan(from, log.synced()) {
        match item? {
            Scanned::Frame(frame) => {
                let next = frame.next;
                batch.add(&frame)?;
                if batch.frames >= FRAMES_A_BATCH {
                    batch.apply(next)?;
                }
            }
            Scanned::Damage { from, to, why } => {
                tracing::warn!(from, to, why, "part of the line log is damaged; readers see a gap there");
            }
        }
    }
    batch.apply(log.synced())
}

/// What the log says of streams beyond what the index knows: their records as they will be once the log is opened. Takes memory
/// for each block that is not indexed, which are few unless the index is missing.
pub(in crate::store) fn unindexed(
    log: &SegmentLog,
    index: &dyn Index,
) -> Result<impl Iterator<Item = (StepRunId, StreamRecord)> + use<>, StoreError> {
    let mut batch = Batch { updates: HashMap::new(), frames: 0, index, log };
    for item in log.scan(index.indexed(LogKind::Lines)?.max(log.start()), log.synced()) {
        if let Scanned::Frame(frame) = item? {
            batch.add(&frame)?;
        }
    }
    Ok(batch.updates.into_values().map(|update| (update.step_run, update.record)))
}

struct Batch<'a> {
    updates: HashMap<StepRunId, LineUpdate>,
    frames: usize,
    index: &'a dyn Index,
    log: &'a SegmentLog,
}

impl Batch<'_> {
    fn add(&mut self, frame: &Frame) -> Result<(), StoreError> {
        self.frames += 1;
        let position = frame.position;
        if frame.kind == BLOCK {
            let block = match format::decode(&frame.body) {
                Ok(block) => block,
                Err(FormatError::Version(version)) => return Err(self.later_release(position, version)),
                Err(error) => {
                    tracing::warn!(position, %error, "a block of the line log cannot be read; readers see a gap there");
                    return Ok(());
                }
            };
            let update = self.update(&block.step_run, || fold::new_record(fold::counting_of(&block)))?;
            fold::add_block(&mut update.record, &block, position);
            update.blocks.push(BlockRef { first_line: block.first_line, lines: block.lines, position });
        } else if frame.kind == MARK
            && let Ok((step_run, mut mark)) = record::decode_mark(&frame.body)
        {
            mark.newest = position;
            let update = self.update(&step_run, || mark.clone())?;
            fold::add_mark(&mut update.record, mark);
        } else if frame.kind == MARK {
            tracing::warn!(position, "a mark in the line log cannot be read and is passed over");
        } else if frame.kind.must_be_understood() {
            return Err(self.later_release(position, frame.kind.0));
        }
        Ok(())
    }

    fn later_release(&self, position: Position, found: u8) -> StoreError {
        match self.log.damaged(position, "a later release wrote it") {
            StoreError::Damaged { path, .. } => StoreError::Version { path, found: found.into(), oldest: 1, newest: 1 },
            other => other,
        }
    }

    fn update(&mut self, step_run: &StepRunId, new: impl FnOnce() -> StreamRecord) -> Result<&mut LineUpdate, StoreError> {
        if !self.updates.contains_key(step_run) {
            let record = self.index.stream(step_run)?.unwrap_or_else(new);
            self.updates.insert(step_run.clone(), LineUpdate { step_run: step_run.clone(), blocks: Vec::new(), record });
        }
        self.updates.get_mut(step_run).ok_or(StoreError::Closed)
    }

    fn apply(&mut self, up_to: Position) -> Result<(), StoreError> {
        self.frames = 0;
        let updates: Vec<LineUpdate> = self.updates.drain().map(|(_, update)| update).collect();
        self.index.apply_lines(up_to, &updates)
    }
}
