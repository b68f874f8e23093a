//! Looking at a store that nobody serves: what `arcgate store ls` lists and `arcgate store verify` checks.

use std::collections::{BTreeMap, VecDeque};

use super::index::{Index, StreamRecord};
use super::lines::BlockRef;
use super::segment::{Frame, LogKind, Scanned};
use super::{Position, StoreError};
use crate::id::{AgentId, StepRunId};

const PAGE: usize = 256;
/// How many findings are named; the rest is counted.
const NAMED: usize = 100;

/// All streams of an index in the order of their ids, read in pages.
pub fn streams(index: &dyn Index) -> impl Iterator<Item = Result<(StepRunId, StreamRecord), StoreError>> + '_ {
    let mut page = VecDeque::new();
    let mut after: Option<StepRunId> = None;
    let mut done = false;
    std::iter::from_fn(move || {
        if page.is_empty() && !done {
            match index.streams(after.as_ref(), PAGE) {
                Ok(next) => page.extend(next),
                Err(error) => {
                    done = true;
                    return Some(Err(error));
                }
            }
            done = page.len() < PAGE;
            after = page.back().map(|(step_run, _): &(StepRunId, _)| step_run.clone());
        }
        page.pop_front().map(Ok)
    })
}

/// What a frame must have in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A block of lines.
    Block(StepRunId, BlockRef),
    /// An event of that [name](super::events::identity::name), or a mark of one.
    Event(AgentId, Box<str>),
    /// Nothing.
    Other,
    /// The checksums fit, but this release does not understand the body.
    Unreadable(String),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub position: Position,
    /// What, for people.
    pub what: String,
}

/// What a walk through a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogReport {
    /// Frames whose checksums fit.
    pub frames: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<u8, u64>,
    /// Their size.
    pub bytes: u64,
    /// Regions that hold no frame.
    pub damaged: u64,
    /// Their size.
    pub damaged_bytes: u64,
    /// Frames that this release does not understand.
    pub unreadable: u64,
    /// Frames that the index should know and does not.
    pub missing: u64,
    /// Entries of the index for frames that are not there.
    pub surplus: u64,
    /// The first hundred findings, in order.
    pub findings: Vec<Finding>,
}

impl LogReport {
    /// Whether all is as it should be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged + self.unreadable + self.missing + self.surplus == 0
    }

    /// Whether `arcgate store reindex` would mend what is wrong.
    #[must_use]
    pub fn needs_reindex(&self) -> bool {
        self.missing + self.surplus > 0
    }

    pub(super) fn note(&mut self, position: Position, what: String) {
        if self.findings.len() < NAMED {
            self.findings.push(Finding { position, what });
        }
    }
}

/// Walks through a log and compares it with the index. `items` are all that lies in the log, from `start`; reading them checks
/// the checksums. `meaning` tells what a frame must have in the index.
///
/// # Errors
/// A file or the index cannot be read at all; damage is no error but a finding.
pub fn verify(
    log: LogKind,
    start: Position,
    items: impl IntoIterator<Item = Result<Scanned, StoreError>>,
    mut meaning: impl FnMut(&Frame) -> Meaning,
    index: &dyn Index,
) -> Result<LogReport, StoreError> {
    let mut report = LogReport::default();
    let indexed = index.indexed(log)?;
    let mut found = 0;
    for item in items {
        let frame = match item? {
            Scanned::Frame(frame) => frame,
            Scanned::Damage { from, to, why } => {
                report.damaged += 1;
                report.damaged_bytes += to - from;
                report.note(from, format!("{} bytes are damaged: {why}", to - from));
                continue;
            }
        };
        report.frames += 1;
        report.bytes += frame.next - frame.position;
        *report.kinds.entry(frame.kind.0).or_default() += 1;
        let known = match meaning(&frame) {
            Meaning::Other => continue,
            Meaning::Unreadable(why) => {
                report.unreadable += 1;
                report.note(frame.position, why);
                continue;
            }
            // The index does not go that far yet: opening the store will read this.
            _ if frame.position >= indexed => continue,
            Meaning::Block(step_run, block) => {
                let known = holds(index, &step_run, &block)?;
                found += u64::from(known);
                known
            }
            // One that retention has marked is known by its mark, which is younger.
            Meaning::Event(agent, name) => index.event(&agent, &name)?.is_some_and(|entry| entry.position >= frame.position),
        };
        if !known {
            report.missing += 1;
            report.note(frame.position, "the index lacks this frame".into());
        }
    }
    if log == LogKind::Lines {
        report.surplus = blocks_since(index, start)?.saturating_sub(found);
        if report.surplus > 0 {
            report.note(start, format!("the index has {} blocks that the log lacks", report.surplus));
        }
    }
    Ok(report)
}

fn holds(index: &dyn Index, step_run: &StepRunId, block: &BlockRef) -> Result<bool, StoreError> {
    // Gaps of unknown size may stand before the same line.
    let mut limit = 4;
    loop {
        let blocks = index.blocks_from(step_run, block.first_line, limit)?;
        if blocks.contains(block) {
            return Ok(true);
        }
        if blocks.len() < limit || blocks.last().is_some_and(|last| last.first_line > block.first_line) {
            return Ok(false);
        }
        limit *= 4;
    }
}

/// How many blocks the index has at or after `start`.
fn blocks_since(index: &dyn Index, start: Position) -> Result<u64, StoreError> {
    let mut count = 0;
    for stream in streams(index) {
        let (step_run, _) = stream?;
        let (mut line, mut limit) = (0, PAGE);
        loop {
            let blocks = index.blocks_from(&step_run, line, limit)?;
            let Some(last) = blocks.last().filter(|_| blocks.len() == limit) else {
                count += blocks.iter().filter(|block| block.position >= start).count() as u64;
                break;
            };
            // Those that begin where the page ends may go on after it: they are counted with the next page.
            if last.first_line == line {
                limit *= 4;
                continue;
            }
            let before = blocks.iter().filter(|block| block.first_line < last.first_line);
            count += before.filter(|block| block.position >= start).count() as u64;
            (line, limit) = (last.first_line, PAGE);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
