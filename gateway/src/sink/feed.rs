//! The two logs as sinks read them, and how batches are cut from them.
//!
//! Only synced bytes are read: what a sink has, the store never takes back. A batch ends at a frame's end, when the next frame
//! would make it too large or was received on another day (UTC).

use std::sync::Arc;

use tokio::sync::watch;

use super::batch::{Batch, Extent};
use super::delivery::BatchLimits;
use crate::block::format;
use crate::clock::Millis;
use crate::id::StepRunId;
use crate::store::events::{EVENT, EventLog};
use crate::store::index::record;
use crate::store::lines::{BLOCK, LineStore, MARK};
use crate::store::segment::{FrameHead, FrameKind, HeadScanned, SegmentLog};
use crate::store::{Position, StoreError};

const DAY: Millis = 86_400_000;

/// What a gap or an end of a log counts as, in bytes.
const SMALL: u64 = 64;

/// What a frame counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Records: a block's lines; 1 for a gap, an end of a log, an event; else 0.
    pub records: u64,
    /// Bytes of text or event.
    pub bytes: u64,
}

/// One of the logs.
pub trait Feed: Clone + Send + Sync + 'static {
    /// The log.
    fn log(&self) -> &SegmentLog;

    /// The end of what is synced, for those who wait for it to move.
    fn synced(&self) -> &watch::Receiver<Position>;

    /// Which store it belongs to.
    fn store_id(&self) -> u128;

    /// What a frame counts as, by its kind, the beginning of its body, and the body's length.
    fn weigh(&self, kind: FrameKind, body: &[u8], len: usize) -> Weight;
}

/// What a frame of the line log counts as.
#[must_use]
pub fn weigh_lines(kind: FrameKind, body: &[u8]) -> Weight {
    match kind {
        BLOCK => match format::peek(body) {
            Some(format::Peek::Text { lines, raw_bytes }) => Weight { records: lines.into(), bytes: raw_bytes.into() },
            Some(format::Peek::Gap) => Weight { records: 1, bytes: SMALL },
            None => Weight::default(),
        },
        MARK if record::peek_ended(body) => Weight { records: 1, bytes: SMALL },
        _ => Weight::default(),
    }
}

/// What a frame of the event log counts as.
#[must_use]
pub fn weigh_events(kind: FrameKind, len: usize) -> Weight {
    let records = u64::from(kind == EVENT);
    Weight { records, bytes: records * len as u64 }
}

/// The line log.
#[derive(Clone)]
pub struct LineFeed {
    store: Arc<LineStore>,
    synced: watch::Receiver<Position>,
    store_id: u128,
}

impl LineFeed {
    /// The line log of the store of that id.
    #[must_use]
    pub fn new(store: Arc<LineStore>, store_id: u128) -> Self {
        let synced = store.synced();
        Self { store, synced, store_id }
    }

    /// The pipeline of a step run; empty if not known.
    pub(super) fn pipeline_of(&self, step_run: &StepRunId) -> Result<Arc<str>, StoreError> {
        Ok(self.store.stream(step_run)?.map_or_else(|| Arc::from(""), |record| record.pipeline_id))
    }
}

impl Feed for LineFeed {
    fn log(&self) -> &SegmentLog {
        self.store.log()
    }

    fn synced(&self) -> &watch::Receiver<Position> {
        &self.synced
    }

    fn store_id(&self) -> u128 {
        self.store_id
    }

    fn weigh(&self, kind: FrameKind, body: &[u8], _: usize) -> Weight {
        weigh_lines(kind, body)
    }
}

/// The event log.
#[derive(Clone)]
pub struct EventFeed {
    log: SegmentLog,
    synced: watch::Receiver<Position>,
    store_id: u128,
}

impl EventFeed {
    /// The event log of the store of that id.
    #[must_use]
    pub fn new(events: &EventLog, store_id: u128) -> Self {
        Self::over(events.segments().clone(), events.synced(), store_id)
    }

    /// A log of events, and the end of what is synced of it.
    #[must_use]
    pub(crate) fn over(log: SegmentLog, synced: watch::Receiver<Position>, store_id: u128) -> Self {
        Self { log, synced, store_id }
    }
}

impl Feed for EventFeed {
    fn log(&self) -> &SegmentLog {
        &self.log
    }

    fn synced(&self) -> &watch::Receiver<Position> {
        &self.synced
    }

    fn store_id(&self) -> u128 {
        self.store_id
    }

    fn weigh(&self, kind: FrameKind, _: &[u8], len: usize) -> Weight {
        weigh_events(kind, len)
    }
}

