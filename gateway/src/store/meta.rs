//! What the store knows of itself beside its logs: who it is, how often it was opened, its epoch, and the cursors.
//!
//! Kept in the [`SlotFile`] `META`. Its entries (numbers are little-endian):
//!
//! | name | value |
//! |---|---|
//! | `store_id` | 16 bytes, random |
//! | `incarnation` | 8 bytes: how often the store has been opened |
//! | `epoch` | 4 bytes: raised when the store opens after a loss of power, from 1 |
//! | `boot_id` | text: which boot of the machine opened it last |
//! | `clean_close` | 1 byte: 1 if it was closed in order since |
//! | `poisoned` | 1 byte: 1 if it took no more input when it was last open; see [`StoreMeta::note_poisoned`] |
//! | `known_since` | 8 bytes, signed: no event received after this moment (Unix milliseconds) has been forgotten |
//! | `cursor.<name>` | 8 bytes: a position in a log |

#![expect(clippy::disallowed_types, reason = "the store's record is written at opening, closing and once a second at most")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::disk::Disk;
use super::slots::{Entries, SlotFile};
use super::{Position, StoreError};
use crate::clock::Millis;

const FILE: &str = "META";

/// The store's own record. Calls may come from any thread; those that change it wait for the disk.
pub struct StoreMeta {
    store_id: u128,
    incarnation: u64,
    epoch: AtomicU32,
    file: Mutex<SlotFile>,
}

impl StoreMeta {
    /// Opens the record in the store's folder `dir`, or makes one. Raises the incarnation; raises the epoch if the machine has
    /// booted since and the store was not closed in order, or if it was poisoned: then lines that were shown may be lost.
    ///
    /// # Errors
    /// A failure of the disk; a record that is damaged or of an unknown format.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, boot_id: &str) -> Result<Self, StoreError> {
        disk.create_dir_all(dir).map_err(|error| StoreError::io("create", dir, error))?;
        let path = dir.join(FILE);
        // Without it the logs would be taken for another store's.
        if has_logs(&**disk, dir) && is_missing(&**disk, &path)? {
            return Err(StoreError::NoRecord { path, why: "is missing" });
        }
        let mut file = open_record(&**disk, &path)?;
        let mut entries = file.get().clone();
        let (store_id, incarnation, epoch) = if entries.is_empty() {
            (uuid::Uuid::new_v4().as_u128(), 1, 1)
        } else {
            let (store_id, incarnation, epoch) = identity(&entries, &path)?;
            let same_boot = entries.get("boot_id").is_some_and(|of| of == boot_id.as_bytes());
            let clean = entries.get("clean_close").is_some_and(|clean| clean == &[1]);
            let lost_power = !same_boot && !clean;
            let poisoned = entries.remove("poisoned").is_some_and(|poisoned| poisoned == [1]);
            let epoch = epoch + u32::from(lost_power || poisoned);
            (store_id, incarnation + 1, epoch)
        };
        entries.insert("store_id".into(), store_id.to_le_bytes().into());
        entries.insert("incarnation".into(), incarnation.to_le_bytes().into());
        entries.insert("epoch".into(), epoch.to_le_bytes().into());
        entries.insert("boot_id".into(), boot_id.into());
        entries.insert("clean_close".into(), vec![0]);
        file.put(entries)?;
        Ok(Self { store_id, incarnation, epoch: AtomicU32::new(epoch), file: Mutex::new(file) })
    }

    /// Reads the record of a store that is not opened for it: store id and last incarnation. `None` if `dir` holds no store.
    ///
    /// # Errors
    /// As [`StoreMeta::open`].
    pub fn look(disk: &dyn Disk, dir: &Path) -> Result<Option<(u128, u64)>, StoreError> {
        let path = dir.join(FILE);
        if is_missing(disk, &path)? {
            return if has_logs(disk, dir) { Err(StoreError::NoRecord { path, why: "is missing" }) } else { Ok(None) };
        }
        let file = open_record(disk, &path)?;
        if file.get().is_empty() {
            return Ok(None);
        }
        identity(file.get(), &path).map(|(store_id, incarnation, _)| Some((store_id, incarnation)))
    }

    /// Which store this is.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// How often the store has been opened, this time included.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The epoch: within one, no line that was shown is lost.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins another epoch, as opening the logs has shown that lines are gone; says which.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn raise_epoch(&self) -> Result<u32, StoreError> {
        let mut file = self.file.lock();
        let epoch = self.epoch() + 1;
        let mut entries = file.get().clone();
        entries.insert("epoch".into(), epoch.to_le_bytes().into());
        file.put(entries)?;
        self.epoch.store(epoch, Ordering::Release);
        Ok(epoch)
    }

    /// Notes that the store is closed in order: all that was shown is synced. Nothing may be shown after it.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn close_clean(&self) -> Result<(), StoreError> {
        let mut file = self.file.lock();
        let mut entries = file.get().clone();
        entries.insert("clean_close".into(), vec![1]);
        file.put(entries)
    }

    /// Notes that a log is poisoned, so that the next open raises the epoch: after a failed sync the page cache may forget lines
    /// that were shown, without any loss of power. Whoever finds the poison calls it, within a second or so; a process that is
    /// killed before that leaves no note, and the disk that failed may not take one.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn note_poisoned(&self) -> Result<(), StoreError> {
        let mut file = self.file.lock();
        if file.get().contains_key("poisoned") {
            return Ok(());
        }
        let mut entries = file.get().clone();
        entries.insert("poisoned".into(), vec![1]);
        file.put(entries)
    }

    /// No event that was received after this moment has been forgotten; 0 if none ever was.
    #[must_use]
    pub fn known_since(&self) -> Millis {
        array(self.file.lock().get(), "known_since").map_or(0, Millis::from_le_bytes)
    }

    /// Keeps what [`StoreMeta::known_since`] says.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn save_known_since(&self, moment: Millis) -> Result<(), StoreError> {
        let mut file = self.file.lock();
        let mut entries = file.get().clone();
        entries.insert("known_since".into(), moment.to_le_bytes().into());
        file.put(entries)
    }

    /// The cursor of that name; 0 if it was never saved.
    #[must_use]
    pub fn cursor(&self, name: &str) -> Position {
        cursor(self.file.lock().get(), &cursor_key(name))
    }

    /// Moves a cursor, durably once it returns. It never moves back: an earlier position than the saved one changes nothing.
    ///
    /// # Errors
    /// A failure of the disk, or more cursors than fit into the file.
    pub fn save_cursor(&self, name: &str, position: Position) -> Result<(), StoreError> {
        let key = cursor_key(name);
        let mut file = self.file.lock();
        if position <= cursor(file.get(), &key) {
            return Ok(());
        }
        let mut entries = file.get().clone();
        entries.insert(key, position.to_le_bytes().into());
        file.put(entries)
    }
}

