//! The sink of events: `events`.

use std::sync::Arc;

use bytes::Bytes;

use super::event_rows::{COLUMNS, event_json, put_event};
use super::insert::{BUFFERED, Rows, Turns, Unmade, insert};
use super::lines::redeliver;
use super::migrate;
use super::server::Server;
use crate::budget::Budget;
use crate::sink::{BatchLimits, DeadLetter, Delivery, DeliveryError, EventBatch, Rejected};
use crate::store::events::StoredEvent;

/// Delivers events.
#[derive(Clone)]
pub struct ClickHouseEvents {
    server: Server,
    memory: Budget,
    turns: Turns,
}

impl ClickHouseEvents {
    /// To that server; what batches buffer comes out of `memory`.
    #[must_use]
    pub fn new(server: Server, memory: Budget) -> Self {
        Self { server, memory, turns: Turns::default() }
    }
}

impl Delivery for ClickHouseEvents {
    type Batch = EventBatch;

    async fn prepare(&self) -> Result<(), DeliveryError> {
        migrate::prepare(&self.server).await
    }

    async fn deliver(self: Arc<Self>, batch: EventBatch) -> Result<Vec<Rejected>, DeliveryError> {
        let turn = self.turns.take().await;
        // Events are read one after the other; each is there as it came and as JSON for a moment.
        let _memory = self.memory.take(BUFFERED + 2 * batch.extent().largest).await;
        let token = batch.token();
        let make = move |rows: &mut Rows| {
            let _turn = turn;
            put_events(&batch, rows)
        };
        insert(&self.server, "events", COLUMNS, &token, make).await
    }

    async fn reject(&self, batch: EventBatch, reason: String) -> Result<Vec<Rejected>, DeliveryError> {
        let rejected = tokio::task::spawn_blocking(move || {
            batch.events().map(|event| Ok(letter(&event?, &reason))).collect::<Result<_, DeliveryError>>()
        });
        rejected.await.map_err(|panic| DeliveryError::transient(format!("making dead letters has failed: {panic}")))?
    }

    async fn redeliver(&self, letter: &DeadLetter) -> Result<(), DeliveryError> {
        redeliver(&self.server, letter, "events").await
    }

    fn limits(&self) -> BatchLimits {
        self.server.settings().limits
    }
}

/// Writes the events of a batch, and gives those that cannot be written.
fn put_events(batch: &EventBatch, rows: &mut Rows) -> Result<Vec<Rejected>, Unmade> {
    let (mut rejected, mut payload) = (Vec::new(), Vec::new());
    for event in batch.events() {
        let event = event?;
        match put_event(&event, &mut payload, rows.buffer()) {
            Ok(()) => rows.row_done()?,
            Err(reason) => rejected.push(letter(&event, &reason)),
        }
    }
    Ok(rejected)
}

fn letter(event: &StoredEvent, reason: &str) -> Rejected {
    let route = [("table".to_owned(), "events".to_owned())].into();
    let record = Bytes::from(event_json(event));
    Rejected { position: event.position, line: None, reason: reason.to_owned(), route, record }
}
