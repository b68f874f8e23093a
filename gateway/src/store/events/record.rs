//! The layout of an event in its frame's body. Numbers are little-endian.
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | 0, or of a dead letter the number of its [`DeadReason`] |
//! | 2 | 2 | A: size of the agent's id |
//! | 4 | 2 | E: size of the event's id; 0 if not known (dead letters only) |
//! | 6 | 2 | zero |
//! | 8 | 8 | the agent's own number for it (`meta.seq`); 0 if not known (dead letters only) |
//! | 16 | 8 | digest of its content; of a dead letter, xxh3 of its bytes |
//! | 24 | A | the agent's id |
//! | 24 + A | E | the event's id |
//! | 24 + A + E | rest | the encoded `gateway.v1.Event`, as it came |
//!
//! Events are frames of kind 0x81, dead letters of kind 0x82. The time of arrival is in the frame's header. The third kind, 0x83, are
//! marks of events that retention has removed: see [`crate::store::index::record`].

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::DeadReason;

/// The version that is written, and the newest that is read.
pub const VERSION: u8 = 1;

const FIXED: usize = 24;

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Why it is a dead letter, if it is one.
    pub dead: Option<DeadReason>,
    /// The agent's own number for it.
    pub seq: u64,
    /// The digest of its content.
    pub digest: u64,
    /// The agent's id.
    pub agent: Box<str>,
    /// The event's id; empty if not known.
    pub event_id: Box<str>,
    /// The encoded event.
    pub raw: Bytes,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record ends too early, or its ids are not UTF-8.
    #[error("the record of an event is malformed")]
    Malformed,
    /// A later release wrote it.
    #[error("the record of an event has version {0}, this release reads {VERSION}; use a release that reads it")]
    Version(u8),
}

/// Appends to `buffer` what precedes the event's bytes.
pub fn put_head(buffer: &mut BytesMut, dead: Option<DeadReason>, seq: u64, digest: u64, agent: &str, event_id: &str) {
    buffer.put_u8(VERSION);
    buffer.put_u8(dead.map_or(0, |reason| reason as u8));
    // Ids have at most 256 bytes.
    buffer.put_u16_le(agent.len() as u16);
    buffer.put_u16_le(event_id.len() as u16);
    buffer.put_u16_le(0);
    buffer.put_u64_le(seq);
    buffer.put_u64_le(digest);
    buffer.put_slice(agent.as_bytes());
    buffer.put_slice(event_id.as_bytes());
}

/// Reads a frame's body. The event's bytes are not copied.
///
/// # Errors
/// The body is no record, or a later release's.
pub fn decode(mut body: Bytes) -> Result<Record, RecordError> {
    match body.first() {
        Some(&VERSION) if body.len() >= FIXED => body.advance(1),
        Some(&VERSION) | None => return Err(RecordError::Malformed),
        Some(&version) => return Err(RecordError::Version(version)),
    }
    let dead = body.get_u8();
    let agent = usize::from(body.get_u16_le());
    let event_id = usize::from(body.get_u16_le());
    body.advance(2);
    let seq = body.get_u64_le();
    let digest = body.get_u64_le();
    Ok(Record {
        dead: (dead != 0).then(|| DeadReason::from_number(dead)),
        seq,
        digest,
        agent: take_text(&mut body, agent)?,
        event_id: take_text(&mut body, event_id)?,
        raw: body,
    })
}

fn take_text(body: &mut Bytes, size: usize) -> Result<Box<str>, RecordError> {
    let bytes = body.get(..size).ok_or(RecordError::Malformed)?;
    let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Malformed)?.into();
    body.advance(size);
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// The bytes as release 0.1 writes them. They never change: what is stored must remain readable.
    const GOLDEN: &[u8] = b"\x01\x05\x03\x00\x05\x00\x00\x00\
        \x08\x07\x06\x05\x04\x03\x02\x01\
        \xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1\
        a-1evt-7payload";

    #[test]
    fn the_layout_is_the_documented_one() {
        let record = Record {
            dead: Some(DeadReason::TooLarge),
            seq: 0x0102_0304_0506_0708,
            digest: 0xf1f2_f3f4_f5f6_f7f8,
            agent: "a-1".into(),
            event_id: "evt-7".into(),
            raw: Bytes::from_static(b"payload"),
        };
        let mut bytes = BytesMut::new();
        put_head(&mut bytes, record.dead, record.seq, record.digest, &record.agent, &record.event_id);
        bytes.put_slice(&record.raw);
        assert_eq!(bytes, GOLDEN);
        assert_eq!(decode(Bytes::from_static(GOLDEN)), Ok(record));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        assert_eq!(decode(Bytes::new()), Err(RecordError::Malformed));
        assert_eq!(decode(Bytes::from_static(&[2; 40])), Err(RecordError::Version(2)));
        for end in 1..GOLDEN.len() - b"payload".len() {
            assert_eq!(decode(Bytes::from_static(&GOLDEN[..end])), Err(RecordError::Malformed), "cut at {end}");
        }
    }
}
