//! Where lines are that the gateway's own store does not have: what retention has removed, and what another gateway took.
//!
//! A reader's [`cursor`](super::cursor) that meets a hole says what is [`Wanted`]; whoever has the cursor asks the archive, off the
//! blocking threads, and gives the [`Stretch`] back to the cursor. It consists of blocks as the store has them, so that the same
//! code makes the same entries of it: there is one seam, and nobody sees it.

pub mod clickhouse;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Sender;

pub use self::clickhouse::ClickHouseArchive;
use crate::block::{Block, Content};
use crate::clock::Millis;
use crate::id::StepRunId;
use crate::replay::page::PAGE_BYTES;
use crate::store::lines::BlockRef;

/// A stretch has at most this many lines …
pub const MOST_LINES: usize = 16 << 10;
/// … the first one fewer, so that a reader sees something soon …
pub const FIRST_LINES: usize = 1 << 10;
/// … and ends after about this many bytes of text.
pub const MOST_BYTES: usize = 2 << 20;
/// One that is read ahead ends before it has more bytes of text, as a page does: less of it waits for a reader.
pub const AHEAD_BYTES: usize = PAGE_BYTES;

/// An archive of lines.
pub trait LineArchive: Send + Sync + 'static {
    /// What is known of a stream; nothing if it has no lines there.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn stream<'a>(&'a self, step_run: &'a StepRunId) -> BoxFuture<'a, Result<Option<Arc<ArchivedStream>>, ArchiveError>>;

    /// The lines and gaps from [`Wanted::from`] on, in order. There is an end to how long it takes.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn read(&self, wanted: Wanted) -> BoxFuture<'_, Result<Stretch, ArchiveError>>;

    /// Gives the lines from [`Wanted::from`] on to `out`, stretch after stretch, so that the next is made while a reader sees the one
    /// before. It ends before anything but the next line, when something fails, or when nobody takes them any more: what follows is
    /// asked with [`LineArchive::read`]. May be dropped at any time.
    fn read_ahead(&self, wanted: Wanted, out: Sender<Stretch>) -> BoxFuture<'_, ()> {
        drop((wanted, out));
        async {}.boxed()
    }
}

/// Why an archive cannot be read: what failed, and what to do. Trying again later may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArchiveError(pub Arc<str>);

/// What an archive knows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedStream {
    /// Who counted its lines: 0 their agent, else what stands for a gateway's store.
    pub origin: u64,
    /// The very first number it has had, also if that line is no longer there.
    pub first_line: u64,
    /// The number after the last one.
    pub next_line: u64,
    /// The sender has said that nothing follows.
    pub ended: bool,
    /// The pipeline it belongs to; empty if not known.
    pub pipeline_id: Arc<str>,
    /// When the gateway had the first of its lines that are there, and the last, if there are any.
    pub received: Option<(Millis, Millis)>,
}

/// What a cursor needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The stream.
    pub step_run: StepRunId,
    /// The first number.
    pub from: u64,
    /// The number after the last one. More than `from`.
    pub until: u64,
    /// At most so many lines.
    pub most: usize,
    /// What the archive has said of the stream before.
    pub stream: Option<Arc<ArchivedStream>>,
}

/// What an archive has of what was wanted.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The first number.
    pub from: u64,
    /// All that the archive has before this number is here. More than `from`.
    pub until: u64,
    /// In the order of their numbers. The position of lines is 0, that of gaps the one in the log of the store that noted them.
    pub blocks: Vec<(BlockRef, Arc<Block>)>,
    /// There are lines before `from`.
    pub older: bool,
    /// The stream; nothing if the archive has no lines of it.
    pub stream: Option<Arc<ArchivedStream>>,
}

impl Stretch {
    /// Whether there are numbers for which neither a line nor a gap stands.
    #[must_use]
    pub fn has_hole(&self) -> bool {
        let mut next = self.from;
        for (place, _) in &self.blocks {
            if place.first_line > next {
                return true;
            }
            next = next.max(place.next_line());
        }
        next < self.until
    }

    /// Whether there is a line for every number, and nothing else.
    #[must_use]
    pub fn is_all_lines(&self) -> bool {
        let has_lines = |(_, block): &(BlockRef, Arc<Block>)| matches!(block.content, Content::Text { .. });
        self.blocks.iter().all(has_lines) && !self.has_hole()
    }
}
