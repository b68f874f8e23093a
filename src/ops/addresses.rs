//! `addresses.json` in the data folder: where the gateway really listens, since port 0 takes a free port. For scripts and tests.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The addresses of a running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Where agents push.
    pub grpc: SocketAddr,
    /// Where readers, metrics and health are served.
    pub http: SocketAddr,
    /// The process.
    pub pid: u32,
}

impl Addresses {
    /// The file in the data folder.
    #[must_use]
    pub fn path(store: &Path) -> PathBuf {
        store.join("addresses.json")
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, store: &Path) -> io::Result<()> {
        let path = Self::path(store);
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(&fresh, &path)
    }

    /// Removes the file; one that is not there is no error worth telling.
    pub fn remove(store: &Path) {
        let _ = std::fs::remove_file(Self::path(store));
    }
}
