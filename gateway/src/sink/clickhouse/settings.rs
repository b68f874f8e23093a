//! What can be set of the ClickHouse sink.

use std::path::PathBuf;
use std::time::Duration;

use super::schema::Variant;
use crate::sink::BatchLimits;

/// How requests and answers are compressed on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// LZ4: fast.
    #[default]
    Lz4,
    /// zstd, level 1: half the bytes, for slow networks.
    Zstd,
    /// As they are.
    None,
}

impl From<Compression> for clickhouse::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd(1),
            Compression::None => Self::None,
        }
    }
}

/// `[clickhouse]`; see the README for what each does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouseSettings {
    /// The HTTP interface, as `http://127.0.0.1:8123`.
    pub url: String,
    /// The database; created with the schema.
    pub database: String,
    /// Who connects.
    pub user: String,
    /// Holds the password in its first line. Read again whenever the sink gets ready, so that a new password needs no restart.
    pub password_file: Option<PathBuf>,
    /// Who vouches for a server at `https://` (PEM); else the system's authorities. Read again as the password is.
    pub tls_ca_file: Option<PathBuf>,
    /// How requests and answers are compressed.
    pub compression: Compression,
    /// Lines and events are kept for so many days.
    pub ttl_days: u32,
    /// The schema is applied `ON CLUSTER` this one.
    pub cluster: Option<String>,
    /// The tables are replicated.
    pub replicated: bool,
    /// The gateway applies the schema; else it only checks it.
    pub apply_schema: bool,
    /// How long the server may be silent.
    pub timeout: Duration,
    /// How batches are cut.
    pub limits: BatchLimits,
}

impl ClickHouseSettings {
    /// What the schema's text depends on.
    #[must_use]
    pub fn variant(&self) -> Variant {
        Variant {
            database: self.database.clone(),
            cluster: self.cluster.clone(),
            replicated: self.replicated,
            ttl_days: self.ttl_days,
        }
    }
}
