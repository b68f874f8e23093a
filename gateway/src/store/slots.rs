//! A small file of named values that is replaced as a whole: two slots, of which the older is overwritten in turn, so that a torn
//! write leaves the other.
//!
//! The slots lie at offset 0 and at 65,536. A slot (numbers are little-endian):
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `ARCSLOT\0` |
//! | 8 | 4 | CRC32C of what follows, up to the end of the entries |
//! | 12 | 4 | format: 1 |
//! | 16 | 8 | number of this version; the slot with the higher one counts |
//! | 24 | 4 | size of the entries in bytes |
//! | 28 | size | the entries, in the order of their names |
//!
//! An entry: length of the name (2), name (UTF-8), length of the value (4), value.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::disk::{Disk, DiskFile};

/// The format that this release writes.
const FORMAT: u32 = 1;
/// The oldest format that this release reads.
const OLDEST_FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"ARCSLOT\0";
/// A slot's size, its header included.
pub const SLOT_BYTES: usize = 64 << 10;
const HEADER: usize = 28;

/// Named values.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// The file, and what it holds.
pub struct SlotFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    version: u64,
    entries: Entries,
}

/// A slot that is sound.
struct Slot {
    version: u64,
    entries: Entries,
    bytes: Vec<u8>,
}

impl SlotFile {
    /// Opens the file, or creates it (then it holds nothing).
    ///
    /// # Errors
    /// A failure of the disk, an unknown format, or a file of which neither slot is sound.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let empty = |file| Self { file, path: path.to_owned(), version: 0, entries: Entries::new() };
        let file = match disk.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(path).map_err(|error| StoreError::io("create", path, error))?;
                sync_dir_of(disk, path)?;
                return Ok(empty(file));
            }
            Err(error) => return Err(StoreError::io("open", path, error)),
        };
        // The file may have been created by a process that died before it made that durable.
        sync_dir_of(disk, path)?;
        let size = file.size().map_err(|error| StoreError::io("read", path, error))?;
        let slots = [read_slot(&*file, path, 0)?, read_slot(&*file, path, 1)?];
        let Some((index, slot)) =
            slots.into_iter().enumerate().filter_map(|(i, slot)| Some((i, slot?))).max_by_key(|(_, s)| s.version)
        else {
            if size <= SLOT_BYTES as u64 {
                // The second slot was never written: the first write of all has not returned.
                return Ok(empty(file));
            }
            return Err(StoreError::Damaged { path: path.to_owned(), position: 0, why: "neither of its two slots is readable" });
        };
        // After a failed sync of an earlier process the page cache may hold what the disk does not: write it again.
        write_slot(&*file, path, index, &slot.bytes)?;
        Ok(Self { file, path: path.to_owned(), version: slot.version, entries: slot.entries })
    }

    /// What the file holds.
    #[must_use]
    pub fn get(&self) -> &Entries {
        &self.entries
    }

    /// Replaces what the file holds, durably once it returns. If it fails, the file holds what it held; after a crash it may hold
    /// `entries` all the same.
    ///
    /// # Errors
    /// A failure of the disk; entries that are larger than a slot. The same call may be made again.
    pub fn put(&mut self, entries: Entries) -> Result<(), StoreError> {
        let version = self.version + 1;
        let bytes = encode(version, &entries).map_err(|error| StoreError::io("write to", &self.path, error))?;
        // Versions take turns, from version 1 in slot 0: the slot of the version that counts is never touched.
        write_slot(&*self.file, &self.path, slot_of(version), &bytes)?;
        self.version = version;
        self.entries = entries;
        Ok(())
    }
}

fn slot_of(version: u64) -> usize {
    usize::from(version.is_multiple_of(2))
}

fn sync_dir_of(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(path);
    disk.sync_dir(dir).map_err(|error| StoreError::io("sync", dir, error))
}

fn write_slot(file: &dyn DiskFile, path: &Path, index: usize, bytes: &[u8]) -> Result<(), StoreError> {
    file.write_all_at(&mut [IoSlice::new(bytes)], (index * SLOT_BYTES) as u64)
        .map_err(|error| StoreError::io("write to", path, error))?;
    file.sync_data().map_err(|error| StoreError::io("sync", path, error))
}

fn read_slot(file: &dyn DiskFile, path: &Path, index: usize) -> Result<Option<Slot>, StoreError> {
    let mut bytes = vec![0; SLOT_BYTES];
    let read = file.read_at(&mut bytes, (index * SLOT_BYTES) as u64).map_err(|error| StoreError::io("read", path, error))?;
    bytes.truncate(read);
    let Some(size) = number(&bytes, 24) else { return Ok(None) };
    let Some(slot) = bytes.get(..HEADER.saturating_add(size as usize)) else { return Ok(None) };
    if &slot[..8] != MAGIC || number(slot, 8) != Some(crc32c::crc32c(&slot[12..])) {
        return Ok(None);
    }
    let found = number(slot, 12).unwrap_or(0);
    if !(OLDEST_FORMAT..=FORMAT).contains(&found) {
        return Err(StoreError::Version { path: path.to_owned(), found, oldest: OLDEST_FORMAT, newest: FORMAT });
    }
    let mut version = [0; 8];
    version.copy_from_slice(&slot[16..24]);
    let version = u64::from_le_bytes(version);
    let entries = decode(&slot[HEADER..]).filter(|_| slot_of(version) == index);
    Ok(entries.map(|entries| Slot { version, entries, bytes: slot.to_vec() }))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn encode(version: u64, entries: &Entries) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    body.extend_from_slice(&FORMAT.to_le_bytes());
    body.extend_from_slice(&version.to_le_bytes());
    body.extend_from_slice(&[0; 4]);
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, format!("its entries do not fit into {SLOT_BYTES} bytes"));
    for (name, value) in entries {
        body.extend_from_slice(&u16::try_from(name.len()).map_err(|_| too_large())?.to_le_bytes());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).map_err(|_| too_large())?.to_le_bytes());
        body.extend_from_slice(value);
    }
    let size = body.len() - 16;
    if HEADER + size > SLOT_BYTES {
        return Err(too_large());
    }
    body[12..16].copy_from_slice(&(size as u32).to_le_bytes());
    Ok([MAGIC.as_slice(), &crc32c::crc32c(&body).to_le_bytes(), &body].concat())
}

fn decode(mut bytes: &[u8]) -> Option<Entries> {
    let mut entries = Entries::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_at_checked(2)?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(len.try_into().ok()?)))?;
        let (len, rest) = rest.split_at_checked(4)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(len.try_into().ok()?) as usize)?;
        entries.insert(str::from_utf8(name).ok()?.to_owned(), value.to_vec());
        bytes = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests;
