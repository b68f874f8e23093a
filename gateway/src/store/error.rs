//! What can go wrong in the store, and whether trying again helps.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Position;

/// A failure of the store. [`StoreError::is_retryable`] says whether the same call may succeed later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "write to", "sync".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// An earlier failure left it unknown what is on disk; nothing is accepted until a restart. Reads go on.
    #[error("the store takes no more input until it is restarted, because it could not {why}")]
    Poisoned {
        /// The failure that did it.
        why: Arc<str>,
    },
    /// Bytes that were stored are not what was written.
    #[error("{} is damaged at position {position}: {why}", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where.
        position: Position,
        /// What does not fit.
        why: &'static str,
    },
    /// The position lies before the oldest segment: retention has removed it.
    #[error("position {0} has been removed by retention")]
    Trimmed(Position),
    /// Another process has the folder.
    #[error("{} is in use by another process (pid {pid}); stop it, or choose another [store] path", path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
        /// The other process, as far as known.
        pid: String,
    },
    /// There is nothing to look at.
    #[error("there is no store in {}; name its folder as [store] path", .0.display())]
    Missing(PathBuf),
    /// The store's own record cannot be read, and without it its logs cannot.
    #[error("{} {why}, though the logs beside it are there; put it back from a copy of the folder", path.display())]
    NoRecord {
        /// The record's file.
        path: PathBuf,
        /// "is missing", or what is wrong with it.
        why: &'static str,
    },
    /// A file was written by a release that this one cannot read.
    #[error("{} has format {found}, this release reads {oldest} to {newest}; use a release that reads it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The oldest readable one.
        oldest: u32,
        /// The newest readable one.
        newest: u32,
    },
    /// Too little free space: input is refused, reads and trimming go on.
    #[error("the file system of {} has less than 5% free space; free some or lower [store] retention", path.display())]
    Full {
        /// The store's folder.
        path: PathBuf,
    },
    /// The store has its largest size, and a sink has not taken what would have to go: input is refused until it does.
    #[error("the store in {} is full of what sink {sink} has not taken; see why it does not, or raise [store] retention", path.display())]
    Undelivered {
        /// The store's folder.
        path: PathBuf,
        /// The sink.
        sink: &'static str,
    },
    /// The index could not be read or written.
    #[error("index: {0}; if this stays, stop the gateway and run `arcgate store reindex`")]
    Index(Arc<str>),
    /// The gateway is stopping.
    #[error("the gateway is stopping; try again when it is back")]
    Closed,
}

impl StoreError {
    /// An I/O failure of `action` on `path`.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether the same call may succeed later without anyone mending the store.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Undelivered { .. } | Self::Closed)
    }
}
