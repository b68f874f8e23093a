//! One insert: rows are made and compressed on a blocking thread, and sent as they come.
//!
//! In memory at a time: the rows being gathered, and a few compressed pieces on their way. Batches take [`Turns`] at making rows.

use std::sync::Arc;

use bytes::Bytes;
use clickhouse::Client;
use clickhouse::insert_formatted::{CompressedData, InsertFormatted};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::server::Server;
use super::settings::Compression;
use crate::sink::DeliveryError;

/// Rows are sent in pieces of about this size before compression: the size of ClickHouse's own.
const PIECE: usize = 1 << 20;
/// Pieces that wait to be sent.
const WAITING: usize = 2;
/// What a batch under way holds at most, in bytes, unless a single row has more: the piece being gathered, a block's text, those that
/// wait and those within the client.
pub(super) const BUFFERED: u64 = 10 << 20;

/// One batch of a sink at a time has its rows made: while the server works on one, the next is made. Two that were made side by side
/// would come to the server late, and then both at once.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

/// See [`Turns`]. Over when dropped.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Resolves when it is the caller's turn.
    pub(super) async fn take(&self) -> Turn {
        // Nobody closes it.
        Turn { _permit: Arc::clone(&self.0).acquire_owned().await.ok() }
    }
}

/// Takes rows and sends them on.
pub(super) struct Rows {
    rows: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
    compression: Compression,
}

enum Piece {
    Compressed(CompressedData),
    Plain(Bytes),
}

/// Nobody takes rows any more: the delivery has been given up, or has failed.
#[derive(Debug)]
pub(super) struct Gone;

impl Rows {
    /// Rows that go nowhere.
    #[cfg(test)]
    pub(super) fn gathered() -> Self {
        Self { rows: Vec::new(), pieces: mpsc::channel(WAITING).0, compression: Compression::None }
    }

    /// Where the next row is appended.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.rows
    }

    /// Notes that a row is whole. Blocks while the server is slow.
    pub(super) fn row_done(&mut self) -> Result<(), Gone> {
        if self.rows.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let piece = match self.compression {
            Compression::None => Piece::Plain(Bytes::copy_from_slice(&self.rows)),
            some => Piece::Compressed(CompressedData::new(&self.rows, some.into()).map_err(|_| Gone)?),
        };
        self.rows.clear();
        self.pieces.blocking_send(piece).map_err(|_| Gone)
    }
}

/// Why rows could not be made.
pub(super) enum Unmade {
    /// See [`Gone`].
    Gone,
    /// The batch could not be read.
    Failed(DeliveryError),
}

impl From<Gone> for Unmade {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl<E: Into<DeliveryError>> From<E> for Unmade {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends the rows that `make` makes to `table`, under a token that tells a repeat; no rows, no insert. Resolves to what `make` gave
/// once the server has confirmed them, in the views too.
pub(super) async fn insert<T, F>(server: &Server, table: &str, columns: &str, token: &str, make: F) -> Result<T, DeliveryError>
where
    T: Send + 'static,
    F: FnOnce(&mut Rows) -> Result<T, Unmade> + Send + 'static,
{
    let (pieces, mut ready) = mpsc::channel(WAITING);
    let compression = server.settings().compression;
    let made = tokio::task::spawn_blocking(move || {
        let mut rows = Rows { rows: Vec::with_capacity(PIECE + (PIECE >> 2)), pieces, compression };
        let made = make(&mut rows)?;
        rows.flush()?;
        Ok(made)
    });
    let mut insert = None;
    while let Some(piece) = ready.recv().await {
        let insert = insert.get_or_insert_with(|| begin(server, table, columns, token));
        // An error of sending is the server's answer, if it gave one.
        match piece {
            Piece::Compressed(data) => server.answer(insert.send_compressed(data)).await?,
            Piece::Plain(data) => server.answer(insert.send(data)).await?,
        }
    }
    // All pieces have come, or making them has failed: an insert that is dropped is not ended, and leaves nothing.
    let made = match made.await {
        Ok(Ok(made)) => made,
        Ok(Err(Unmade::Failed(error))) => return Err(error),
        Ok(Err(Unmade::Gone)) => return Err(DeliveryError::transient("rows could not be compressed")),
        Err(panic) => return Err(DeliveryError::transient(format!("making rows has failed: {panic}"))),
    };
    if let Some(insert) = insert {
        server.answer(insert.end()).await?;
    }
    Ok(made)
}

fn begin(server: &Server, table: &str, columns: &str, token: &str) -> InsertFormatted {
    let sql = format!("INSERT INTO {table} ({columns}) FORMAT RowBinary");
    with_settings(server.client(), token).insert_formatted_with(sql)
}

/// Inserts one row that is JSON already: a dead letter that is sent again.
pub(super) async fn insert_json(server: &Server, table: &str, token: &str, row: Bytes) -> Result<(), DeliveryError> {
    let client = with_settings(server.client(), token);
    let mut insert = client.insert_formatted_with(format!("INSERT INTO {table} FORMAT JSONEachRow"));
    server.answer(insert.send(row)).await?;
    server.answer(insert.end()).await
}

fn with_settings(client: Client, token: &str) -> Client {
    client
        .with_setting("insert_deduplicate", "1")
        .with_setting("insert_deduplication_token", token)
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        // The answer must mean that the rows are there.
        .with_setting("async_insert", "0")
        // A batch is one block, whatever the user's profile says: all of it is there or nothing.
        .with_setting("max_insert_block_size", "10000000")
        .with_setting("min_insert_block_size_rows", "10000000")
        .with_setting("min_insert_block_size_bytes", "1073741824")
}
