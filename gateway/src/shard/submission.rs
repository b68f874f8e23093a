//! What a connection hands to a shard, and what it hears back.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::budget::Permit;
use crate::clock::Millis;
use crate::decode::Piece;
use crate::id::{AgentId, StepRunId};
use crate::store::lines::{FeederGuard, StreamTail};
use crate::store::{Position, StoreError};

/// The highest number a line can have: readers see line numbers as 32-bit signed integers.
pub const MAX_LINE: u64 = i32::MAX as u64;

/// Who numbers the lines of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// This gateway. The fingerprint recognises the batch when it comes again.
    Gateway {
        /// Hash of agent, step run, batch id, seq and data.
        fingerprint: u64,
    },
    /// The agent.
    Agent {
        /// The number of the batch's first line, from 1.
        first_line: u64,
    },
    /// This gateway; the lines were made of an event.
    Event {
        /// The event's position in the event log.
        position: Position,
    },
}

/// What a batch holds.
#[derive(Debug)]
pub enum Payload {
    /// Lines, possibly none.
    Lines(Vec<Piece>),
    /// It could not be read: readers see a gap of unknown size.
    Unreadable,
}

impl Payload {
    /// How many lines there are.
    #[must_use]
    pub fn lines(&self) -> u64 {
        match self {
            Self::Lines(pieces) => pieces.iter().map(|piece| u64::from(piece.lines)).sum(),
            Self::Unreadable => 0,
        }
    }
}

/// Lines that were dropped for want of room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// So many.
    pub lines: u64,
    /// And others that could not be counted.
    pub more: bool,
}

/// One batch, decoded, on its way to the shard that owns its stream.
#[derive(Debug)]
pub struct Submission {
    /// The stream.
    pub step_run: StepRunId,
    /// Who sent it.
    pub agent: AgentId,
    /// The pipeline it names; empty if none.
    pub pipeline_id: Arc<str>,
    /// Who numbers its lines.
    pub numbering: Numbering,
    /// The lines.
    pub payload: Payload,
    /// What the connection has dropped of this stream since its last batch that got through.
    pub lost: Lost,
    /// Nothing follows.
    pub end_of_log: bool,
    /// When it came.
    pub arrived: Millis,
    /// The sender wants a guard that keeps the stream's readers from seeing an end while it may send more.
    pub wants_feeder: bool,
    /// The memory that the lines take.
    pub memory: Option<Permit>,
    /// Where the answer goes; nobody need listen.
    pub reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// What became of a batch's lines.
#[derive(Debug)]
pub struct Outcome {
    /// Lines that were new and are kept.
    pub taken: u64,
    /// Lines that were there already.
    pub repeated: u64,
    /// Lines below the last number that were not there; they are not kept.
    pub late: u64,
    /// The first number that the gateway lacks.
    pub next_line: u64,
    /// The number after the last that a sync covers.
    pub next_durable: u64,
    /// The stream, to learn when its lines are durable.
    pub tail: Arc<StreamTail>,
    /// See [`Submission::wants_feeder`].
    pub feeder: Option<FeederGuard>,
}

/// Why nothing of a batch was taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// One agent counts this stream's lines, and it is another.
    #[error(
        "foreign_writer: step run {step_run} is written by agent {owner}, which numbers its lines; send under another step_id"
    )]
    ForeignWriter {
        /// The stream.
        step_run: StepRunId,
        /// Who writes it.
        owner: AgentId,
    },
    /// The batch numbers its lines in a stream whose lines the gateway counts.
    #[error("step run {step_run} is numbered by the gateway since its first batch; send without first_line")]
    NumberedByGateway {
        /// The stream.
        step_run: StepRunId,
    },
    /// The batch does not number its lines in a stream whose lines its agent counts.
    #[error("step run {step_run} is numbered by its agent since its first batch; set first_line")]
    NumberedByAgent {
        /// The stream.
        step_run: StepRunId,
    },
    /// The numbers go past [`MAX_LINE`].
    #[error("lines of step run {step_run} would pass number {MAX_LINE}, the highest there is; begin another step run")]
    TooManyLines {
        /// The stream.
        step_run: StepRunId,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Submission {
    /// Whether it adds nothing: then it only asks how far the stream has got.
    #[must_use]
    pub fn is_question(&self) -> bool {
        !self.brings_something() && self.lost == Lost::default() && !self.end_of_log
    }

    /// Whether it holds lines, or may have held some.
    pub(super) fn brings_something(&self) -> bool {
        self.payload.lines() > 0 || matches!(self.payload, Payload::Unreadable)
    }
}

impl Refusal {
    /// Whether the same batch may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}
