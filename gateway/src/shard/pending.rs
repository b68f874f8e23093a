//! The lines of one stream that wait to be written: small batches grow together into one block, which is compressed once.

use std::cell::RefCell;
use std::time::Instant;

use bytes::Bytes;
use lz4_flex::block::{compress_into, get_maximum_output_size};
use memchr::memchr_iter;

use crate::block::format;
use crate::block::{Block, Codec, Content, EventOrigin, Run};
use crate::budget::Permit;
use crate::decode::Piece;
use crate::id::StepRunId;
use crate::store::lines::fold::TextFacts;

/// A block that small batches grow into is closed at this size: large enough to compress well, small enough for a reader to
/// get at its last line quickly.
const COALESCED_BYTES: usize = 256 << 10;

/// A batch of at least this size is compressed as it is, without being copied first.
const ALONE_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pending {
    closed: Vec<Block>,
    open: Option<Open>,
    memory: Vec<Permit>,
    bytes: usize,
    /// By when it must be written.
    pub(super) due: Option<Instant>,
}

/// What all blocks of a stream have in common.
pub(super) struct Identity<'a> {
    pub(super) step_run: &'a StepRunId,
    pub(super) epoch: u32,
    pub(super) agent_counted: bool,
}

#[derive(Debug)]
struct Open {
    first_line: u64,
    lines: u32,
    runs: Vec<Run>,
    text: Vec<u8>,
}

impl Pending {
    /// Adds the lines of `piece` after its first `skip`; the first that counts has number `first_line`. Says what a block that is
    /// read back tells of them.
    pub(super) fn add(
        &mut self,
        of: &Identity<'_>,
        first_line: u64,
        skip: u32,
        piece: Piece,
        origin: Option<EventOrigin>,
    ) -> TextFacts {
        let lines = piece.lines - skip;
        if piece.codec != Codec::Plain || piece.bytes.len() >= ALONE_BYTES || origin.is_some() {
            self.close(of);
            let facts = TextFacts::of(piece.raw_bytes, &piece.runs);
            let (codec, bytes) = if piece.codec == Codec::Plain { compress(&piece.bytes) } else { (piece.codec, piece.bytes) };
            self.bytes += bytes.len();
            let content = Content::Text { codec, raw_bytes: piece.raw_bytes, skip, runs: piece.runs, bytes };
            self.closed.push(of.block(first_line, lines, origin, content));
            return facts;
        }
        let (text, runs) = without_first(skip, &piece);
        let fits = |open: &Open| {
            open.first_line + u64::from(open.lines) == first_line
                && open.text.len() + text.len() < COALESCED_BYTES
                && open.runs.len() + piece.runs.len() <= format::MAX_RUNS
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.close(of);
        }
        let open = self.open.get_or_insert_with(|| Open { first_line, lines: 0, runs: Vec::new(), text: Vec::new() });
        let before = open.text.len();
        if open.text.last().is_some_and(|last| *last != b'\n') {
            open.text.push(b'\n');
        }
        open.text.extend_from_slice(text);
        open.lines += lines;
        let mut facts = TextFacts { raw_bytes: (open.text.len() - before) as u32, newest: 0 };
        for run in runs {
            facts.newest = facts.newest.max(run.time);
            append_run(&mut open.runs, run);
        }
        self.bytes += open.text.len() - before;
        facts
    }

    /// Adds a gap, and gives it back as it will be read.
    pub(super) fn add_gap(
        &mut self,
        of: &Identity<'_>,
        first_line: u64,
        lines: u32,
        gap: Content,
        origin: Option<EventOrigin>,
    ) -> &Block {
        self.close(of);
        let at = self.closed.len();
        self.closed.push(of.block(first_line, lines, origin, gap));
        &self.closed[at]
    }

    /// Keeps the memory that lines take until they are written.
    pub(super) fn hold(&mut self, memory: Option<Permit>) {
        self.memory.extend(memory);
    }

    /// How much memory waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_none()
    }

    /// All that waits, ready to be written.
    pub(super) fn take(&mut self, of: &Identity<'_>) -> (Vec<Block>, Vec<Permit>) {
        self.close(of);
        self.bytes = 0;
        self.due = None;
        (std::mem::take(&mut self.closed), std::mem::take(&mut self.memory))
    }

    fn close(&mut self, of: &Identity<'_>) {
        let Some(open) = self.open.take() else { return };
        let raw_bytes = open.text.len() as u32;
        let (codec, bytes) = compress(&open.text);
        let content = Content::Text { codec, raw_bytes, skip: 0, runs: open.runs, bytes };
        self.closed.push(of.block(open.first_line, open.lines, None, content));
    }
}

impl Identity<'_> {
    fn block(&self, first_line: u64, lines: u32, origin: Option<EventOrigin>, content: Content) -> Block {
        Block {
            step_run: self.step_run.clone(),
            first_line,
            lines,
            epoch: self.epoch,
            agent_counted: self.agent_counted,
            origin,
            content,
        }
    }
}

thread_local! {
    /// Where a shard's thread compresses into: it must be as large as the text could become, and what is kept is not.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// LZ4: a third of zstd's cost, and half again its size; what must be small is compressed by its agent.
fn compress(text: &[u8]) -> (Codec, Bytes) {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = get_maximum_output_size(text.len());
        if scratch.len() < room {
            scratch.resize(room, 0);
        }
        match compress_into(text, scratch) {
            Ok(length) if length < text.len() => (Codec::Lz4, Bytes::copy_from_slice(&scratch[..length])),
            _ => (Codec::Plain, Bytes::copy_from_slice(text)),
        }
    })
}

/// The piece's text and runs after its first `skip` lines.
fn without_first(skip: u32, piece: &Piece) -> (&[u8], impl Iterator<Item = Run>) {
    let start = match skip {
        0 => 0,
        _ => memchr_iter(b'\n', &piece.bytes).nth(skip as usize - 1).map_or(piece.bytes.len(), |newline| newline + 1),
    };
    let mut left = skip;
    let runs = piece.runs.iter().filter_map(move |run| {
        let dropped = left.min(run.lines);
        left -= dropped;
        (run.lines > dropped).then(|| Run { lines: run.lines - dropped, ..run.clone() })
    });
    (&piece.bytes[start..], runs)
}

fn append_run(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if !run.truncated && last.lines > 0 && Run { lines: run.lines, ..last.clone() } == run => {
            last.lines += run.lines;
        }
        _ => runs.push(run),
    }
}
