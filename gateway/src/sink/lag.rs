//! How far a sink is, for everyone but its runner: whoever waits for it, retention, the metrics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use metrics::{counter, gauge};
use tokio::sync::watch;

use super::feed::{Feed, Weight};
use crate::clock::Millis;
use crate::store::segment::{HeadScanned, LogKind, SegmentLog};
use crate::store::{Position, StoreError};

/// See the module.
#[derive(Debug)]
pub struct Progress {
    name: &'static str,
    kind: LogKind,
    cursor: watch::Sender<Position>,
    /// Records that waited when the log was opened, once they are counted.
    waiting_then: OnceLock<u64>,
    /// Records confirmed since.
    confirmed: AtomicU64,
    /// Records lost since.
    lost: AtomicU64,
    /// All before was lost, as far as the cursor was not past it.
    lost_before: AtomicU64,
}

impl Progress {
    /// Of the sink `name`, which is at `cursor` of a log that has just been opened.
    #[must_use]
    pub fn new(name: &'static str, kind: LogKind, cursor: Position) -> Self {
        for metric in ["arcgate_sink_delivered_total", "arcgate_sink_delivered_bytes_total", "arcgate_sink_retries_total"] {
            counter!(metric, "sink" => name).absolute(0);
        }
        for metric in ["arcgate_sink_deadletters_total", "arcgate_sink_lost_records_total", "arcgate_sink_lost_bytes_total"] {
            counter!(metric, "sink" => name).absolute(0);
        }
        Self {
            name,
            kind,
            cursor: watch::Sender::new(cursor),
            waiting_then: OnceLock::new(),
            confirmed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_before: AtomicU64::new(0),
        }
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Which log it reads.
    #[must_use]
    pub fn kind(&self) -> LogKind {
        self.kind
    }

    /// All before is delivered or among the dead letters, and that is durable; or there was nothing to deliver.
    #[must_use]
    pub fn cursor(&self) -> Position {
        *self.cursor.borrow()
    }

    /// The cursor, for those who wait for it to move.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Position> {
        self.cursor.subscribe()
    }

    /// The cursor has moved.
    pub(crate) fn moved(&self, to: Position) {
        self.cursor.send_if_modified(|cursor| {
            let moves = to > *cursor;
            *cursor = to.max(*cursor);
            moves
        });
    }

    /// A batch that ends at `to` is confirmed.
    pub(super) fn confirmed(&self, to: Position, weight: Weight) {
        // What retention took meanwhile has been counted as lost.
        if to > self.lost_before.load(Relaxed) {
            self.confirmed.fetch_add(weight.records, Relaxed);
            counter!("arcgate_sink_delivered_total", "sink" => self.name).increment(weight.records);
            counter!("arcgate_sink_delivered_bytes_total", "sink" => self.name).increment(weight.bytes);
        }
    }

    /// All before this is delivered or counted as lost.
    pub(crate) fn accounted(&self) -> Position {
        self.cursor().max(self.lost_before.load(Relaxed))
    }

    /// Retention takes what lies before `before` and is not delivered; counted as `records` in `bytes` of the log.
    pub(super) fn lose(&self, before: Position, records: u64, bytes: u64) {
        self.lost_before.fetch_max(before, Relaxed);
        self.lost.fetch_add(records, Relaxed);
        counter!("arcgate_sink_lost_records_total", "sink" => self.name).increment(records);
        counter!("arcgate_sink_lost_bytes_total", "sink" => self.name).increment(bytes);
    }

    /// Counts what waited when the log was opened, from the cursor of then to the log's `end` of then. Blocks for as long as
    /// reading all that takes, or until `stopped`.
    pub(crate) fn count_waiting<F: Feed>(&self, feed: &F, from: Position, end: Position, stopped: &AtomicBool) {
        match weigh_range(feed, from, end, stopped) {
            Ok(Some(waiting)) => drop(self.waiting_then.set(waiting)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(sink = self.name, %error, "what waits for the sink cannot be counted; arcgate_sink_lag_records is not shown");
            }
        }
    }

    /// How many records wait in `log`; `None` until that is known.
    #[must_use]
    pub fn lag_records(&self, log: &SegmentLog) -> Option<u64> {
        let gone = self.confirmed.load(Relaxed) + self.lost.load(Relaxed);
        Some((self.waiting_then.get()? + log.records()).saturating_sub(gone))
    }

    /// Shows the lag. `oldest` is when the oldest record that waits was received, `idle` that nothing waits.
    pub(super) fn show(&self, log: &SegmentLog, idle: bool, oldest: Option<Millis>, now: Millis) {
        if let Some(records) = self.lag_records(log) {
            gauge!("arcgate_sink_lag_records", "sink" => self.name).set(records as f64);
        }
        let bytes = if idle { 0 } else { log.synced().saturating_sub(self.accounted()) };
        gauge!("arcgate_sink_lag_bytes", "sink" => self.name).set(bytes as f64);
        let millis = oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        gauge!("arcgate_sink_lag_seconds", "sink" => self.name).set(millis as f64 / 1000.0);
    }
}

/// How many records lie between two positions; `None` if it was stopped. Frames that retention takes meanwhile are counted as lost
/// elsewhere, so that what is left of them here does not matter much.
fn weigh_range<F: Feed>(feed: &F, from: Position, end: Position, stopped: &AtomicBool) -> Result<Option<u64>, StoreError> {
    let (mut records, mut at) = (0, from.max(feed.log().start()));
    loop {
        let mut trimmed = false;
        for item in feed.log().heads(at, end) {
            match item {
                Ok(HeadScanned::Frame(head)) => {
                    records += feed.weigh(head.kind, head.body(), head.len).records;
                    at = head.next;
                }
                Ok(HeadScanned::Damage { to, .. }) => at = to,
                Err(StoreError::Trimmed(_)) => trimmed = true,
                Err(error) => return Err(error),
            }
            if stopped.load(Relaxed) {
                return Ok(None);
            }
        }
        if !trimmed {
            return Ok(Some(records));
        }
        at = at.max(feed.log().start());
    }
}
