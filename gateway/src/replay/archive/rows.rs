//! Rows of lines, as they come from ClickHouse, put together to blocks.

use std::sync::Arc;

use bytes::Bytes;

use super::{ArchiveError, MOST_BYTES, MOST_LINES};
use crate::block::{Block, Codec, Content, MAX_RAW_BYTES, OutputStream, Run};
use crate::id::{Id, StepRunId};
use crate::sink::clickhouse::rowbinary::Input;
use crate::store::lines::BlockRef;

/// What is selected, in the order of a row.
pub(super) const COLUMNS: &str = "line_number, timestamp_ms, stream, level, plugin_name, agent_id, truncated, content";

/// The rest of a row is looked for in pieces of this size: longer than most rows, far smaller than a chunk.
const PIECE: usize = 16 << 10;

/// A row, its texts not copied.
struct Row<'a> {
    number: u64,
    time: i64,
    stream: &'a [u8],
    level: &'a [u8],
    plugin: &'a [u8],
    agent: &'a [u8],
    truncated: bool,
    text: &'a [u8],
}

impl<'a> Row<'a> {
    /// `None` if the row is not whole.
    fn read(input: &mut Input<'a>) -> Option<Self> {
        Some(Self {
            number: input.u64()?,
            time: input.i64()?,
            stream: input.bytes()?,
            level: input.bytes()?,
            plugin: input.bytes()?,
            agent: input.bytes()?,
            truncated: input.u8()? != 0,
            text: input.bytes()?,
        })
    }

    /// Whether `run` says the same beside the text.
    fn is_of(&self, run: &Run) -> bool {
        run.time == self.time
            && run.truncated == self.truncated
            && run.stream == stream(self.stream)
            && run.level.as_bytes() == self.level
            && run.plugin.as_bytes() == self.plugin
            && run.agent.as_str().as_bytes() == self.agent
    }

    fn run(&self) -> Result<Run, ArchiveError> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map_err(|_| unreadable("a name that is not UTF-8")).map(Arc::from);
        let agent = std::str::from_utf8(self.agent).ok().and_then(|agent| Id::parse(agent).ok());
        Ok(Run {
            lines: 0,
            time: self.time,
            stream: stream(self.stream),
            truncated: self.truncated,
            level: text(self.level)?,
            plugin: text(self.plugin)?,
            agent: agent.ok_or_else(|| unreadable("an agent_id that is none"))?,
            // Not shown, so not asked for.
            seq: 0,
        })
    }
}

/// Puts rows together.
pub(super) struct Gatherer {
    step_run: StepRunId,
    /// A block ends before it has more bytes of text, unless one line has.
    block_bytes: usize,
    /// The beginning of a row whose rest has not come.
    rest: Vec<u8>,
    blocks: Vec<(BlockRef, Arc<Block>)>,
    first: u64,
    next: u64,
    runs: Vec<Run>,
    text: Vec<u8>,
    bytes: usize,
    rows: usize,
}

impl Gatherer {
    pub(super) fn new(step_run: StepRunId, block_bytes: usize) -> Self {
        Self {
            step_run,
            block_bytes,
            rest: Vec::new(),
            blocks: Vec::new(),
            first: 0,
            next: 0,
            runs: Vec::new(),
            text: Vec::new(),
            bytes: 0,
            rows: 0,
        }
    }

    /// Takes what has come, up to [`MOST_BYTES`] of text in blocks that have not been drained. Returns whether there is room for more.
    pub(super) fn take(&mut self, chunk: &Bytes) -> Result<bool, ArchiveError> {
        let mut left = self.take_begun(chunk)?;
        while self.bytes < MOST_BYTES {
            let mut input = Input(left);
            let Some(row) = Row::read(&mut input) else {
                self.rest.extend_from_slice(left);
                return Ok(true);
            };
            self.add(&row)?;
            left = input.0;
        }
        Ok(false)
    }

