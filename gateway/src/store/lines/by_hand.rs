//! The line log for tests: what its threads do happens when the test says so, over a disk and an index in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::syncer::{Syncer, Unsynced};
use super::writer::Writer;
use super::{LineAppender, LineStore};
use crate::block::lines::LineReader;
use crate::block::{GapReason, Run};
use crate::clock::Clock;
use crate::id::{Id, StepRunId};
use crate::replay::cursor::LineCursor;
use crate::replay::page::{Entry, Page};
use crate::store::StoreError;
use crate::store::disk::sim::SimDisk;
use crate::store::index::Index;
use crate::store::index::memory::MemoryIndex;
use crate::store::segment::{LogKind, SegmentOptions};

/// See the module.
pub(crate) struct ByHand {
    pub(crate) disk: SimDisk,
    pub(crate) index: Arc<MemoryIndex>,
    pub(crate) store: Arc<LineStore>,
    pub(crate) appender: LineAppender,
    pub(crate) epoch: u32,
    incarnation: u64,
    writer: Writer,
    syncer: Syncer,
    unsynced: Unsynced,
}

/// What a reader is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Line { number: u64, text: String, run: Run },
    Gap { first: u64, count: u64, reason: GapReason },
}

pub(crate) fn options(incarnation: u64, segment_bytes: u64) -> SegmentOptions {
    SegmentOptions { kind: LogKind::Lines, segment_bytes, store_id: 7, incarnation, clock: Clock::manual(1000) }
}

pub(crate) fn dir() -> &'static Path {
    Path::new("/store/lines")
}

pub(crate) fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

impl ByHand {
    pub(crate) fn new(seed: u64) -> Self {
        Self::open(SimDisk::new(seed), Arc::default(), 1, 1).unwrap()
    }

    pub(crate) fn open(disk: SimDisk, index: Arc<MemoryIndex>, epoch: u32, incarnation: u64) -> Result<Self, StoreError> {
        let (over, of) = (Arc::new(disk.clone()), Arc::clone(&index) as Arc<dyn Index>);
        let (store, appender, writer, syncer) =
            LineStore::assemble(over, dir(), options(incarnation, 64 << 10), of, epoch, Duration::ZERO)?;
        Ok(Self { disk, index, store, appender, epoch, incarnation, writer, syncer, unsynced: Unsynced::default() })
    }

    /// Starts anew over what the disk and the index hold now.
    pub(crate) fn reopen(&mut self) {
        *self = Self::open(self.disk.clone(), Arc::clone(&self.index), self.epoch, self.incarnation + 1).unwrap();
    }

    /// The power fails, and is back.
    pub(crate) fn lose_power(&mut self) {
        self.disk = self.disk.crash();
        self.epoch += 1;
    }

    /// Writes all that has been appended; says whether that went well.
    pub(crate) fn write(&mut self) -> bool {
        let mut well = true;
        while let Ok(first) = self.writer.input.try_recv() {
            self.writer.round(first);
            match self.syncer.written.try_recv() {
                Ok(written) => self.unsynced.add(written),
                Err(_) => well = false,
            }
        }
        well
    }

    /// Syncs and indexes all that is written.
    pub(crate) fn sync(&mut self) {
        self.syncer.round(&mut self.unsynced);
    }

    /// What a reader is shown who comes now and reads from `line` on.
    pub(crate) fn shown_from(&self, step_run: &StepRunId, line: u64) -> Vec<Shown> {
        let tail = self.store.tail(step_run).unwrap();
        let mut cursor = LineCursor::new(step_run.clone(), line, Clock::manual(0));
        let mut shown = Vec::new();
        loop {
            let (mut page, mut reader) = (Page::default(), LineReader::default());
            cursor.load(&*self.store, &tail, &mut reader, &mut page).unwrap();
            if page.is_empty() {
                return shown;
            }
            take_all(&mut page, &mut shown);
        }
    }

    pub(crate) fn shown(&self, step_run: &str) -> Vec<Shown> {
        self.shown_from(&id(step_run), 1)
    }

    /// The texts of the lines; a gap as its count in parentheses.
    pub(crate) fn texts(&self, step_run: &str) -> Vec<String> {
        let text = |shown| match shown {
            Shown::Line { text, .. } => text,
            Shown::Gap { count, .. } => format!("({count})"),
        };
        self.shown(step_run).into_iter().map(text).collect()
    }
}

/// Empties a page.
pub(crate) fn take_all(page: &mut Page, shown: &mut Vec<Shown>) {
    let mut mark = crate::replay::page::Mark { next_line: 0, passed: 0 };
    while let Some(entry) = page.peek() {
        shown.push(match entry {
            Entry::Line { number, text, run } => {
                Shown::Line { number, text: String::from_utf8_lossy(text).into_owned(), run: Run { lines: 1, ..run.clone() } }
            }
            Entry::Gap(gap) => Shown::Gap { first: gap.first_line, count: gap.count, reason: gap.reason },
        });
        page.advance(&mut mark);
    }
}
