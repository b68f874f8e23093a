//! One log stream as its shard owns it: who counts its lines, which number comes next, what waits to be written.

use std::sync::Arc;
use std::time::Instant;

use super::pending::{Identity, Pending};
use super::submission::{Lost, MAX_LINE, Numbering, Payload, Refusal, Submission};
use crate::block::{Content, EventOrigin, GapReason};
use crate::clock::Millis;
use crate::decode::Piece;
use crate::id::StepRunId;
use crate::store::index::{Counting, StreamRecord};
use crate::store::lines::{LineStore, StreamTail, StreamWrite, fold};
use crate::store::{Position, StoreError};

/// Holes remembered of a stream whose lines its agent counts; the oldest are forgotten, then a late line passes as a repeat.
const MAX_HOLES: usize = 256;

/// See the module.
pub(super) struct Stream {
    pub(super) tail: Arc<StreamTail>,
    record: Option<StreamRecord>,
    /// Numbers below the next that no batch has brought, as (first, after the last).
    holes: Vec<(u64, u64)>,
    pub(super) pending: Pending,
    /// The record says something that no block does: write it too.
    mark: bool,
    /// When the first of the lines came that wait to be written.
    oldest_waiting: Option<Millis>,
    pub(super) last_used: Instant,
}

/// Counts of what became of a batch's lines.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) repeated: u64,
    pub(super) late: u64,
}

impl Stream {
    /// Takes a stream into memory.
    pub(super) fn load(store: &LineStore, step_run: &StepRunId, now: Instant) -> Result<Self, StoreError> {
        let tail = store.tail(step_run)?;
        let record = store.stream(step_run)?;
        let holes = match &record {
            Some(record) if record.counting != Counting::Gateway && record.lines + 1 < record.next_line => {
                holes_of(store, step_run)?
            }
            _ => Vec::new(),
        };
        Ok(Self { tail, record, holes, pending: Pending::default(), mark: false, oldest_waiting: None, last_used: now })
    }

    /// The first number that the stream lacks.
    pub(super) fn next_line(&self) -> u64 {
        self.record.as_ref().map_or(1, |record| record.next_line)
    }

    /// Numbers a batch's lines and keeps the new ones. What is refused leaves nothing behind.
    pub(super) fn add(&mut self, batch: &mut Submission, epoch: u32) -> Result<Counts, Refusal> {
        let counting = match batch.numbering {
            Numbering::Agent { .. } => {
                // Lines it dropped were none of this count: the agent's own numbers show that they are missing.
                batch.lost = Lost::default();
                Counting::Agent(batch.agent.clone())
            }
            Numbering::Gateway { .. } | Numbering::Event { .. } => Counting::Gateway,
        };
        if let Some(record) = &self.record {
            check_owner(record, batch)?;
        }
        check_numbers(self.next_line(), batch)?;
        let record = self.record.get_or_insert_with(|| fold::new_record(counting.clone()));
        if fold::is_undecided(record) {
            record.counting = counting;
        }
        if record.pipeline_id.is_empty() && !batch.pipeline_id.is_empty() {
            record.pipeline_id = Arc::clone(&batch.pipeline_id);
            self.mark = true;
        }
        let mut adder = Adder {
            identity: Identity {
                step_run: &batch.step_run,
                epoch,
                agent_counted: matches!(batch.numbering, Numbering::Agent { .. }),
            },
            record,
            holes: &mut self.holes,
            pending: &mut self.pending,
            counts: Counts::default(),
        };
        adder.gap(batch.lost.lines, GapReason::QueueFull, batch.arrived);
        if batch.lost.more {
            adder.gap_of_unknown_size(GapReason::QueueFull, batch.arrived);
        }
        let payload = std::mem::replace(&mut batch.payload, Payload::Lines(Vec::new()));
        match (payload, batch.numbering) {
            (Payload::Unreadable, Numbering::Event { position }) => adder.gap_from_event(position, batch.arrived),
            (Payload::Unreadable, _) => adder.gap_of_unknown_size(GapReason::Unreadable, batch.arrived),
            (Payload::Lines(pieces), Numbering::Gateway { .. }) => adder.append(pieces),
            (Payload::Lines(pieces), Numbering::Agent { first_line }) => adder.place(first_line, pieces),
            (Payload::Lines(pieces), Numbering::Event { position }) => adder.append_from_event(position, pieces),
        }
        let counts = adder.counts;
        if batch.end_of_log && !record.ended {
            record.ended = true;
            self.mark = true;
        }
        self.oldest_waiting.get_or_insert(batch.arrived);
        self.pending.hold(batch.memory.take());
        Ok(counts)
    }

