//! Events in: PushEvents and EventSession.
//!
//! [`decode`] judges each event of a batch from its bytes ([`digest`] tells content from content, [`payload`] reads it without
//! building it); the [event log](crate::store::events) stores what is new; `mark` says up to where the agent need send
//! nothing again, and `ack` puts that into an answer. [`push`] and [`session`] are the two ways in which the batches come.

mod ack;
pub mod decode;
pub mod digest;
mod mark;
mod outlive;
pub mod own;
pub(crate) mod parts;
pub mod payload;
pub mod push;
mod ranges;
pub mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Instant;

use arcgate_api::gateway::v1::{AgentHandshake, PushEventsResponse};
use arcgate_api::ingest::{EventBatch, MAX_BATCH_EVENTS};
use bytes::Bytes;
#[expect(clippy::disallowed_types, reason = "held for less than a microsecond, once a batch")]
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tonic::Status;

pub use self::outlive::Outlive;

use self::ack::{Sent, Tally};
use self::decode::{decode_event, named_agent};
use self::mark::{Holes, StreamMark};
use self::parts::EventParts;
use self::payload::Struct;
use crate::access::Identity;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::id::{AgentId, CONTROL_PLANE, Id};
use crate::store::events::{Commit, DeadReason, EventFate, EventLog, Incoming, IncomingEvent};
use crate::store::{Position, SpaceGate, StoreError};

/// Batches of more bytes than this are decoded on a thread that may be kept busy.
const DECODE_ASIDE_BYTES: usize = 256 << 10;

/// What an event takes in memory beside its bytes, at most.
const EVENT_BYTES: usize = 256;

/// What all streams of events share.
pub struct EventIngest {
    log: EventLog,
    gate: SpaceGate,
    clock: Clock,
    max_event_bytes: usize,
    memory: Budget,
    outlive: Option<Outlive>,
    #[expect(clippy::disallowed_types, reason = "see above")]
    holes: Mutex<Holes>,
}

impl EventIngest {
    /// Events go into `log` as long as `gate` is open; larger ones than `max_event_bytes` (see [`decode::MAX_EVENT_BYTES`]) are
    /// rejected. Until they are on disk they take `memory`.
    #[must_use]
    pub fn new(log: EventLog, gate: SpaceGate, clock: Clock, max_event_bytes: usize, memory: Budget) -> Self {
        Self { log, gate, clock, max_event_bytes, memory, outlive: None, holes: Default::default() }
    }

    /// Answers wait for a sink, too.
    #[must_use]
    pub fn outliving(self, outlive: Option<Outlive>) -> Self {
        Self { outlive, ..self }
    }

    /// Lets a stream in, or a batch on it: `RESOURCE_EXHAUSTED` while the disk is almost full.
    fn admit(&self) -> Result<(), Status> {
        self.gate.check().map_err(|error| refusal(&error))
    }

