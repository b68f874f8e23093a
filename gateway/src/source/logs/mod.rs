//! Logs in: `PushLogs` and `LogSession`, from a message to its shard and back to the answer.
//!
//! `connection` does what both have in common, `push` and `session` are the two stream loops, `verdict` is what a batch is
//! answered.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::access::Access;
use crate::clock::Clock;
use crate::decode::{DecodeLimits, Decoder};
use crate::shard::Shards;
use crate::store::SpaceGate;
use crate::store::lines::LineStore;

mod connection;
mod metrics;
mod push;
mod session;
mod verdict;

pub use push::push_logs;
pub use session::{Answers, log_session};

/// What every log connection shares.
pub struct LogIngest {
    /// Where batches go.
    pub shards: Shards,
    /// Where lines end up; asked whether it takes any.
    pub store: Arc<LineStore>,
    /// Whether there is room for new input.
    pub gate: SpaceGate,
    /// Who may write what.
    pub access: Arc<dyn Access>,
    /// What a batch may be.
    pub limits: DecodeLimits,
    /// Reads batches; its budget is the memory of lines between their arrival and their write.
    pub decoder: Decoder,
    /// How long PushLogs waits for room before it drops lines.
    pub patience: Duration,
    /// The time of day.
    pub clock: Clock,
}

impl LogIngest {
    /// Lets a batch in, or the stream that brings it: `RESOURCE_EXHAUSTED` while the disk is almost full.
    fn admit(&self) -> Result<(), Status> {
        self.gate.check().map_err(|error| Status::resource_exhausted(error.to_string()))
    }
}
