//! What a sink delivers to, as its runner sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::deadletters::DeadLetter;
use crate::store::{Position, StoreError};

/// More batches are never under way at a time.
pub const MAX_UNDER_WAY: usize = 64;
/// The most that is kept of a rejected record, in bytes.
pub const MAX_KEPT_RECORD: usize = 1 << 20;

/// The other end of a sink: turns batches into confirmed records.
pub trait Delivery: Send + Sync + 'static {
    /// What it takes: [`LineBatch`](super::LineBatch) or [`EventBatch`](super::EventBatch).
    type Batch: Clone + Send + Sync + 'static;

    /// Gets ready: connects, checks topics or the schema. Called before the first batch and again after each
    /// [`DeliveryError::NotReady`], until it succeeds.
    ///
    /// # Errors
    /// Any kind counts as [`DeliveryError::NotReady`].
    fn prepare(&self) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Delivers a batch. Resolves once each of its records is confirmed or among the rejected ones, which will never be taken.
    /// The same batch again sends the same bytes. Up to [`BatchLimits::under_way`] batches are under way at a time. The calls are
    /// made in the order of the batches: who keeps that order takes a batch's place in the call itself, which must not block, and
    /// leaves the rest to the future. To drop the future is to give up, as the runner does when it stops.
    ///
    /// # Errors
    /// Nothing is known of the batch then, except with [`DeliveryError::Permanent`]: none of it was taken.
    fn deliver(
        self: Arc<Self>,
        batch: Self::Batch,
    ) -> impl Future<Output = Result<Vec<Rejected>, DeliveryError>> + Send + 'static;

    /// Encodes the records of a batch that will never be taken, instead of sending them: what is left when a batch was refused
    /// for good and halved down to one record.
    ///
    /// # Errors
    /// The batch cannot be read; tried again.
    fn reject(&self, batch: Self::Batch, reason: String) -> impl Future<Output = Result<Vec<Rejected>, DeliveryError>> + Send;

    /// Sends a dead letter again; resolves once it is confirmed.
    ///
    /// # Errors
    /// With [`DeliveryError::Permanent`] it stays a dead letter; else it is tried again.
    fn redeliver(&self, letter: &DeadLetter) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// How batches are cut. Asked once, when the sink starts.
    fn limits(&self) -> BatchLimits;
}

/// When a batch is full, and how many are delivered at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records in a batch; a single block or event may be more.
    pub records: u64,
    /// Bytes of text or events in a batch, uncompressed; a single block or event may be more.
    pub bytes: u64,
    /// A batch that is not full is cut this long after its first record was there.
    pub age: Duration,
    /// Batches that are being delivered at a time, 1 to [`MAX_UNDER_WAY`].
    pub under_way: usize,
}

/// Why records were not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Tried again for ever, with growing pauses. The text names what failed and what to do; the same cause has the same text, so
    /// that it is said once.
    #[error("{why}")]
    Transient {
        /// What happened.
        why: String,
    },
    /// As [`DeliveryError::Transient`], after another [`Delivery::prepare`]: a topic, a table or a right is missing.
    #[error("{why}")]
    NotReady {
        /// What happened.
        why: String,
    },
    /// These records, as they are, will never be taken. A batch is halved until the ones to blame are alone.
    #[error("{why}")]
    Permanent {
        /// What happened.
        why: String,
    },
}

impl DeliveryError {
    /// A failure that may pass.
    #[must_use]
    pub fn transient(why: impl Into<String>) -> Self {
        Self::Transient { why: why.into() }
    }

    /// Something is missing at the other end.
    #[must_use]
    pub fn not_ready(why: impl Into<String>) -> Self {
        Self::NotReady { why: why.into() }
    }

    /// A refusal for good.
    #[must_use]
    pub fn permanent(why: impl Into<String>) -> Self {
        Self::Permanent { why: why.into() }
    }

    /// The label of the metric of errors.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Transient { .. } => "transient",
            Self::NotReady { .. } => "not_ready",
            Self::Permanent { .. } => "permanent",
        }
    }
}

impl From<StoreError> for DeliveryError {
    /// Reading the gateway's own log failed: the runner tries again, and finds out if retention has removed it.
    fn from(error: StoreError) -> Self {
        Self::transient(error.to_string())
    }
}

/// A record that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejected {
    /// Where its frame lies in its log.
    pub position: Position,
    /// Which line of the block in that frame, by its number; `None` for an event or what stands for a block as a whole.
    pub line: Option<u64>,
    /// What the other end said.
    pub reason: String,
    /// What else sending it again takes, by name: topic, key, headers, table.
    pub route: BTreeMap<String, String>,
    /// As it would have been sent: JSON. The runner keeps at most [`MAX_KEPT_RECORD`] bytes of it.
    pub record: Bytes,
}
