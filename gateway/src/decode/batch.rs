//! What goes into decoding and what comes out.

use std::sync::Arc;

use arcgate_api::gateway::v1::LogBatch;
use bytes::Bytes;

use super::DecodeError;
use crate::block::{Codec, OutputStream, Run};
use crate::budget::Permit;
use crate::clock::Millis;
use crate::id::AgentId;

/// How a batch's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One or several gzip members.
    Gzip,
    /// One or several zstd frames, with or without content size.
    Zstd,
}

impl TryFrom<i32> for Compression {
    type Error = DecodeError;

    fn try_from(number: i32) -> Result<Self, DecodeError> {
        match number {
            0 | 1 => Ok(Self::None),
            2 => Ok(Self::Gzip),
            3 => Ok(Self::Zstd),
            _ => Err(DecodeError::UnknownCompression(number)),
        }
    }
}

/// What a batch's bytes are once decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines of text.
    #[default]
    Text,
    /// An encoded `gateway.v1.LogRecords`.
    Records,
}

impl TryFrom<i32> for Format {
    type Error = DecodeError;

    fn try_from(number: i32) -> Result<Self, DecodeError> {
        match number {
            0 | 1 => Ok(Self::Text),
            2 => Ok(Self::Records),
            _ => Err(DecodeError::UnknownFormat(number)),
        }
    }
}

/// The output that `name` names on the wire; an empty name is none.
///
/// # Errors
/// Any name but `stdout` and `stderr`.
pub fn parse_stream(name: &str) -> Result<OutputStream, DecodeError> {
    match name {
        "" => Ok(OutputStream::Unspecified),
        "stdout" => Ok(OutputStream::Stdout),
        "stderr" => Ok(OutputStream::Stderr),
        _ => Err(DecodeError::UnknownStream),
    }
}

/// The longest level that is accepted, in bytes.
const MAX_LEVEL_BYTES: usize = 32;
/// The longest plugin name that is accepted, in bytes.
const MAX_PLUGIN_BYTES: usize = 256;

pub(super) fn check_length(level: &str, plugin: &str) -> Result<(), DecodeError> {
    let fields = [("level", level.len(), MAX_LEVEL_BYTES), ("plugin_name", plugin.len(), MAX_PLUGIN_BYTES)];
    match fields.into_iter().find(|(_, bytes, limit)| bytes > limit) {
        Some((field, bytes, limit)) => Err(DecodeError::FieldTooLong { field, bytes, limit }),
        None => Ok(()),
    }
}

/// A batch's bytes, and what holds for all of its lines.
#[derive(Debug, Clone)]
pub struct BatchBytes {
    /// How `data` is compressed.
    pub compression: Compression,
    /// The bytes as received.
    pub data: Bytes,
    /// What the sender says that `data` decompresses to; 0 if it does not say.
    pub raw_size: u32,
    /// What `data` is once decompressed.
    pub format: Format,
    /// Text: where the lines were written. Records say their own.
    pub stream: OutputStream,
    /// Text: the level, or empty. Records say their own.
    pub level: Arc<str>,
    /// Text: the plugin that wrote the lines, or empty. Records say their own.
    pub plugin: Arc<str>,
    /// When the lines were written, where a record does not say it.
    pub time: Millis,
    /// Who sent them.
    pub agent: AgentId,
    /// Their sender's own number of them.
    pub seq: u64,
}

impl BatchBytes {
    /// Those of a batch as received. Its lines are of the time that its meta says, else of `now`.
    ///
    /// # Errors
    /// Its compression, format or stream is none that exists.
    pub fn of(batch: LogBatch, agent: AgentId, now: Millis) -> Result<Self, DecodeError> {
        let seq = batch.meta.as_ref().map_or(0, |meta| meta.seq);
        let said = batch.meta.and_then(|meta| meta.timestamp);
        let time = said.map(|at| at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000));
        Ok(Self {
            compression: batch.compression.try_into()?,
            data: batch.data,
            raw_size: batch.raw_size,
            format: batch.format.try_into()?,
            stream: parse_stream(&batch.stream)?,
            level: batch.level.into(),
            plugin: batch.plugin_name.into(),
            time: time.unwrap_or(now),
            agent,
            seq,
        })
    }
}

/// Bounds on what is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// What a batch may decompress to.
    pub raw_bytes: u64,
    /// Longer lines are cut to this; at most [`DecodeLimits::MAX_LINE_BYTES`].
    pub line_bytes: usize,
}

impl DecodeLimits {
    /// No larger [`DecodeLimits::line_bytes`] has an effect: a line with its end must fit a block.
    pub const MAX_LINE_BYTES: usize = crate::block::MAX_RAW_BYTES - 2;
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { raw_bytes: 64 << 20, line_bytes: 1 << 20 }
    }
}

/// A batch, ready to be stored.
#[derive(Debug)]
pub struct Decoded {
    /// The lines in order, in stretches that each fit a block.
    pub pieces: Vec<Piece>,
    /// How many lines there are in all.
    pub lines: u64,
    /// How many bytes of text there are in all.
    pub raw_bytes: u64,
    /// How many lines were too long and have been cut.
    pub truncated: u32,
    /// The memory that the pieces take, to be held as long as they are.
    pub memory: Permit,
}

/// A stretch of a batch's lines that fits a block.
#[derive(Debug)]
pub struct Piece {
    /// How many lines; at least one.
    pub lines: u32,
    /// The size of the text.
    pub raw_bytes: u32,
    /// How `bytes` is kept: [`Codec::Zstd`] only for a frame that is passed on as it was received.
    pub codec: Codec,
    /// The text, kept as `codec` says.
    pub bytes: Bytes,
    /// What each line has beside its text; covers all lines. At most [`crate::block::format::MAX_RUNS`].
    pub runs: Vec<Run>,
    /// Whether the last line has its newline.
    pub ends_with_newline: bool,
}
