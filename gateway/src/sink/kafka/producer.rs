//! A producer of librdkafka, until something happens after which it could not go on in order: then it is over.
//!
//! librdkafka keeps messages that the brokers do not take now, in their order and for ever, so that an outage neither loses, doubles
//! nor reorders any. Whatever it gives up ends the producer, and with it all that is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::client::{self, Complaint};
use super::errors::{self, Verdict};
use super::ticket::{self, Kind, Tag, Ticket};
use crate::sink::{DeliveryError, Rejected};
use crate::store::Position;

/// How long one waits for room in the queue before looking whether the producer still lives.
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

impl Record<'_> {
    /// The record as one that is not taken.
    pub(super) fn rejected(&self, reason: String) -> Rejected {
        let headers = self.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        Rejected {
            position: self.position,
            line: self.line,
            reason,
            route: ticket::route(self.topic, self.key.as_bytes(), headers),
            record: bytes::Bytes::copy_from_slice(self.value),
        }
    }
}

/// See the module.
pub(super) struct Producer {
    /// Taken out when it is dropped, which may take librdkafka half a second.
    inner: Option<ThreadedProducer<Context>>,
    shared: Arc<Shared>,
}

/// What the callbacks of librdkafka and those who wait for them share.
struct Shared {
    /// Messages dealt with so far.
    moved: AtomicU64,
    /// Who waits for room is woken when so many have been.
    wake_at: AtomicU64,
    room: Notify,
    /// Why the producer is over, if it is.
    over: watch::Sender<Option<DeliveryError>>,
    /// It is: asked for each message.
    is_over: AtomicBool,
    complaint: Complaint,
    /// The topic that took a message for too large.
    too_large: watch::Sender<Option<String>>,
}

/// How librdkafka calls back.
struct Context(Arc<Shared>);

impl Producer {
    /// Makes one.
    pub(super) fn begin(config: &ClientConfig) -> KafkaResult<Self> {
        let shared = Arc::new(Shared {
            moved: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            room: Notify::new(),
            over: watch::Sender::new(None),
            is_over: AtomicBool::new(false),
            complaint: Complaint::new(),
            too_large: watch::Sender::new(None),
        });
        let inner = ThreadedProducer::from_config_and_context(config, Context(Arc::clone(&shared)))?;
        Ok(Self { inner: Some(inner), shared })
    }

    /// Queues a message for `ticket`; blocks while the queue is full. Says whether it takes more: if not, the ticket has failed.
    pub(super) fn send(&self, record: &Record<'_>, ticket: &Arc<Ticket>, runtime: &Handle) -> bool {
        let Some(inner) = &self.inner else { return false };
        let tag = Box::new(Tag { ticket: Arc::clone(ticket), position: record.position, line: record.line });
        let mut message = BaseRecord::with_opaque_to(record.topic, tag).payload(record.value).timestamp(ticket.began());
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, (key, value): &(&str, &str)| headers.insert(Header { key, value: Some(*value) });
            message = message.headers(record.headers.iter().fold(headers, add));
        }
        if !record.key.is_empty() {
            message = message.key(record.key);
        }
        ticket.sent();
        loop {
            if let Some(why) = self.why_over() {
                ticket.fail(why);
                ticket.settled();
                return false;
            }
            match inner.send(message) {
                Ok(()) if ticket.kind() == Kind::OneByOne => return self.wait_for(ticket, runtime),
                Ok(()) => return true,
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    message = back;
                    self.wait_for_room(inner, runtime);
                }
                Err((error, _)) => {
                    self.shared.judge(&error, record.topic, ticket, |reason| record.rejected(reason));
                    ticket.settled();
                    return !self.is_over();
                }
            }
        }
    }

    /// Waits until half of what is queued has been dealt with: to be woken for each message would cost more than to send it.
    fn wait_for_room(&self, inner: &ThreadedProducer<Context>, runtime: &Handle) {
        let half = u64::try_from(inner.in_flight_count()).unwrap_or(0) / 2;
        self.wait_until(self.shared.moved.load(Ordering::SeqCst) + half.max(1), runtime);
    }

    /// Waits until so many messages have been dealt with, but no longer than until another look is due.
    fn wait_until(&self, enough: u64, runtime: &Handle) {
        let room = self.shared.room.notified();
        self.shared.wake_at.fetch_min(enough, Ordering::SeqCst);
        if self.shared.moved.load(Ordering::SeqCst) < enough {
            let _ = runtime.block_on(async { tokio::time::timeout(LOOK, room).await });
        }
    }

    /// Waits for what is on its way. Says whether more is taken.
    fn wait_for(&self, ticket: &Ticket, runtime: &Handle) -> bool {
        while ticket.is_under_way() && !self.is_over() {
            let moved = self.moved();
            if ticket.is_under_way() {
                self.wait_until(moved + 1, runtime);
            }
        }
        !self.is_over()
    }

    /// How many messages have been confirmed or refused so far.
    pub(super) fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// The topic whose limit was not what it had said.
    pub(super) fn too_large(&self) -> Option<String> {
        self.shared.too_large.borrow().clone()
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    /// Why it is over, if it is.
    pub(super) fn why_over(&self) -> Option<DeliveryError> {
        if !self.is_over() {
            return None;
        }
        let why = || self.shared.over.borrow().clone();
        self.fatal().or_else(why)
    }

    /// Ends it: what is on its way comes back as failed.
    pub(super) fn end(&self, why: DeliveryError) {
        self.shared.end(why);
        if let Some(inner) = &self.inner {
            inner.purge(PurgeConfig::default().queue().inflight());
        }
    }

    /// Resolves with the reason once it is over.
    pub(super) async fn ended(&self) -> DeliveryError {
        let mut over = self.shared.over.subscribe();
        let why = over.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        self.fatal().or(why).unwrap_or_else(|| DeliveryError::transient("the producer is gone"))
    }

    /// Why librdkafka cannot go on, if that is so.
    fn fatal(&self) -> Option<DeliveryError> {
        let (code, said) = self.inner.as_ref()?.client().fatal_error()?;
        Some(match errors::of_cluster(code) {
            missing @ DeliveryError::NotReady { .. } => missing,
            _ => DeliveryError::transient(format!("the Kafka producer cannot go on and is made anew: {said}")),
        })
    }

    /// What it means that nothing moves.
    pub(super) fn stalled(&self) -> DeliveryError {
        self.shared.complaint.last().map_or_else(errors::silent, errors::of_cluster)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // It waits for its thread and for librdkafka's, which must not hold up a thread of the runtime. Without a thread to spare
        // it is dropped here all the same.
        let _ = std::thread::Builder::new().name("kafka-end".into()).spawn(move || drop(inner));
    }
}

