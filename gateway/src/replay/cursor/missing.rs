//! Holes: what the store does not have. The archive is asked first; what nobody has is a gap, and this says why.

use std::sync::Arc;

use super::{KEPT_EPOCHS, LineCursor, Way};
use crate::block::lines::LineReader;
use crate::block::{Block, GapReason};
use crate::clock::Millis;
use crate::replay::archive::{ArchiveError, ArchivedStream, FIRST_LINES, MOST_LINES, Stretch, Wanted};
use crate::replay::page::{Gap, Page};
use crate::replay::source::LineSource;
use crate::store::StoreError;
use crate::store::lines::{BlockRef, StreamTail};

/// What a cursor knows of the archive.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    /// Lines before this number are history: any hole in it is asked for.
    history_end: u64,
    /// If the store has nothing of the stream: up to where the archive had it when the reader came.
    end: u64,
    stream: Option<Arc<ArchivedStream>>,
    /// Its last answer, until the next load has taken it.
    answer: Option<Arc<Stretch>>,
    /// How many lines are asked for next.
    most: usize,
    /// It has nothing of the stream. What it gets from now on, the store has too.
    unknown: bool,
    failed: Option<ArchiveError>,
    /// The gaps of unknown size that the archive has where the last hole ended. They take no number, so that a cursor that is put back
    /// to there sees no hole, and would not ask for them again.
    at_end: Vec<(BlockRef, Arc<Block>)>,
}

/// Lines that the store does not have, from the cursor's next one on.
pub(super) struct Hole<'a> {
    /// The block at which it was noticed.
    pub(super) next: Option<&'a BlockRef>,
    /// The number after it.
    pub(super) until: u64,
    /// When they went missing, as far as known.
    pub(super) time: Millis,
    /// They were stored, but cannot be read for this reason.
    pub(super) lost: Option<GapReason>,
}

/// What came of an attempt to fill a hole.
pub(super) enum Filled {
    /// The cursor is past it.
    Wholly,
    /// The cursor is in it; the rest comes with a later page.
    Partly,
    /// The archive must be asked.
    Ask(Wanted),
}

impl LineCursor {
    /// Lets the cursor ask an archive for what is missing before `history_end`, and later for what retention has removed. `stream`
    /// is what the archive knows of a stream of which the store has nothing: then history is all there.
    #[must_use]
    pub fn with_archive(mut self, history_end: u64, stream: Option<Arc<ArchivedStream>>) -> Self {
        let end = stream.as_ref().map_or(0, |stream| stream.next_line);
        self.asking = Some(Asking {
            history_end,
            end,
            stream,
            answer: None,
            most: FIRST_LINES,
            unknown: false,
            failed: None,
            at_end: Vec::new(),
        });
        self
    }

    /// Takes what the archive has answered; the next load makes use of it.
    pub fn archived(&mut self, answer: Result<Stretch, ArchiveError>) {
        let Some(asking) = &mut self.asking else { return };
        match answer {
            Ok(stretch) => {
                asking.stream.clone_from(&stretch.stream);
                asking.unknown = stretch.stream.is_none();
                asking.most = (asking.most * 4).min(MOST_LINES);
                asking.answer = Some(Arc::new(stretch));
            }
            Err(error) => asking.failed = Some(error),
        }
    }

    /// Why the archive could not be read; from then on it is not asked again.
    #[must_use]
    pub fn trouble(&self) -> Option<&ArchiveError> {
        self.asking.as_ref()?.failed.as_ref()
    }

    /// Whether all of the stream is in the archive, and it has ended.
    #[must_use]
    pub fn is_archived_to_its_end(&self) -> bool {
        let asking = self.asking.as_ref().filter(|asking| asking.end > 0);
        asking.is_some_and(|asking| asking.stream.as_ref().is_some_and(|stream| stream.ended))
    }

    /// The number up to which there is something to show now.
    pub(super) fn limit(&self, tail: &StreamTail) -> u64 {
        tail.next_written().max(self.asking.as_ref().map_or(0, |asking| asking.end))
    }

