//! Where a sink is: its cursor and the ends of the batches that may have been sent, in the file `sinks/<name>` of the store.
//!
//! A [`SlotFile`] with these entries (numbers are little-endian):
//!
//! | name | value |
//! |---|---|
//! | `store_id` | 16 bytes: the store whose positions these are |
//! | `cursor` | 8 bytes: all before is delivered, or among the dead letters |
//! | `ends` | 12 bytes a batch, in order: where it ends (8), and the epoch it was cut in (4); each begins where the one before it ends, the first at the cursor |
//!
//! A batch's end is here before its first send, so that the same batches are cut again after a crash.

use std::path::Path;

use crate::store::disk::Disk;
use crate::store::slots::{Entries, SlotFile};
use crate::store::{Position, StoreError};

/// The folder, in the store's.
pub const FOLDER: &str = "sinks";

/// The end of a batch that may have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Where it ends.
    pub to: Position,
    /// The store's epoch when it was cut.
    pub epoch: u32,
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// All before is delivered.
    pub cursor: Position,
    /// The batches that may have been sent, oldest first.
    pub ends: Vec<End>,
}

/// See the module. Calls block.
pub struct SinkCursor {
    file: SlotFile,
    store_id: u128,
    saved: Option<Saved>,
}

impl SinkCursor {
    /// Opens the file of the sink `name` in the store's folder `dir`, or makes one.
    ///
    /// # Errors
    /// A failure of the disk; a file that is damaged, of an unknown format, or of another store.
    pub fn open(disk: &dyn Disk, dir: &Path, name: &str, store_id: u128) -> Result<Self, StoreError> {
        let dir = dir.join(FOLDER);
        disk.create_dir_all(&dir).map_err(|error| StoreError::io("create", &dir, error))?;
        let path = dir.join(name);
        let file = SlotFile::open(disk, &path)?;
        let damaged = |why| StoreError::Damaged { path: path.clone(), position: 0, why };
        if file.get().is_empty() {
            return Ok(Self { file, store_id, saved: None });
        }
        let saved = decode(file.get()).ok_or_else(|| damaged("it does not say where the sink is"))?;
        if file.get().get("store_id").is_none_or(|of| of != &store_id.to_le_bytes()) {
            return Err(damaged("it belongs to another store; remove it, and the sink begins with the oldest that is there"));
        }
        Ok(Self { file, store_id, saved: Some(saved) })
    }

    /// What was saved last; `None` of a sink that is new.
    #[must_use]
    pub fn saved(&self) -> Option<&Saved> {
        self.saved.as_ref()
    }

    /// Saves, durably once it returns.
    ///
    /// # Errors
    /// A failure of the disk. What the file says then is what it said, or `next`; the same call may be made again.
    ///
    /// # Panics
    /// The cursor would move back.
    pub fn save(&mut self, next: Saved) -> Result<(), StoreError> {
        assert!(self.saved.as_ref().is_none_or(|saved| saved.cursor <= next.cursor), "a sink's cursor never moves back");
        if self.saved.as_ref() == Some(&next) {
            return Ok(());
        }
        self.put(next)
    }

    /// Sets the cursor back to where the log ends now: the disk has lost what it had promised to keep, and what comes next gets
    /// positions that were used before.
    pub(super) fn reset(&mut self, end: Position) -> Result<(), StoreError> {
        self.put(Saved { cursor: end, ends: Vec::new() })
    }

    fn put(&mut self, next: Saved) -> Result<(), StoreError> {
        let mut ends = Vec::with_capacity(next.ends.len() * 12);
        for End { to, epoch } in &next.ends {
            ends.extend_from_slice(&to.to_le_bytes());
            ends.extend_from_slice(&epoch.to_le_bytes());
        }
        let entries =
            [("store_id", self.store_id.to_le_bytes().to_vec()), ("cursor", next.cursor.to_le_bytes().to_vec()), ("ends", ends)];
        self.file.put(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())?;
        self.saved = Some(next);
        Ok(())
    }
}

/// `None` if the entries do not fit together.
fn decode(entries: &Entries) -> Option<Saved> {
    let cursor = Position::from_le_bytes(entries.get("cursor")?.as_slice().try_into().ok()?);
    let (ends, rest) = entries.get("ends")?.as_chunks::<12>();
    let mut before = cursor;
    let ends = ends.iter().map(|bytes| {
        let (to, epoch) = bytes.split_first_chunk::<8>()?;
        let end = End { to: Position::from_le_bytes(*to), epoch: u32::from_le_bytes(epoch.try_into().ok()?) };
        (end.to > std::mem::replace(&mut before, end.to)).then_some(end)
    });
    let ends = ends.collect::<Option<_>>()?;
    rest.is_empty().then_some(Saved { cursor, ends })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::store::disk::sim::SimDisk;

    fn open(disk: &SimDisk, store_id: u128) -> Result<SinkCursor, StoreError> {
        SinkCursor::open(disk, Path::new("/store"), "s", store_id)
    }

    fn saved(cursor: Position, ends: &[Position]) -> Saved {
        Saved { cursor, ends: ends.iter().map(|to| End { to: *to, epoch: 3 }).collect() }
    }

    #[test]
    fn what_was_saved_is_there_after_a_crash() {
        let disk = SimDisk::new(1);
        let mut cursor = open(&disk, 7).unwrap();
        assert_eq!(cursor.saved(), None);
        for step in 1..20 {
            cursor.save(saved(step * 8, &[step * 8 + 8, step * 8 + 16])).unwrap();
        }
        let mut cursor = open(&disk.crash(), 7).unwrap();
        assert_eq!(cursor.saved(), Some(&saved(152, &[160, 168])));
        let moves_back = std::panic::AssertUnwindSafe(|| cursor.save(saved(144, &[])));
        assert!(std::panic::catch_unwind(moves_back).is_err());
    }

    #[test]
    fn another_stores_cursor_is_refused() {
        let disk = SimDisk::new(1);
        open(&disk, 7).unwrap().save(saved(8, &[])).unwrap();
        assert!(matches!(open(&disk, 8), Err(StoreError::Damaged { .. })));
        assert!(open(&disk, 7).is_ok());
    }

    #[test]
    fn as_many_batches_as_may_be_under_way_fit() {
        let disk = SimDisk::new(1);
        let ends: Vec<_> = (1..=crate::sink::delivery::MAX_UNDER_WAY as u64).map(|n| n * 8).collect();
        open(&disk, 7).unwrap().save(saved(0, &ends)).unwrap();
        assert_eq!(open(&disk, 7).unwrap().saved().unwrap().ends.len(), ends.len());
    }
}
