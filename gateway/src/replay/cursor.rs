//! A reader's place in a stream: the step run and the next line.
//!
//! History and live are the same cursor, so there is no seam. It looks into the stream's tail first and into the store second;
//! what neither has, below the number that was written when it began to look, is asked of the archive, if there is one
//! (`missing`); what that does not have either is a gap.

mod missing;

use std::sync::Arc;

use self::missing::{Asking, Filled, Hole};
use super::archive::Wanted;
use super::page::{Gap, Mark, Page};
use super::source::LineSource;
use crate::block::lines::LineReader;
use crate::block::{Block, Codec, Content, GapReason};
use crate::clock::{Clock, Millis};
use crate::id::StepRunId;
use crate::store::StoreError;
use crate::store::lines::{BlockRef, StreamTail, TailBlock};

/// How many blocks are asked for at once.
const BLOCKS: usize = 64;
/// How many epochs a stream's record keeps; with fewer, the first is that of its very first line.
pub(super) const KEPT_EPOCHS: usize = 8;
/// Blocks up to this size (decompressed) are read on the runtime's thread if they are in memory.
const INLINE_BYTES: usize = 64 << 10;

/// What a look into the tail alone has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// There is more in the page.
    Found,
    /// Nothing is there yet: wait for [`StreamTail::changed`].
    Nothing,
    /// The store must be asked: [`LineCursor::load`].
    AskStore,
}

/// What a reader waits to see change, taken before a look: if it still stands after it, there is nothing to miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    next_written: u64,
    newest: u64,
    ended: bool,
    feeders: usize,
}

impl Seen {
    /// As the tail is now.
    #[must_use]
    pub fn of(tail: &StreamTail) -> Self {
        Self {
            next_written: tail.next_written(),
            newest: tail.snapshot().blocks().last().map_or(0, |block| block.place.position),
            ended: tail.is_ended(),
            feeders: tail.feeders(),
        }
    }
}

/// See the module's text.
#[derive(Clone)]
pub struct LineCursor {
    step_run: StepRunId,
    mark: Mark,
    clock: Clock,
    /// What is known of the archive, if there is one.
    asking: Option<Asking>,
}

impl LineCursor {
    /// A cursor that begins at `next_line`.
    #[must_use]
    pub fn new(step_run: StepRunId, next_line: u64, clock: Clock) -> Self {
        Self { step_run, mark: Mark { next_line, passed: 0 }, clock, asking: None }
    }

    /// The stream.
    #[must_use]
    pub fn step_run(&self) -> &StepRunId {
        &self.step_run
    }

    /// The number after the last one that was put into a page.
    #[must_use]
    pub fn next_line(&self) -> u64 {
        self.mark.next_line
    }

    /// Where it stands.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Goes back to `mark`: the rest of a page has been thrown away.
    pub fn rewind(&mut self, mark: Mark) {
        self.mark = mark;
    }

    /// Looks into the tail, never into the store, and puts what it finds there in memory into the empty `page`.
    pub fn look(&mut self, tail: &StreamTail, reader: &mut LineReader, page: &mut Page) -> Look {
        // Loaded first: every block below them is in the snapshot or in the index by now.
        let (limit, newest) = (self.limit(tail), tail.newest());
        let snapshot = tail.snapshot();
        let Some(oldest) = snapshot.blocks().next() else {
            // A gap of unknown size takes no number: the newest block tells whether one follows the last line.
            let all_passed = self.mark.next_line >= limit && self.mark.passed >= newest && self.gap_at_end(limit).is_none();
            return if all_passed { Look::Nothing } else { Look::AskStore };
        };
        if self.mark.passed < oldest.place.position {
            // Blocks between what was passed and the tail may be in the index already.
            return Look::AskStore;
        }
        for TailBlock { place, block } in snapshot.blocks() {
            match self.way_to(place, limit) {
                Way::Passed => continue,
                Way::TooNew if page.is_empty() => return Look::Nothing,
                Way::TooNew => return Look::Found,
                Way::Next => {}
            }
            match block {
                Some(_) if place.first_line > self.mark.next_line && self.asks_for_holes() => {
                    return if page.is_empty() { Look::AskStore } else { Look::Found };
                }
                Some(block) if is_small(block) && page.text_bytes() < INLINE_BYTES => {
                    self.take_hole(place.first_line, GapReason::NeverSent, self.time_of(block), page);
                    self.take(place, block, limit, reader, page);
                }
                _ if page.is_empty() => return Look::AskStore,
                _ => break,
            }
            if self.mark.next_line < place.next_line().min(limit) {
                break;
            }
        }
        if !page.is_empty() {
            return Look::Found;
        }
        self.mark.passed = self.mark.passed.max(newest);
        Look::Nothing
    }