/// Cuts batches off a log, one after the other. Looks at each frame's header once.
pub struct Cutter<F> {
    feed: F,
    limits: BatchLimits,
    epoch: u32,
    /// Where the next batch begins.
    from: Position,
    /// All before is in the next batch.
    at: Position,
    gathered: Weight,
    largest: u64,
    received: Option<Millis>,
}

/// What a look at the log has given.
pub enum Cut<F> {
    /// A batch that cannot grow.
    Full(Batch<F>),
    /// All that is synced is gathered, and there is room for more; is there a record in it?
    Open(bool),
}

impl<F: Feed> Cutter<F> {
    /// Begins at `from`; batches bear `epoch`.
    pub fn new(feed: F, limits: BatchLimits, from: Position, epoch: u32) -> Self {
        Self { feed, limits, epoch, from, at: from, gathered: Weight::default(), largest: 0, received: None }
    }

    /// Where the next batch begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.from
    }

    /// Up to where it has looked.
    #[must_use]
    pub fn looked(&self) -> Position {
        self.at
    }

    /// Lets go of what has been looked at, if no record was in it: the next batch begins behind it.
    pub fn skip(&mut self) {
        if self.gathered.records == 0 {
            self.from = self.at;
        }
    }

    /// Goes on up to what is synced now. Blocks.
    ///
    /// # Errors
    /// The log cannot be read; [`StoreError::Trimmed`] if retention has removed what comes next.
    pub fn advance(&mut self) -> Result<Cut<F>, StoreError> {
        let until = *self.feed.synced().borrow();
        let start = self.feed.log().start();
        if self.at < start {
            return Err(StoreError::Trimmed(self.at));
        }
        for item in self.feed.log().heads(self.at, until) {
            match item? {
                HeadScanned::Frame(head) => {
                    let weight = self.feed.weigh(head.kind, head.body(), head.len);
                    if !self.fits(weight, head.received) {
                        return Ok(Cut::Full(self.take()));
                    }
                    self.add(weight, &head);
                    self.at = head.next;
                }
                HeadScanned::Damage { from, to, why } => {
                    tracing::error!(from, to, why, "damaged bytes of the log are passed over; no sink gets what they held");
                    self.at = to;
                }
            }
        }
        self.at = self.at.max(until);
        if self.is_full() { Ok(Cut::Full(self.take())) } else { Ok(Cut::Open(self.gathered.records > 0)) }
    }

    fn fits(&self, weight: Weight, received: Millis) -> bool {
        let Some(first) = self.received.filter(|_| weight.records > 0) else { return true };
        self.gathered.records.saturating_add(weight.records) <= self.limits.records
            && self.gathered.bytes.saturating_add(weight.bytes) <= self.limits.bytes
            && first.div_euclid(DAY) == received.div_euclid(DAY)
    }

    fn is_full(&self) -> bool {
        self.gathered.records >= self.limits.records || self.gathered.bytes >= self.limits.bytes
    }

    fn add(&mut self, weight: Weight, head: &FrameHead) {
        self.gathered.records += weight.records;
        self.gathered.bytes = self.gathered.bytes.saturating_add(weight.bytes);
        if weight.records > 0 {
            self.largest = self.largest.max(head.len as u64);
            self.received.get_or_insert(head.received);
        }
    }

    /// Ends the batch where it is; `None` if there is no record in it.
    pub fn close(&mut self) -> Option<Batch<F>> {
        (self.gathered.records > 0).then(|| self.take())
    }

    fn take(&mut self) -> Batch<F> {
        let Weight { records, bytes } = std::mem::take(&mut self.gathered);
        let largest = std::mem::take(&mut self.largest);
        let received = self.received.take().unwrap_or(0);
        let from = std::mem::replace(&mut self.from, self.at);
        let extent = Extent { from, to: self.at, epoch: self.epoch, skip: 0, records, bytes, largest, received, partial: false };
        Batch::new(self.feed.clone(), extent)
    }

    /// Cuts the batch from here to `to` that an earlier run has cut under `epoch`, whatever the limits are now. Blocks.
    ///
    /// # Errors
    /// As [`Cutter::advance`].
    pub fn recut(&mut self, to: Position, epoch: u32) -> Result<Batch<F>, StoreError> {
        for item in self.feed.log().heads(self.at, to) {
            if let HeadScanned::Frame(head) = item? {
                let weight = self.feed.weigh(head.kind, head.body(), head.len);
                self.add(weight, &head);
                self.at = head.next;
            }
        }
        self.at = self.at.max(to);
        let now = std::mem::replace(&mut self.epoch, epoch);
        let batch = self.take();
        self.epoch = now;
        Ok(batch)
    }
}
