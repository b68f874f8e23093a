//! The index: where a stream's lines and an agent's events lie in the logs. A cache: deleting it costs a reindex, nothing else.
//!
//! [`Index`] is the boundary; [`FjallIndex`] keeps it on disk. [`record`] is how its values look, also in the line log's marks.

use std::sync::Arc;

use crate::block::EventOrigin;
use crate::clock::Millis;
use crate::id::{AgentId, StepRunId};
use crate::store::lines::BlockRef;
use crate::store::{Position, StoreError};

mod fjall;
mod keys;
#[cfg(test)]
pub(crate) mod memory;
pub mod record;
#[cfg(test)]
mod tests;

pub use self::fjall::{CACHE_BYTES, FjallIndex, Opened};
pub use crate::store::segment::LogKind;

/// Who numbers a stream's lines; fixed by its first block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counting {
    /// This gateway, in order of arrival, from any number of agents.
    Gateway,
    /// One agent.
    Agent(AgentId),
}

/// What is known of a stream beside its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// Who numbers its lines.
    pub counting: Counting,
    /// The number after its last line.
    pub next_line: u64,
    /// The sender has said that nothing follows.
    pub ended: bool,
    /// Where its newest block or mark lies.
    pub newest: Position,
    /// The newest event that lines were made of, if any.
    pub origin: Option<EventOrigin>,
    /// The first number of each epoch that has lines of it; the newest 8, oldest first.
    pub epochs: Vec<(u32, u64)>,
    /// How many lines were stored, gaps not counted.
    pub lines: u64,
    /// Their size in bytes, as text.
    pub bytes: u64,
    /// The pipeline it belongs to; empty if not known.
    pub pipeline_id: Arc<str>,
    /// When its newest line was written, in Unix milliseconds.
    pub last_time: Millis,
}

/// What is known of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventEntry {
    /// Where it lies in the event log.
    pub position: Position,
    /// The digest of its type and payload.
    pub digest: u64,
}

/// What a sync of the line log adds to one stream.
#[derive(Debug, Clone)]
pub struct LineUpdate {
    /// The stream.
    pub step_run: StepRunId,
    /// Its new blocks.
    pub blocks: Vec<BlockRef>,
    /// What is known of it once they are there.
    pub record: StreamRecord,
}

/// What a sync of the event log adds.
#[derive(Debug, Clone)]
pub struct EventUpdate {
    /// Who sent the event.
    pub agent: AgentId,
    /// Its [name](crate::store::events::identity::name).
    pub name: Box<str>,
    /// What is known of it.
    pub entry: EventEntry,
}

/// Finds lines and events in the logs.
///
/// It must never cover bytes that are not synced: that is the caller's duty. An entry whose position lies before its log's start
/// is of a removed segment; callers treat it as absent. After any error of a call that changes something the index is behind or
/// broken: the caller poisons the store. A call may read the disk, so it does not belong on a runtime thread.
pub trait Index: Send + Sync + 'static {
    /// Up to where a log is indexed: every frame before it has its entries.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn indexed(&self, log: LogKind) -> Result<Position, StoreError>;

    /// What is known of a stream.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError>;

    /// At most `limit` streams in the order of their ids, beginning after `after`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn streams(&self, after: Option<&StepRunId>, limit: usize) -> Result<Vec<(StepRunId, StreamRecord)>, StoreError>;

    /// The block that holds `line` (if any), then those after it, by first line and position; at most `limit`. A gap of unknown
    /// size, which holds no line, belongs to the line that it stands before.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<BlockRef>, StoreError>;

    /// Adds blocks, replaces what is known of their streams, and moves "indexed up to" of the line log: all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn apply_lines(&self, up_to: Position, updates: &[LineUpdate]) -> Result<(), StoreError>;

    /// What is known of the event of that [name](crate::store::events::identity::name).
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn event(&self, agent: &AgentId, name: &str) -> Result<Option<EventEntry>, StoreError>;

    /// Adds or replaces events and moves "indexed up to" of the event log: all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn apply_events(&self, up_to: Position, updates: &[EventUpdate]) -> Result<(), StoreError>;

    /// Forgets blocks; those that are not there are passed over.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn forget_blocks(&self, step_run: &StepRunId, blocks: &[BlockRef]) -> Result<(), StoreError>;

    /// Forgets a stream and its blocks.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn forget_stream(&self, step_run: &StepRunId) -> Result<(), StoreError>;

    /// Forgets events; those that are not there are passed over.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn forget_events(&self, keys: &[(AgentId, Box<str>)]) -> Result<(), StoreError>;

    /// Forgets everything: both logs are indexed up to 0.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn clear(&self) -> Result<(), StoreError>;

    /// Its size on disk in bytes.
    fn bytes(&self) -> u64;
}
