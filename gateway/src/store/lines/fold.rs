//! What a block or a mark does to the record of its stream: the one place that says so, for the shards that number new lines
//! and for the index that is rebuilt from the log.

use std::sync::Arc;

use crate::block::{Block, Content, EventOrigin, Run};
use crate::clock::Millis;
use crate::store::Position;
use crate::store::index::{Counting, StreamRecord};

/// A stream's epochs are remembered up to this many; a client that resumes from an older one starts at the oldest.
const MAX_EPOCHS: usize = 8;

/// The record of a stream that has no lines yet.
#[must_use]
pub fn new_record(counting: Counting) -> StreamRecord {
    StreamRecord {
        counting,
        next_line: 1,
        ended: false,
        newest: 0,
        origin: None,
        epochs: Vec::new(),
        lines: 0,
        bytes: 0,
        pipeline_id: Arc::from(""),
        last_time: 0,
    }
}

/// Whether the stream has no block yet, so that its first one still decides who counts its lines.
#[must_use]
pub fn is_undecided(record: &StreamRecord) -> bool {
    record.epochs.is_empty()
}

/// What a record keeps of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextFacts {
    /// Its size.
    pub raw_bytes: u32,
    /// When the newest of its lines was written.
    pub newest: Millis,
}

impl TextFacts {
    /// Those of a text of `raw_bytes` with these runs.
    #[must_use]
    pub fn of(raw_bytes: u32, runs: &[Run]) -> Self {
        Self { raw_bytes, newest: runs.iter().map(|run| run.time).max().unwrap_or(0) }
    }
}

/// Adds lines to `record`.
pub fn add_lines(
    record: &mut StreamRecord,
    first_line: u64,
    lines: u32,
    epoch: u32,
    text: TextFacts,
    origin: Option<EventOrigin>,
) {
    add_numbers(record, first_line, lines, epoch, text.newest);
    record.origin = newer(record.origin, origin);
    record.lines += u64::from(lines);
    record.bytes += u64::from(text.raw_bytes);
}

/// Adds a block that lies at `position` to `record`.
pub fn add_block(record: &mut StreamRecord, block: &Block, position: Position) {
    if is_undecided(record) {
        record.counting = counting_of(block);
    }
    match &block.content {
        Content::Text { raw_bytes, runs, .. } => {
            let text = TextFacts::of(*raw_bytes, runs);
            add_lines(record, block.first_line, block.lines, block.epoch, text, block.origin);
        }
        Content::Gap { time, .. } => {
            add_numbers(record, block.first_line, block.lines, block.epoch, *time);
            record.origin = newer(record.origin, block.origin);
        }
    }
    record.newest = record.newest.max(position);
}

/// Joins what a mark says of a stream with what is known of it already, which may be more: a mark adds what it knows and takes
/// nothing back.
pub fn add_mark(record: &mut StreamRecord, mark: StreamRecord) {
    record.newest = record.newest.max(mark.newest);
    record.next_line = record.next_line.max(mark.next_line);
    record.ended |= mark.ended;
    record.origin = newer(record.origin, mark.origin);
    if record.pipeline_id.is_empty() {
        record.pipeline_id = mark.pipeline_id;
    }
}

/// Who counts the lines of a stream that begins with `block`.
#[must_use]
pub fn counting_of(block: &Block) -> Counting {
    match (&block.content, block.agent_counted) {
        (Content::Text { runs, .. }, true) => runs.first().map_or(Counting::Gateway, |run| Counting::Agent(run.agent.clone())),
        _ => Counting::Gateway,
    }
}

fn add_numbers(record: &mut StreamRecord, first_line: u64, lines: u32, epoch: u32, time: Millis) {
    record.next_line = record.next_line.max(first_line + u64::from(lines));
    record.last_time = record.last_time.max(time);
    if record.epochs.last().is_none_or(|(newest, _)| *newest < epoch) {
        if record.epochs.len() == MAX_EPOCHS {
            record.epochs.remove(0);
        }
        record.epochs.push((epoch, first_line));
    }
}

fn newer(a: Option<EventOrigin>, b: Option<EventOrigin>) -> Option<EventOrigin> {
    match (a, b) {
        (Some(a), Some(b)) if (b.position, b.lines_done) >= (a.position, a.lines_done) => Some(b),
        (None, b) => b,
        (a, _) => a,
    }
}
