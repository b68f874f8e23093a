//! The sink of events: `events`.

use std::sync::Arc;

use bytes::Bytes;

use super::event_rows::{COLUMNS, event_json, put_event};
use super::insert::{BUFFERED, Rows, Unmade, insert};
use super::lines::redeliver;
use super::migrate;
use super::server::Server;
use crate::budget::Budget;
use crate::sink::{BatchLimits, DeadLetter, Delivery, DeliveryError, EventBatch, Rejected};
use crate::store::events::StoredEvent;

/// Events in a batch have at most this many bytes, unless a single one has more: they are larger in memory than lines are.
const MOST_BYTES: u64 = 4 << 20;

/// Delivers events.
#[derive(Clone)]
pub struct ClickHouseEvents {
    server: Server,
    memory: Budget,
}

impl ClickHouseEvents {
    /// To that server; what batches buffer comes out of `memory`.
    #[must_use]
    pub fn new(server: Server, memory: Budget) -> Self {
        Self { server, memory }
    }
}

impl Delivery for ClickHouseEvents {
    type Batch = EventBatch;

    async fn prepare(&self) -> Result<(), DeliveryError> {
        migrate::prepare(&self.server).await
    }

    async fn deliver(self: Arc<Self>, batch: EventBatch) -> Result<Vec<Rejected>, DeliveryError> {
        // An event is read whole, and is there as it came and as JSON for a moment.
        let _memory = self.memory.take(BUFFERED + 2 * batch.extent().bytes).await;
        let token = batch.token();
        let (tell, rejected) = tokio::sync::oneshot::channel();
        insert(&self.server, "events", COLUMNS, &token, move |rows| {
            let rejected = put_events(&batch, rows)?;
            let _ = tell.send(rejected);
            Ok(())
        })
        .await?;
        Ok(rejected.await.unwrap_or_default())
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
        let limits = self.server.settings().limits;
        BatchLimits { bytes: limits.bytes.min(MOST_BYTES), ..limits }
    }
}

/// Writes the events of a batch, and gives those that cannot be written.
fn put_events(batch: &EventBatch, rows: &mut Rows) -> Result<Vec<Rejected>, Unmade> {
    let mut rejected = Vec::new();
    for event in batch.events() {
        let event = event?;
        match put_event(&event, rows.buffer()) {
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