    /// Decodes a batch and hands it to the event log, as soon as there is memory for it. `slot` is let go of once it is on disk.
    /// Without `may_begin_runs`, events that would are dead letters.
    async fn submit(
        &self,
        agent: &AgentId,
        may_begin_runs: bool,
        batch: EventBatch,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Underway, Status> {
        self.admit()?;
        if batch.too_many {
            return Err(Status::invalid_argument(format!(
                "batch {:?} has more than {MAX_BATCH_EVENTS} events; send them in smaller batches",
                batch.batch_id
            )));
        }
        let memory = self.memory.take(cost(&batch) as u64).await;
        let events = batch.events;
        let bytes: usize = events.iter().map(Bytes::len).sum();
        let max_bytes = self.max_event_bytes;
        let sender = agent.clone();
        let decode = move || -> Vec<_> {
            let judged = |raw| match decode_event(raw, &sender, max_bytes) {
                event if may_begin_runs => event,
                event => unless_about_source(event),
            };
            events.into_iter().map(judged).collect()
        };
        let events = if bytes > DECODE_ASIDE_BYTES {
            tokio::task::spawn_blocking(decode).await.map_err(|error| Status::internal(format!("cannot decode: {error}")))?
        } else {
            decode()
        };
        let sent = events.iter().map(Sent::from).collect();
        let (reply, fates) = oneshot::channel();
        let permit: Option<Box<dyn Send>> = Some(Box::new((memory, slot)));
        let (tell, told) = oneshot::channel();
        let (positions, told) = if self.outlive.is_some() { (Some(tell), Some(told)) } else { (None, None) };
        let commit = Commit { agent: agent.clone(), events, reply, positions, permit };
        self.log.submit(commit).await.map_err(|error| refusal(&error))?;
        Ok(Underway { sent, fates, positions: told })
    }

    /// Makes the answer to what is in `tally`, all of which has been brought to `mark`.
    fn answer(&self, agent: Option<&AgentId>, tally: Tally, mark: &mut StreamMark) -> PushEventsResponse {
        let answer = match agent {
            Some(agent) => mark.answer(agent, tally.span, &mut self.holes.lock(), self.clock.now()),
            None => mark.unmoved(),
        };
        PushEventsResponse { ack: Some(tally.ack(answer)) }
    }
}

/// An event about source code, which begins runs, as a dead letter.
fn unless_about_source(event: Incoming) -> Incoming {
    const SCM: &str = "arcentra.scm.";
    let is_about_source = |raw: &Bytes| {
        EventParts::of(raw).is_ok_and(|parts| {
            let inner = Struct::new(parts.payload).text("type").unwrap_or_default();
            parts.event_type.starts_with(SCM) || inner.starts_with(SCM)
        })
    };
    match event {
        Incoming::Event(IncomingEvent { event_id, seq, raw, .. }) if is_about_source(&raw) => {
            Incoming::Dead { seq, event_id: Some(event_id), reason: DeadReason::NotAllowed, raw }
        }
        event => event,
    }
}

/// What a batch takes in memory until it is on disk, in bytes.
fn cost(batch: &EventBatch) -> usize {
    batch.events.iter().map(|event| event.len() + EVENT_BYTES).sum()
}

/// A batch on its way to the disk.
struct Underway {
    sent: Vec<Sent>,
    fates: oneshot::Receiver<Result<Vec<EventFate>, StoreError>>,
    /// Where the events lie, if that matters.
    positions: Option<oneshot::Receiver<Vec<Position>>>,
}

impl Underway {
    /// Waits until the batch is on disk, and where answers wait for a sink, until that has it or time is up. Adds what is there to
    /// `tally` and `mark`.
    async fn arrive(self, ingest: &EventIngest, tally: &mut Tally, mark: &mut StreamMark) -> Result<(), Status> {
        let fates = self.fates.await.unwrap_or(Err(StoreError::Closed)).map_err(|error| refusal(&error))?;
        let (Some(outlive), Some(positions)) = (&ingest.outlive, self.positions) else {
            tally.add(&self.sent, &fates);
            mark.bring(self.sent.iter().map(|sent| sent.seq));
            return Ok(());
        };
        let positions = positions.await.map_err(|_| refusal(&StoreError::Closed))?;
        let last = positions.iter().copied().max().unwrap_or(0);
        // Time that is up for one batch of an answer is up for the others.
        let cursor = outlive.wait(last, tally.late == 0).await;
        for ((sent, fate), position) in self.sent.iter().zip(&fates).zip(&positions) {
            if *position < cursor { tally.add(&[*sent], &[*fate]) } else { tally.hold(*sent) }
        }
        mark.bring_late(self.sent.iter().map(|sent| sent.seq).zip(positions), cursor).map_err(|full| {
            Status::unavailable(format!(
                "{full} events of this stream are stored and wait for the sink; open another stream and send again"
            ))
        })
    }
}

/// Who sends on a stream: the agent whose token it is; else whom the handshake names, or the first event that names anyone.
struct Sender {
    agent: Option<AgentId>,
    may_begin_runs: bool,
}

impl Sender {
    fn of(identity: &Identity) -> Self {
        Self { agent: identity.agent().cloned(), may_begin_runs: identity.may_begin_runs() }
    }

    fn handshake(&mut self, handshake: &AgentHandshake) -> Result<(), Status> {
        match &self.agent {
            _ if handshake.agent_id.is_empty() => Ok(()),
            Some(agent) if agent.as_str() == handshake.agent_id => Ok(()),
            Some(agent) => Err(Status::invalid_argument(format!(
                "the handshake names agent {:?}, but this stream is agent {agent:?}'s; open one stream for each agent",
                handshake.agent_id
            ))),
            None => self.set(&handshake.agent_id, "handshake.agent_id"),
        }
    }

    /// The agent of a batch; none only if that has no events.
    fn of_batch(&mut self, events: &[Bytes]) -> Result<Option<&AgentId>, Status> {
        if self.agent.is_none() && !events.is_empty() {
            let name = events.iter().find_map(|event| named_agent(event));
            let missing = "no agent is named; send a handshake with agent_id first, or set meta.agent_id";
            self.set(name.ok_or_else(|| Status::invalid_argument(missing))?, "meta.agent_id")?;
        }
        Ok(self.agent.as_ref())
    }

    fn set(&mut self, name: &str, field: &str) -> Result<(), Status> {
        let agent = Id::parse(name).map_err(|error| Status::invalid_argument(format!("{field} {error}")))?;
        if name == CONTROL_PLANE {
            let why = format!("{field} is {name:?}, which is the control plane's own name; give the agent another");
            return Err(Status::permission_denied(why));
        }
        self.agent = Some(agent);
        Ok(())
    }
}

/// Why events were not taken, as a status. Whatever it is, what has not been acknowledged is to be sent again.
fn refusal(error: &StoreError) -> Status {
    match error {
        StoreError::Full { .. } | StoreError::Undelivered { .. } => Status::resource_exhausted(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

fn record_ack(protocol: &'static str, began: Instant) {
    metrics::histogram!("arcgate_ack_seconds", "protocol" => protocol).record(began.elapsed());
}
