//! The control plane's own events: they go into the event log as an agent's do, and are read from it.

use std::sync::Arc;

use arcgate_api::gateway::v1::Event;
use arcgate_api::ingest::EventBatch;
use bytes::Bytes;
use prost::Message as _;

use super::EventIngest;
use crate::id::{AgentId, Id};
use crate::sink::cloudevent::{CloudEvent, WriteError};
use crate::store::events::{EventFate, EventLog, StoredEvent};
use crate::store::{Position, StoreError};

/// How many events are read at once.
const EVENTS_A_READ: usize = 1_000;
/// No further event is read once they have this many bytes.
const BYTES_A_READ: usize = 4 << 20;

/// The event log for whoever runs beside the gateway. Cloning shares it.
#[derive(Clone)]
pub struct OwnEvents {
    ingest: Arc<EventIngest>,
    log: EventLog,
    agent: AgentId,
    store_id: u128,
}

/// Some of the events, and where what follows them lies.
#[derive(Debug)]
pub struct EventsFrom {
    /// In order.
    pub events: Vec<StoredEvent>,
    /// Where to read on.
    pub next: Position,
}

impl OwnEvents {
    pub(crate) fn new(ingest: Arc<EventIngest>, log: EventLog, store_id: u128) -> Self {
        Self { ingest, log, agent: Id::control_plane(), store_id }
    }

    /// The store whose positions these are.
    #[must_use]
    pub fn store_id(&self) -> u128 {
        self.store_id
    }

    /// Appends events, which need an id and a number. Returns once they are durable; those that are there already add nothing.
    ///
    /// # Errors
    /// Why nothing can be stored now.
    pub async fn append(&self, events: &[Event]) -> Result<(), String> {
        let events: Vec<Bytes> = events.iter().map(|event| event.encode_to_vec().into()).collect();
        let batch = EventBatch { events, ..EventBatch::default() };
        let underway = self.ingest.submit(&self.agent, true, batch, None).await.map_err(|status| status.message().to_owned())?;
        let fates = underway.fates.await.unwrap_or(Err(StoreError::Closed)).map_err(|error| error.to_string())?;
        let dead = fates.iter().filter(|fate| matches!(fate, EventFate::Dead)).count();
        if dead > 0 {
            tracing::error!(
                dead,
                "events of the control plane cannot be accepted and are dead letters: `arcgate deadletters ls`"
            );
        }
        Ok(())
    }

    /// Reads on from a position. Waits until there is something.
    ///
    /// # Errors
    /// The event log cannot be read, or is closed.
    pub async fn read(&self, from: Position) -> Result<EventsFrom, StoreError> {
        let mut reader = self.log.follow(from);
        reader.more().await?;
        let read = tokio::task::spawn_blocking(move || {
            reader.read(EVENTS_A_READ, BYTES_A_READ).map(|events| EventsFrom { events, next: reader.position() })
        });
        read.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// An event's type, of its envelope, else its own; and the step run that it is about, as its sender says (`meta.step_id`).
#[must_use]
pub fn kind_of(event: &StoredEvent) -> Option<(String, String)> {
    CloudEvent::of(event).ok().map(|event| (event.kind.to_owned(), event.step_id.to_owned()))
}

/// An event as CloudEvents JSON of at most `limit` bytes.
///
/// # Errors
/// It is not decodable, or too large.
pub fn json_of(event: &StoredEvent, limit: usize) -> Result<Vec<u8>, WriteError> {
    let mut json = Vec::new();
    CloudEvent::of(event)?.write(limit, || None, &mut json)?;
    Ok(json)
}