fn open_record(disk: &dyn Disk, path: &Path) -> Result<SlotFile, StoreError> {
    SlotFile::open(disk, path).map_err(|error| match error {
        StoreError::Damaged { .. } => StoreError::NoRecord { path: path.to_owned(), why: "is damaged" },
        error => error,
    })
}

fn is_missing(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    match disk.open(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(StoreError::io("open", path, error)),
    }
}

/// Whether either log has files in the store's folder.
fn has_logs(disk: &dyn Disk, dir: &Path) -> bool {
    ["lines", "events"].iter().any(|log| disk.list(&dir.join(log)).is_ok_and(|files| !files.is_empty()))
}

/// Store id, incarnation and epoch.
fn identity(entries: &Entries, path: &Path) -> Result<(u128, u64, u32), StoreError> {
    let damaged = |why| StoreError::Damaged { path: path.to_owned(), position: 0, why };
    let store_id = array(entries, "store_id").ok_or_else(|| damaged("it names no store id"))?;
    let incarnation = array(entries, "incarnation").ok_or_else(|| damaged("it names no incarnation"))?;
    let epoch = array(entries, "epoch").ok_or_else(|| damaged("it names no epoch"))?;
    Ok((u128::from_le_bytes(store_id), u64::from_le_bytes(incarnation), u32::from_le_bytes(epoch)))
}

fn cursor_key(name: &str) -> String {
    format!("cursor.{name}")
}

fn cursor(entries: &Entries, key: &str) -> Position {
    array(entries, key).map_or(0, u64::from_le_bytes)
}

fn array<const N: usize>(entries: &Entries, name: &str) -> Option<[u8; N]> {
    entries.get(name)?.as_slice().try_into().ok()
}

#[cfg(test)]
mod tests;
