//! The delivery to Kafka, the same for events and lines: they differ in how they become messages ([`Encode`]).

#![expect(clippy::disallowed_types, reason = "the session is looked up once a batch and changed when one ends")]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::session::{Record, Session};
use super::settings::KafkaSettings;
use super::ticket::{Ticket, route};
use super::topics::{self, Limits};
use crate::budget::Budget;
use crate::sink::batch::Batch;
use crate::sink::feed::Feed;
use crate::sink::{BatchLimits, DeadLetter, Delivery, DeliveryError, Rejected};
use crate::store::StoreError;

/// When nothing has moved for this long, the sink is told so. What is on its way stays so.
const STALL: Duration = Duration::from_secs(10);
/// What part of the sinks' memory may wait in a producer's queue.
const QUEUE_SHARE: u64 = 8;
/// What part of it a batch that is read may take.
const READING_SHARE: u64 = 8;
/// No topic is taken to refuse messages as small as this.
const LEAST_LIMIT: usize = 4096;

/// How records become messages.
pub(super) trait Encode: Send + Sync + 'static {
    /// The log they come from.
    type Feed: Feed;

    /// The topics that they may go to.
    fn topics(&self) -> Vec<String>;

    /// How batches are cut, and how many milliseconds messages wait for others.
    fn pace(&self) -> (BatchLimits, u32);

    /// Hands the messages of a batch on, in order, until `out` wants no more. Blocks.
    fn encode(&self, batch: &Batch<Self::Feed>, limits: &Limits, out: &mut dyn Out) -> Result<(), StoreError>;
}

/// Who takes messages.
pub(super) trait Out {
    /// Takes one; says whether it wants more.
    fn send(&mut self, record: &Record<'_>) -> bool;

    /// Takes one that can never be sent.
    fn reject(&mut self, rejected: Rejected);
}

/// See the module.
pub(super) struct KafkaDelivery<E> {
    encode: Arc<E>,
    settings: KafkaSettings,
    memory: Budget,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    limits: Arc<Limits>,
}

impl<E: Encode> KafkaDelivery<E> {
    pub(super) fn new(encode: E, settings: KafkaSettings, memory: Budget) -> Self {
        Self { encode: Arc::new(encode), settings, memory, state: Mutex::default() }
    }

    fn state(&self) -> Result<(Arc<Session>, Arc<Limits>), DeliveryError> {
        let state = self.state.lock();
        let session = state.session.clone().filter(|session| !session.is_over());
        let session = session.ok_or_else(|| DeliveryError::not_ready("the Kafka producer is being made anew"))?;
        Ok((session, Arc::clone(&state.limits)))
    }

    /// Takes over what the topics say, and begins a session unless there is one that can go on with that.
    fn begin(&self, mut told: Limits) -> Result<(), DeliveryError> {
        let queue = usize::try_from(self.memory.total() / QUEUE_SHARE).unwrap_or(usize::MAX);
        for limit in told.values_mut() {
            // Nothing larger than the queue could ever be queued.
            *limit = (*limit).min(queue / 2);
        }
        let (old, before) = {
            let state = self.state.lock();
            (state.session.clone(), Arc::clone(&state.limits))
        };
        if let Some(topic) = old.as_ref().and_then(|session| session.too_large())
            && let (Some(limit), Some(before)) = (told.get_mut(&topic), before.get(&topic))
            && *limit >= *before
        {
            // It may not be asked, or something in between takes less.
            *limit = (*before / 2).max(LEAST_LIMIT);
            tracing::warn!(topic, limit, "the topic takes only smaller messages than it says; taking this for its limit");
        }
        if told == *before && old.as_ref().is_some_and(|session| !session.is_over()) {
            return Ok(());
        }
        let smallest = told.values().copied().min().unwrap_or(LEAST_LIMIT);
        let config = self.settings.producer(queue, smallest.min(1_000_000), self.encode.pace().1);
        let session = Session::begin(&config)
            .map_err(|error| DeliveryError::not_ready(format!("the settings of Kafka cannot be used: {error}")))?;
        if let Some(old) = old {
            old.end(DeliveryError::transient("the producer is made anew"));
        }
        *self.state.lock() = State { session: Some(Arc::new(session)), limits: Arc::new(told) };
        Ok(())
    }

    /// Queues a batch's messages, on a thread that may block, once it is its turn; gives its ticket back then, not waiting for the
    /// end.
    async fn send(&self, session: &Arc<Session>, limits: Arc<Limits>, batch: Batch<E::Feed>) -> Arc<Ticket> {
        let extent = *batch.extent();
        let turn = if extent.partial { None } else { Some(session.turns.take(extent.from, extent.to).await) };
        let permit = self.memory.take(extent.bytes.min(self.memory.total() / READING_SHARE)).await;
        let ticket = session.open(batch.token());
        let (encode, session, sent, runtime) =
            (Arc::clone(&self.encode), Arc::clone(session), Arc::clone(&ticket), Handle::current());
        tokio::task::spawn_blocking(move || {
            let mut out = Sender { session: &session, ticket: &sent, runtime };
            if let Err(error) = encode.encode(&batch, &limits, &mut out) {
                sent.fail(error.into());
            }
            drop((turn, permit));
            sent.settled();
        });
        ticket
    }

