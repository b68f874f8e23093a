//! What can go wrong with the database, and whether it helps to try again.

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It does not answer.
    #[error("the database does not answer; check that it runs and can be reached")]
    Unreachable,
    /// Another program writes to it.
    #[error("another Arcgate writes to this database; end it first, or give this one a database of its own")]
    Taken,
    /// Its address is none.
    #[error("the database's address is wrong: {0}")]
    Setting(String),
    /// It was written by a later version.
    #[error("the database has version {found}, this Arcgate knows {known}; start the version that wrote it, or restore a backup")]
    TooNew {
        /// The database's version.
        found: i64,
        /// The latest known.
        known: i64,
    },
    /// What a row holds cannot be.
    #[error("the database holds something that cannot be: {0}")]
    Corrupt(String),
    /// The driver's error.
    #[error("the database: {0}")]
    Sql(#[from] sqlx::Error),
}

impl DbError {
    /// Whether the same may succeed later, without anybody changing anything here.
    #[must_use]
    pub fn helps_to_retry(&self) -> bool {
        match self {
            Self::Unreachable | Self::Taken => true,
            Self::Setting(_) | Self::TooNew { .. } | Self::Corrupt(_) => false,
            Self::Sql(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Tls(_) => true,
                // PostgreSQL: connections (08), resources (53), operators (57), serialization and deadlocks (40). SQLite: busy (5),
                // locked (6), full (13), with more bits above.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["08", "40", "53", "57"].iter().any(|class| code.len() == 5 && code.starts_with(class))
                        || (code.len() < 5 && code.parse::<i64>().is_ok_and(|code| [5, 6, 13].contains(&(code & 0xff))))
                }),
                _ => false,
            },
        }
    }
}
