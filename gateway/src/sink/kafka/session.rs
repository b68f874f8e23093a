//! One life of a producer: from its making until something happens after which it could not go on in order.
//!
//! librdkafka keeps messages that the brokers do not take now, in their order and for ever, so that an outage neither loses, doubles
//! nor reorders any. What a sink has to retry is what librdkafka gives up: then the session is over, all that is on its way is
//! purged, and the next session begins with the oldest batch.

#![expect(clippy::disallowed_types, reason = "taken for a look at the handful of batches on their way, once a batch")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::errors::{self, Verdict};
use super::ticket::{self, Tag, Ticket};
use super::turns::Turns;
use crate::sink::{DeliveryError, Rejected};
use crate::store::Position;

/// How long one waits for room in the queue before looking whether the session still lives.
const LOOK: Duration = Duration::from_millis(200);

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Where to.
    pub(super) topic: &'a str,
    /// Messages of one key stay in order.
    pub(super) key: &'a str,
    /// Names and values.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// What is said.
    pub(super) value: &'a [u8],
    /// The frame it was made of.
    pub(super) position: Position,
    /// The line in it.
    pub(super) line: Option<u64>,
}

/// What the callbacks of librdkafka and those who wait for them share.
pub(super) struct Shared {
    /// Deliveries so far: whether something moves.
    moved: AtomicU64,
    /// Why the session is over, if it is.
    over: watch::Sender<Option<DeliveryError>>,
    /// What the client has complained of last.
    complaint: watch::Sender<Option<Code>>,
    /// The topic that took a message for too large.
    too_large: watch::Sender<Option<String>>,
    /// There may be room in the queue.
    room: Notify,
}

/// See the module.
pub(super) struct Session {
    /// Taken out when the session is dropped, which may take librdkafka half a second.
    producer: Option<ThreadedProducer<Context>>,
    shared: Arc<Shared>,
    tickets: Mutex<HashMap<String, Arc<Ticket>>>,
    pub(super) turns: Arc<Turns>,
}

/// How librdkafka calls back.
pub(super) struct Context(Arc<Shared>);

/// For clients that only ask.
pub(super) struct Quiet(watch::Sender<Option<Code>>);

impl Session {
    /// Begins one.
    pub(super) fn begin(config: &ClientConfig) -> KafkaResult<Self> {
        let shared = Arc::new(Shared {
            moved: AtomicU64::new(0),
            over: watch::Sender::new(None),
            complaint: watch::Sender::new(None),
            too_large: watch::Sender::new(None),
            room: Notify::new(),
        });
        let producer = ThreadedProducer::from_config_and_context(config, Context(Arc::clone(&shared)))?;
        Ok(Self { producer: Some(producer), shared, tickets: Mutex::default(), turns: Arc::new(Turns::new()) })
    }

    /// The ticket of the batch of that token, if it is on its way.
    pub(super) fn ticket(&self, token: &str) -> Option<Arc<Ticket>> {
        self.tickets.lock().get(token).cloned()
    }

    /// A ticket for the batch of that token, which is sent now.
    pub(super) fn open(&self, token: String) -> Arc<Ticket> {
        let ticket = Ticket::new();
        self.tickets.lock().insert(token, Arc::clone(&ticket));
        ticket
    }

    /// Forgets a ticket that is done.
    pub(super) fn close(&self, token: &str) {
        self.tickets.lock().remove(token);
    }

    /// How many messages have been confirmed or refused so far.
    pub(super) fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// The topic whose limit was not what it had said.
    pub(super) fn too_large(&self) -> Option<String> {
        self.shared.too_large.borrow().clone()
    }

