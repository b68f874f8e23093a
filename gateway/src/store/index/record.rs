//! How the index's values look. A stream's record is also the body of a mark in the line log (kind [`MARK`]): what retention
//! appends again of a stream that has not ended, before it removes the segment with the stream's newest block.
//!
//! A stream's record (numbers little-endian):
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | flags: 1 ended, 2 an agent counts the lines, 4 lines were made of an event |
//! | 2 | 1 | how many epochs, *e* |
//! | 3 | 1 | 0 |
//! | 4 | 2 | length of the step run id, *s* |
//! | 6 | 2 | length of the counting agent's id, *a*; 0 without flag 2 |
//! | 8 | 2 | length of the pipeline id, *p* |
//! | 10 | 2 | 0 |
//! | 12 | 8 | next line |
//! | 20 | 8 | position of the newest block or mark |
//! | 28 | 8 | lines stored |
//! | 36 | 8 | their bytes |
//! | 44 | 8 | time of the newest line, Unix milliseconds, signed |
//! | 52 | 16 | with flag 4 only: the event's position u64, its lines done u64 |
//! | … | 12 *e* | epochs, oldest first: epoch u32, first line u64 |
//! | … | *s*, *a*, *p* | step run id, agent id, pipeline id |
//!
//! A known event is the body of a mark in the event log (kind [`EVENT_MARK`]): what retention appends again of an event whose
//! segment goes before its repeats may be forgotten.
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | 0 |
//! | 2 | 2 | length of the agent id, *a* |
//! | 4 | 2 | length of the event id, *e* |
//! | 6 | 2 | 0 |
//! | 8 | 8 | digest |
//! | 16 | 8 | when the event itself was received, Unix milliseconds, signed |
//! | 24 | *a*, *e* | agent id, event id |

use bytes::{BufMut, Bytes, BytesMut};

use super::{Counting, EventEntry, StreamRecord};
use crate::block::EventOrigin;
use crate::clock::Millis;
use crate::id::{AgentId, Id, StepRunId};
use crate::store::StoreError;
use crate::store::segment::format::{ALIGNMENT, FRAME_HEADER};

/// The kind of a mark's frame in the line log.
pub const MARK: u8 = 0x83;
/// The kind of a known event's frame in the event log.
pub const EVENT_MARK: u8 = 0x83;
/// How many epochs a record keeps.
pub const MAX_EPOCHS: usize = 8;

const VERSION: u8 = 1;
const ENDED: u8 = 1;
const AGENT_COUNTS: u8 = 2;
const HAS_ORIGIN: u8 = 4;
const FIXED: usize = 52;
const EVENT_FIXED: usize = 24;

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A later release wrote it.
    #[error("a record has version {0}, this release reads {VERSION}")]
    Version(u8),
    /// Its bytes do not fit together.
    #[error("a record is malformed")]
    Malformed,
}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        Self::Index(error.to_string().into())
    }
}

/// Encodes what is known of a stream.
#[must_use]
pub fn encode_mark(step_run: &StepRunId, record: &StreamRecord) -> Bytes {
    let agent = match &record.counting {
        Counting::Gateway => "",
        Counting::Agent(agent) => agent.as_str(),
    };
    let pipeline = &record.pipeline_id[..record.pipeline_id.floor_char_boundary(usize::from(u16::MAX))];
    let epochs = &record.epochs[record.epochs.len().saturating_sub(MAX_EPOCHS)..];
    let flags = [(record.ended, ENDED), (!agent.is_empty(), AGENT_COUNTS), (record.origin.is_some(), HAS_ORIGIN)]
        .iter()
        .fold(0, |flags, (set, flag)| if *set { flags | flag } else { flags });

    let mut out =
        BytesMut::with_capacity(FIXED + 16 + 12 * epochs.len() + step_run.as_str().len() + agent.len() + pipeline.len());
    out.put_slice(&[VERSION, flags, epochs.len() as u8, 0]);
    for text in [step_run.as_str(), agent, pipeline] {
        out.put_u16_le(text.len() as u16);
    }
    out.put_u16_le(0);
    for number in [record.next_line, record.newest, record.lines, record.bytes] {
        out.put_u64_le(number);
    }
    out.put_i64_le(record.last_time);
    if let Some(origin) = &record.origin {
        out.put_u64_le(origin.position);
        out.put_u64_le(origin.lines_done);
    }
    for (epoch, first_line) in epochs {
        out.put_u32_le(*epoch);
        out.put_u64_le(*first_line);
    }
    for text in [step_run.as_str(), agent, pipeline] {
        out.put_slice(text.as_bytes());
    }
    out.freeze()
}

/// Whether the mark that begins with these bytes is of a stream whose log is complete. The rest of it is not checked.
#[must_use]
pub fn peek_ended(body: &[u8]) -> bool {
    body.first() == Some(&VERSION) && body.get(1).is_some_and(|flags| flags & ENDED != 0)
}

