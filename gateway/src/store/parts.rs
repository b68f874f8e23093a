//! What both logs share: the folder and its lock, the store's record, the index.
//!
//! | in the store's folder | what |
//! |---|---|
//! | `LOCK` | the process that has it |
//! | `META` | [`super::meta`] |
//! | `lines/`, `events/` | the two logs: [`super::segment`] |
//! | `index/` | the index: a cache |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use super::disk::Disk;
use super::events::{EventLog, EventLogOptions};
use super::index::{CACHE_BYTES, FjallIndex, Index, Opened};
use super::lines::{LineAppender, LineStore, LineThreads};
use super::lock::FolderLock;
use super::meta::StoreMeta;
use super::segment::{LogKind, Recovery, SegmentOptions};
use crate::clock::Clock;

/// See the module.
pub struct Parts {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The store's record.
    pub meta: Arc<StoreMeta>,
    /// The index.
    pub index: Arc<dyn Index>,
    path: PathBuf,
    _lock: FolderLock,
}

/// Both logs, open.
pub struct Logs {
    /// The line log, to read.
    pub lines: Arc<LineStore>,
    /// The line log, to append to.
    pub appender: LineAppender,
    /// The line log's threads.
    pub line_threads: LineThreads,
    /// The event log.
    pub events: EventLog,
    /// What opening the event log has found.
    pub recovery: Recovery,
}

impl Parts {
    /// Opens the folder `path`, made if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Version`], failures of the disk.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        disk.create_dir_all(path).map_err(|error| StoreError::io("create", path, error))?;
        let lock = FolderLock::acquire(path)?;
        let meta = StoreMeta::open(&disk, path, &boot_id())?;
        let (index, opened) = FjallIndex::open_or_rebuild(&path.join("index"), CACHE_BYTES)?;
        if let Opened::Rebuilt { why } = opened {
            tracing::warn!(%why, "the index could not be used and is built anew");
        }
        Ok(Self { disk, meta: Arc::new(meta), index: Arc::new(index), path: path.to_owned(), _lock: lock })
    }

    /// As [`Parts::open`], with an index that is empty.
    ///
    /// # Errors
    /// As [`Parts::open`].
    pub fn open_without_index(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        let parts = Self::open(disk, path)?;
        parts.index.clear()?;
        Ok(parts)
    }

    /// Opens both logs and brings the index up to them. `sync_interval` is that of the line log.
    ///
    /// # Errors
    /// Those of [`EventLog::open`] and [`LineStore::open`].
    pub fn open_logs(&self, segment_bytes: u64, sync_interval: Duration, clock: &Clock) -> Result<Logs, StoreError> {
        let (mut events, mut recovery) = self.open_events(segment_bytes, clock)?;
        let indexed = self.index.indexed(LogKind::Events)?;
        let (lines, appender, line_threads) = LineStore::open(
            Arc::clone(&self.disk),
            &self.lines_dir(),
            self.options(LogKind::Lines, segment_bytes, clock),
            Arc::clone(&self.index),
            self.meta.epoch(),
            sync_interval,
        )?;
        if lines.was_cut() {
            lines.begin_epoch(self.meta.raise_epoch()?);
        }
        if self.index.indexed(LogKind::Events)? < indexed {
            // The index was ahead of the line log: all of it was made anew, but what the events had in it.
            events.close();
            (events, recovery) = self.open_events(segment_bytes, clock)?;
        }
        Ok(Logs { lines, appender, line_threads, events, recovery })
    }

    fn open_events(&self, segment_bytes: u64, clock: &Clock) -> Result<(EventLog, Recovery), StoreError> {
        EventLog::open(EventLogOptions {
            disk: Arc::clone(&self.disk),
            dir: self.events_dir(),
            segments: self.options(LogKind::Events, segment_bytes, clock),
            index: Arc::clone(&self.index),
        })
    }

    /// Where lines are.
    #[must_use]
    pub fn lines_dir(&self) -> PathBuf {
        self.path.join("lines")
    }

    /// Where events are.
    #[must_use]
    pub fn events_dir(&self) -> PathBuf {
        self.path.join("events")
    }

    /// The store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What one of the logs is opened with.
    #[must_use]
    pub fn options(&self, kind: LogKind, segment_bytes: u64, clock: &Clock) -> SegmentOptions {
        SegmentOptions {
            kind,
            segment_bytes,
            store_id: self.meta.store_id(),
            incarnation: self.meta.incarnation(),
            clock: clock.clone(),
        }
    }
}

/// Names this boot of the machine; a store that was not closed in order before another boot may have lost its last second.
fn boot_id() -> String {
    // Where the system does not say it, every start counts as another boot: that only costs an epoch.
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| uuid::Uuid::new_v4().to_string(), |id| id.trim().into())
}