    /// Whether a hole at the next line is asked for, whoever is to blame for it.
    pub(super) fn asks_for_holes(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| !asking.unknown && self.mark.next_line < asking.history_end)
    }

    /// Whether there is an archive to ask.
    pub(super) fn asks_anything(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| !asking.unknown)
    }

    /// Puts what the archive has of a hole into the page, and gaps where nobody has anything.
    pub(super) fn fill(
        &mut self,
        source: &dyn LineSource,
        hole: &Hole<'_>,
        reader: &mut LineReader,
        page: &mut Page,
    ) -> Result<Filled, StoreError> {
        let older = hole.lost.is_none() && self.has_older(source, hole.next)?;
        let in_history = self.asks_for_holes();
        let from = self.mark.next_line;
        let Some(asking) = self.asking.as_mut().filter(|it| !it.unknown && hole.until > from && (in_history || !older)) else {
            self.take_absent(source, hole, None, older, hole.until, hole.time, page)?;
            return Ok(Filled::Wholly);
        };
        if asking.failed.is_some() {
            self.take_hole(hole.until, GapReason::Unreachable, hole.time, page);
            return Ok(Filled::Wholly);
        }
        let Some(stretch) = asking.answer.take().filter(|stretch| stretch.from == from) else {
            let (most, stream) = (asking.most, asking.stream.clone());
            return Ok(Filled::Ask(Wanted { step_run: self.step_run.clone(), from, until: hole.until, most, stream }));
        };
        if stretch.until == hole.until {
            let at_end = stretch.blocks.iter().filter(|(gap, _)| gap.lines == 0 && gap.first_line == hole.until);
            asking.at_end = at_end.cloned().collect();
        }
        let mut archived = stretch.older;
        for (at, (place, block)) in stretch.blocks.iter().enumerate() {
            match self.way_to(place, hole.until) {
                Way::Passed => continue,
                Way::TooNew => break,
                Way::Next => {}
            }
            self.take_absent(source, hole, Some((&stretch, archived)), older, place.first_line, self.time_of(block), page)?;
            // Rows know nothing of the gaps of unknown size that stood between them: these come in between again.
            let end = place.next_line();
            let inside = |gap: &BlockRef| gap.lines == 0 && (place.first_line + 1..end).contains(&gap.first_line);
            for (gap, what) in stretch.blocks[at + 1..].iter().take_while(|(gap, _)| gap.first_line < end) {
                if inside(gap) && gap.first_line >= self.mark.next_line && gap.position > self.mark.passed {
                    self.take(place, block, gap.first_line.min(hole.until), reader, page);
                    self.take(gap, what, hole.until, reader, page);
                }
            }
            if place.lines == 0 || self.mark.next_line < end {
                self.take(place, block, hole.until, reader, page);
            }
            archived = true;
        }
        let until = stretch.until.min(hole.until);
        self.take_absent(source, hole, Some((&stretch, archived)), older, until, hole.time, page)?;
        Ok(if self.mark.next_line < hole.until { Filled::Partly } else { Filled::Wholly })
    }

    /// A gap of unknown size that the archive has right here, where a hole has ended, and that has not been put into a page yet.
    pub(super) fn gap_at_end(&self, limit: u64) -> Option<(BlockRef, Arc<Block>)> {
        let here = |gap: &BlockRef| gap.first_line == self.mark.next_line && matches!(self.way_to(gap, limit), Way::Next);
        self.asking.as_ref()?.at_end.iter().find(|(gap, _)| here(gap)).cloned()
    }

    /// Puts gaps into the page for what nobody has, up to `until`. Retention and the archive's own limits remove from the oldest on:
    /// if nothing older is there, they did, except for what lies before the stream's very first line. With the archive's answer
    /// comes whether it has something older.
    #[expect(clippy::too_many_arguments, reason = "one place where everything that is known of a hole comes together")]
    fn take_absent(
        &mut self,
        source: &dyn LineSource,
        hole: &Hole<'_>,
        archived: Option<(&Stretch, bool)>,
        older: bool,
        until: u64,
        time: Millis,
        page: &mut Page,
    ) -> Result<(), StoreError> {
        if until <= self.mark.next_line {
            return Ok(());
        }
        if let Some(reason) = hole.lost {
            self.take_hole(until, reason, time, page);
            return Ok(());
        }
        let stream = archived.and_then(|(stretch, older)| Some((stretch.stream.as_ref()?, older)));
        // An agent may leave numbers out; a gateway notes what it leaves out.
        if older || stream.is_some_and(|(stream, older)| older && stream.origin == 0) {
            self.take_hole(until, GapReason::NeverSent, time, page);
            return Ok(());
        }
        let epochs = source.stream(&self.step_run)?.map(|record| record.epochs).unwrap_or_default();
        let here = epochs.first().filter(|_| epochs.len() < KEPT_EPOCHS).map(|(_, first)| *first);
        let first = here.into_iter().chain(stream.map(|(stream, _)| stream.first_line)).min();
        if let Some(first) = first {
            self.take_hole(until.min(first), GapReason::NeverSent, time, page);
        }
        self.take_hole(until, GapReason::Expired, time, page);
        Ok(())
    }

    /// Puts a gap into the page, up to `until`.
    pub(super) fn take_hole(&mut self, until: u64, reason: GapReason, time: Millis, page: &mut Page) {
        let first_line = self.mark.next_line;
        if until > first_line {
            page.push_gap(Gap { first_line, count: until - first_line, reason, time }, 0);
            self.mark.next_line = until;
        }
    }

    /// Whether the store has something that is older than the block at which a hole was noticed.
    fn has_older(&self, source: &dyn LineSource, next: Option<&BlockRef>) -> Result<bool, StoreError> {
        let oldest = source.blocks_from(&self.step_run, 1, 1)?;
        Ok(oldest.first().is_some_and(|oldest| next.is_none_or(|next| oldest.place.position < next.position)))
    }
}
