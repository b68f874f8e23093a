//! The segment files of one log: creating, opening and unlinking them, and a bounded number of open handles.

#![expect(clippy::disallowed_types, reason = "the cache of open files, for reads of older segments only")]

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::format::{self, Identity, SEGMENT_HEADER, SegmentHeader};
use crate::clock::Millis;
use crate::store::disk::{Disk, DiskFile};
use crate::store::{Position, StoreError};

/// How many older segments stay open for readers. Few segments are read at a time; a process has at least 1,024 handles.
const OPEN_FILES: usize = 64;

/// The files of one log.
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) identity: Identity,
    /// The handles used last, at the end the one used last of all.
    opened: Mutex<Vec<(Position, Arc<dyn DiskFile>)>>,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, identity: Identity) -> Self {
        Self { disk, dir, identity, opened: Mutex::new(Vec::with_capacity(OPEN_FILES)) }
    }

    /// Where the segment that begins at `base` is.
    pub(super) fn path(&self, base: Position) -> PathBuf {
        self.dir.join(format::file_name(base))
    }

    /// A failure of `action` on the segment that begins at `base`.
    pub(super) fn error(&self, action: &'static str, base: Position, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path: self.dir.clone() },
            _ => StoreError::io(action, &self.path(base), error),
        }
    }

    /// Damage at `position` of the segment that begins at `base`.
    pub(super) fn damaged(&self, base: Position, position: Position, why: &'static str) -> StoreError {
        StoreError::Damaged { path: self.path(base), position, why }
    }

    /// Where the segments begin, in order.
    pub(super) fn list(&self) -> Result<Vec<Position>, StoreError> {
        let names = self.disk.list(&self.dir).map_err(|error| StoreError::io("list", &self.dir, error))?;
        let mut bases: Vec<_> = names.iter().filter_map(|name| format::parse_name(name)).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    /// Creates the segment that begins at `base`, with its header. Nothing of it is durable yet.
    pub(super) fn create(&self, base: Position, newest_before: Millis) -> Result<Arc<dyn DiskFile>, StoreError> {
        let file = self.disk.create(&self.path(base)).map_err(|error| self.error("create", base, error))?;
        self.write_header(&*file, base, newest_before)?;
        Ok(file)
    }

    /// Writes the header of the segment that begins at `base`.
    pub(super) fn write_header(&self, file: &dyn DiskFile, base: Position, newest_before: Millis) -> Result<(), StoreError> {
        let header = self.identity.encode_segment(&SegmentHeader { base, newest_before });
        file.write_all_at(&mut [IoSlice::new(&header)], 0).map_err(|error| self.error("write to", base, error))
    }

    /// Unlinks the segment that begins at `base`, durably. It may be missing already.
    pub(super) fn remove(&self, base: Position) -> Result<(), StoreError> {
        match self.disk.remove(&self.path(base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("remove", base, error)),
            _ => self.sync_dir(),
        }
    }

    /// Makes the creation and removal of segments durable.
    pub(super) fn sync_dir(&self) -> Result<(), StoreError> {
        self.disk.sync_dir(&self.dir).map_err(|error| StoreError::io("sync", &self.dir, error))
    }

    /// Opens the segment that begins at `base` and reads its header (`None` if that is damaged).
    pub(super) fn open(&self, base: Position) -> Result<(Arc<dyn DiskFile>, Option<SegmentHeader>), StoreError> {
        let file = self.disk.open(&self.path(base)).map_err(|error| self.error("open", base, error))?;
        let header = self.header(&*file, base)?;
        Ok((file, header))
    }

    /// Reads the header of the segment that begins at `base`; `None` if it is damaged.
    pub(super) fn header(&self, file: &dyn DiskFile, base: Position) -> Result<Option<SegmentHeader>, StoreError> {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        let read = self.read(file, base, base, &mut bytes)?;
        self.identity.decode_segment(&bytes[..read], base, &self.path(base))
    }

    /// Fills `buffer` from `position` of the segment that begins at `base`; less only at the file's end.
    pub(super) fn read(
        &self,
        file: &dyn DiskFile,
        base: Position,
        position: Position,
        buffer: &mut [u8],
    ) -> Result<usize, StoreError> {
        file.read_at(buffer, position - base).map_err(|error| self.error("read", base, error))
    }

    /// A handle of the segment that begins at `base`, opened if need be.
    pub(super) fn handle(&self, base: Position) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(file) = self.recall(base) {
            return Ok(file);
        }
        let (file, _) = self.open(base)?;
        self.keep(base, &file);
        Ok(file)
    }

    fn recall(&self, base: Position) -> Option<Arc<dyn DiskFile>> {
        let mut opened = self.opened.lock();
        let at = opened.iter().rposition(|(of, _)| *of == base)?;
        opened[at..].rotate_left(1);
        opened.last().map(|(_, file)| Arc::clone(file))
    }

    /// Keeps a handle for readers to come; lets go of the one that was used longest ago.
    pub(super) fn keep(&self, base: Position, file: &Arc<dyn DiskFile>) {
        let mut opened = self.opened.lock();
        opened.retain(|(of, _)| *of != base);
        if opened.len() >= OPEN_FILES {
            opened.remove(0);
        }
        opened.push((base, Arc::clone(file)));
    }

    /// Lets go of a segment's handle; readers that hold it keep it.
    pub(super) fn forget(&self, base: Position) {
        self.opened.lock().retain(|(of, _)| *of != base);
    }
}
