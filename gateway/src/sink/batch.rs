//! A batch: a range of a log's positions that can be read again and again, and is the same each time.
//!
//! A batch holds no records itself. [`LineBatch::entries`] and [`EventBatch::events`] read the log a frame at a time and block the
//! thread meanwhile: call them where that is allowed ([`tokio::task::spawn_blocking`]). They end with
//! [`StoreError::Trimmed`](crate::store::StoreError::Trimmed) if retention removes what comes next.

use std::fmt;

use super::entries::{Entries, Events};
use super::feed::{EventFeed, Feed, LineFeed};
use crate::clock::Millis;
use crate::store::Position;

/// A range of the line log.
pub type LineBatch = Batch<LineFeed>;
/// A range of the event log.
pub type EventBatch = Batch<EventFeed>;

/// Which records a batch consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where the range begins.
    pub from: Position,
    /// Where it ends: that of the last frame.
    pub to: Position,
    /// The store's epoch when the batch was cut first. It stays the same when the batch is cut again after a restart.
    pub epoch: u32,
    /// How many records at the beginning of the range do not belong to it; 0 unless it is a part of a batch.
    pub skip: u64,
    /// How many records do.
    pub records: u64,
    /// Roughly how many bytes of text or events they are.
    pub bytes: u64,
    /// Bytes of the largest of its frames that holds a record.
    pub largest: u64,
    /// When the first frame with a record was received, in Unix milliseconds. All of a batch was received on one day (UTC).
    pub received: Millis,
    /// It is a part of a batch that was refused.
    pub partial: bool,
}

impl Extent {
    /// `count` records of this extent, after the first `skip`.
    #[must_use]
    pub fn part(&self, skip: u64, count: u64) -> Self {
        let count = count.min(self.records.saturating_sub(skip));
        let bytes = u128::from(self.bytes) * u128::from(count) / u128::from(self.records.max(1));
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self { skip: self.skip + skip, records: count, bytes, partial: true, ..*self }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Batch<F> {
    feed: F,
    extent: Extent,
}

impl<F: Feed> Batch<F> {
    pub(super) fn new(feed: F, extent: Extent) -> Self {
        Self { feed, extent }
    }

    /// Which records it consists of.
    #[must_use]
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Which store it comes from.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.feed.store_id()
    }

    /// A name that is the same whenever the same records are sent, and never that of other records: store, epoch, range, and
    /// which of the range's records if it is a part.
    #[must_use]
    pub fn token(&self) -> String {
        let Extent { from, to, epoch, skip, records, partial, .. } = self.extent;
        let part = if partial { format!("-{skip}+{records}") } else { String::new() };
        format!("{:032x}-{epoch}-{from}-{to}{part}", self.store_id())
    }

    /// Two halves; `None` of a single record.
    pub(super) fn halves(&self) -> Option<[Self; 2]> {
        let half = self.extent.records / 2;
        (half > 0).then(|| {
            [(0, half), (half, u64::MAX)]
                .map(|(skip, count)| Self { feed: self.feed.clone(), extent: self.extent.part(skip, count) })
        })
    }
}

impl LineBatch {
    /// The batch's blocks and ends of logs, in the order of the log.
    #[must_use]
    pub fn entries(&self) -> Entries {
        Entries::new(self.feed.clone(), &self.extent)
    }
}

impl EventBatch {
    /// The batch's events, in the order of the log.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(&self.feed, &self.extent)
    }
}

impl<F: Feed> fmt::Debug for Batch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.extent.fmt(f)
    }
}
