//! One log subscription: what has been shown, and what comes next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::AbortHandle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::ahead::Ahead;
use super::outbox::Outbox;
use super::reply;
use super::request::Target;
use super::shared::{Loaded, NOT_FOUND};
use super::writer::Writer;
use crate::replay::cursor::{LineCursor, Look, Seen};
use crate::replay::metrics::Metrics;
use crate::replay::page::{Entry, Mark, Page};
use crate::replay::pool::Pool;
use crate::store::Position;
use crate::store::lines::{ReaderGuard, StreamTail};

/// What a subscription can do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Write what its page has.
    Write,
    /// Have the store asked.
    Load,
    /// Nothing until the tail is no longer like this.
    Wait(Seen),
    /// Nothing more, ever.
    Ended,
    /// The store could not be read.
    Failed(String),
}

/// Whether there is room for more after a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// The outbox is full.
    Full,
    /// The page is empty.
    All,
}

/// What a subscription waits for.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing: it can go on.
    Ready,
    /// The store is being asked.
    Loading,
    /// A change of its tail. Dropping the handle ends the wait.
    Waiting {
        /// The wait.
        _until: AbortOnDrop,
    },
}

/// See [`State::Waiting`].
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See the module's text.
pub(super) struct Subscription {
    pub(super) id: u64,
    pub(super) target: Target,
    pub(super) tail: Arc<StreamTail>,
    pub(super) cursor: LineCursor,
    pub(super) state: State,
    _reader: ReaderGuard,
    metrics: Metrics,
    writer: Writer,
    page: Page,
    /// The tail as it was before the store was asked, or why it could not be.
    asked: Option<Result<Seen, String>>,
    /// The page's share of the readers' memory, if it came from the store.
    room: Option<OwnedSemaphorePermit>,
    /// What is being read of what follows the page, if that came from the archive.
    pub(super) ahead: Option<Ahead>,
    /// What has been shown.
    mark: Mark,
    /// Lines from here on are live; none once history is done.
    history_end: Option<u64>,
    /// Where the newest block of history lies: one that takes no number is history, too.
    history_newest: Position,
    live_chunks: bool,
    /// The client has been told that the archive could not be read.
    told: bool,
    /// Since when the stream has ended and been quiet.
    quiet: Option<Instant>,
    /// The store was asked a last time since then.
    asked_last: bool,
    lag: u64,
    /// The pipeline is known, and is where the client believes it to be.
    settled: bool,
}

impl Subscription {
    /// A subscription to what a cursor reads; what was written before the number beside it is history.
    pub(super) fn new(
        id: u64,
        target: Target,
        tail: Arc<StreamTail>,
        (cursor, history_end): (LineCursor, u64),
        live_chunks: bool,
        metrics: Metrics,
    ) -> Self {
        metrics.readers.increment(1.0);
        Self {
            id,
            writer: Writer::new(cursor.step_run().clone(), &target),
            _reader: tail.enter_reader(),
            mark: cursor.mark(),
            history_newest: tail.newest(),
            target,
            tail,
            cursor,
            state: State::Ready,
            metrics,
            page: Page::default(),
            asked: None,
            room: None,
            ahead: None,
            history_end: Some(history_end),
            live_chunks,
            told: false,
            quiet: None,
            asked_last: false,
            lag: 0,
            settled: false,
        }
    }

    /// Whether a message of it has begun and not ended: nothing else may be sent before it ends.
    pub(super) fn in_message(&self) -> bool {
        self.writer.in_message()
    }

    /// When it has to be looked at even if nothing happens.
    pub(super) fn deadline(&self, quiet: Duration) -> Option<Instant> {
        self.quiet.map(|since| since + quiet)
    }

    /// Whether it holds what one who does not read should not hold.
    pub(super) fn holds_memory(&self) -> bool {
        self.has_page() || self.ahead.is_some()
    }

    /// Whether it holds a page.
    fn has_page(&self) -> bool {
        !self.page.is_empty()
    }

    /// What to do next. If the page is empty, looks into the tail.
    pub(super) fn next(&mut self, pool: &Pool, quiet: Duration, outbox: &mut Outbox) -> Next {
        let next = self.find_next(pool, quiet, outbox);
        // After the look: lines that it has found are known to belong somewhere.
        if self.is_contradicted() {
            self.writer.finish(outbox);
            return Next::Failed(NOT_FOUND.to_owned());
        }
        next
    }

    fn find_next(&mut self, pool: &Pool, quiet: Duration, outbox: &mut Outbox) -> Next {
        if self.has_page() {
            return Next::Write;
        }
        self.release(pool);
        let Mark { next_line, passed } = self.cursor.mark();
        if passed >= self.history_newest && self.history_end.is_some_and(|end| next_line >= end) {
            self.end_history(outbox);
        } else if self.history_end.is_none() {
            self.tell(outbox);
        }
        match self.asked.take() {
            Some(Ok(seen)) => return self.nothing(seen, quiet, outbox),
            Some(Err(error)) => {
                self.writer.finish(outbox);
                return Next::Failed(error);
            }
            None => {}
        }
        let seen = Seen::of(&self.tail);
        let mut page = pool.page();
        let look = pool.with_reader(|reader| self.cursor.look(&self.tail, reader, &mut page));
        if look == Look::Found {
            self.quiet = None;
            self.page = page;
            return Next::Write;
        }
        pool.give(page);
        if look == Look::AskStore { Next::Load } else { self.nothing(seen, quiet, outbox) }
    }