    /// Queues a message for `ticket`; blocks while the queue is full. Says whether it was queued: not if the session is over.
    pub(super) fn send(&self, record: &Record<'_>, ticket: &Arc<Ticket>, runtime: &Handle) -> bool {
        let Some(producer) = &self.producer else { return false };
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let tag = Box::new(Tag { ticket: Arc::clone(ticket), position: record.position, line: record.line });
        let mut message = BaseRecord::with_opaque_to(record.topic, tag).payload(record.value).headers(headers);
        if !record.key.is_empty() {
            message = message.key(record.key);
        }
        ticket.sent();
        loop {
            if self.is_over() {
                ticket.settled();
                return false;
            }
            let room = self.shared.room.notified();
            match producer.send(message) {
                Ok(()) => return true,
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    message = back;
                    // In time or not: the queue is looked at again.
                    let _ = runtime.block_on(async { tokio::time::timeout(LOOK, room).await });
                }
                Err((error, back)) => {
                    judge(&error, record.topic, ticket, &self.shared, |reason| {
                        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
                        Rejected {
                            position: record.position,
                            line: record.line,
                            reason,
                            route: ticket::route(record.topic, record.key.as_bytes(), headers),
                            record: bytes::Bytes::copy_from_slice(record.value),
                        }
                    });
                    drop(back);
                    ticket.settled();
                    return !self.is_over();
                }
            }
        }
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.shared.over.borrow().is_some()
    }

    /// Ends it: what is on its way comes back as failed.
    pub(super) fn end(&self, why: DeliveryError) {
        self.shared.end(why);
        if let Some(producer) = &self.producer {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    }

    /// Resolves with the reason once it has ended.
    pub(super) async fn ended(&self) -> DeliveryError {
        let mut over = self.shared.over.subscribe();
        let why = over.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        self.fatal().or(why).unwrap_or_else(|| DeliveryError::transient("the producer is gone"))
    }

    /// Why librdkafka cannot go on, if that is so.
    fn fatal(&self) -> Option<DeliveryError> {
        let (code, said) = self.producer.as_ref()?.client().fatal_error()?;
        Some(match errors::of_cluster(code) {
            missing @ DeliveryError::NotReady { .. } => missing,
            _ => DeliveryError::transient(format!("the Kafka producer cannot go on and is made anew: {said}")),
        })
    }

    /// What it means that nothing moves.
    pub(super) fn stalled(&self) -> DeliveryError {
        let complaint = *self.shared.complaint.borrow();
        errors::of_cluster(complaint.unwrap_or(Code::AllBrokersDown))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let producer = self.producer.take();
        // It waits for its thread and for librdkafka's, which must not hold up a thread of the runtime. Without a thread to spare
        // it is dropped here all the same.
        let _ = std::thread::Builder::new().name("kafka-end".into()).spawn(move || drop(producer));
    }
}

impl Shared {
    fn end(&self, why: DeliveryError) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(why);
            first
        });
        self.room.notify_waiters();
    }
}

/// Says what the error of a message means to its ticket and the session.
fn judge(error: &KafkaError, topic: &str, ticket: &Ticket, shared: &Shared, rejected: impl FnOnce(String) -> Rejected) {
    match errors::of_message(error, topic) {
        Verdict::Rejected(reason) => ticket.reject(rejected(reason)),
        // Its size says nothing of what the topic told, and nobody else is to suffer from it.
        Verdict::TooLarge if ticket.is_letter() => {
            ticket.reject(rejected(format!("Kafka refuses the record for topic {topic}: it is larger than max.message.bytes")));
        }
        // The limit was asked for before, so it has changed since, or may not be asked for.
        Verdict::TooLarge => {
            let why = format!("topic {topic} takes only smaller messages than it has said; its limit is asked for again");
            shared.too_large.send_replace(Some(topic.to_owned()));
            shared.end(DeliveryError::not_ready(why.clone()));
            ticket.fail(DeliveryError::not_ready(why));
        }
        Verdict::Failed(why) => {
            shared.end(why.clone());
            ticket.fail(why);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka complains");
        let code = error.rdkafka_error_code();
        if code == Some(Code::Fatal) {
            self.0.end(DeliveryError::transient("the Kafka producer cannot go on and is made anew"));
        }
        complain(&self.0.complaint, errors::complaint(&error, reason));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Tag>;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: Box<Tag>) {
        match result {
            Ok(_) => {
                self.0.complaint.send_if_modified(|complaint| complaint.take().is_some());
            }
            Err((error, message)) => {
                judge(error, message.topic(), &tag.ticket, &self.0, |reason| ticket::rejected(message, &tag, reason));
            }
        }
        tag.ticket.settled();
        self.0.moved.fetch_add(1, Ordering::Relaxed);
        self.0.room.notify_waiters();
    }
}

impl Quiet {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// What was complained of last.
    pub(super) fn complaint(&self) -> Option<Code> {
        *self.0.borrow()
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka complains");
        complain(&self.0, errors::complaint(&error, reason));
    }
}

/// "All brokers are down" follows what says why they are.
fn complain(complaint: &watch::Sender<Option<Code>>, code: Option<Code>) {
    complaint.send_if_modified(|last| {
        let tells = code.is_some() && !(code == Some(Code::AllBrokersDown) && last.is_some());
        if tells {
            *last = code;
        }
        tells
    });
}

/// What librdkafka logs matters to who looks for a cause; what it means for the sink is said by the sink.
fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    tracing::debug!(?level, fac, message, "librdkafka");
}
