//! All that the store does to files, behind one small trait, so that tests can make each operation fail, tear, or lie.
//!
//! [`RealDisk`] is the file system. No other code of the store touches files (the index keeps its own).

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

mod real;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
mod tests;

pub use real::RealDisk;

/// Size and free space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process can still write.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Creates a folder and what is missing above it, durably.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names of the files in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file that exists, to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file that does not exist.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name in its folder, in place of a file that has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes creations, removals and renamings in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// The space of the file system that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file. Calls may come from several threads at once.
pub trait DiskFile: Send + Sync {
    /// The file's size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; less only at the file's end. Returns how many bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `parts` from `offset`, in one system call where the system takes them at once.
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Cuts the file to `size` bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Returns once all that was written before is on stable storage (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
}
