//! A `google.protobuf.Struct` in its bytes as JSON, written value by value: never built as a tree.
//!
//! Keys are sorted, of equal ones the last counts; so equal content is equal text, however its writer ordered it. A number is
//! written as JavaScript and Go do: whole ones without a point (up to 10^21), because consumers read many into integers. JSON has no
//! NaN and no infinities: they become the texts `"NaN"`, `"Infinity"`, `"-Infinity"`, as in the JSON of protobuf.

use std::io::Write as _;

use crate::replay::escape::escape;
use crate::source::events::digest::MAX_DEPTH;
use crate::source::events::payload::{PayloadError, Struct, Value};

/// Texts are escaped in pieces of at most so many bytes.
const PIECE: usize = 64 << 10;
/// Most objects in events have no more members.
const FEW: usize = 16;

/// Why a payload was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The text would pass the limit.
    #[error("is larger than {0} bytes as JSON")]
    TooLarge(usize),
    /// The payload is not readable. The gateway accepts no such event.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// JSON text that may not become longer than a limit.
pub(in crate::sink) struct Json<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
}

impl<'o> Json<'o> {
    /// Appends to `out`, which may get `limit` bytes long as a whole.
    pub(in crate::sink) fn new(out: &'o mut Vec<u8>, limit: usize) -> Self {
        Self { out, limit }
    }

    /// Appends text that is JSON already.
    pub(in crate::sink) fn raw(&mut self, text: &str) -> Result<(), WriteError> {
        self.room(text.len())?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Appends a text with its quotes.
    pub(in crate::sink) fn text(&mut self, text: &str) -> Result<(), WriteError> {
        // No byte becomes less than one, so that what cannot fit is not even begun.
        self.room(text.len() + 2)?;
        self.out.push(b'"');
        let mut rest = text;
        while !rest.is_empty() {
            // In pieces: what becomes longer than the limit by being escaped is given up soon.
            let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
            escape(piece, self.out);
            self.room(1)?;
            rest = more;
        }
        self.out.push(b'"');
        self.room(0)
    }

    /// Appends as much of a text as leaves `reserve` bytes of the limit, with its quotes; says how many of its bytes that was.
    pub(in crate::sink) fn cut_text(&mut self, text: &str, reserve: usize) -> Result<usize, WriteError> {
        let end = self.limit.saturating_sub(reserve).saturating_sub(1);
        if self.out.len() >= end {
            return Err(WriteError::TooLarge(self.limit));
        }
        self.out.push(b'"');
        let mut taken = 0;
        let mut step = PIECE;
        // Steps that become smaller until not even one character fits.
        while step > 0 && taken < text.len() {
            let upto = text.floor_char_boundary((taken + step).min(text.len()));
            let before = self.out.len();
            if upto > taken {
                escape(&text[taken..upto], self.out);
            }
            if self.out.len() > end || upto == taken {
                self.out.truncate(before);
                step /= 2;
            } else {
                taken = upto;
            }
        }
        self.out.push(b'"');
        Ok(taken)
    }

    /// Appends `,"name":`, without the comma if the object has just been opened.
    pub(in crate::sink) fn name(&mut self, name: &str) -> Result<(), WriteError> {
        if self.out.last() != Some(&b'{') {
            self.raw(",")?;
        }
        self.text(name)?;
        self.raw(":")
    }

    /// Appends a member whose value is a text.
    pub(in crate::sink) fn text_member(&mut self, name: &str, text: &str) -> Result<(), WriteError> {
        self.name(name)?;
        self.text(text)
    }

    /// Appends a value; `depth` is that of the Struct or list it stands in, 1 for the payload.
    pub(in crate::sink) fn value(&mut self, value: Value<'_>, depth: usize) -> Result<(), WriteError> {
        match value {
            Value::Null => self.raw("null"),
            Value::Bool(truth) => self.raw(if truth { "true" } else { "false" }),
            Value::Number(number) => self.number(number),
            Value::Text(text) => self.text(text),
            Value::Struct(_) | Value::List(_) if depth >= MAX_DEPTH => Err(PayloadError::TooDeep.into()),
            Value::Struct(structure) => self.object(&entries(structure)?, depth),
            Value::List(list) => {
                self.raw("[")?;
                for (at, value) in list.values().enumerate() {
                    if at > 0 {
                        self.raw(",")?;
                    }
                    self.value(value?, depth + 1)?;
                }
                self.raw("]")
            }
        }
    }

    /// Appends an object with these members; `depth` is that of what it stands in.
    pub(in crate::sink) fn object(&mut self, entries: &[(&str, Value<'_>)], depth: usize) -> Result<(), WriteError> {
        self.raw("{")?;
        self.members(entries, depth + 1)?;
        self.raw("}")
    }

    /// Appends the members of an object that is open.
    pub(in crate::sink) fn members(&mut self, entries: &[(&str, Value<'_>)], depth: usize) -> Result<(), WriteError> {
        for (name, value) in entries {
            self.name(name)?;
            self.value(*value, depth)?;
        }
        Ok(())
    }

    fn number(&mut self, number: f64) -> Result<(), WriteError> {
        if number.is_nan() {
            return self.raw("\"NaN\"");
        }
        if number.is_infinite() {
            return self.raw(if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
        }
        // Writing into a Vec cannot fail.
        let _ = match number.abs() {
            0.0 | 1e-6..1e21 => write!(self.out, "{number}"),
            _ => write!(self.out, "{number:e}"),
        };
        self.room(0)
    }

    fn room(&self, more: usize) -> Result<(), WriteError> {
        if self.limit.checked_sub(self.out.len()).is_some_and(|left| left >= more) {
            Ok(())
        } else {
            Err(WriteError::TooLarge(self.limit))
        }
    }
}

/// A Struct's entries by rising key, each key once.
pub(in crate::sink) fn entries(structure: Struct<'_>) -> Result<Vec<(&str, Value<'_>)>, PayloadError> {
    let mut entries = Vec::with_capacity(FEW);
    for entry in structure.entries() {
        entries.push(entry?);
    }
    let compare = |(one, _): &(&str, _), (other, _): &(&str, _)| head(one).cmp(&head(other)).then_with(|| one.cmp(other));
    if !entries.is_sorted_by(|one, next| compare(one, next).is_lt()) {
        // Stable: of equal keys the last remains the last, and is the one that stays.
        entries.sort_by(compare);
        entries.dedup_by(|next, kept| {
            let is_repeat = next.0 == kept.0;
            if is_repeat {
                *kept = *next;
            }
            is_repeat
        });
    }
    Ok(entries)
}

/// A key's first eight bytes, in the order of keys: most pairs differ in them, and are compared as numbers.
fn head(key: &str) -> u64 {
    let bytes = key.as_bytes();
    match bytes.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => bytes.iter().zip((0..8).rev()).fold(0, |head, (byte, at)| head | u64::from(*byte) << (8 * at)),
    }
}
