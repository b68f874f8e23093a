//! The lines that the gateway may not have yet: counted, bounded, kept until the gateway has them on its disk.
//!
//! Pure bookkeeping, without network, clock or threads: callers pass the time in. Lines are numbered as they come; `durable ≤
//! cursor ≤ next`: what is at or below the durable line is forgotten, what is at or above the cursor is not on the wire. After a
//! reconnect the cursor goes back to what the gateway lacks. When the spool is full the oldest lines go: their numbers are never
//! sent, and readers see a gap.

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
    chunks: VecDeque<Chunk>,
    open: Open,
    /// The number of the first line of the open chunk.
    next: u64,
    /// The first line that is not on the wire.
    cursor: u64,
    /// Lines that were sent and had to go before the gateway said whether it has them.
    unsure: Range<u64>,
    lost: u64,
    first: u64,
    met: bool,
    ended: bool,
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
        let chunk =
            Chunk { first_line: self.next, lines: self.open.lines, stream: self.open.stream, time: self.open.time, bytes };
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
        let sent = chunk.first_line..chunk.end().min(self.cursor).max(chunk.first_line);
        self.lost += chunk.end() - sent.end;
        if sent.is_empty() {
            return;
        }
        if self.unsure.is_empty() {
            self.unsure = sent;
        } else {
            self.unsure.end = sent.end;
        }
    }

    /// The next chunk to send, if one is closed or due at `now`.
    pub(crate) fn take(&mut self, now: Millis) -> Option<Chunk> {
        if self.open.lines > 0 && (self.ended || now - self.open.time >= CHUNK_MILLIS || now < self.open.time) {
            self.seal();
        }
        let at = self.chunks.partition_point(|chunk| chunk.end() <= self.cursor);
        let chunk = self.chunks.get(at)?.clone();
        self.cursor = chunk.end();
        Some(chunk)
    }

    /// What the gateway said on a new connection, before anything else is sent there. On the first one, lines that the step run
    /// has already move our own numbers up.
    pub(crate) fn meet(&mut self, next_line: u64, durable_line: u64) {
        let next_line = next_line.max(1);
        if !self.met {
            self.met = true;
            self.shift(next_line - 1);
        }
        self.settle(next_line);
        self.lost += self.unsure.end - self.unsure.start;
        self.unsure = 0..0;
        self.cursor = next_line.clamp(self.oldest(), self.next);
        self.release(durable_line);
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

    fn settle(&mut self, next_line: u64) {
        self.unsure.start = self.unsure.start.max(next_line).min(self.unsure.end);
    }

    fn release(&mut self, durable_line: u64) {
        while let Some(chunk) = self.chunks.front().filter(|chunk| chunk.end() <= durable_line.saturating_add(1)) {
            // What is on disk was sent, whoever sent it.
            self.cursor = self.cursor.max(chunk.end());
            self.used -= chunk.cost();
            self.chunks.pop_front();
        }
    }

    /// The gateway will never take the lines of the chunk that began at `first_line`.
    pub(crate) fn refused(&mut self, first_line: u64) {
        if let Ok(at) = self.chunks.binary_search_by_key(&first_line, |chunk| chunk.first_line)
            && let Some(chunk) = self.chunks.remove(at)
        {
            self.used -= chunk.cost();
            self.lost += u64::from(chunk.lines);
        }
    }

    /// No more lines will come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The gateway knows that no more lines will come.
    pub(crate) fn end_acked(&mut self) {
        self.end_acked = true;
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

    fn oldest(&self) -> u64 {
        self.chunks.front().map_or(self.next, |chunk| chunk.first_line)
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