    /// Whether anything waits to be written.
    pub(super) fn is_dirty(&self) -> bool {
        self.mark || !self.pending.is_empty()
    }

    /// Takes what waits to be written.
    pub(super) fn take(&mut self, step_run: &StepRunId, epoch: u32) -> Option<StreamWrite> {
        let record = self.record.clone()?;
        let identity = Identity { step_run, epoch, agent_counted: record.counting != Counting::Gateway };
        let (blocks, memory) = self.pending.take(&identity);
        let mark = std::mem::take(&mut self.mark);
        let arrived = self.oldest_waiting.take().unwrap_or(0);
        Some(StreamWrite { step_run: step_run.clone(), tail: Arc::clone(&self.tail), blocks, record, mark, arrived, memory })
    }
}

/// Whether the batch may add to the stream. What decides who counts is the first block: before that there is nothing to be
/// consistent with. An event that only says that nothing follows brings no line, so it fits any stream.
fn check_owner(record: &StreamRecord, batch: &Submission) -> Result<(), Refusal> {
    let step_run = batch.step_run.clone();
    match (&record.counting, batch.numbering) {
        _ if fold::is_undecided(record) => Ok(()),
        (_, Numbering::Event { .. }) if !batch.brings_something() => Ok(()),
        (Counting::Gateway, Numbering::Agent { .. }) => Err(Refusal::NumberedByGateway { step_run }),
        (Counting::Agent(owner), _) if *owner != batch.agent => Err(Refusal::ForeignWriter { step_run, owner: owner.clone() }),
        (Counting::Agent(_), Numbering::Gateway { .. } | Numbering::Event { .. }) => Err(Refusal::NumberedByAgent { step_run }),
        _ => Ok(()),
    }
}

fn check_numbers(next_line: u64, batch: &Submission) -> Result<(), Refusal> {
    let first = match batch.numbering {
        Numbering::Agent { first_line } => first_line,
        Numbering::Gateway { .. } | Numbering::Event { .. } => next_line,
    };
    let coming = batch.payload.lines().saturating_add(batch.lost.lines);
    if first.saturating_add(coming) > MAX_LINE + 1 {
        return Err(Refusal::TooManyLines { step_run: batch.step_run.clone() });
    }
    Ok(())
}

/// The numbers below a stored stream's next that no block holds.
fn holes_of(store: &LineStore, step_run: &StepRunId) -> Result<Vec<(u64, u64)>, StoreError> {
    /// Blocks looked at in one step, and steps in all: a bound on the work of one load.
    const PAGE: usize = 1024;
    const PAGES: usize = 64;
    let mut holes = Vec::new();
    let mut next = 1;
    for _ in 0..PAGES {
        let blocks = store.blocks_from(step_run, next, PAGE)?;
        for block in &blocks {
            if block.place.first_line > next {
                remember_hole(&mut holes, next, block.place.first_line);
            }
            next = next.max(block.place.next_line());
        }
        if blocks.len() < PAGE {
            break;
        }
    }
    Ok(holes)
}

fn remember_hole(holes: &mut Vec<(u64, u64)>, from: u64, until: u64) {
    if holes.len() == MAX_HOLES {
        holes.remove(0);
    }
    holes.push((from, until));
}