/// Decodes what [`encode_mark`] made.
///
/// # Errors
/// A later version, or bytes that do not fit together.
pub fn decode_mark(bytes: &[u8]) -> Result<(StepRunId, StreamRecord), RecordError> {
    let mut rest = Reader::new(bytes)?;
    let [flags, epochs, 0] = rest.take::<3>()? else { return Err(RecordError::Malformed) };
    if flags & !(ENDED | AGENT_COUNTS | HAS_ORIGIN) != 0 || usize::from(epochs) > MAX_EPOCHS {
        return Err(RecordError::Malformed);
    }
    let [step_run, agent, pipeline, 0] = [rest.u16()?, rest.u16()?, rest.u16()?, rest.u16()?] else {
        return Err(RecordError::Malformed);
    };
    let [next_line, newest, lines, bytes] = [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
    let last_time = i64::from_le_bytes(rest.take()?);
    let origin = match flags & HAS_ORIGIN {
        0 => None,
        _ => Some(EventOrigin { position: rest.u64()?, lines_done: rest.u64()? }),
    };
    let epochs = (0..epochs).map(|_| Ok((rest.u32()?, rest.u64()?))).collect::<Result<_, RecordError>>()?;
    let step_run = rest.id(step_run)?;
    let counting = match flags & AGENT_COUNTS {
        0 if agent != 0 => return Err(RecordError::Malformed),
        0 => Counting::Gateway,
        _ => Counting::Agent(rest.id(agent)?),
    };
    let pipeline_id = rest.text(pipeline)?.into();
    rest.end()?;
    let ended = flags & ENDED != 0;
    let record = StreamRecord { counting, next_line, ended, newest, origin, epochs, lines, bytes, pipeline_id, last_time };
    Ok((step_run, record))
}

/// An event of which repeats are to be known though it is not stored any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEvent {
    /// Who sent it.
    pub agent: AgentId,
    /// Its [name](crate::store::events::identity::name), of at most 64 KiB.
    pub name: Box<str>,
    /// The digest of its type and payload.
    pub digest: u64,
    /// When it was received.
    pub received: Millis,
}

/// Encodes a known event.
#[must_use]
pub fn encode_known_event(event: &KnownEvent) -> Bytes {
    let (agent, name) = (event.agent.as_str(), &*event.name);
    let mut out = BytesMut::with_capacity(EVENT_FIXED + agent.len() + name.len());
    out.put_slice(&[VERSION, 0]);
    out.put_u16_le(agent.len() as u16);
    out.put_u16_le(name.len() as u16);
    out.put_u16_le(0);
    out.put_u64_le(event.digest);
    out.put_i64_le(event.received);
    out.put_slice(agent.as_bytes());
    out.put_slice(name.as_bytes());
    out.freeze()
}

/// Decodes what [`encode_known_event`] made.
///
/// # Errors
/// A later version, or bytes that do not fit together.
pub fn decode_known_event(bytes: &[u8]) -> Result<KnownEvent, RecordError> {
    let mut rest = Reader::new(bytes)?;
    let [0] = rest.take::<1>()? else { return Err(RecordError::Malformed) };
    let [agent, name, 0] = [rest.u16()?, rest.u16()?, rest.u16()?] else { return Err(RecordError::Malformed) };
    let digest = rest.u64()?;
    let received = i64::from_le_bytes(rest.take()?);
    let (agent, name) = (rest.id(agent)?, rest.text(name)?.into());
    rest.end()?;
    Ok(KnownEvent { agent, name, digest, received })
}

/// The size of a known event's frame.
#[must_use]
pub fn known_event_bytes(event: &KnownEvent) -> u64 {
    let body = EVENT_FIXED + event.agent.as_str().len() + event.name.len();
    (FRAME_HEADER + body).next_multiple_of(ALIGNMENT as usize) as u64
}

pub(super) fn encode_number(number: u64) -> [u8; 9] {
    let mut out = [VERSION; 9];
    out[1..].copy_from_slice(&number.to_le_bytes());
    out
}

pub(super) fn decode_number(bytes: &[u8]) -> Result<u64, RecordError> {
    let mut rest = Reader::new(bytes)?;
    let number = rest.u64()?;
    rest.end().map(|()| number)
}

pub(super) fn encode_lines(lines: u32) -> [u8; 5] {
    let mut out = [VERSION; 5];
    out[1..].copy_from_slice(&lines.to_le_bytes());
    out
}

pub(super) fn decode_lines(bytes: &[u8]) -> Result<u32, RecordError> {
    let mut rest = Reader::new(bytes)?;
    let lines = rest.u32()?;
    rest.end().map(|()| lines)
}

pub(super) fn encode_event(entry: &EventEntry) -> [u8; 17] {
    let mut out = [VERSION; 17];
    out[1..9].copy_from_slice(&entry.position.to_le_bytes());
    out[9..].copy_from_slice(&entry.digest.to_le_bytes());
    out
}

pub(super) fn decode_event(bytes: &[u8]) -> Result<EventEntry, RecordError> {
    let mut rest = Reader::new(bytes)?;
    let entry = EventEntry { position: rest.u64()?, digest: rest.u64()? };
    rest.end().map(|()| entry)
}

/// What is left to read of a value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads the version, which must be ours.
    fn new(bytes: &'a [u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some((&other, _)) => Err(RecordError::Version(other)),
            None => Err(RecordError::Malformed),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(RecordError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self, bytes: u16) -> Result<&'a str, RecordError> {
        let (text, rest) = self.0.split_at_checked(usize::from(bytes)).ok_or(RecordError::Malformed)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| RecordError::Malformed)
    }

    fn id(&mut self, bytes: u16) -> Result<Id, RecordError> {
        Id::parse(self.text(bytes)?).map_err(|_| RecordError::Malformed)
    }

    fn end(&self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError::Malformed) }
    }
}
