//! What retention does to the event log.

use std::sync::Arc;

use super::EventLog;
use super::committer::{EVENT, EVENT_MARK};
use super::identity;
use super::record::{self, Record};
use crate::id::{AgentId, Id};
use crate::store::index::Index;
use crate::store::index::record::{KnownEvent, decode_known_event};
use crate::store::retention::events::{EventSegments, SeenEvent};
use crate::store::segment::{Frame, LogKind, Scanned, SegmentInfo};
use crate::store::{Position, StoreError};

/// The event log as retention sees it. Its calls block.
pub struct RetainedEvents {
    log: EventLog,
    index: Arc<dyn Index>,
    read: Box<dyn Fn() -> Position + Send + Sync>,
}

impl RetainedEvents {
    /// `read` says up to where this gateway has made lines of the events.
    #[must_use]
    pub fn new(log: EventLog, index: Arc<dyn Index>, read: Box<dyn Fn() -> Position + Send + Sync>) -> Self {
        Self { log, index, read }
    }
}

impl EventSegments for RetainedEvents {
    fn segments(&self) -> Vec<SegmentInfo> {
        self.log.segments().segments()
    }

    fn keep_from(&self) -> Position {
        // An index that cannot be read keeps everything.
        (self.read)().min(self.index.indexed(LogKind::Events).unwrap_or(0))
    }

    fn entries(
        &self,
        segment: &SegmentInfo,
        each: &mut dyn FnMut(SeenEvent) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for item in self.log.segments().scan(segment.start, segment.end) {
            if let Scanned::Frame(frame) = item?
                && let Some(seen) = seen(frame)
            {
                each(seen)?;
            }
        }
        Ok(())
    }

    fn append_marks(&self, events: Vec<KnownEvent>) -> Result<(), StoreError> {
        self.log.remember(events)
    }

    fn forget(&self, keys: Vec<(AgentId, Box<str>)>, before: Position) -> Result<(), StoreError> {
        self.log.forget(keys, before)
    }

    fn trim(&self, before: Position) -> Result<Position, StoreError> {
        self.log.segments().trim(before)
    }
}

fn seen(frame: Frame) -> Option<SeenEvent> {
    let Frame { position, next, kind, received, body, .. } = frame;
    let event = match kind {
        EVENT => {
            let Record { agent, event_id, seq, digest, .. } = record::decode(body).ok()?;
            let name = identity::name(&event_id, seq, digest).into();
            KnownEvent { agent: Id::parse(&agent).ok()?, name, digest, received }
        }
        EVENT_MARK => decode_known_event(&body).ok()?,
        _ => return None,
    };
    Some(SeenEvent { position, bytes: next - position, event })
}