    /// Waits for `work`, unless the session ends or nothing moves any more.
    async fn attend<T>(session: &Session, work: impl Future<Output = T>) -> Result<T, DeliveryError> {
        let stalled = async {
            let mut moved = session.moved();
            loop {
                sleep(STALL).await;
                if moved == session.moved() {
                    return session.stalled();
                }
                moved = session.moved();
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            why = session.ended() => {
                // Whatever it was, another look at the topics comes first.
                session.end(why.clone());
                Err(DeliveryError::not_ready(why.to_string()))
            }
            why = stalled => Err(why),
        }
    }
}

impl<E: Encode> Delivery for KafkaDelivery<E> {
    type Batch = Batch<E::Feed>;

    async fn prepare(&self) -> Result<(), DeliveryError> {
        let (settings, topics, runtime) = (self.settings.clone(), self.encode.topics(), Handle::current());
        let looked = tokio::task::spawn_blocking(move || topics::look(&settings, &topics, &runtime)).await;
        self.begin(looked.map_err(|error| DeliveryError::transient(format!("the look at the topics has panicked: {error}")))??)
    }

    async fn deliver(&self, batch: Self::Batch) -> Result<Vec<Rejected>, DeliveryError> {
        let (session, limits) = self.state()?;
        let token = batch.token();
        // After a stall its messages are still on their way: sending them again would double them.
        let under_way = session.ticket(&token);
        let work = async {
            let ticket = match under_way {
                Some(ticket) => ticket,
                None => self.send(&session, limits, batch).await,
            };
            ticket.wait().await;
            ticket
        };
        let ticket = Self::attend(&session, work).await?;
        session.close(&token);
        ticket.outcome()
    }

    async fn reject(&self, batch: Self::Batch, reason: String) -> Result<Vec<Rejected>, DeliveryError> {
        let (encode, limits) = (Arc::clone(&self.encode), Arc::clone(&self.state.lock().limits));
        let encoded = tokio::task::spawn_blocking(move || {
            let mut out = Rejecter { reason, rejected: Vec::new() };
            encode.encode(&batch, &limits, &mut out).map(|()| out.rejected)
        });
        Ok(encoded.await.map_err(|error| DeliveryError::transient(format!("encoding has panicked: {error}")))??)
    }

    async fn redeliver(&self, letter: &DeadLetter) -> Result<(), DeliveryError> {
        if letter.cut {
            return Err(DeliveryError::permanent("it was too large to be kept whole, so that it cannot be sent again"));
        }
        let (session, _) = self.state()?;
        let ticket = Ticket::of_letter();
        let (letter, sender, sent, runtime) = (letter.clone(), Arc::clone(&session), Arc::clone(&ticket), Handle::current());
        tokio::task::spawn_blocking(move || {
            let word = |name: &str| letter.route.get(name).map(String::as_str).unwrap_or_default();
            let headers: Vec<_> =
                letter.route.iter().filter_map(|(name, value)| Some((name.strip_prefix("header:")?, value.as_str()))).collect();
            let (topic, key, value) = (word("topic"), word("key"), letter.record.as_bytes());
            let record = Record { topic, key, headers: &headers, value, position: letter.position, line: letter.line };
            let _ = sender.send(&record, &sent, &runtime);
            sent.settled();
        });
        Self::attend(&session, ticket.wait()).await?;
        match ticket.outcome()?.pop() {
            None => Ok(()),
            Some(Rejected { reason, .. }) => Err(DeliveryError::permanent(reason)),
        }
    }

    fn limits(&self) -> BatchLimits {
        self.encode.pace().0
    }
}

impl<E> Drop for KafkaDelivery<E> {
    fn drop(&mut self) {
        if let Some(session) = self.state.get_mut().session.take() {
            session.end(DeliveryError::transient("the sink has been stopped"));
        }
    }
}

/// Sends.
struct Sender<'s> {
    session: &'s Session,
    ticket: &'s Arc<Ticket>,
    runtime: Handle,
}

impl Out for Sender<'_> {
    fn send(&mut self, record: &Record<'_>) -> bool {
        self.session.send(record, self.ticket, &self.runtime)
    }

    fn reject(&mut self, rejected: Rejected) {
        self.ticket.reject(rejected);
    }
}

/// Sends nothing.
struct Rejecter {
    reason: String,
    rejected: Vec<Rejected>,
}

impl Out for Rejecter {
    fn send(&mut self, record: &Record<'_>) -> bool {
        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        self.rejected.push(Rejected {
            position: record.position,
            line: record.line,
            reason: self.reason.clone(),
            route: route(record.topic, record.key.as_bytes(), headers),
            record: bytes::Bytes::copy_from_slice(record.value),
        });
        true
    }

    fn reject(&mut self, rejected: Rejected) {
        self.rejected.push(rejected);
    }
}