/// Adds the lines of one batch to a stream.
struct Adder<'a> {
    identity: Identity<'a>,
    record: &'a mut StreamRecord,
    holes: &'a mut Vec<(u64, u64)>,
    pending: &'a mut Pending,
    counts: Counts,
}

impl Adder<'_> {
    /// The gateway counts: the lines come next.
    fn append(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            self.keep(self.record.next_line, 0, piece, None);
        }
    }

    /// The agent counts: the lines have their numbers.
    fn place(&mut self, first_line: u64, pieces: Vec<Piece>) {
        let mut first = first_line;
        for piece in pieces {
            let after = first + u64::from(piece.lines);
            let next = self.record.next_line;
            if first > next {
                remember_hole(self.holes, next, first);
            }
            self.count_old(first, after.min(next));
            if after > next {
                let skip = next.saturating_sub(first);
                self.keep(first + skip, skip as u32, piece, None);
            }
            first = after;
        }
    }

    /// The lines of an event come next, but for those that an earlier try has stored.
    fn append_from_event(&mut self, position: Position, pieces: Vec<Piece>) {
        let stored = self.stored_of_event(position);
        let mut passed = 0;
        for piece in pieces {
            let skip = stored.saturating_sub(passed).min(u64::from(piece.lines));
            passed += u64::from(piece.lines);
            self.counts.repeated += skip;
            if skip < u64::from(piece.lines) {
                let origin = EventOrigin { position, lines_done: passed };
                self.keep(self.record.next_line, skip as u32, piece, Some(origin));
            }
        }
    }

    fn keep(&mut self, first_line: u64, skip: u32, piece: Piece, origin: Option<EventOrigin>) {
        let lines = piece.lines - skip;
        if lines == 0 {
            return;
        }
        self.counts.taken += u64::from(lines);
        let text = self.pending.add(&self.identity, first_line, skip, piece, origin);
        fold::add_lines(self.record, first_line, lines, self.identity.epoch, text, origin);
    }

    /// How many of an event's lines an earlier try has stored.
    fn stored_of_event(&self, position: Position) -> u64 {
        match self.record.origin {
            Some(newest) if newest.position > position => u64::MAX,
            Some(newest) if newest.position == position => newest.lines_done,
            _ => 0,
        }
    }

    fn gap(&mut self, lines: u64, reason: GapReason, time: i64) {
        let mut left = lines;
        while left > 0 {
            let some = u32::try_from(left).unwrap_or(u32::MAX);
            let first_line = self.record.next_line;
            self.keep_gap(first_line, some, Content::Gap { reason, time }, None);
            left -= u64::from(some);
        }
    }

    fn gap_of_unknown_size(&mut self, reason: GapReason, time: i64) {
        self.keep_gap(self.record.next_line, 0, Content::Gap { reason, time }, None);
    }

    /// An event's lines could not be read: that is shown once too.
    fn gap_from_event(&mut self, position: Position, time: i64) {
        if self.stored_of_event(position) == 0 {
            let origin = EventOrigin { position, lines_done: u64::MAX };
            self.keep_gap(self.record.next_line, 0, Content::Gap { reason: GapReason::Unreadable, time }, Some(origin));
        }
    }

    fn keep_gap(&mut self, first_line: u64, lines: u32, gap: Content, origin: Option<EventOrigin>) {
        let block = self.pending.add_gap(&self.identity, first_line, lines, gap, origin);
        fold::add_block(self.record, block, 0);
    }

    /// Counts lines below the next number: late where nobody had brought them, else repeated.
    fn count_old(&mut self, from: u64, until: u64) {
        let old = until.saturating_sub(from);
        let late: u64 = self.holes.iter().map(|(start, end)| until.min(*end).saturating_sub(from.max(*start))).sum();
        self.counts.late += late;
        self.counts.repeated += old - late;
    }
}
