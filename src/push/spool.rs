//! The lines that the gateway may not have yet: counted, bounded, kept until the gateway has them on its disk.
//!
//! Pure bookkeeping, without network, clock or threads: callers pass the time in. Lines are numbered as they come, and each is in
//! one of four states, in this order:
//!
//! ```text
//!   first              the oldest chunk         cursor                next
//!     │ forgotten: on the   │ on the wire, not     │ to be sent: for     │ in the open chunk,
//!     │ gateway's disk, or  │ yet on the gateway's │ the first time, or  │ which still grows
//!     │ given up            │ disk                 │ again               │
//!     ▼                     ▼                      ▼                     ▼
//!  ───┼─────────────────────┼──────────────────────┼─────────────────────┼────────────▶ numbers
//!     └┈┈┈ unsure ┈┈┈┈┈┈┈┈┈┈┴───────────── chunks ─┴─────────────────────┘
//! ```
//!
//! Answers move the oldest chunk forward, sending moves the cursor. After a break the cursor goes back to what the gateway lacks.
//! When the spool is full the oldest chunk goes, and readers see a gap in its place; if it was on the wire, its lines are `unsure`
//! until the gateway says whether it has them.
//!
//! Only one process may write a step run. What another wrote under our numbers is never taken for ours: chunks that were not sent
//! are kept whatever the gateway has, and the answer to them shows the conflict ([`Spool::not_kept`]).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::time::Millis;

/// The most that waits for the gateway, the bookkeeping included.
pub(crate) const SPOOL_BYTES: usize = 64 << 20;
/// A chunk is closed at so many lines,
pub(crate) const CHUNK_LINES: u32 = 1_000;
/// or so many bytes,
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// or so long after its first line.
pub(crate) const CHUNK_MILLIS: Millis = 50;
/// What a chunk costs besides its bytes.
const CHUNK_COST: usize = 128;
/// The number after the highest that a line can have.
const NUMBERS_END: u64 = 1 << 31;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name on the wire.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Lines that are sent together. Cloning copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The number of its first line.
    pub(crate) first_line: u64,
    /// How many lines.
    pub(crate) lines: u32,
    /// Where they were written.
    pub(crate) stream: Stream,
    /// When the first of them was written.
    pub(crate) time: Millis,
    /// The lines, each with its newline.
    pub(crate) bytes: Bytes,
    /// Whether it has been on the wire, on this connection or an earlier one.
    pub(crate) sent: bool,
}

impl Chunk {
    /// The number after that of its last line.
    #[must_use]
    pub(crate) fn end(&self) -> u64 {
        self.first_line + u64::from(self.lines)
    }

    fn cost(&self) -> usize {
        self.bytes.len() + CHUNK_COST
    }
}

/// A chunk that still grows.
#[derive(Debug)]
struct Open {
    stream: Stream,
    time: Millis,
    lines: u32,
    bytes: Vec<u8>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Spool {
    limit: usize,
    used: usize,
    /// Closed chunks, oldest first; those that have been sent come before those that have not.
    chunks: VecDeque<Chunk>,
    open: Open,
    /// The number of the first line of the open chunk.
    next: u64,
    /// The first line that is not on the wire.
    cursor: u64,
    /// Lines that were sent and had to go before the gateway said whether it has them.
    unsure: Range<u64>,
    /// How many lines the gateway will never get.
    lost: u64,
    /// The number of the very first line: 1, or where the gateway said that the step run goes on.
    first: u64,
    /// Whether the gateway has said that; until then all numbers are provisional.
    met: bool,
    /// Whether the writer has said that no more lines will come,
    ended: bool,
    /// and the gateway has heard it.
    end_acked: bool,
}

impl Spool {
    /// An empty spool that holds at most `limit` bytes.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        let open = Open { stream: Stream::Stdout, time: 0, lines: 0, bytes: Vec::with_capacity(CHUNK_BYTES) };
        Self {
            limit,
            used: 0,
            chunks: VecDeque::new(),
            open,
            next: 1,
            cursor: 1,
            unsure: 1..1,
            lost: 0,
            first: 1,
            met: false,
            ended: false,
            end_acked: false,
        }
    }

