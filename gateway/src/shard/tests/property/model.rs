//! What a stream should hold, number by number.

use std::collections::BTreeMap;

use super::super::super::Lost;
use crate::block::{Codec, GapReason, Run};
use crate::decode::Piece;
use crate::store::lines::by_hand::Shown;

/// What stands at a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Line(String, Run),
    Dropped,
}

pub(super) struct Stream {
    pub(super) name: &'static str,
    pub(super) cells: BTreeMap<u64, Cell>,
    /// Gaps of unknown size, by the number they stand before.
    pub(super) unknown: Vec<(u64, GapReason)>,
    pub(super) next: u64,
    pub(super) ended: bool,
    /// The number after the last that is durable.
    pub(super) durable: u64,
    written: u64,
    written_unknown: usize,
    written_end: bool,
    /// Of which event, and which of its lines, a line is.
    origins: BTreeMap<u64, (usize, u64)>,
    /// What readers were shown in which epoch.
    seen: BTreeMap<u64, (u32, Cell)>,
}

impl Stream {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            cells: BTreeMap::new(),
            unknown: Vec::new(),
            next: 1,
            ended: false,
            durable: 1,
            written: 1,
            written_unknown: 0,
            written_end: false,
            origins: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// What was dropped before a batch.
    pub(super) fn drop_lines(&mut self, lost: Lost) {
        for _ in 0..lost.lines {
            self.cells.insert(self.next, Cell::Dropped);
            self.next += 1;
        }
        if lost.more {
            self.unknown.push((self.next, GapReason::QueueFull));
        }
    }

    /// The gateway counts. How many lines that are.
    pub(super) fn append(&mut self, pieces: &[Piece]) -> u64 {
        let cells = cells_of(pieces);
        let count = cells.len() as u64;
        for cell in cells {
            self.cells.insert(self.next, cell);
            self.next += 1;
        }
        count
    }

    /// The agent counts. Taken, repeated, late.
    pub(super) fn place(&mut self, first: u64, pieces: &[Piece]) -> [u64; 3] {
        let [mut taken, mut repeated, mut late] = [0; 3];
        let next = self.next;
        for (number, cell) in (first..).zip(cells_of(pieces)) {
            if number >= next {
                self.cells.insert(number, cell);
                taken += 1;
                self.next = number + 1;
            } else if self.cells.contains_key(&number) {
                repeated += 1;
            } else {
                late += 1;
            }
        }
        [taken, repeated, late]
    }

    /// Lines of an event, those that are not there. Taken, repeated.
    pub(super) fn append_event(&mut self, event: usize, pieces: &[Piece]) -> [u64; 2] {
        let newest = self.origins.values().next_back().copied();
        let done = match newest {
            Some((newest, _)) if newest > event => u64::MAX,
            Some((newest, at)) if newest == event => at + 1,
            _ => 0,
        };
        let [mut taken, mut repeated] = [0; 2];
        for (at, cell) in (0..).zip(cells_of(pieces)) {
            if at < done {
                repeated += 1;
                continue;
            }
            taken += 1;
            self.cells.insert(self.next, cell);
            self.origins.insert(self.next, (event, at));
            self.next += 1;
        }
        [taken, repeated]
    }

    /// How many events are done with for good: all lines of theirs are durable.
    pub(super) fn events_done(&self) -> usize {
        self.origins.range(..self.durable).next_back().map_or(0, |(_, (event, _))| *event)
    }

    /// All that waited has been written, or nothing of it.
    pub(super) fn wrote(&mut self, all: bool, next_written: u64, ended: bool) {
        if all {
            self.written = self.next;
            self.written_unknown = self.unknown.len();
            self.written_end = self.ended;
        }
        assert_eq!((next_written, ended), (self.written, self.written_end));
    }

