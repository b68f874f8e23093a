//! Kafka: events as CloudEvents ([`events`]), lines as BuildLogMessages ([`lines`]).
//!
//! `delivery` is what the runner sees; `session` is a `producer` as long as it can go on, and the line of batches before it; `ticket`
//! is a batch on its way; `topics` looks what is there, `errors` says what an error means, `client` what librdkafka complains of.
//!
//! Order: messages of one key arrive in the order of the gateway's log. Batches are queued in that order, librdkafka sends them
//! in it (idempotence), and keeps them through an outage; after anything else that goes wrong the producer is made anew, and begins
//! with the oldest batch that is not confirmed. What was sent before a crash may come again: as the same bytes, and with headers or
//! numbers by which a consumer can tell.

mod client;
mod delivery;
mod errors;
mod events;
mod lines;
mod producer;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod ticket;
mod topics;

use std::sync::Arc;

use delivery::KafkaDelivery;
use events::Events;
use lines::Lines;
pub use settings::{EventKey, EventTopics, KafkaSettings, LogMessages, Login, Tls};

use super::{Delivery, EventBatch, LineBatch};
use crate::budget::Budget;
use crate::lookup::StepRunLookup;

/// The delivery of events. `memory` is the sinks' share; `lookup` knows which step run an agent's step is.
#[must_use]
pub fn events(
    settings: &KafkaSettings,
    memory: &Budget,
    lookup: Arc<dyn StepRunLookup>,
) -> impl Delivery<Batch = EventBatch> + use<> {
    let encode = Events { topics: settings.topics.clone(), key: settings.event_key, lookup };
    KafkaDelivery::new(encode, settings.clone(), memory.clone())
}

/// The delivery of lines. `memory` is the sinks' share.
#[must_use]
pub fn lines(settings: &KafkaSettings, memory: &Budget) -> impl Delivery<Batch = LineBatch> + use<> {
    let encode = Lines { topic: settings.log_topic.clone(), messages: settings.logs };
    KafkaDelivery::new(encode, settings.clone(), memory.clone())
}
