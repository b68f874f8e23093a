//! The index: where a stream's lines and an agent's events lie in the logs. A cache: deleting it costs a reindex, nothing else.

use std::sync::Arc;

use crate::block::EventOrigin;
use crate::clock::Millis;
use crate::id::AgentId;
use crate::store::Position;

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
    /// Where its newest block lies.
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
