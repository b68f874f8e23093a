//! The delivery to Kafka, the same for events and lines: they differ in how they become messages ([`Encode`]).

#![expect(clippy::disallowed_types, reason = "the session is looked up once a batch and changed when one ends")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::producer::{Producer, Record};
use super::session::Session;
use super::settings::KafkaSettings;
use super::ticket::{Kind, Ticket};
use super::topics::{self, Limits};
use crate::budget::Budget;
use crate::sink::batch::Batch;
use crate::sink::delivery::MAX_UNDER_WAY;
use crate::sink::feed::Feed;
use crate::sink::{BatchLimits, DeadLetter, Delivery, DeliveryError, Rejected};
use crate::store::StoreError;

/// When nothing has moved for this long, the sink is told so. What is on its way stays so.
const STALL: Duration = Duration::from_secs(10);
/// What part of the sinks' memory may wait in a producer's queue.
const QUEUE_SHARE: u64 = 4;
/// What part of it a batch that is read may take.
const READING_SHARE: u64 = 4;
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
    /// Batches that are to be sent record by record; at most [`MAX_UNDER_WAY`].
    suspects: HashSet<String>,
}

impl<E: Encode> KafkaDelivery<E> {
    pub(super) fn new(encode: E, settings: KafkaSettings, memory: Budget) -> Self {
        Self { encode: Arc::new(encode), settings, memory, state: Mutex::default() }
    }

    /// The session that goes on, and what the topics take.
    fn state(&self) -> Result<(Arc<Session>, Arc<Limits>), DeliveryError> {
        let state = self.state.lock();
        let session = state.session.clone().ok_or_else(|| DeliveryError::not_ready("there is no Kafka producer yet"))?;
        match session.producer.why_over() {
            None => Ok((session, Arc::clone(&state.limits))),
            // Another look at the topics comes first, whatever it was.
            Some(why) => Err(DeliveryError::not_ready(why.to_string())),
        }
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
        if let Some(topic) = old.as_ref().and_then(|session| session.producer.too_large())
            && let (Some(limit), Some(before)) = (told.get_mut(&topic), before.get(&topic))
            && *limit >= *before
        {
            // It may not be asked, or something in between takes less.
            *limit = (*before / 2).max(LEAST_LIMIT);
            tracing::warn!(topic, limit, "the topic takes only smaller messages than it says; taking this for its limit");
        }
        if told == *before && old.as_ref().is_some_and(|session| !session.producer.is_over()) {
            return Ok(());
        }
        let smallest = told.values().copied().min().unwrap_or(LEAST_LIMIT);
        // What is sent one by one waits for no company.
        let linger = if self.state.lock().suspects.is_empty() { self.encode.pace().1 } else { 0 };
        let config = self.settings.producer(queue, smallest.min(1_000_000), linger);
        let session = Session::begin(&config, self.memory.clone())
            .map_err(|error| DeliveryError::not_ready(format!("the settings of Kafka cannot be used: {error}")))?;
        if let Some(old) = old {
            old.producer.end(DeliveryError::transient("the producer is made anew"));
        }
        let mut state = self.state.lock();
        (state.session, state.limits) = (Some(Arc::new(session)), Arc::new(told));
        Ok(())
    }

    /// Takes a batch's place in the line; gives its ticket, and the session that must go on.
    fn enqueue(&self, batch: Batch<E::Feed>, token: String) -> Result<(Arc<Session>, Arc<Ticket>), DeliveryError> {
        let (session, limits) = self.state()?;
        let bytes = batch.extent().bytes.min(self.memory.total() / READING_SHARE);
        let encode = Arc::clone(&self.encode);
        let kind = if self.state.lock().suspects.contains(&token) { Kind::OneByOne } else { Kind::Batch };
        let ticket =
            session.enqueue((token, batch.extent().to), kind, bytes, || Box::new(move |out| encode.encode(&batch, &limits, out)));
        Ok((session, ticket))
    }

    /// Waits for `work`, unless the session ends or nothing moves any more.
    async fn attend<T>(producer: &Producer, work: impl Future<Output = T>) -> Result<T, DeliveryError> {
        let stalled = async {
            let mut moved = producer.moved();
            loop {
                sleep(STALL).await;
                if moved == producer.moved() {
                    return producer.stalled();
                }
                moved = producer.moved();
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            why = producer.ended() => {
                // Whatever it was, another look at the topics comes first.
                producer.end(why.clone());
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

    fn deliver(
        self: Arc<Self>,
        batch: Self::Batch,
    ) -> impl Future<Output = Result<Vec<Rejected>, DeliveryError>> + Send + 'static {
        let token = batch.token();
        // Here, and not in the future: the order of the calls is that of the messages. After a stall a batch's messages are still on
        // their way: sending them again would double them.
        let enqueued = self.enqueue(batch, token.clone());
        async move {
            let (session, ticket) = enqueued?;
            let waited = Self::attend(&session.producer, ticket.wait()).await;
            if ticket.is_suspect() {
                let suspects = &mut self.state.lock().suspects;
                if suspects.len() >= MAX_UNDER_WAY {
                    // Of batches that retention has changed meanwhile. Whatever else was among them is found again.
                    suspects.clear();
                }
                suspects.insert(token.clone());
            }
            waited?;
            session.close(&token);
            let outcome = ticket.outcome();
            if outcome.is_ok() {
                self.state.lock().suspects.remove(&token);
            }
            outcome
        }
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
        letter.check_whole()?;
        let (session, _) = self.state()?;
        let ticket = Ticket::new(Kind::Letter);
        let (letter, sent, runtime) = (letter.clone(), Arc::clone(&ticket), Handle::current());
        let producer = Arc::clone(&session.producer);
        tokio::task::spawn_blocking(move || {
            let word = |name: &str| letter.route.get(name).map(String::as_str).unwrap_or_default();
            let headers: Vec<_> =
                letter.route.iter().filter_map(|(name, value)| Some((name.strip_prefix("header:")?, value.as_str()))).collect();
            let (topic, key, value) = (word("topic"), word("key"), letter.record.as_bytes());
            producer.send(
                &Record { topic, key, headers: &headers, value, position: letter.position, line: letter.line },
                &sent,
                &runtime,
            );
            sent.settled();
        });
        Self::attend(&session.producer, ticket.wait()).await?;
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
            session.producer.end(DeliveryError::transient("the sink has been stopped"));
        }
    }
}

/// Sends nothing.
struct Rejecter {
    reason: String,
    rejected: Vec<Rejected>,
}

impl Out for Rejecter {
    fn send(&mut self, record: &Record<'_>) -> bool {
        self.rejected.push(record.rejected(self.reason.clone()));
        true
    }

    fn reject(&mut self, rejected: Rejected) {
        self.rejected.push(rejected);
    }
}
