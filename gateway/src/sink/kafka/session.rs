//! One life of a producer, and the batches that wait for it: their messages are queued one batch after the other, in the order in
//! which they were handed over. What a sink has to retry is what the producer gives up: then the session is over, all that is on its
//! way has failed, and the next session begins with the oldest batch.

#![expect(clippy::disallowed_types, reason = "taken for a look at the handful of batches on their way, once a batch")]

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::delivery::Out;
use super::producer::{Producer, Record};
use super::ticket::{Kind, Ticket};
use crate::budget::Budget;
use crate::sink::delivery::MAX_UNDER_WAY;
use crate::sink::{DeliveryError, Rejected};
use crate::store::{Position, StoreError};

/// See the module.
pub(super) struct Session {
    pub(super) producer: Arc<Producer>,
    tickets: Mutex<Tickets>,
    line: mpsc::Sender<Job>,
}

/// The batches that are on their way.
#[derive(Default)]
struct Tickets {
    by_token: HashMap<String, Arc<Ticket>>,
    /// Where the last of all that were handed over ends.
    newest: Position,
}

/// Hands the messages of a batch on, in order, until nobody wants more. Blocks.
type EncodeBatch = Box<dyn FnOnce(&mut dyn Out) -> Result<(), StoreError> + Send>;

/// A batch that waits for those before it.
struct Job {
    ticket: Arc<Ticket>,
    /// What reading it takes.
    bytes: u64,
    encode: EncodeBatch,
}

impl Session {
    /// Begins one; what batches take while they are read comes from `memory`. Needs a runtime.
    pub(super) fn begin(config: &ClientConfig, memory: Budget) -> KafkaResult<Self> {
        let producer = Arc::new(Producer::begin(config)?);
        // The runner has fewer under way, and those of a runner that has stopped are not followed by others.
        let (line, jobs) = mpsc::channel(2 * MAX_UNDER_WAY);
        tokio::spawn(send_in_order(Arc::clone(&producer), memory, jobs));
        Ok(Self { producer, tickets: Mutex::default(), line })
    }

    /// The ticket of the batch of that token, which ends at `to`. Unless it is on its way already, it takes its place in the line now;
    /// reading it takes `bytes`. One that comes again in another shape, behind those that follow it, ends the session.
    pub(super) fn enqueue(
        &self,
        (token, to): (String, Position),
        kind: Kind,
        bytes: u64,
        encode: impl FnOnce() -> EncodeBatch,
    ) -> Arc<Ticket> {
        let mut tickets = self.tickets.lock();
        let Tickets { by_token, newest } = &mut *tickets;
        let ticket = by_token.entry(token).or_insert_with(|| {
            let ticket = Ticket::new(kind);
            if to <= *newest {
                let why = DeliveryError::transient(
                    "a batch has changed while it was on its way; all that are on their way are sent again",
                );
                self.producer.end(why.clone());
                ticket.fail(why);
                ticket.settled();
                return ticket;
            }
            *newest = to;
            let job = Job { ticket: Arc::clone(&ticket), bytes, encode: encode() };
            if self.line.try_send(job).is_err() {
                ticket.fail(DeliveryError::transient("too many batches wait for the Kafka producer; this is a defect"));
                ticket.settled();
            }
            ticket
        });
        Arc::clone(ticket)
    }

    /// Forgets a ticket that is done.
    pub(super) fn close(&self, token: &str) {
        self.tickets.lock().by_token.remove(token);
    }
}

/// Queues the messages of one batch after the other, for as long as there may come more.
async fn send_in_order(producer: Arc<Producer>, memory: Budget, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { ticket, bytes, encode }) = jobs.recv().await {
        let permit = memory.take(bytes).await;
        let mut out = Sender { producer: Arc::clone(&producer), ticket: Arc::clone(&ticket), runtime: Handle::current() };
        let sent = tokio::task::spawn_blocking(move || encode(&mut out)).await;
        drop(permit);
        match sent {
            Ok(Ok(())) => {}
            // Those behind it must not pass it.
            Ok(Err(error)) => fail(&producer, &ticket, error.into()),
            Err(error) => {
                fail(&producer, &ticket, DeliveryError::transient(format!("making messages of a batch has panicked: {error}")));
            }
        }
        ticket.settled();
    }
}

fn fail(producer: &Producer, ticket: &Ticket, why: DeliveryError) {
    ticket.fail(why.clone());
    producer.end(why);
}

/// Sends.
struct Sender {
    producer: Arc<Producer>,
    ticket: Arc<Ticket>,
    runtime: Handle,
}

impl Out for Sender {
    fn send(&mut self, record: &Record<'_>) -> bool {
        self.producer.send(record, &self.ticket, &self.runtime)
    }

    fn reject(&mut self, rejected: Rejected) {
        self.ticket.reject(rejected);
    }
}