impl Shared {
    fn end(&self, why: DeliveryError) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(why);
            first
        });
        self.is_over.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Takes note of what the error of a message means to its ticket and the producer.
    fn judge(&self, error: &KafkaError, topic: &str, ticket: &Ticket, rejected: impl FnOnce(String) -> Rejected) {
        match (errors::of_message(error, topic), ticket.kind()) {
            (Verdict::Refused(reason), Kind::OneByOne | Kind::Letter) => ticket.reject(rejected(reason)),
            (Verdict::Refused(_) | Verdict::BesideRefused, _) => {
                ticket.suspect();
                let why =
                    format!("Kafka refuses a record for topic {topic}; the batch is sent again record by record to find which");
                self.end(DeliveryError::transient(why.clone()));
                ticket.fail(DeliveryError::transient(why));
            }
            // Its size says nothing of what the topic told, and nobody else is to suffer from it.
            (Verdict::TooLarge, Kind::Letter) => {
                ticket
                    .reject(rejected(format!("Kafka refuses the record for topic {topic}: it is larger than max.message.bytes")));
            }
            // The limit was asked for before, so it has changed since, or may not be asked for.
            (Verdict::TooLarge, _) => {
                let why = format!("topic {topic} takes only smaller messages than it has said; its limit is asked for again");
                self.too_large.send_replace(Some(topic.to_owned()));
                self.end(DeliveryError::not_ready(why.clone()));
                ticket.fail(DeliveryError::not_ready(why));
            }
            (Verdict::Failed(why), _) => {
                self.end(why.clone());
                ticket.fail(why);
            }
        }
    }

    /// One more message has been dealt with.
    fn move_on(&self) {
        let moved = self.moved.fetch_add(1, Ordering::SeqCst) + 1;
        if moved >= self.wake_at.load(Ordering::SeqCst) {
            self.wake_at.store(u64::MAX, Ordering::SeqCst);
            self.room.notify_waiters();
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.0.end(DeliveryError::transient("the Kafka producer cannot go on and is made anew"));
        }
        self.0.complaint.add(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Tag>;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: Box<Tag>) {
        match result {
            Ok(_) => self.0.complaint.forget(),
            Err((error, message)) => {
                self.0.judge(error, message.topic(), &tag.ticket, |reason| ticket::rejected(message, &tag, reason));
            }
        }
        tag.ticket.settled();
        self.0.move_on();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A producer of a broker that is not there, and what it makes of an error of a message of that kind of ticket.
    fn judged(kind: Kind, code: Code) -> (Producer, Arc<Ticket>) {
        let producer = Producer::begin(ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1")).unwrap();
        let ticket = Ticket::new(kind);
        let record = Record { topic: "T", key: "k", headers: &[], value: b"text", position: 7, line: Some(3) };
        producer.shared.judge(&KafkaError::MessageProduction(code), "T", &ticket, |reason| record.rejected(reason));
        (producer, ticket)
    }

    #[test]
    fn a_refused_record_of_a_batch_has_the_batch_sent_one_by_one_and_is_no_dead_letter_yet() {
        for code in [Code::InvalidRecord, Code::InvalidDifferentRecord] {
            let (producer, ticket) = judged(Kind::Batch, code);
            assert!(producer.is_over() && ticket.is_suspect(), "{code}");
            assert!(matches!(ticket.outcome(), Err(DeliveryError::Transient { .. })), "{code}");
        }
    }

    #[test]
    fn a_record_that_is_refused_when_sent_alone_is_a_dead_letter_and_the_producer_goes_on() {
        for kind in [Kind::OneByOne, Kind::Letter] {
            let (producer, ticket) = judged(kind, Code::InvalidRecord);
            assert!(!producer.is_over() && !ticket.is_suspect(), "{kind:?}");
            let rejected = ticket.outcome().unwrap();
            assert_eq!((rejected.len(), rejected[0].position, rejected[0].line), (1, 7, Some(3)), "{kind:?}");
        }
    }

    #[test]
    fn a_record_that_is_refused_for_another_is_sent_again() {
        for kind in [Kind::OneByOne, Kind::Letter] {
            let (producer, ticket) = judged(kind, Code::InvalidDifferentRecord);
            assert!(producer.is_over() && ticket.outcome().is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_time_that_kafka_does_not_take_ends_the_producer_and_makes_no_dead_letter_however_it_was_sent() {
        for kind in [Kind::Batch, Kind::OneByOne, Kind::Letter] {
            let (producer, ticket) = judged(kind, Code::InvalidTimestamp);
            assert!(producer.is_over(), "{kind:?}");
            assert!(matches!(ticket.outcome(), Err(DeliveryError::NotReady { .. })), "{kind:?}");
        }
    }
}
