//! The digest of an event's content: equal for equal content, however a writer ordered the map entries.
//!
//! | content | digest: 64-bit xxh3 over these bytes, numbers little-endian |
//! |---|---|
//! | event | `'E'`, length of the event type (u64), event type, digest of the payload (u64) |
//! | struct | `'S'`, then by rising key (bytewise; of equal keys the last): key length (u64), key, digest of the value (u64) |
//! | list | `'L'`, then of each value its digest (u64) |
//! | text | the text, with seed `'T'` |
//! | number | IEEE 754 bits (u64), with seed `'D'`; every NaN is the same |
//! | bool | 0 or 1, with seed `'B'` |
//! | null | nothing, with seed `'N'` |
//!
//! Stored beside each event, so it never changes. It says "other content than before", it protects against nobody: 64
//! bits of a hash that is not cryptographic are enough, since it is compared only among events of the same agent and id.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

use super::payload::{List, PayloadError, Struct, Value};

/// How deep Structs and lists may be nested in a payload, the payload itself included.
pub const MAX_DEPTH: usize = 100;

/// How many map entries may be open at once, that is: of a Struct and of those it lies in. The bound of what one event costs
/// in memory beside its bytes (6 MiB), far above what any event has.
pub const MAX_OPEN_ENTRIES: usize = 1 << 18;

/// The bits that stand for every NaN.
const NAN: u64 = 0x7ff8_0000_0000_0000;

/// The digest of an event's type and its payload's bytes; checks the whole payload on the way.
///
/// # Errors
/// The payload is not decodable, not UTF-8, or passes [`MAX_DEPTH`] or [`MAX_OPEN_ENTRIES`].
pub fn digest(event_type: &str, payload: &[u8]) -> Result<u64, PayloadError> {
    let payload = Walk::default().structure(Struct::new(payload), 1)?;
    let mut hash = start(b'E');
    text(&mut hash, event_type);
    hash.update(&payload.to_le_bytes());
    Ok(hash.digest())
}

/// The entries of all open Structs, each one's above those of the Struct it lies in.
#[derive(Default)]
struct Walk<'a>(Vec<(&'a str, u64)>);

impl<'a> Walk<'a> {
    fn structure(&mut self, structure: Struct<'a>, depth: usize) -> Result<u64, PayloadError> {
        let base = self.0.len();
        for entry in structure.entries() {
            let (key, value) = entry?;
            let digest = self.value(value, depth)?;
            if self.0.len() >= MAX_OPEN_ENTRIES {
                return Err(PayloadError::TooManyFields);
            }
            self.0.push((key, digest));
        }
        let mut hash = start(b'S');
        let entries = &mut self.0[base..];
        // Stable: of equal keys the last remains the last.
        entries.sort_by_key(|(key, _)| *key);
        for same in entries.chunk_by(|a, b| a.0 == b.0) {
            if let Some((key, digest)) = same.last() {
                text(&mut hash, key);
                hash.update(&digest.to_le_bytes());
            }
        }
        self.0.truncate(base);
        Ok(hash.digest())
    }

    fn value(&mut self, value: Value<'a>, depth: usize) -> Result<u64, PayloadError> {
        Ok(match value {
            Value::Null => leaf(b'N', &[]),
            Value::Number(number) if number.is_nan() => leaf(b'D', &NAN.to_le_bytes()),
            Value::Number(number) => leaf(b'D', &number.to_bits().to_le_bytes()),
            Value::Text(text) => leaf(b'T', text.as_bytes()),
            Value::Bool(truth) => leaf(b'B', &[u8::from(truth)]),
            Value::Struct(_) | Value::List(_) if depth >= MAX_DEPTH => return Err(PayloadError::TooDeep),
            Value::Struct(structure) => self.structure(structure, depth + 1)?,
            Value::List(list) => self.list(list, depth + 1)?,
        })
    }

    fn list(&mut self, list: List<'a>, depth: usize) -> Result<u64, PayloadError> {
        let mut hash = start(b'L');
        for value in list.values() {
            hash.update(&self.value(value?, depth)?.to_le_bytes());
        }
        Ok(hash.digest())
    }
}

fn leaf(kind: u8, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, kind.into())
}

fn start(kind: u8) -> Xxh3Default {
    let mut hash = Xxh3Default::new();
    hash.update(&[kind]);
    hash
}

fn text(hash: &mut Xxh3Default, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}
