//! What a batch holds, read from its log.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Extent;
use super::feed::{EventFeed, Feed, LineFeed, weigh_events, weigh_lines};
use crate::block::{Block, Content, format};
use crate::clock::Millis;
use crate::id::StepRunId;
use crate::store::events::{StoredEvent, stored_event};
use crate::store::index::{StreamRecord, record};
use crate::store::lines::BLOCK;
use crate::store::segment::{Frame, Scan, Scanned};
use crate::store::{Position, StoreError};

/// How many streams' pipelines a way through a batch remembers.
const PIPELINES: usize = 4096;

/// Something in the line log that sinks deliver.
#[derive(Debug, Clone)]
pub struct LineEntry {
    /// Where its frame lies.
    pub position: Position,
    /// When it was appended, in Unix milliseconds.
    pub received: Millis,
    /// The pipeline of its step run, as far as known; else empty.
    pub pipeline_id: Arc<str>,
    /// What it is.
    pub what: LineContent,
}

/// See [`LineEntry`].
#[derive(Debug, Clone)]
pub enum LineContent {
    /// Lines, or a gap that this gateway knows of.
    Block(Block),
    /// The step run's log is complete. May come more than once.
    End {
        /// The step run.
        step_run: StepRunId,
        /// What was known of it then: [`StreamRecord::next_line`] follows its last line.
        record: Box<StreamRecord>,
    },
}

/// Which records of a range are meant.
#[derive(Debug)]
struct Window {
    skip: u64,
    left: u64,
}

impl Window {
    fn of(extent: &Extent) -> Self {
        Self { skip: extent.skip, left: extent.records }
    }

    /// How many of the next `records` records are left out, and how many after those are meant.
    fn pass(&mut self, records: u64) -> (u64, u64) {
        let skipped = records.min(self.skip);
        self.skip -= skipped;
        let taken = (records - skipped).min(self.left);
        self.left -= taken;
        (skipped, taken)
    }
}

/// A batch's blocks and ends of logs.
pub struct Entries {
    feed: LineFeed,
    scan: Scan,
    window: Window,
    pipelines: HashMap<StepRunId, Arc<str>>,
}

impl Entries {
    pub(super) fn new(feed: LineFeed, extent: &Extent) -> Self {
        let scan = feed.log().scan(extent.from, extent.to);
        Self { feed, scan, window: Window::of(extent), pipelines: HashMap::new() }
    }

    fn entry(&mut self, frame: &Frame) -> Result<Option<LineEntry>, StoreError> {
        let (skipped, taken) = self.window.pass(weigh_lines(frame.kind, &frame.body).records);
        if taken == 0 {
            return Ok(None);
        }
        let what = if frame.kind == BLOCK {
            let Ok(mut block) = format::decode(&frame.body) else { return Ok(None) };
            narrow(&mut block, skipped, taken);
            LineContent::Block(block)
        } else {
            let Ok((step_run, record)) = record::decode_mark(&frame.body) else { return Ok(None) };
            LineContent::End { step_run, record: Box::new(record) }
        };
        let step_run = match &what {
            LineContent::Block(block) => &block.step_run,
            LineContent::End { step_run, .. } => step_run,
        };
        let pipeline_id = match self.pipelines.get(step_run) {
            Some(pipeline_id) => Arc::clone(pipeline_id),
            None => {
                let pipeline_id = self.feed.pipeline_of(step_run)?;
                if self.pipelines.len() >= PIPELINES {
                    self.pipelines.clear();
                }
                self.pipelines.insert(step_run.clone(), Arc::clone(&pipeline_id));
                pipeline_id
            }
        };
        Ok(Some(LineEntry { position: frame.position, received: frame.received, pipeline_id, what }))
    }
}

/// Leaves `taken` lines of a block, after the first `skipped`. A gap counts as one record and stays whole.
fn narrow(block: &mut Block, skipped: u64, taken: u64) {
    if let Content::Text { skip, .. } = &mut block.content {
        // Both are parts of the block's own count, which has 32 bits.
        *skip += skipped as u32;
        block.first_line += skipped;
        block.lines = taken as u32;
    }
}

impl Iterator for Entries {
    type Item = Result<LineEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.window.left > 0 {
            match self.scan.next()? {
                Ok(Scanned::Frame(frame)) => match self.entry(&frame) {
                    Ok(Some(entry)) => return Some(Ok(entry)),
                    Ok(None) => {}
                    Err(error) => {
                        self.window.left = 0;
                        return Some(Err(error));
                    }
                },
                // Whoever cut the batch has said so.
                Ok(Scanned::Damage { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

/// A batch's events.
pub struct Events {
    scan: Scan,
    window: Window,
}

impl Events {
    pub(super) fn new(feed: &EventFeed, extent: &Extent) -> Self {
        Self { scan: feed.log().scan(extent.from, extent.to), window: Window::of(extent) }
    }
}

impl Iterator for Events {
    type Item = Result<StoredEvent, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.window.left > 0 {
            match self.scan.next()? {
                Ok(Scanned::Frame(frame)) => {
                    let (_, taken) = self.window.pass(weigh_events(frame.kind, frame.body.len()).records);
                    if taken > 0
                        && let Some(event) = stored_event(frame)
                    {
                        return Some(Ok(event));
                    }
                }
                Ok(Scanned::Damage { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}