    /// Whether the stream has turned out to belong elsewhere than the client believes. Nothing of it was known when the
    /// subscription began; from the first line on, it is known once for all.
    fn is_contradicted(&mut self) -> bool {
        if self.settled {
            return false;
        }
        let record = self.tail.record();
        let pipeline = record.as_ref().map_or("", |record| &*record.pipeline_id);
        self.settled = !pipeline.is_empty();
        self.target.contradicts(pipeline, "")
    }

    /// What to do when there is nothing to show while the tail is like `seen`.
    fn nothing(&mut self, seen: Seen, quiet: Duration, outbox: &mut Outbox) -> Next {
        self.writer.finish(outbox);
        self.ahead = None;
        let ended = self.tail.is_ended() || self.cursor.is_archived_to_its_end();
        if !ended || self.tail.feeders() > 0 {
            self.quiet = None;
            return Next::Wait(seen);
        }
        let since = *self.quiet.get_or_insert_with(|| {
            self.asked_last = false;
            Instant::now()
        });
        if since.elapsed() < quiet {
            Next::Wait(seen)
        } else if !self.asked_last {
            // A gap of unknown size takes no number: only the store tells whether one was written meanwhile.
            self.asked_last = true;
            Next::Load
        } else {
            Next::Ended
        }
    }

    /// Takes what the store had.
    pub(super) fn loaded(&mut self, loaded: Result<Loaded, String>) {
        self.state = State::Ready;
        match loaded {
            Ok(Loaded { seen, cursor, page, room, ahead }) => {
                if page.is_empty() {
                    self.asked = Some(Ok(seen));
                } else {
                    self.quiet = None;
                    self.room = Some(room);
                }
                (self.cursor, self.page, self.ahead) = (cursor, page, ahead);
            }
            Err(error) => self.asked = Some(Err(error)),
        }
    }

    /// Lets go of the page and of what follows it: the client does not read.
    pub(super) fn stall(&mut self, pool: &Pool) {
        self.ahead = None;
        self.release(pool);
    }

    /// Lets go of the page. What was not shown is found again later.
    fn release(&mut self, pool: &Pool) {
        if self.has_page() {
            self.cursor.rewind(self.mark);
        }
        pool.give(std::mem::take(&mut self.page));
        self.room = None;
    }

    /// Writes from the page until the outbox has `most` bytes or the page is empty.
    pub(super) fn write(&mut self, outbox: &mut Outbox, most: usize) -> Wrote {
        let before = outbox.len();
        let first = self.mark.next_line;
        let wrote = loop {
            if outbox.len() >= most {
                outbox.suspend();
                break Wrote::Full;
            }
            let Some(entry) = self.page.peek() else {
                self.writer.finish(outbox);
                break Wrote::All;
            };
            let number = entry.first_line();
            match entry {
                Entry::Line { .. } if self.history_end.is_some_and(|end| number >= end) => {
                    self.end_history(outbox);
                    continue;
                }
                Entry::Line { number, text, run } => {
                    if self.writer.line_under_way().is_some_and(|under_way| under_way != number) {
                        self.writer.finish(outbox);
                    }
                    if !self.writer.line(number, text, run, outbox, most) {
                        continue;
                    }
                }
                Entry::Gap(gap) => {
                    if self.writer.line_under_way().is_some() {
                        // The rest of that line is no longer stored.
                        self.writer.finish(outbox);
                    }
                    self.writer.gap(&gap, outbox);
                    self.metrics.gaps.increment(1);
                }
            }
            self.page.advance(&mut self.mark);
        };
        self.metrics.bytes.increment((outbox.len() - before) as u64);
        self.metrics.lines.increment(self.mark.next_line - first);
        let written = self.tail.next_written();
        if self.history_end.is_none() && self.mark.next_line > first && self.mark.next_line >= written {
            self.metrics.shown_live(self.tail.arrived());
        }
        self.note_lag(written.saturating_sub(self.mark.next_line));
        wrote
    }

    fn end_history(&mut self, outbox: &mut Outbox) {
        self.history_end = None;
        if self.live_chunks {
            self.writer.finish(outbox);
        } else {
            self.writer.stop_chunks(outbox);
        }
        if self.cursor.trouble().is_none() {
            outbox.text(&reply::plain(reply::LOG, "history_done", &self.target));
        }
        self.tell(outbox);
    }

    /// Says once that the archive could not be read: in the place of `history_done`, so that a history with a part missing never
    /// looks whole.
    fn tell(&mut self, outbox: &mut Outbox) {
        let Some(trouble) = self.cursor.trouble().filter(|_| !self.told) else { return };
        let error =
            format!("load history failed: what is shown is what this gateway has; subscribe again for the rest: {trouble}");
        self.told = true;
        self.metrics.errors.increment(1);
        self.writer.finish(outbox);
        outbox.text(&reply::error(reply::LOG, &self.target, &error));
    }

    fn note_lag(&mut self, lag: u64) {
        self.metrics.lag.increment(lag as f64 - self.lag as f64);
        self.lag = lag;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.note_lag(0);
        self.metrics.readers.decrement(1.0);
    }
}