    /// Looks into the tail and the store, and puts what it finds into the empty `page`; blocks the thread. An empty page means
    /// that there is nothing yet, or that the archive must be asked first for what is returned: give its answer to
    /// [`LineCursor::archived`] and load again.
    ///
    /// # Errors
    /// The store could not be read, and nothing was found before that.
    pub fn load(
        &mut self,
        source: &dyn LineSource,
        tail: &StreamTail,
        reader: &mut LineReader,
        page: &mut Page,
    ) -> Result<Option<Wanted>, StoreError> {
        // Before the snapshot: whatever they speak of is there, or in the index.
        let (limit, newest) = (self.limit(tail), tail.newest());
        let snapshot = tail.snapshot();
        let (blocks, complete) = self.blocks(source, limit)?;
        while let Some((place, gap)) = self.gap_at_end(limit) {
            self.take(&place, &gap, limit, reader, page);
        }
        for TailBlock { place, block } in &blocks {
            match self.way_to(place, limit) {
                Way::Passed => continue,
                Way::TooNew => break,
                Way::Next => {}
            }
            let read = match block {
                Some(block) => Ok(Arc::clone(block)),
                None => source.read(place).map(Arc::new),
            };
            let time = read.as_ref().map_or_else(|_| self.clock.now(), |block| self.time_of(block));
            if place.first_line > self.mark.next_line {
                let hole = Hole { next: Some(place), until: place.first_line, time, lost: None };
                match self.fill(source, &hole, reader, page)? {
                    Filled::Wholly => {}
                    Filled::Partly => return Ok(None),
                    Filled::Ask(wanted) => return Ok(Some(wanted).filter(|_| page.is_empty())),
                }
                // A gap that stands at the seam is in the archive, too.
                if matches!(self.way_to(place, limit), Way::Passed) {
                    continue;
                }
            }
            let lost = match read {
                Ok(block) if block.step_run == self.step_run && block.first_line == place.first_line => {
                    self.take(place, &block, limit, reader, page);
                    None
                }
                Ok(_) | Err(StoreError::Damaged { .. }) => Some(GapReason::Damaged),
                Err(StoreError::Trimmed(_)) => Some(GapReason::Expired),
                Err(error) if page.is_empty() => return Err(error),
                Err(_) => return Ok(None),
            };
            if let Some(reason) = lost.filter(|_| !self.asks_anything() || place.lines == 0) {
                self.take_lost(place, limit, reason, page);
            } else if let Some(reason) = lost {
                let hole = Hole { next: Some(place), until: place.next_line().min(limit), time, lost: Some(reason) };
                match self.fill(source, &hole, reader, page)? {
                    Filled::Wholly => self.mark.passed = self.mark.passed.max(place.position),
                    Filled::Partly => return Ok(None),
                    Filled::Ask(wanted) => return Ok(Some(wanted).filter(|_| page.is_empty())),
                }
            }
            if page.is_full() || self.mark.next_line < place.next_line().min(limit) {
                return Ok(None);
            }
        }
        if complete {
            if self.mark.next_line < limit {
                let hole = Hole { next: None, until: limit, time: self.clock.now(), lost: None };
                match self.fill(source, &hole, reader, page)? {
                    Filled::Wholly => {}
                    Filled::Partly => return Ok(None),
                    Filled::Ask(wanted) => return Ok(Some(wanted).filter(|_| page.is_empty())),
                }
            }
            // All that the snapshot holds below the limit has been passed: the next look can go on from the tail alone.
            let passed = snapshot.blocks().map(|block| block.place).filter(|place| place.next_line() <= limit);
            self.mark.passed = passed.map(|place| place.position).fold(self.mark.passed.max(newest), u64::max);
        }
        Ok(None)
    }

    /// What lies ahead, and whether that is all there is. Gaps of unknown size that were passed take no number, so any number of
    /// them may stand before it.
    fn blocks(&self, source: &dyn LineSource, limit: u64) -> Result<(Vec<TailBlock>, bool), StoreError> {
        let mut most = BLOCKS;
        loop {
            let blocks = source.blocks_from(&self.step_run, self.mark.next_line, most)?;
            let complete = blocks.len() < most;
            if complete || blocks.iter().any(|block| !matches!(self.way_to(&block.place, limit), Way::Passed)) {
                return Ok((blocks, complete));
            }
            most *= 4;
        }
    }

    /// How a block stands to the cursor, of lines below `limit`. A gap of unknown size takes no number: it stands before the line of
    /// its number, and only its position tells whether it has been passed.
    fn way_to(&self, place: &BlockRef, limit: u64) -> Way {
        let Mark { next_line, passed } = self.mark;
        let takes_no_number = place.lines == 0;
        if takes_no_number {
            match place.first_line {
                line if line < next_line || place.position <= passed => Way::Passed,
                line if line > limit => Way::TooNew,
                _ => Way::Next,
            }
        } else if place.next_line() <= next_line {
            Way::Passed
        } else if place.first_line.max(next_line) >= limit {
            Way::TooNew
        } else {
            Way::Next
        }
    }

    /// Puts a block into the page.
    fn take(&mut self, place: &BlockRef, block: &Block, limit: u64, reader: &mut LineReader, page: &mut Page) {
        let next = page.push_block(reader, block, place.position, self.mark.next_line, limit, self.clock.now());
        self.mark = Mark { next_line: next, passed: self.mark.passed.max(place.position) };
    }

    /// Puts a gap into the page where a block cannot be read.
    fn take_lost(&mut self, place: &BlockRef, limit: u64, reason: GapReason, page: &mut Page) {
        let (first_line, next) = (self.mark.next_line, place.next_line().min(limit));
        page.push_gap(Gap { first_line, count: next - first_line, reason, time: self.clock.now() }, place.position);
        self.mark = Mark { next_line: next, passed: self.mark.passed.max(place.position) };
    }

    /// When a block's first line that counts was written, or now.
    fn time_of(&self, block: &Block) -> Millis {
        match &block.content {
            Content::Text { runs, skip, .. } => {
                let mut covered = 0;
                let first = runs.iter().find(|run| {
                    covered += u64::from(run.lines);
                    covered > u64::from(*skip)
                });
                first.map_or_else(|| self.clock.now(), |run| run.time)
            }
            Content::Gap { time, .. } => *time,
        }
    }
}

enum Way {
    /// The cursor is past the block.
    Passed,
    /// It comes next.
    Next,
    /// It was written after the look began.
    TooNew,
}

fn is_small(block: &Block) -> bool {
    match &block.content {
        Content::Text { codec: Codec::Plain, bytes, .. } => bytes.len() <= INLINE_BYTES,
        Content::Text { raw_bytes, .. } => *raw_bytes as usize <= INLINE_BYTES,
        Content::Gap { .. } => true,
    }
}