    /// Takes whole lines. Whatever has to go to make room goes.
    pub(crate) fn push(&mut self, stream: Stream, mut lines: &[u8], now: Millis) {
        if self.open.stream != stream {
            self.seal();
            self.open.stream = stream;
        }
        while !lines.is_empty() {
            if self.open.lines == 0 {
                self.open.time = now;
            }
            let (taken, bytes) = self.fitting(lines);
            self.open.bytes.extend_from_slice(&lines[..bytes]);
            self.open.lines += taken;
            lines = &lines[bytes..];
            if self.open.lines >= CHUNK_LINES || self.open.bytes.len() >= CHUNK_BYTES {
                self.seal();
            }
        }
    }

    /// How many of `lines`, and of their bytes, the open chunk takes: at least one line.
    fn fitting(&self, lines: &[u8]) -> (u32, usize) {
        let (mut count, mut end) = (0, 0);
        for newline in memchr::memchr_iter(b'\n', lines) {
            (count, end) = (count + 1, newline + 1);
            if self.open.lines + count >= CHUNK_LINES || self.open.bytes.len() + end >= CHUNK_BYTES {
                break;
            }
        }
        if count == 0 { (1, lines.len()) } else { (count, end) }
    }

    fn seal(&mut self) {
        if self.open.lines == 0 {
            return;
        }
        let bytes = Bytes::copy_from_slice(&self.open.bytes);
        let Open { stream, time, lines, .. } = self.open;
        let chunk = Chunk { first_line: self.next, lines, stream, time, bytes, sent: false };
        self.open.bytes.clear();
        self.open.bytes.shrink_to(CHUNK_BYTES);
        self.open.lines = 0;
        self.next = chunk.end();
        self.used += chunk.cost();
        self.chunks.push_back(chunk);
        while self.used > self.limit {
            self.drop_oldest();
        }
    }

    /// Gives up the oldest chunk. One that was sent may have arrived: the next answers will say.
    fn drop_oldest(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        self.used -= chunk.cost();
        let on_the_wire = chunk.first_line..self.cursor.clamp(chunk.first_line, chunk.end());
        self.lost += chunk.end() - on_the_wire.end;
        if on_the_wire.is_empty() {
            return;
        }
        if self.unsure.is_empty() {
            self.unsure = on_the_wire;
        } else {
            self.unsure.end = on_the_wire.end;
        }
    }

    /// The next chunk to send, if one is closed or due at `now`. Its `sent` tells whether that is a repeat.
    pub(crate) fn take(&mut self, now: Millis) -> Option<Chunk> {
        if self.open.lines > 0 && (self.ended || now - self.open.time >= CHUNK_MILLIS || now < self.open.time) {
            self.seal();
        }
        let at = self.chunks.partition_point(|chunk| chunk.end() <= self.cursor);
        let kept = self.chunks.get_mut(at)?;
        let chunk = kept.clone();
        kept.sent = true;
        self.cursor = chunk.end();
        Some(chunk)
    }

    /// What the gateway said on a new connection, before anything else is sent there. On the first one, lines that the step run
    /// has already move our own numbers up.
    pub(crate) fn meet(&mut self, next_line: u64, durable_line: u64) {
        let next_line = next_line.clamp(1, NUMBERS_END);
        if !self.met {
            self.met = true;
            self.shift(next_line - 1);
        }
        self.settle(next_line);
        // What was still unsure got lost on the connection before.
        self.lost += self.unsure.end - self.unsure.start;
        self.unsure = 0..0;
        self.cursor = self.place_to_go_on(next_line);
        self.release(durable_line);
    }

