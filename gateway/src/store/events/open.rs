//! Opening the event log: what lies beyond the index is remembered, so that repeats are found across restarts.

use std::path::Path;
use std::sync::Arc;

use super::committer::{Committer, DEAD_LETTER, EVENT, EVENT_MARK};
use super::identity;
use super::known::Known;
use super::record::{self, Record, RecordError};
use crate::id::Id;
use crate::store::disk::Disk;
use crate::store::index::record::{KnownEvent, decode_known_event};
use crate::store::index::{EventEntry, Index};
use crate::store::segment::{Frame, FrameKind, LogKind, Recovery, Scanned, SegmentLog, SegmentOptions};
use crate::store::{Position, StoreError};

/// Opens the event log in `dir`, or creates it, and brings the index up to its end. An index that knows of more than the
/// log holds is cleared, for both logs, and filled anew: [`crate::store::Parts::open_logs`] knows in which order they are opened.
///
/// # Errors
/// The log or the index cannot be opened, or a later release wrote to the log.
pub fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: SegmentOptions,
    index: Arc<dyn Index>,
) -> Result<(Committer, Recovery), StoreError> {
    open_with(disk, dir, options, index, true)
}

/// See [`open`]. What lies beyond the index is forgotten, against all promises, unless `remember`: a test wants to see it missed.
pub(super) fn open_with(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: SegmentOptions,
    index: Arc<dyn Index>,
    remember: bool,
) -> Result<(Committer, Recovery), StoreError> {
    let indexed = index.indexed(LogKind::Events)?;
    let mut recovering = Recovering { dir, index: &*index, indexed, known: Known::new(indexed), remember };
    let (log, writer, recovery) = SegmentLog::open(disk, dir, options, indexed, &mut |item| recovering.take(item))?;
    if recovery.index_ahead {
        recovering.start_over(recovery.end)?;
    }
    recovering.index(true)?;
    let known = recovering.known;
    Ok((Committer::new(log, writer, index, known), recovery))
}

struct Recovering<'a> {
    dir: &'a Path,
    index: &'a dyn Index,
    /// What the index said that it covers.
    indexed: Position,
    known: Known,
    remember: bool,
}

impl Recovering<'_> {
    fn take(&mut self, item: Scanned) -> Result<(), StoreError> {
        let (from, next) = match &item {
            Scanned::Frame(frame) => (frame.position, frame.next),
            Scanned::Damage { from, to, .. } => (*from, *to),
        };
        self.start_over(from)?;
        match item {
            Scanned::Frame(frame) if self.remember => self.frame(frame)?,
            Scanned::Frame(_) => {}
            Scanned::Damage { from, to, why } => {
                tracing::error!(from, to, why, "the event log is damaged; what it held there is lost");
            }
        }
        self.known.advance(next);
        self.index(false)
    }

    /// If the log turns out to begin again, or to end, before what the index covers, forgets all that the index says.
    fn start_over(&mut self, at: Position) -> Result<(), StoreError> {
        if at < self.indexed {
            tracing::warn!(indexed = self.indexed, log = at, "the index is ahead of the event log; it is made anew");
            self.index.clear()?;
            self.indexed = 0;
            self.known = Known::new(0);
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame) -> Result<(), StoreError> {
        let Frame { position, kind, body, .. } = frame;
        match kind {
            EVENT | DEAD_LETTER => match record::decode(body) {
                Ok(record) => self.record(position, kind, record),
                Err(RecordError::Version(version)) => return Err(self.later_release(u32::from(version))),
                Err(error) => tracing::error!(position, %error, "an event is passed over"),
            },
            EVENT_MARK => match decode_known_event(&body) {
                Ok(KnownEvent { agent, name, digest, .. }) => {
                    self.known.add(&agent, name, EventEntry { position, digest });
                }
                Err(error) => tracing::error!(position, %error, "a mark of an event is passed over"),
            },
            _ if kind.must_be_understood() => return Err(self.later_release(u32::from(kind.0))),
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, position: Position, kind: FrameKind, record: Record) {
        let Record { agent, event_id, seq, digest, .. } = record;
        match Id::parse(&agent) {
            Ok(agent) if kind == EVENT => {
                let name = identity::name(&event_id, seq, digest).into();
                self.known.add(&agent, name, EventEntry { position, digest });
            }
            Ok(agent) => self.known.add_dead((agent, seq, digest)),
            Err(error) => tracing::error!(position, %error, "an event whose agent is nobody is passed over"),
        }
    }

    /// Gives the index what it lacks, if that is much, or all of it. Everything that is found at opening is synced.
    fn index(&mut self, all: bool) -> Result<(), StoreError> {
        if let Some(batch) = self.known.seal(all) {
            batch.apply(self.index)?;
            self.known.indexed(batch.up_to());
        }
        Ok(())
    }

    fn later_release(&self, found: u32) -> StoreError {
        let known = u32::from(record::VERSION);
        StoreError::Version { path: self.dir.to_owned(), found, oldest: known, newest: known }
    }
}
