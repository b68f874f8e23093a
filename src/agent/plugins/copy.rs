//! Copies files and folders, so that it can be stopped in the middle.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much is copied between two looks whether to stop.
const STRIDE: u64 = 64 << 20;
/// How many files one artifact may have.
const FILES_MOST: u64 = 100_000;

/// What was copied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Links and the like, which are left out.
    pub(super) others: u64,
}

/// Copies a file, or what a folder holds, into the folder `to`.
///
/// # Errors
/// Something cannot be read or written, it is too much, or `stop` was set.
pub(super) fn copy(from: &Path, to: &Path, stop: &AtomicBool) -> io::Result<Copied> {
    let mut copied = Copied::default();
    if from.is_dir() {
        folder(from, to, stop, &mut copied)?;
    } else {
        std::fs::create_dir_all(to)?;
        let name = from.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
        file(from, &to.join(name), stop, &mut copied)?;
    }
    Ok(copied)
}

fn folder(from: &Path, to: &Path, stop: &AtomicBool, copied: &mut Copied) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            folder(&entry.path(), &to, stop, copied)?;
        } else if kind.is_file() {
            file(&entry.path(), &to, stop, copied)?;
        } else {
            copied.others += 1;
        }
    }
    Ok(())
}

fn file(from: &Path, to: &Path, stop: &AtomicBool, copied: &mut Copied) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    copied.files += 1;
    if copied.files > FILES_MOST {
        return Err(io::Error::other(format!("there are more than {FILES_MOST} files; pack them into one")));
    }
    let source = File::open(from).map_err(named)?;
    let mode = source.metadata().map_err(named)?.permissions();
    // What is there may be a link to somewhere else: another file takes its place.
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let mut target = OpenOptions::new().write(true).create_new(true).open(to).map_err(named)?;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was stopped"));
        }
        match io::copy(&mut (&source).take(STRIDE), &mut target).map_err(named)? {
            0 => break,
            bytes => copied.bytes += bytes,
        }
    }
    target.set_permissions(mode).map_err(named)
}
