//! Looking at a store that nobody serves, for `arcgate store ls` and `arcgate store verify`.
//!
//! It is not opened for that: neither its incarnation nor its epoch rises, what a crash has left behind the last frame stays, and
//! the index stays where it is. The folder's lock keeps a gateway away meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::events::record::{self, Record};
use super::events::{DEAD_LETTER, DeadReason, EVENT, EVENT_MARK, identity};
use super::index::record::decode_known_event;
use super::index::{CACHE_BYTES, FjallIndex, Index, StreamRecord};
use super::inspect::{self, LogReport, Meaning};
use super::lines::{self, BLOCK, BlockRef, MARK};
use super::lock::FolderLock;
use super::meta::StoreMeta;
use super::segment::{Frame, LogKind, Recovery, Scanned, SegmentLog, SegmentOptions};
use super::{Position, StoreError};
use crate::block::format;
use crate::clock::{Clock, Millis};
use crate::id::{Id, StepRunId};

/// A store, to be read.
pub struct Look {
    lines: Option<(SegmentLog, Recovery)>,
    events: Option<(SegmentLog, Recovery)>,
    index: Box<dyn Index>,
    _lock: FolderLock,
}

/// What the event log holds of an event or a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Where it lies.
    pub position: Position,
    /// When it came, in Unix milliseconds.
    pub received: Millis,
    /// What was stored of it.
    pub record: Record,
}

impl LoggedEvent {
    /// Why it is a dead letter, if it is one.
    #[must_use]
    pub fn dead(&self) -> Option<DeadReason> {
        self.record.dead
    }
}

impl Look {
    /// Looks at the store in the folder `path`.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::Locked`] if a gateway runs on it; it cannot be read, or not by this release.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        // Before the lock, which would make the folder.
        if StoreMeta::look(&**disk, path)?.is_none() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        let lock = FolderLock::acquire(path)?;
        let (store_id, incarnation) = StoreMeta::look(&**disk, path)?.ok_or_else(|| StoreError::Missing(path.to_owned()))?;
        let log = |kind, name| {
            let options = SegmentOptions { kind, segment_bytes: u64::MAX, store_id, incarnation, clock: Clock::system() };
            SegmentLog::look(Arc::clone(disk), &path.join(name), &options)
        };
        let (lines, events) = (log(LogKind::Lines, "lines")?, log(LogKind::Events, "events")?);
        let index = Box::new(FjallIndex::open(&path.join("index"), CACHE_BYTES)?);
        Ok(Self { lines, events, index, _lock: lock })
    }

    /// One of the two logs, and what looking for its end has found.
    #[must_use]
    pub fn log(&self, log: LogKind) -> Option<&(SegmentLog, Recovery)> {
        match log {
            LogKind::Lines => self.lines.as_ref(),
            LogKind::Events => self.events.as_ref(),
        }
    }

    /// All log streams in the order of their ids, with all that is written of them.
    ///
    /// # Errors
    /// The log or the index cannot be read, here or by the iterator; the index is of another state of the log.
    pub fn streams(&self) -> Result<impl Iterator<Item = Result<(StepRunId, StreamRecord), StoreError>> + '_, StoreError> {
        let mut young: BTreeMap<StepRunId, StreamRecord> = match &self.lines {
            Some((log, _)) if self.is_ahead(LogKind::Lines, log)? => {
                return Err(StoreError::Index("it knows of more than the line log holds".into()));
            }
            Some((log, _)) => lines::unindexed(log, &*self.index)?.collect(),
            None if self.index.indexed(LogKind::Lines)? > 0 => {
                return Err(StoreError::Index("it knows of a line log of which no segment file is there".into()));
            }
            None => BTreeMap::new(),
        };
        let mut known = inspect::streams(&*self.index).peekable();
        Ok(std::iter::from_fn(move || {
            let younger = young.keys().next().is_some_and(|first| match known.peek() {
                Some(Ok((step_run, _))) => first < step_run,
                Some(Err(_)) => false,
                None => true,
            });
            if younger {
                return young.pop_first().map(Ok);
            }
            Some(known.next()?.map(|(step_run, record)| match young.remove(&step_run) {
                Some(newer) => (step_run, newer),
                None => (step_run, record),
            }))
        }))
    }

    /// All events and dead letters, oldest first. Damage is passed over.
    pub fn events(&self) -> impl Iterator<Item = Result<LoggedEvent, StoreError>> + '_ {
        let items = self.events.iter().flat_map(|(log, _)| log.scan(log.start(), log.synced()));
        items.filter_map(|item| match item {
            Ok(Scanned::Frame(Frame { position, received, kind: EVENT | DEAD_LETTER, body, .. })) => {
                record::decode(body).ok().map(|record| Ok(LoggedEvent { position, received, record }))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Reads one log from end to end, checks its checksums, and compares it with the index.
    ///
    /// # Errors
    /// A file or the index cannot be read at all.
    pub fn verify(&self, kind: LogKind) -> Result<LogReport, StoreError> {
        let Some((log, _)) = self.log(kind) else {
            let mut report = LogReport::default();
            if self.index.indexed(kind)? > 0 {
                report.surplus = 1;
                report.note(0, "the index knows of a log of which no segment file is there; put the files back".into());
            }
            return Ok(report);
        };
        let meaning = match kind {
            LogKind::Lines => meaning_of_line_frame,
            LogKind::Events => meaning_of_event_frame,
        };
        let mut report = inspect::verify(kind, log.start(), log.scan(log.start(), log.synced()), meaning, &*self.index)?;
        if self.is_ahead(kind, log)? {
            report.surplus = report.surplus.max(1);
            report.note(log.synced(), "the index knows of more than the log holds".into());
        }
        Ok(report)
    }

    fn is_ahead(&self, kind: LogKind, log: &SegmentLog) -> Result<bool, StoreError> {
        Ok(self.index.indexed(kind)? > log.synced())
    }
}

fn meaning_of_line_frame(frame: &Frame) -> Meaning {
    match frame.kind {
        BLOCK => match format::decode(&frame.body) {
            Ok(block) => {
                let place = BlockRef { first_line: block.first_line, lines: block.lines, position: frame.position };
                Meaning::Block(block.step_run, place)
            }
            Err(error) => Meaning::Unreadable(error.to_string()),
        },
        MARK => Meaning::Other,
        _ => unknown(frame),
    }
}

fn meaning_of_event_frame(frame: &Frame) -> Meaning {
    match frame.kind {
        EVENT | DEAD_LETTER => match record::decode(frame.body.clone()) {
            Ok(event) if event.dead.is_none() => match Id::parse(&event.agent) {
                Ok(agent) => Meaning::Event(agent, identity::name(&event.event_id, event.seq, event.digest).into()),
                Err(error) => Meaning::Unreadable(format!("the agent's id {error}")),
            },
            Ok(_) => Meaning::Other,
            Err(error) => Meaning::Unreadable(error.to_string()),
        },
        EVENT_MARK => match decode_known_event(&frame.body) {
            Ok(event) => Meaning::Event(event.agent, event.name),
            Err(error) => Meaning::Unreadable(error.to_string()),
        },
        _ => unknown(frame),
    }
}

fn unknown(frame: &Frame) -> Meaning {
    if frame.kind.must_be_understood() {
        Meaning::Unreadable("a later release wrote this frame; use one that reads it".into())
    } else {
        Meaning::Other
    }
}

#[cfg(test)]
mod tests;
