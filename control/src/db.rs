//! The control plane's database: SQLite in the data folder, or PostgreSQL. One text of SQL serves both.
//!
//! Columns are `TEXT` and `BIGINT` only: times are milliseconds since the Unix epoch, truth values 0 and 1, objects JSON. Rows have
//! keys that the program gives, so that nothing depends on a database's own counters.
//!
//! **One writer.** All that the engine knows is written through one connection, its own ([`Database::writer`]). In PostgreSQL that
//! connection holds a lock of the whole database, so that a second program on the same database waits, and one whose connection broke
//! can write nothing more. Readers ([`Database::read`]) are several and never wait for the writer. Tokens alone are written beside it
//! (`Database::guest`): the engine keeps nothing of them in memory.

use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _, Transaction};

mod error;
mod migrate;
pub mod row;

pub use self::error::DbError;

/// How many readers there may be at once.
const READERS: u32 = 8;
/// How long a reader is waited for, and a lock of another program on a SQLite file.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pages of SQLite's log of changes at which the writer itself puts them into the database's file; usually
/// [`Database::keep_small`] has done so before.
const LONGEST_LOG: u32 = 16_384;
/// The lock that says who writes to a PostgreSQL database: `arcgate` as bytes.
const WRITERS_LOCK: i64 = 0x61_7263_6761_7465;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of SQLite; it is created if it is not there, its folder is not.
    File(std::path::PathBuf),
    /// The address of a PostgreSQL database, as `postgres://user:password@host/name`.
    Server(String),
}

/// A database with the tables that this program needs.
#[derive(Debug, Clone)]
pub struct Database {
    options: AnyConnectOptions,
    server: bool,
    readers: AnyPool,
}

/// A connection that writes.
#[derive(Debug)]
pub struct Writer {
    connection: AnyConnection,
    server: bool,
}

impl Database {
    /// Opens a database and brings its tables up to date.
    ///
    /// # Errors
    /// If it cannot be reached, or was written by a later version of this program.
    pub async fn open(location: &Location) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        let (options, server) = match location {
            Location::File(path) => {
                make_private(path).map_err(|error| DbError::Setting(format!("{} cannot be made: {error}", path.display())))?;
                (file_options(path)?, false)
            }
            Location::Server(url) => (url.parse::<AnyConnectOptions>()?, true),
        };
        let options = options.disable_statement_logging();
        migrate::run(&mut connect(&options, server).await?, server).await?;
        let readers = AnyPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| Box::pin(async move { prepare(connection, server).await }))
            .connect_with(options.clone())
            .await?;
        Ok(Self { options, server, readers })
    }

    /// Connects the one writer.
    ///
    /// # Errors
    /// If it cannot, or if another program writes to the database.
    pub async fn writer(&self) -> Result<Writer, DbError> {
        let mut writer = self.guest().await?;
        if self.server {
            let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(WRITERS_LOCK);
            let locked: bool = lock.fetch_one(&mut writer.connection).await?;
            if !locked {
                return Err(DbError::Taken);
            }
        }
        Ok(writer)
    }

    /// Connects somebody who writes beside the one writer: only rows of which the engine keeps nothing in memory, and little of them.
    /// On a file the two wait for each other.
    ///
    /// # Errors
    /// If it cannot.
    pub(crate) async fn guest(&self) -> Result<Writer, DbError> {
        Ok(Writer { connection: connect(&self.options, self.server).await?, server: self.server })
    }

    /// For reading: all that is read in it is of one moment.
    ///
    /// # Errors
    /// If no connection is to be had.
    pub async fn read(&self) -> Result<Transaction<'static, Any>, DbError> {
        let begin = if self.server { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" } else { "BEGIN" };
        Ok(self.readers.begin_with(begin).await?)
    }

    /// Puts what was written into SQLite's file, beside the writer, who would have to wait for that: so its log of changes stays small.
    /// Nothing to do in PostgreSQL.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn keep_small(&self) -> Result<(), DbError> {
        if !self.server {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.readers).await?;
        }
        Ok(())
    }

    /// Closes the readers, once they are idle.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

impl Writer {
    /// Begins a transaction.
    ///
    /// # Errors
    /// If the connection broke: then the writer is of no more use.
    pub async fn begin(&mut self) -> Result<Transaction<'_, Any>, DbError> {
        begin(&mut self.connection, self.server).await
    }
}

/// Begins a transaction that writes. SQLite is told so at once: a transaction that only read so far would fail, instead of waiting, if
/// it wants to write while another connection does, be it one that is about to be closed.
async fn begin(connection: &mut AnyConnection, server: bool) -> Result<Transaction<'_, Any>, DbError> {
    Ok(connection.begin_with(if server { "BEGIN" } else { "BEGIN IMMEDIATE" }).await?)
}

fn file_options(path: &Path) -> Result<AnyConnectOptions, DbError> {
    let path = path.to_str().ok_or_else(|| DbError::Setting("the database's path is not UTF-8".into()))?;
    let mut escaped = String::new();
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(format!("sqlite:{escaped}?mode=rwc").parse::<AnyConnectOptions>()?)
}

/// Makes the file, for nobody else to read: it holds what definitions and variables say. SQLite's files beside it are as it is.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(|_| ())
}

async fn connect(options: &AnyConnectOptions, server: bool) -> Result<AnyConnection, DbError> {
    let mut connection = tokio::time::timeout(PATIENCE, options.connect()).await.map_err(|_| DbError::Unreachable)??;
    prepare(&mut connection, server).await?;
    Ok(connection)
}

/// A commit of SQLite has returned only once it is on disk (`FULL`); readers do not wait for the writer (`WAL`).
async fn prepare(connection: &mut AnyConnection, server: bool) -> Result<(), sqlx::Error> {
    if !server {
        let patience = PATIENCE.as_millis();
        let text = format!(
            "PRAGMA busy_timeout = {patience}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA wal_autocheckpoint = {LONGEST_LOG}"
        );
        connection.execute(sqlx::AssertSqlSafe(text)).await?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
