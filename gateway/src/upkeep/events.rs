//! The event log of a running gateway, as retention sees it.

use std::sync::Arc;

use crossbeam::channel::Receiver;

use super::wait_until;
use crate::id::{AgentId, Id};
use crate::store::events::{EVENT, EVENT_MARK, EventLog, record};
use crate::store::index::record::{KnownEvent, decode_known_event};
use crate::store::index::{Index, LogKind};
use crate::store::meta::StoreMeta;
use crate::store::retention::events::{EventSegments, SeenEvent};
use crate::store::segment::{Frame, Scanned, SegmentInfo};
use crate::store::{Position, StoreError};
use crate::tasklog;

/// See the module.
pub(super) struct RunningEvents {
    pub(super) log: EventLog,
    pub(super) index: Arc<dyn Index>,
    pub(super) meta: Arc<StoreMeta>,
    pub(super) stopped: Receiver<()>,
}

impl EventSegments for RunningEvents {
    fn segments(&self) -> Vec<SegmentInfo> {
        self.log.segments().segments()
    }

    fn keep_from(&self) -> Position {
        // If the index does not answer, nothing may go.
        let indexed = self.index.indexed(LogKind::Events).unwrap_or(0);
        indexed.min(self.meta.cursor(tasklog::CURSOR))
    }

    fn entries(
        &self,
        segment: &SegmentInfo,
        each: &mut dyn FnMut(SeenEvent) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for item in self.log.segments().scan(segment.start, segment.end) {
            if let Scanned::Frame(frame) = item? {
                let (position, bytes) = (frame.position, frame.next - frame.position);
                if let Some(event) = known(frame) {
                    each(SeenEvent { position, bytes, event })?;
                }
            }
        }
        Ok(())
    }

    fn append_marks(&self, events: Vec<KnownEvent>) -> Result<(), StoreError> {
        let end = self.log.remember(events)?;
        wait_until(&self.stopped, || {
            self.log.segments().poisoned().map_or(Ok(()), |why| Err(StoreError::Poisoned { why }))?;
            Ok(self.index.indexed(LogKind::Events)? >= end)
        })
    }

    fn forget(&self, keys: Vec<(AgentId, Box<str>)>, before: Position) -> Result<(), StoreError> {
        self.log.forget(keys, before)
    }

    fn trim(&self, before: Position) -> Result<Position, StoreError> {
        self.log.segments().trim(before)
    }
}

fn known(frame: Frame) -> Option<KnownEvent> {
    match frame.kind {
        EVENT => {
            let record = record::decode(frame.body).ok()?;
            let agent = Id::parse(&record.agent).ok()?;
            Some(KnownEvent { agent, event_id: record.event_id, digest: record.digest, received: frame.received })
        }
        EVENT_MARK => decode_known_event(&frame.body).ok(),
        _ => None,
    }
}
