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

use super::StoreError;
use super::disk::Disk;
use super::index::{CACHE_BYTES, FjallIndex, Index, Opened};
use super::lock::FolderLock;
use super::meta::StoreMeta;
use super::segment::{LogKind, SegmentOptions};
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
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| uuid::Uuid::new_v4().to_string(), |id| id.trim().into())
}
