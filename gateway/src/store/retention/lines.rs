//! Removing line segments.

use std::collections::{HashMap, HashSet};

use super::Removed;
use crate::id::StepRunId;
use crate::store::index::{Index, StreamRecord};
use crate::store::lines::BlockRef;
use crate::store::segment::SegmentInfo;
use crate::store::{Position, StoreError};

/// How many entries are gathered before they leave the index.
const AT_ONCE: usize = 16_384;
/// How many marks are appended at once.
const MARKS_AT_ONCE: usize = 1024;

/// What a frame of the line log says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineEntry {
    /// The stream.
    pub step_run: StepRunId,
    /// Its block; `None` for a mark.
    pub block: Option<BlockRef>,
}

/// What retention needs of the line log.
pub trait LineSegments {
    /// The segments, oldest first.
    fn segments(&self) -> Vec<SegmentInfo>;

    /// Segments that end after this position stay: at most what is indexed.
    fn keep_from(&self) -> Position;

    /// Calls `each` for every block and mark of a segment; damage and other frames are passed over.
    ///
    /// # Errors
    /// The segment cannot be read, or what `each` said.
    fn entries(&self, segment: &SegmentInfo, each: &mut dyn FnMut(LineEntry) -> Result<(), StoreError>)
    -> Result<(), StoreError>;

    /// Forgets a stream that has ended and of which no line is left; says whether it did. One that somebody has in memory, who
    /// may yet add to it, stays.
    ///
    /// # Errors
    /// The index's.
    fn forget(&self, step_run: &StepRunId) -> Result<bool, StoreError>;

    /// Appends marks of streams and returns once they are synced and indexed. The records are what the index knows, which may be
    /// behind: where a stream has grown since, the log appends what it knows itself, or nothing.
    ///
    /// # Errors
    /// The log cannot be written.
    fn append_marks(&self, marks: Vec<(StepRunId, StreamRecord)>) -> Result<(), StoreError>;

    /// Unlinks the segments that end at or before a position.
    ///
    /// # Errors
    /// The system refuses it.
    fn trim(&self, before: Position) -> Result<Position, StoreError>;
}

/// Removes the segments that end at or before `before`, one after the other. `leaving` is told of each just before it goes.
///
/// # Errors
/// What log or index say; segments before the failing one are gone, it and those after it are there.
pub fn remove(
    log: &impl LineSegments,
    index: &dyn Index,
    before: Position,
    leaving: &dyn Fn(&SegmentInfo),
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for segment in log.segments().iter().filter(|segment| segment.end <= before) {
        removed.kept += forget(log, index, segment)?;
        leaving(segment);
        log.trim(segment.end)?;
        removed.segments += 1;
        removed.bytes += segment.end - segment.start;
        removed.before = segment.end;
    }
    Ok(removed)
}

/// Makes the rest of the store independent of a segment. Returns how many marks that took.
fn forget(log: &impl LineSegments, index: &dyn Index, segment: &SegmentInfo) -> Result<u64, StoreError> {
    let mut streams = HashSet::new();
    let mut blocks: HashMap<StepRunId, Vec<BlockRef>> = HashMap::new();
    let mut gathered = 0;
    log.entries(segment, &mut |entry| {
        if !streams.contains(&entry.step_run) {
            streams.insert(entry.step_run.clone());
        }
        if let Some(block) = entry.block {
            blocks.entry(entry.step_run).or_default().push(block);
            gathered += 1;
        }
        if gathered >= AT_ONCE {
            gathered = 0;
            forget_blocks(index, &mut blocks)?;
        }
        Ok(())
    })?;
    forget_blocks(index, &mut blocks)?;

    let mut marks = Vec::new();
    let mut kept = 0;
    for step_run in streams {
        match index.stream(&step_run)? {
            // It has newer blocks, or is forgotten already.
            None => {}
            Some(record) if record.newest >= segment.end => {}
            Some(record) if record.ended && log.forget(&step_run)? => {}
            // Its numbers go on where they were.
            Some(record) => marks.push((step_run, record)),
        }
        if marks.len() >= MARKS_AT_ONCE {
            kept += marks.len() as u64;
            log.append_marks(std::mem::take(&mut marks))?;
        }
    }
    if !marks.is_empty() {
        kept += marks.len() as u64;
        log.append_marks(marks)?;
    }
    Ok(kept)
}

fn forget_blocks(index: &dyn Index, blocks: &mut HashMap<StepRunId, Vec<BlockRef>>) -> Result<(), StoreError> {
    blocks.drain().try_for_each(|(step_run, blocks)| index.forget_blocks(&step_run, &blocks))
}