    /// Compares what is shown with what has been written.
    pub(super) fn compare(&mut self, epoch: u32, shown: &[Shown]) -> Result<(), String> {
        let (cells, unknown) = expand(shown, self.written)?;
        let expected: BTreeMap<_, _> = self.cells.range(..self.written).map(|(number, cell)| (*number, cell.clone())).collect();
        if cells != expected {
            return Err(format!("{}: shown {cells:?}, not {expected:?}", self.name));
        }
        if unknown != self.unknown[..self.written_unknown] {
            return Err(format!("{}: gaps {unknown:?}, not {:?}", self.name, &self.unknown[..self.written_unknown]));
        }
        for (number, cell) in cells {
            if let Some((seen_in, seen)) = self.seen.insert(number, (epoch, cell.clone()))
                && seen_in == epoch
                && seen != cell
            {
                return Err(format!("{}: {number} was {seen:?} in this epoch and is {cell:?}", self.name));
            }
        }
        Ok(())
    }

    /// What is left after a restart: all that was written, or, after a loss of power, all that was durable, and of the rest what
    /// the disk happens to hold.
    pub(super) fn restarted(&mut self, power_loss: bool, next: u64, ended: bool, shown: &[Shown]) -> Result<(), String> {
        let (cells, unknown) = expand(shown, next)?;
        let must = if power_loss { self.durable } else { self.written };
        if next < must || next > self.written {
            return Err(format!("{}: next is {next}, between {must} and {} were due", self.name, self.written));
        }
        for (number, cell) in self.cells.range(..next) {
            match cells.get(number) {
                Some(found) if found == cell => {}
                None if *number >= must => {}
                found => return Err(format!("{}: line {number} is {found:?} after the restart, was {cell:?}", self.name)),
            }
        }
        if unknown.iter().any(|gap| !self.unknown.contains(gap)) || !power_loss && unknown.len() != self.written_unknown {
            return Err(format!("{}: gaps {unknown:?} after the restart", self.name));
        }
        if !power_loss && ended != self.written_end {
            return Err(format!("{}: ended is {ended} after the restart", self.name));
        }
        self.origins.retain(|number, _| cells.contains_key(number));
        (self.written, self.written_unknown, self.written_end) = (next, unknown.len(), ended);
        // Opening syncs what it finds.
        (self.cells, self.unknown, self.next, self.ended, self.durable) = (cells, unknown, next, ended, next);
        Ok(())
    }
}

fn cells_of(pieces: &[Piece]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for piece in pieces {
        let text = match piece.codec {
            Codec::Zstd => zstd::bulk::decompress(&piece.bytes, piece.raw_bytes as usize).unwrap(),
            _ => piece.bytes.to_vec(),
        };
        let run = Run { lines: 1, ..piece.runs[0].clone() };
        cells.extend(String::from_utf8(text).unwrap().lines().map(|line| Cell::Line(line.into(), run.clone())));
    }
    cells
}

type Expanded = (BTreeMap<u64, Cell>, Vec<(u64, GapReason)>);

/// What is shown, number by number; it must be in order and leave nothing out up to `next`.
fn expand(shown: &[Shown], next: u64) -> Result<Expanded, String> {
    let (mut cells, mut unknown, mut at) = (BTreeMap::new(), Vec::new(), 1);
    for entry in shown {
        let (first, count) = match entry {
            Shown::Line { number, .. } => (*number, 1),
            Shown::Gap { first, count, .. } => (*first, *count),
        };
        if first != at {
            return Err(format!("after {at} comes {first}"));
        }
        match entry {
            Shown::Line { number, text, run } => drop(cells.insert(*number, Cell::Line(text.clone(), run.clone()))),
            Shown::Gap { count: 0, reason, .. } => unknown.push((first, *reason)),
            Shown::Gap { reason: GapReason::QueueFull, .. } => cells.extend((first..first + count).map(|n| (n, Cell::Dropped))),
            Shown::Gap { .. } => {}
        }
        at += count;
    }
    if at == next { Ok((cells, unknown)) } else { Err(format!("shown up to {at}, written up to {next}")) }
}