    /// Takes the row that has begun in an earlier chunk, if there is one, and gives what follows it. Only that row is copied together.
    fn take_begun<'a>(&mut self, chunk: &'a [u8]) -> Result<&'a [u8], ArchiveError> {
        let mut row_bytes = std::mem::take(&mut self.rest);
        let begun = row_bytes.len();
        if begun == 0 {
            return Ok(chunk);
        }
        for piece in chunk.chunks(PIECE) {
            row_bytes.extend_from_slice(piece);
            let mut input = Input(&row_bytes);
            if let Some(row) = Row::read(&mut input) {
                self.add(&row)?;
                let size = row_bytes.len() - input.0.len();
                // The buffer is used again.
                row_bytes.clear();
                self.rest = row_bytes;
                return Ok(&chunk[size - begun..]);
            }
        }
        // A line has at most MAX_RAW_BYTES; a row that never ends would fill the memory.
        if row_bytes.len() > MAX_RAW_BYTES + PIECE {
            return Err(unreadable("a row that is larger than any line"));
        }
        self.rest = row_bytes;
        Ok(&[])
    }

    /// How many rows have come, repeats counted.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The number after the last line; 0 if there is none.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The blocks that are complete so far.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (BlockRef, Arc<Block>)> {
        self.bytes = self.text.len();
        self.blocks.drain(..)
    }

    /// The blocks that have not been drained.
    pub(super) fn finish(mut self) -> Result<Vec<(BlockRef, Arc<Block>)>, ArchiveError> {
        if !self.rest.is_empty() && self.bytes < MOST_BYTES {
            return Err(unreadable("half a row at its end"));
        }
        self.end_block();
        Ok(self.blocks)
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), ArchiveError> {
        self.rows += 1;
        if row.number < self.next {
            // A repeat that has not been merged away yet.
            return Ok(());
        }
        let size = row.text.len() + 2;
        let is_full = self.text.len() + size > self.block_bytes || self.next - self.first >= MOST_LINES as u64;
        if row.number != self.next || is_full {
            self.end_block();
            self.first = row.number;
        }
        match self.runs.last_mut().filter(|run| !run.truncated && row.is_of(run)) {
            Some(run) => run.lines += 1,
            None => self.runs.push(Run { lines: 1, ..row.run()? }),
        }
        self.text.extend_from_slice(row.text);
        if row.text.ends_with(b"\r") {
            // A block's reader takes one off before the newline: it is part of the line's end there.
            self.text.push(b'\r');
        }
        if self.text.len() < MAX_RAW_BYTES {
            self.text.push(b'\n');
        }
        self.next = row.number + 1;
        self.bytes += size;
        Ok(())
    }

    fn end_block(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        // The next will be about as long.
        let room = Vec::with_capacity(self.text.len());
        let text = std::mem::replace(&mut self.text, room);
        // Both are bounded by MOST_BYTES and the longest line.
        let (lines, raw_bytes) = ((self.next - self.first) as u32, text.len() as u32);
        let block = Block {
            step_run: self.step_run.clone(),
            first_line: self.first,
            lines,
            epoch: 0,
            agent_counted: false,
            origin: None,
            content: Content::Text {
                codec: Codec::Plain,
                raw_bytes,
                skip: 0,
                runs: std::mem::take(&mut self.runs),
                bytes: text.into(),
            },
        };
        self.blocks.push((BlockRef { first_line: self.first, lines, position: 0 }, Arc::new(block)));
    }
}

fn stream(name: &[u8]) -> OutputStream {
    match name {
        b"stdout" => OutputStream::Stdout,
        b"stderr" => OutputStream::Stderr,
        _ => OutputStream::Unspecified,
    }
}

pub(super) fn unreadable(what: &str) -> ArchiveError {
    ArchiveError(format!("ClickHouse has sent {what}; is something else writing to the table logs?").into())
}
