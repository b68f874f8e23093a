//! Reading the event log in order, from a position on: for cursors (sinks, the maker of lines).

use bytes::Bytes;
use tokio::sync::watch;

use super::committer::EVENT;
use super::record::{self, Record};
use crate::clock::Millis;
use crate::id::{AgentId, Id};
use crate::store::segment::{Frame, Scanned, SegmentLog};
use crate::store::{Position, StoreError};

/// An event that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it lies in the event log.
    pub position: Position,
    /// Where what follows it lies: the cursor of a reader that is done with it.
    pub next: Position,
    /// When it came, in Unix milliseconds.
    pub received: Millis,
    /// Who sent it.
    pub agent: AgentId,
    /// Its name.
    pub event_id: Box<str>,
    /// The agent's own number for it.
    pub seq: u64,
    /// The digest of its type and payload.
    pub digest: u64,
    /// The encoded `gateway.v1.Event`, as it came.
    pub raw: Bytes,
}

/// A way through the events that are synced, oldest first; dead letters are passed over.
pub struct EventReader {
    log: SegmentLog,
    at: Position,
    synced: watch::Receiver<Position>,
}

impl EventReader {
    pub(super) fn new(log: SegmentLog, from: Position, synced: watch::Receiver<Position>) -> Self {
        Self { log, at: from, synced }
    }

    /// Where it is: everything before has been read, or passed over.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// Waits until something is synced that has not been read.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the event log is closed: nothing more will come.
    pub async fn more(&mut self) -> Result<(), StoreError> {
        let at = self.at;
        self.synced.wait_for(|synced| *synced > at).await.map(|_| ()).map_err(|_| StoreError::Closed)
    }

    /// Reads on: at most `max_events`, and no further event once they have `max_bytes`. Empty if there is nothing new. Reads
    /// the disk, so it does not belong on a runtime thread.
    ///
    /// # Errors
    /// The log cannot be read. The position is that of the failure.
    pub fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let mut events = Vec::new();
        let mut bytes = 0;
        let until = *self.synced.borrow_and_update();
        if self.at < self.log.start() {
            tracing::warn!(from = self.at, to = self.log.start(), "retention has removed events before they were read");
            self.at = self.log.start();
        }
        for item in self.log.scan(self.at, until) {
            match item {
                Ok(Scanned::Frame(frame)) => {
                    self.at = frame.next;
                    if let Some(event) = stored_event(frame) {
                        bytes += event.raw.len();
                        events.push(event);
                    }
                }
                Ok(Scanned::Damage { from, to, why }) => {
                    tracing::error!(from, to, why, "damaged bytes of the event log are passed over");
                    self.at = to;
                }
                // What was read so far is given first; the next call meets the failure again, or the new start.
                Err(StoreError::Trimmed(_)) => return Ok(events),
                Err(_) if !events.is_empty() => return Ok(events),
                Err(error) => return Err(error),
            }
            if events.len() >= max_events || bytes >= max_bytes {
                return Ok(events);
            }
        }
        self.at = self.at.max(until);
        Ok(events)
    }
}

/// The event in a frame; `None` if it holds something else.
pub(crate) fn stored_event(frame: Frame) -> Option<StoredEvent> {
    let Frame { position, next, kind, received, body, .. } = frame;
    if kind != EVENT {
        return None;
    }
    match record::decode(body) {
        Ok(Record { seq, digest, agent, event_id, raw, .. }) => {
            let agent = Id::parse(&agent).ok()?;
            Some(StoredEvent { position, next, received, agent, event_id, seq, digest, raw })
        }
        Err(error) => {
            tracing::error!(position, %error, "an event is passed over");
            None
        }
    }
}
