//! The line log of a running gateway, as retention sees it.

use std::time::Duration;

use crossbeam::channel::Receiver;

use super::wait_until;
use crate::block::format;
use crate::id::StepRunId;
use crate::sink::Undelivered;
use crate::store::index::{StreamRecord, record};
use crate::store::lines::{BLOCK, BlockRef, LineAppender, MARK, StreamWrite};
use crate::store::retention::lines::{LineEntry, LineSegments};
use crate::store::segment::{Frame, LogKind, Scanned, SegmentInfo};
use crate::store::{Position, StoreError};

/// How long the line log's writer may take before it counts as stuck; it stands still while the disk is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct RunningLines {
    pub(super) appender: LineAppender,
    pub(super) stopped: Receiver<()>,
    pub(super) undelivered: Undelivered,
}

impl LineSegments for RunningLines {
    fn segments(&self) -> Vec<SegmentInfo> {
        self.appender.store().log().segments()
    }

    fn keep_from(&self) -> Position {
        // If the index does not answer, nothing may go.
        self.appender.store().indexed().unwrap_or(0).min(self.undelivered.keep_from(LogKind::Lines))
    }

    fn entries(
        &self,
        segment: &SegmentInfo,
        each: &mut dyn FnMut(LineEntry) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for item in self.appender.store().log().scan(segment.start, segment.end) {
            if let Scanned::Frame(frame) = item?
                && let Some(entry) = entry(&frame)
            {
                each(entry)?;
            }
        }
        Ok(())
    }

    fn forget(&self, step_run: &StepRunId) -> Result<bool, StoreError> {
        self.appender.store().forget_unless_open(step_run)
    }

    fn append_marks(&self, marks: Vec<(StepRunId, StreamRecord)>) -> Result<(), StoreError> {
        let store = self.appender.store();
        // A shard may add to these streams at any time. It goes by the same tails, and so does the writer: what a mark says is
        // joined there with what is known by then.
        let sent_at = store.log().appended();
        let mut tails = Vec::with_capacity(marks.len());
        let mut writes = Vec::with_capacity(marks.len());
        for (step_run, indexed) in marks {
            let tail = store.tail(&step_run)?;
            let record = tail.record().map_or(indexed, |known| StreamRecord::clone(&known));
            tails.push(tail.clone());
            writes.push(StreamWrite { step_run, tail, blocks: Vec::new(), record, mark: true, arrived: 0, memory: Vec::new() });
        }
        self.appender.append_within(writes, PATIENCE)?;
        for tail in tails {
            // A block that came in between serves as well: it, too, outlives the segment that goes.
            wait_until(&self.stopped, || {
                store.accepts()?;
                let newest = tail.record().map_or(0, |record| record.newest);
                Ok(newest >= sent_at && store.indexed()? > newest)
            })?;
        }
        // Nobody else may hold some of these streams; then they leave memory with the next pass.
        Ok(())
    }

    fn trim(&self, before: Position) -> Result<Position, StoreError> {
        self.appender.store().log().trim(before)
    }
}

fn entry(frame: &Frame) -> Option<LineEntry> {
    match frame.kind {
        BLOCK => {
            let block = format::decode(&frame.body).ok()?;
            let place = BlockRef { first_line: block.first_line, lines: block.lines, position: frame.position };
            Some(LineEntry { step_run: block.step_run, block: Some(place) })
        }
        MARK => record::decode_mark(&frame.body).ok().map(|(step_run, _)| LineEntry { step_run, block: None }),
        _ => None,
    }
}
