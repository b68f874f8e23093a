//! The index's keys. One ordered space of keys, told apart by the first byte; numbers are big-endian, so that their order is the
//! keys' order.
//!
//! | what | key | value |
//! |---|---|---|
//! | format of all this | `m` `format` | `1`, format u32 |
//! | indexed up to | `m` `lines` or `m` `events` | `1`, position u64 |
//! | stream | `s`, step run id | its record ([`record::encode_mark`](super::record::encode_mark)) |
//! | block | `b`, length of the step run id − 1 u8, step run id, first line u64, position u64 | `1`, lines u32 |
//! | event | `e`, length of the agent id − 1 u8, agent id, its [name](crate::store::events::identity::name) | `1`, position u64, digest u64 |
//!
//! Every value begins with the version of its layout; its other numbers are little-endian. An id has 1 to 256 bytes, so that its
//! length less one fits a byte; with the length in front no stream's blocks lie among those of another whose id begins alike.

use super::LogKind;
use crate::id::{AgentId, StepRunId};
use crate::store::Position;
use crate::store::lines::BlockRef;

/// The format of the index as a whole; another one found at opening means: rebuild.
pub(super) const FORMAT: u32 = 1;
/// Where [`FORMAT`] is kept.
pub(super) const FORMAT_KEY: &[u8] = b"mformat";

const STREAM: u8 = b's';
const BLOCK: u8 = b'b';
const EVENT: u8 = b'e';
/// The step run id of a stream's key begins here.
pub(super) const STREAM_ID_AT: usize = 1;

/// The key of "indexed up to".
pub(super) fn indexed(log: LogKind) -> &'static [u8] {
    match log {
        LogKind::Lines => b"mlines",
        LogKind::Events => b"mevents",
    }
}

/// The first key after all streams.
pub(super) const AFTER_STREAMS: &[u8] = &[STREAM + 1];

/// A stream's key.
pub(super) fn stream(step_run: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(STREAM_ID_AT + step_run.len());
    key.push(STREAM);
    key.extend_from_slice(step_run.as_bytes());
    key
}

/// Makes the keys of one stream's blocks, one after another in the same buffer.
pub(super) struct BlockKeys {
    key: Vec<u8>,
    prefix: usize,
}

impl BlockKeys {
    /// For the blocks of `step_run`.
    pub(super) fn new(step_run: &StepRunId) -> Self {
        let mut key = Vec::with_capacity(2 + step_run.as_str().len() + 16);
        key.push(BLOCK);
        push_id(&mut key, step_run.as_str());
        Self { prefix: key.len(), key }
    }

    /// The key of a block.
    pub(super) fn of(&mut self, first_line: u64, position: Position) -> &[u8] {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(&first_line.to_be_bytes());
        self.key.extend_from_slice(&position.to_be_bytes());
        &self.key
    }

    /// Reads a key of this stream, with the lines that its value tells.
    pub(super) fn read(&self, key: &[u8], lines: u32) -> Option<BlockRef> {
        let (first_line, position) = key.get(self.prefix..)?.split_first_chunk::<8>()?;
        Some(BlockRef {
            first_line: u64::from_be_bytes(*first_line),
            lines,
            position: u64::from_be_bytes(position.try_into().ok()?),
        })
    }
}

/// Writes an event's key into `key`, in place of what was there.
pub(super) fn event(key: &mut Vec<u8>, agent: &AgentId, name: &str) {
    key.clear();
    key.push(EVENT);
    push_id(key, agent.as_str());
    key.extend_from_slice(name.as_bytes());
}

fn push_id(key: &mut Vec<u8>, id: &str) {
    // 1..=256 bytes, as `Id` warrants.
    key.push((id.len() - 1) as u8);
    key.extend_from_slice(id.as_bytes());
}