    /// Where to send from when `next_line` is the first line that the gateway lacks: there. But not below the oldest chunk, since
    /// what was before it is gone; and not above the first chunk that was never sent, since lines that the gateway has under those
    /// numbers are not ours.
    fn place_to_go_on(&self, next_line: u64) -> u64 {
        let first_of = |chunk: Option<&Chunk>| chunk.map_or(self.next, |chunk| chunk.first_line);
        let oldest = first_of(self.chunks.front());
        let never_sent = first_of(self.chunks.iter().find(|chunk| !chunk.sent));
        next_line.clamp(oldest, never_sent)
    }

    fn shift(&mut self, by: u64) {
        for chunk in &mut self.chunks {
            chunk.first_line += by;
        }
        for number in [&mut self.next, &mut self.cursor, &mut self.first, &mut self.unsure.start, &mut self.unsure.end] {
            *number += by;
        }
    }

    /// An answer to a batch: everything below `next_line` has arrived, everything up to `durable_line` is on disk.
    pub(crate) fn answered(&mut self, next_line: u64, durable_line: u64) {
        self.settle(next_line);
        self.release(durable_line);
    }

    /// The gateway has what is below `next_line`: of that, nothing is unsure any more.
    fn settle(&mut self, next_line: u64) {
        self.unsure.start = self.unsure.start.max(next_line).min(self.unsure.end);
    }

    /// Forgets the chunks that we have sent and the gateway has on disk.
    fn release(&mut self, durable_line: u64) {
        let on_disk = |chunk: &&Chunk| chunk.sent && chunk.end() <= durable_line.saturating_add(1);
        while let Some(chunk) = self.chunks.front().filter(on_disk) {
            self.cursor = self.cursor.max(chunk.end());
            self.used -= chunk.cost();
            self.chunks.pop_front();
        }
    }

    /// The gateway will never take the lines of the chunk that began at `first_line`.
    pub(crate) fn refused(&mut self, first_line: u64) {
        self.lost += self.remove(first_line).map_or(0, |chunk| u64::from(chunk.lines));
    }

    /// The gateway has taken the chunk that began at `first_line`, but for `lines` of it: under their numbers it has others.
    pub(crate) fn not_kept(&mut self, first_line: u64, lines: u64) {
        self.remove(first_line);
        self.lost += lines;
    }

    fn remove(&mut self, first_line: u64) -> Option<Chunk> {
        let at = self.chunks.binary_search_by_key(&first_line, |chunk| chunk.first_line).ok()?;
        let chunk = self.chunks.remove(at)?;
        self.used -= chunk.cost();
        Some(chunk)
    }

    /// No more lines will come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The gateway knows that no more lines will come.
    pub(crate) fn end_acked(&mut self) {
        self.end_acked = true;
    }

    /// Whether the gateway has taken all lines and knows that there are no more. They may not be on its disk yet.
    #[must_use]
    pub(crate) fn is_end_acked(&self) -> bool {
        self.end_acked
    }

    /// The number of the end, if all lines are on the wire and the gateway has still to be told that there are no more.
    #[must_use]
    pub(crate) fn end_to_send(&self) -> Option<u64> {
        let all_sent = self.open.lines == 0 && self.cursor >= self.next;
        (self.ended && !self.end_acked && all_sent).then_some(self.next)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.end_acked && !self.is_waiting()
    }

    /// Whether lines wait for the gateway's disk.
    #[must_use]
    pub(crate) fn is_waiting(&self) -> bool {
        self.open.lines > 0 || !self.chunks.is_empty()
    }

    /// Whether `bytes` more fit without dropping anything.
    #[must_use]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.used + self.open.bytes.len() + bytes + 2 * CHUNK_COST <= self.limit
    }

    /// How many lines have been counted.
    #[must_use]
    pub(crate) fn counted(&self) -> u64 {
        self.next - self.first + u64::from(self.open.lines)
    }

    /// How many lines the gateway has not confirmed, those that were given up included.
    #[must_use]
    pub(crate) fn undelivered(&self) -> u64 {
        let waiting: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.lines)).sum();
        self.lost + (self.unsure.end - self.unsure.start) + waiting + u64::from(self.open.lines)
    }

    /// How many bytes are kept.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.used + self.open.bytes.len()
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
