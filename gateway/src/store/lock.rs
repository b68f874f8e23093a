//! The lock on the store's folder: one process at a time.
//!
//! An advisory lock (`flock`) on the file `LOCK`, which holds the owner's pid for people to read. The system releases it when the
//! process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;

const FILE: &str = "LOCK";

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock on the folder `dir`, which is created if need be.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it; a failure of the disk.
    pub fn acquire(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|error| StoreError::io("create", dir, error))?;
        let path = dir.join(FILE);
        let fail = |action| move |error| StoreError::io(action, &dir.join(FILE), error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail("open"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let known = (&file).take(32).read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
                let pid = if known { pid.trim().to_owned() } else { "not known".to_owned() };
                return Err(StoreError::Locked { path: dir.to_owned(), pid });
            }
            Err(error) => return Err(fail("lock")(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail("write to"))?;
        writeln!(file, "{}", std::process::id()).map_err(fail("write to"))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_second_owner_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let first = FolderLock::acquire(&folder).unwrap();
        let error = FolderLock::acquire(&folder).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(error.contains("in use by another process"), "{error}");
        drop(first);
        FolderLock::acquire(&folder).unwrap();
    }
}
