//! Whether there is room for new input: none once less than 5% of the file system is free, again from 5.5% on; none, if the operator
//! wants that, while the store is full of what a sink has not taken.
//!
//! Only what comes from outside asks here. Reads, marks that retention appends so that it can remove segments, and lines made of
//! events that are stored already go on: what is left is for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

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
    /// The sink for which input is held back.
    held: ArcSwapOption<&'static str>,
}

impl SpaceGate {
    /// An open gate to the store in `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Shared { path: path.to_owned(), closed: AtomicBool::new(false), held: ArcSwapOption::empty() }))
    }

    /// Takes note of how much is free; says whether that has closed or opened the gate.
    pub fn observe(&self, space: Space) -> bool {
        let closed = self.0.closed.load(Ordering::Relaxed);
        let needed = if closed { OPEN_FROM } else { CLOSE_BELOW };
        let close = u128::from(space.free) * 200 < u128::from(space.total) * u128::from(needed);
        self.0.closed.store(close, Ordering::Relaxed);
        close != closed
    }

    /// Holds new input back for a sink, or no longer; says whether that is news.
    pub fn hold(&self, sink: Option<&'static str>) -> bool {
        let before = self.0.held.swap(sink.map(Arc::new));
        before.as_deref().copied() != sink
    }

    /// Whether new input is taken.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Undelivered`] while it is not.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.0.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Full { path: self.0.path.clone() });
        }
        match &*self.0.held.load() {
            Some(sink) => Err(StoreError::Undelivered { path: self.0.path.clone(), sink: **sink }),
            None => Ok(()),
        }
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

    #[test]
    fn it_is_held_for_a_sink() {
        let gate = SpaceGate::new(Path::new("/store"));
        assert!(!gate.hold(None) && gate.hold(Some("s")) && !gate.hold(Some("s")));
        assert!(matches!(gate.check(), Err(StoreError::Undelivered { sink: "s", .. })));
        assert!(gate.hold(None) && gate.check().is_ok());
    }
}
