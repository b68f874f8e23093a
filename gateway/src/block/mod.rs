//! A block: a run of lines of one stream that are stored together, and never rewritten.
//!
//! [`format`](mod@format) is its layout in the line log, [`lines`] reads it. The bytes of a block are text, lines ended by `\n` (a last line may lack it); they
//! are kept compressed as they came or as the shard compressed them once.

pub mod format;
pub mod lines;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use std::sync::Arc;

use crate::clock::Millis;
use crate::id::{AgentId, StepRunId};
use crate::store::Position;

/// A block decompresses to at most this many bytes; larger batches are cut at a line's end.
pub const MAX_RAW_BYTES: usize = 4 << 20;

/// How a block's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As text.
    Plain = 0,
    /// One or more zstd frames (RFC 8878).
    Zstd = 1,
    /// One LZ4 block without its size in front; the size is the block's `raw_bytes`.
    Lz4 = 2,
}

/// Which output of the build a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum OutputStream {
    /// Not said.
    #[default]
    Unspecified = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// A stretch of consecutive lines that have everything but their text in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How many lines, counted over all lines of the block's bytes (skipped ones too).
    pub lines: u32,
    /// When they were written, in Unix milliseconds.
    pub time: Millis,
    /// The output they came from.
    pub stream: OutputStream,
    /// The line was longer than the limit and has been cut (then `lines` is 1).
    pub truncated: bool,
    /// `info`, `warn`, `error`, …; empty if not said. At most 32 bytes.
    pub level: Arc<str>,
    /// The plugin that wrote them; empty if not said. At most 256 bytes.
    pub plugin: Arc<str>,
    /// The agent that sent them.
    pub agent: AgentId,
    /// That agent's own number of the batch or event they came in; 0 if not known.
    pub seq: u64,
}

/// Why lines are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GapReason {
    /// The gateway's queue was full for longer than the sender may wait.
    QueueFull = 1,
    /// A batch could not be read; how many lines it held is not known.
    Unreadable = 2,
    /// The agent numbered past them and never sent them.
    NeverSent = 3,
    /// What was stored of them is damaged.
    Damaged = 4,
    /// Retention has removed them.
    Expired = 5,
    /// The sender said that it dropped them before they reached the gateway.
    DroppedBySender = 6,
    /// The archive that may have them cannot be read. Shown, never stored.
    Unreachable = 7,
}

/// What a block holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// Lines: those of the decompressed bytes after the first `skip`, [`Block::lines`] of them.
    Text {
        /// How `bytes` is kept.
        codec: Codec,
        /// The size of `bytes` once decompressed.
        raw_bytes: u32,
        /// How many lines at the beginning do not count: they were there already.
        skip: u32,
        /// What each line has beside its text; covers all lines of the bytes, so at least `skip + lines`.
        runs: Vec<Run>,
        /// The lines, kept as `codec` says.
        bytes: Bytes,
    },
    /// Lines that this gateway dropped. [`Block::lines`] is how many; 0 if not known.
    Gap {
        /// Why they are missing.
        reason: GapReason,
        /// When they went missing, in Unix milliseconds.
        time: Millis,
    },
}

/// Where lines come from that were made of an `arcentra.task.log` event: what lets a restart neither lose nor double them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventOrigin {
    /// The event's position in the event log.
    pub position: Position,
    /// How many of the event's lines are stored once this block is.
    pub lines_done: u64,
}

/// A run of lines of one stream.
#[derive(Debug, Clone)]
pub struct Block {
    /// The stream.
    pub step_run: StepRunId,
    /// The number of the first line that counts, from 1.
    pub first_line: u64,
    /// How many numbers the block takes.
    pub lines: u32,
    /// The store's epoch when the lines were numbered.
    pub epoch: u32,
    /// The agent counts this stream's lines (else the gateway does).
    pub agent_counted: bool,
    /// The event the lines were made of, if any.
    pub origin: Option<EventOrigin>,
    /// The lines.
    pub content: Content,
}

impl Block {
    /// The number after the block's last line.
    #[must_use]
    pub fn next_line(&self) -> u64 {
        self.first_line + u64::from(self.lines)
    }
}
