//! What comes into the event log and what becomes of it.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::id::AgentId;
use crate::store::{Position, StoreError};

/// An event that may be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingEvent {
    /// Its name: 1 to 256 bytes, no control characters.
    pub event_id: Box<str>,
    /// The agent's own number for it, from 1.
    pub seq: u64,
    /// The digest of its type and payload in canonical form.
    pub digest: u64,
    /// The encoded `gateway.v1.Event`, as it came.
    pub raw: Bytes,
}

/// One element of a batch of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// An event that may be accepted.
    Event(IncomingEvent),
    /// One that can never be: kept as a dead letter.
    Dead {
        /// The agent's own number for it; 0 if it has none or it could not be read.
        seq: u64,
        /// Its name, if it has a proper one.
        event_id: Option<Box<str>>,
        /// Why it cannot be accepted.
        reason: DeadReason,
        /// Its bytes, as they came.
        raw: Bytes,
    },
}

impl Incoming {
    /// The agent's own number for it; 0 if not known.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Event(event) => event.seq,
            Self::Dead { seq, .. } => *seq,
        }
    }

    /// Its bytes, as they came.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Event(event) => &event.raw,
            Self::Dead { raw, .. } => raw,
        }
    }
}

/// Why an event can never be accepted. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum DeadReason {
    /// No `event_id`.
    #[error("it has no event_id")]
    NoId = 1,
    /// An `event_id` over 256 bytes, or with control characters.
    #[error("its event_id is longer than 256 bytes or holds a control character")]
    BadId = 2,
    /// `meta.seq` is missing or 0.
    #[error("its meta.seq is 0; count from 1")]
    NoSeq = 3,
    /// `meta.agent_id` is not the agent that sends.
    #[error("its meta.agent_id is not the agent that sends it")]
    OtherAgent = 4,
    /// Larger than an event may be.
    #[error("it is larger than an event may be")]
    TooLarge = 5,
    /// The bytes are no `gateway.v1.Event`.
    #[error("it is not decodable")]
    Malformed = 6,
    /// A text in it is not UTF-8.
    #[error("it holds text that is not UTF-8")]
    NotUtf8 = 7,
    /// Its payload is nested too deep.
    #[error("its payload is nested deeper than 100 levels")]
    TooDeep = 8,
    /// Its payload has too many fields.
    #[error("its payload has too many fields in one object")]
    TooManyFields = 9,
    /// `meta.pipeline_id` or `meta.step_id` over 256 bytes, or with control characters.
    #[error("its meta.pipeline_id or meta.step_id is longer than 256 bytes or holds a control character")]
    BadName = 10,
    /// Its type is `arcentra.scm.…`, which begins runs, and its sender may not.
    #[error("its type begins runs, and its sender is not allowed to; send it with the token of a person or a script")]
    NotAllowed = 11,
    /// A reason that a later release knows.
    #[error("for a reason that a later release knows")]
    Unknown = 255,
}

impl DeadReason {
    /// The reason that is stored as `number`.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        use DeadReason as R;
        [
            R::NoId,
            R::BadId,
            R::NoSeq,
            R::OtherAgent,
            R::TooLarge,
            R::Malformed,
            R::NotUtf8,
            R::TooDeep,
            R::TooManyFields,
            R::BadName,
            R::NotAllowed,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == number)
        .unwrap_or(R::Unknown)
    }
}

/// What became of one event of a commit, once that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFate {
    /// It is new, and stored.
    Stored,
    /// It was stored before; nothing was added.
    Repeated,
    /// An event of this name but with other content was stored before; nothing was added. For the agent a repeat.
    Conflict,
    /// It can never be accepted; it is kept as a dead letter.
    Dead,
}

/// A batch of one agent's events that waits to be stored.
pub struct Commit {
    /// Who sends it.
    pub agent: AgentId,
    /// Its events, in any order.
    pub events: Vec<Incoming>,
    /// Gets the fate of each event, in the same order, after a sync that covers them all; or why there is none.
    pub reply: oneshot::Sender<Result<Vec<EventFate>, StoreError>>,
    /// Gets the positions of the events before `reply` gets their fates: those of the frames that tell of them, at most. Where an
    /// event's own segment is gone, that of its mark; 0 for a dead letter that was there before.
    pub positions: Option<oneshot::Sender<Vec<Position>>>,
    /// The memory that the events take, given back when this is dropped.
    pub permit: Option<Box<dyn Send>>,
}

impl Commit {
    /// The size of its events in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.raw().len()).sum()
    }
}
