//! What is known of a batch whose messages are on their way.

#![expect(clippy::disallowed_types, reason = "only failures take the lock, for a push, and whoever reads them at the end")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tokio::sync::watch;

use crate::clock::{Clock, Millis};
use crate::sink::delivery::MAX_KEPT_RECORD;
use crate::sink::{DeliveryError, Rejected};
use crate::store::Position;

/// A batch on its way: done once its sender and all its messages are.
pub(super) struct Ticket {
    /// Messages on their way, and 1 while there may come more.
    open: AtomicU64,
    done: watch::Sender<bool>,
    fate: Mutex<Fate>,
    kind: Kind,
    /// When it began: the time of its messages, in Unix milliseconds. To ask for the time of each would be seen in a profile.
    began: Millis,
    /// Messages were refused because of one that is to be found.
    suspect: AtomicBool,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A batch.
    Batch,
    /// A batch in which a record is refused: each message is sent alone, so that it is known which, and why.
    OneByOne,
    /// A dead letter: sent as it is, whatever its size.
    Letter,
}

/// What did not go well.
#[derive(Default)]
struct Fate {
    rejected: Vec<Rejected>,
    error: Option<DeliveryError>,
}

/// Travels with a message through librdkafka.
pub(super) struct Tag {
    pub(super) ticket: Arc<Ticket>,
    pub(super) position: Position,
    pub(super) line: Option<u64>,
}

impl Ticket {
    pub(super) fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicU64::new(1),
            done: watch::Sender::new(false),
            fate: Mutex::default(),
            kind,
            began: Clock::system().now(),
            suspect: AtomicBool::new(false),
        })
    }

    /// When it began, in Unix milliseconds.
    pub(super) fn began(&self) -> Millis {
        self.began
    }

    /// What is sent.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// A record of it may be refused, which is found out by sending it one by one.
    pub(super) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// Whether it is to be sent one by one.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Whether messages are on their way.
    pub(super) fn is_under_way(&self) -> bool {
        self.open.load(Ordering::Acquire) > 1
    }

    /// One more message is on its way.
    pub(super) fn sent(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A message has arrived, or has been dealt with; or, once, all have been sent.
    pub(super) fn settled(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.send_replace(true);
        }
    }

    /// A record will never be taken.
    pub(super) fn reject(&self, rejected: Rejected) {
        self.fate.lock().rejected.push(rejected);
    }

    /// The batch as a whole failed; the first reason counts.
    pub(super) fn fail(&self, error: DeliveryError) {
        self.fate.lock().error.get_or_insert(error);
    }

    /// Resolves once it is done.
    pub(super) async fn wait(&self) {
        // The sender lives as long as the ticket.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }

    /// What became of it, once it is done. Can be asked once.
    pub(super) fn outcome(&self) -> Result<Vec<Rejected>, DeliveryError> {
        let Fate { rejected, error } = std::mem::take(&mut *self.fate.lock());
        error.map_or(Ok(rejected), Err)
    }
}

/// What a dead letter of a message says of where it goes.
pub(super) fn route<'h>(topic: &str, key: &[u8], headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut route: BTreeMap<_, _> = headers.map(|(name, value)| (format!("header:{name}"), text(value))).collect();
    route.insert("topic".into(), topic.into());
    route.insert("key".into(), text(key));
    route
}

/// The rejected record that a message was.
pub(super) fn rejected(message: &BorrowedMessage<'_>, tag: &Tag, reason: String) -> Rejected {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers = headers.filter_map(|header| Some((header.key, header.value?)));
    let record = message.payload().unwrap_or_default();
    Rejected {
        position: tag.position,
        line: tag.line,
        reason,
        route: route(message.topic(), message.key().unwrap_or_default(), headers),
        record: Bytes::copy_from_slice(&record[..record.len().min(MAX_KEPT_RECORD + 1)]),
    }
}
