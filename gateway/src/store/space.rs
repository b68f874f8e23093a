//! Whether there is room for new input: none once less than 5% of the file system is free, again from 5.5% on.
//!
//! Only what comes from outside asks here. Reads, marks that retention appends so that it can remove segments, and lines made of
//! events that are stored already go on: what is left is for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;
use super::disk::Space;

/// Input is refused once free space falls below a 200th of the file system this many times …
const CLOSE_BELOW: u64 = 10;
/// … and taken again from this many on, so that a disk at the edge does not flutter.
const OPEN_FROM: u64 = 11;

/// See the module. Cloning shares it.
#[derive(Debug, Clone)]
pub struct SpaceGate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    closed: AtomicBool,
}

impl SpaceGate {
    /// An open gate to the store in `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Shared { path: path.to_owned(), closed: AtomicBool::new(false) }))
    }

    /// Takes note of how much is free; says whether that has closed or opened the gate.
    pub fn observe(&self, space: Space) -> bool {
        let closed = self.0.closed.load(Ordering::Relaxed);
        let needed = if closed { OPEN_FROM } else { CLOSE_BELOW };
        let close = u128::from(space.free) * 200 < u128::from(space.total) * u128::from(needed);
        self.0.closed.store(close, Ordering::Relaxed);
        close != closed
    }

    /// Whether new input is taken.
    ///
    /// # Errors
    /// [`StoreError::Full`] while it is not.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.0.closed.load(Ordering::Relaxed) { Err(StoreError::Full { path: self.0.path.clone() }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_under_five_percent_and_opens_a_little_above() {
        let gate = SpaceGate::new(Path::new("/store"));
        let at = |free| (gate.observe(Space { free, total: 1000 }), gate.check().is_ok());
        assert_eq!(at(50), (false, true));
        assert_eq!(at(49), (true, false));
        assert_eq!(at(0), (false, false));
        assert_eq!(at(54), (false, false), "not yet");
        assert_eq!(at(55), (true, true));
        assert_eq!(at(50), (false, true));
    }
}
