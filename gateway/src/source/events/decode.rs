//! One event from its bytes: what the store has to know of it, and whether it can be accepted at all.
//!
//! Each event is judged alone. One that can never be accepted becomes [`Incoming::Dead`], with whatever could still be read
//! of its name and number, so that the agent can be told.

use bytes::Bytes;

use super::digest::digest;
use super::payload::PayloadError;
use super::wire::Fields;
use crate::id::{AgentId, MAX_ID_BYTES};
use crate::store::events::{DeadReason, Incoming, IncomingEvent};

/// The largest event that is accepted unless told otherwise, in bytes: the largest record of the stock agent's own log.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// Reads the encoded `gateway.v1.Event` in `raw`, sent by `agent`. Copies nothing but the id.
#[must_use]
pub fn decode_event(raw: Bytes, agent: &AgentId, max_bytes: usize) -> Incoming {
    let outline = Outline::read(&raw);
    let id = check_id(outline.event_id);
    match judge(&outline, raw.len(), agent, max_bytes).and_then(|digest| Ok((id?, digest))) {
        Ok((id, digest)) => Incoming::Event(IncomingEvent { event_id: id.into(), seq: outline.seq, digest, raw }),
        Err(reason) => Incoming::Dead { seq: outline.seq, event_id: id.ok().map(Into::into), reason, raw },
    }
}

/// The agent that the encoded event names, if it names one: for streams that begin without a handshake.
#[must_use]
pub fn named_agent(raw: &[u8]) -> Option<&str> {
    std::str::from_utf8(Outline::read(raw).agent_id).ok().filter(|name| !name.is_empty())
}

/// The event's fields, not yet checked. All that comes before the first malformed field.
#[derive(Default)]
struct Outline<'a> {
    event_id: &'a [u8],
    event_type: &'a [u8],
    payload: Option<&'a [u8]>,
    agent_id: &'a [u8],
    pipeline_id: &'a [u8],
    step_id: &'a [u8],
    seq: u64,
    malformed: bool,
}

impl<'a> Outline<'a> {
    fn read(raw: &'a [u8]) -> Self {
        let mut outline = Self::default();
        outline.malformed = outline.event(raw).is_err();
        outline
    }

    fn event(&mut self, raw: &'a [u8]) -> Result<(), PayloadError> {
        let mut broken = Ok(());
        for field in Fields::of(raw) {
            match field? {
                (1, field) => self.event_id = field.bytes()?,
                // What is broken inside does not hide what follows.
                (2, field) => broken = broken.and(self.meta(field.bytes()?)),
                (3, field) => self.event_type = field.bytes()?,
                (4, field) if self.payload.is_none() => self.payload = Some(field.bytes()?),
                // Twice, which no writer does: readers would merge the two.
                (4, _) => broken = Err(PayloadError::Malformed),
                _ => {}
            }
        }
        broken
    }

    fn meta(&mut self, meta: &'a [u8]) -> Result<(), PayloadError> {
        for field in Fields::of(meta) {
            match field? {
                (1, field) => self.agent_id = field.bytes()?,
                (2, field) => self.pipeline_id = field.bytes()?,
                (3, field) => self.step_id = field.bytes()?,
                (4, field) => timestamp(field.bytes()?)?,
                (5, field) => self.seq = field.varint()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Checks a `google.protobuf.Timestamp`; what time it says does not matter here.
fn timestamp(bytes: &[u8]) -> Result<(), PayloadError> {
    for field in Fields::of(bytes) {
        if let (1 | 2, field) = field? {
            field.varint()?;
        }
    }
    Ok(())
}

/// The event's digest, or why it can never be accepted (its id aside).
fn judge(event: &Outline<'_>, size: usize, agent: &AgentId, max_bytes: usize) -> Result<u64, DeadReason> {
    if size > max_bytes {
        return Err(DeadReason::TooLarge);
    }
    if event.malformed {
        return Err(DeadReason::Malformed);
    }
    if event.seq == 0 {
        return Err(DeadReason::NoSeq);
    }
    if !event.agent_id.is_empty() && event.agent_id != agent.as_str().as_bytes() {
        return Err(DeadReason::OtherAgent);
    }
    for name in [event.pipeline_id, event.step_id] {
        match check_id(name) {
            Ok(_) | Err(DeadReason::NoId) => {}
            Err(DeadReason::NotUtf8) => return Err(DeadReason::NotUtf8),
            Err(_) => return Err(DeadReason::BadName),
        }
    }
    let event_type = std::str::from_utf8(event.event_type).map_err(|_| DeadReason::NotUtf8)?;
    digest(event_type, event.payload.unwrap_or_default()).map_err(|error| match error {
        PayloadError::Malformed => DeadReason::Malformed,
        PayloadError::NotUtf8 => DeadReason::NotUtf8,
        PayloadError::TooDeep => DeadReason::TooDeep,
        PayloadError::TooManyFields => DeadReason::TooManyFields,
    })
}

fn check_id(bytes: &[u8]) -> Result<&str, DeadReason> {
    if bytes.is_empty() {
        return Err(DeadReason::NoId);
    }
    if bytes.len() > MAX_ID_BYTES {
        return Err(DeadReason::BadId);
    }
    let id = std::str::from_utf8(bytes).map_err(|_| DeadReason::NotUtf8)?;
    if id.contains(char::is_control) { Err(DeadReason::BadId) } else { Ok(id) }
}
