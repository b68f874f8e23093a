//! What librdkafka says of itself, beside what becomes of messages.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::watch;

use super::errors;

/// What a client has complained of last.
pub(super) struct Complaint {
    last: watch::Sender<Option<Code>>,
    /// There is one: asked for each message.
    is_on: AtomicBool,
}

impl Complaint {
    pub(super) fn new() -> Self {
        Self { last: watch::Sender::new(None), is_on: AtomicBool::new(false) }
    }

    /// Takes note of one.
    pub(super) fn add(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka complains");
        let code = errors::complaint(error, reason);
        self.last.send_if_modified(|last| {
            // "All brokers are down" follows what says why they are.
            let tells = code.is_some() && !(code == Some(Code::AllBrokersDown) && last.is_some());
            if tells {
                *last = code;
            }
            tells
        });
        self.is_on.store(true, Ordering::Release);
    }

    /// Something went well.
    pub(super) fn forget(&self) {
        if self.is_on.load(Ordering::Relaxed) && self.is_on.swap(false, Ordering::AcqRel) {
            self.last.send_replace(None);
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Code> {
        *self.last.borrow()
    }
}

/// For clients that only ask.
pub(super) struct Quiet(Complaint);

impl Quiet {
    pub(super) fn new() -> Self {
        Self(Complaint::new())
    }

    /// What was complained of last.
    pub(super) fn complaint(&self) -> Option<Code> {
        self.0.last()
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
        self.0.add(&error, reason);
    }
}

/// What librdkafka logs matters to who looks for a cause; what it means for the sink is said by the sink.
pub(super) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    tracing::debug!(?level, fac, message, "librdkafka");
}
