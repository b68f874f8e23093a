//! A page: what a cursor found, as text, ready to be shown: lines and gaps in order.
//!
//! A page owns its text, so that nothing of the store is held while a reader is slow; its buffers are used again for the next.

use std::collections::VecDeque;

use crate::block::lines::LineReader;
use crate::block::{Block, Content, GapReason, Run};
use crate::clock::Millis;
use crate::store::Position;

/// A page ends at the first block's end after this many bytes of text …
pub const PAGE_BYTES: usize = 256 << 10;
/// … or this many lines.
pub const PAGE_LINES: usize = 4096;
/// A page ends within a block after this many lines: lines may be empty, and what is kept of each is not.
const MOST_LINES: usize = 32 << 10;

/// Lines that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first missing number.
    pub first_line: u64,
    /// How many are missing; 0 if not known.
    pub count: u64,
    /// Why.
    pub reason: GapReason,
    /// When they went missing, as far as known, in Unix milliseconds.
    pub time: Millis,
}

/// What a reader has seen, or will see next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The number after the last one seen.
    pub next_line: u64,
    /// The newest place that was passed: what tells gaps of unknown size, which take no number, from those already shown.
    pub passed: Position,
}

/// One thing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A line.
    Line {
        /// Its number.
        number: u64,
        /// Its text without its end; not always UTF-8.
        text: &'a [u8],
        /// What it has beside its text.
        run: &'a Run,
    },
    /// A gap.
    Gap(Gap),
}

impl Entry<'_> {
    /// The number of the line, or the first one missing.
    #[must_use]
    pub fn first_line(&self) -> u64 {
        match self {
            Self::Line { number, .. } => *number,
            Self::Gap(gap) => gap.first_line,
        }
    }
}

#[derive(Debug)]
struct Stored {
    end: usize,
    run: usize,
}

#[derive(Debug)]
enum Item {
    Lines { first: u64, count: usize, position: Position },
    Gap { gap: Gap, position: Position },
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Page {
    text: Vec<u8>,
    lines: Vec<Stored>,
    runs: Vec<Run>,
    items: VecDeque<Item>,
    /// How many of `lines` have been shown, and where the text of the next begins.
    shown: usize,
    start: usize,
}

impl Page {
    /// Whether all of it has been shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bytes of text that it holds.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The bytes of text that its buffer has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// What comes next.
    #[must_use]
    pub fn peek(&self) -> Option<Entry<'_>> {
        match self.items.front()? {
            Item::Gap { gap, .. } => Some(Entry::Gap(*gap)),
            Item::Lines { first, .. } => {
                let line = self.lines.get(self.shown)?;
                let text = self.text.get(self.start..line.end)?;
                Some(Entry::Line { number: *first, text, run: self.runs.get(line.run)? })
            }
        }
    }

    /// Goes past what [`Page::peek`] shows, and moves `mark` with it.
    pub fn advance(&mut self, mark: &mut Mark) {
        let done = match self.items.front_mut() {
            None => return,
            Some(Item::Gap { gap, position }) => {
                mark.next_line = mark.next_line.max(gap.first_line + gap.count);
                mark.passed = mark.passed.max(*position);
                true
            }
            Some(Item::Lines { first, count, position }) => {
                self.start = self.lines.get(self.shown).map_or(self.text.len(), |line| line.end);
                self.shown += 1;
                *first += 1;
                *count -= 1;
                *mark = Mark { next_line: *first, passed: mark.passed.max(*position) };
                *count == 0
            }
        };
        if done {
            self.items.pop_front();
        }
    }

    /// Forgets all, keeps the buffers.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        self.runs.clear();
        self.items.clear();
        (self.shown, self.start) = (0, 0);
    }

    /// Whether it has so much that the next block should wait for the next page.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= PAGE_BYTES || self.lines.len() >= PAGE_LINES
    }

    /// Adds a gap that lies at `position` (0: nothing is stored of it).
    pub(super) fn push_gap(&mut self, gap: Gap, position: Position) {
        self.items.push_back(Item::Gap { gap, position });
    }

    /// Adds a block's content from the number `from` on, at most up to `until`. Returns the number after the last one added:
    /// less than `until` and the block's end if the page is full.
    pub(super) fn push_block(
        &mut self,
        reader: &mut LineReader,
        block: &Block,
        position: Position,
        from: u64,
        until: u64,
        now: Millis,
    ) -> u64 {
        let until = until.min(block.next_line());
        if let Content::Gap { reason, time } = block.content {
            let gap = Gap { first_line: from.max(block.first_line), count: until.saturating_sub(from), reason, time };
            self.push_gap(gap, position);
            return until;
        }
        let mut next = from;
        if let Ok(lines) = reader.lines(block, from) {
            let before = self.lines.len();
            let mut last: *const Run = std::ptr::null();
            for line in lines.take(usize::try_from(until - from).unwrap_or(usize::MAX)) {
                if !std::ptr::eq(last, line.run) {
                    last = line.run;
                    if self.runs.last() != Some(line.run) {
                        self.runs.push(line.run.clone());
                    }
                }
                self.text.extend_from_slice(line.text);
                self.lines.push(Stored { end: self.text.len(), run: self.runs.len() - 1 });
                next = line.number + 1;
                if self.lines.len() >= MOST_LINES {
                    break;
                }
            }
            let count = self.lines.len() - before;
            if count > 0 {
                self.items.push_back(Item::Lines { first: from, count, position });
            }
            if self.lines.len() >= MOST_LINES {
                return next;
            }
        }
        if next < until {
            let reason = GapReason::Damaged;
            self.push_gap(Gap { first_line: next, count: until - next, reason, time: now }, position);
        }
        until
    }
}
