//! Reading a `google.protobuf.Struct` from its bytes, value by value: a payload is never built as a tree.
//!
//! A value without a kind is null. A value that is given twice, which no writer does and readers would merge, is malformed.

use super::wire::{Field, Fields};

/// Why a payload cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The bytes are no such message.
    #[error("is not a protobuf message of its type")]
    Malformed,
    /// A text is not UTF-8.
    #[error("holds text that is not UTF-8")]
    NotUtf8,
    /// Structs and lists are nested deeper than allowed.
    #[error("is nested too deep")]
    TooDeep,
    /// More map entries are open at once than allowed.
    #[error("has too many fields")]
    TooManyFields,
}

/// An encoded `google.protobuf.Struct`.
#[derive(Debug, Clone, Copy)]
pub struct Struct<'a>(&'a [u8]);

/// An encoded `google.protobuf.ListValue`.
#[derive(Debug, Clone, Copy)]
pub struct List<'a>(&'a [u8]);

/// A value of a payload; texts, structs and lists are slices of the payload's bytes.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// A truth value.
    Bool(bool),
    /// Named values.
    Struct(Struct<'a>),
    /// Values in order.
    List(List<'a>),
}

impl<'a> Struct<'a> {
    /// Takes `bytes` as an encoded Struct.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The entries in the order of the bytes. A key may come twice: then the last one counts.
    pub fn entries(self) -> impl Iterator<Item = Result<(&'a str, Value<'a>), PayloadError>> {
        messages(self.0).map(|entry| {
            let (mut key, mut value) = ("", None);
            for field in Fields::of(entry?) {
                match field? {
                    (1, field) => key = field.text()?,
                    (2, field) if value.is_none() => value = Some(Value::read(field.bytes()?)?),
                    (2, _) => return Err(PayloadError::Malformed),
                    _ => {}
                }
            }
            Ok((key, value.unwrap_or(Value::Null)))
        })
    }

    /// The value of `key`, if it is there and readable.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries().filter_map(Result::ok).filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }

    /// The text of `key`, if it is there and a text.
    #[must_use]
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_text()
    }
}

impl<'a> List<'a> {
    /// The values, in order.
    pub fn values(self) -> impl Iterator<Item = Result<Value<'a>, PayloadError>> {
        messages(self.0).map(|value| Value::read(value?))
    }
}

impl<'a> Value<'a> {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn read(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        let mut value = None;
        for field in Fields::of(bytes) {
            let read = match field? {
                (1, field) => field.varint().map(|_| Self::Null)?,
                (2, Field::Fixed64(bits)) => Self::Number(f64::from_bits(bits)),
                (2, _) => return Err(PayloadError::Malformed),
                (3, field) => Self::Text(field.text()?),
                (4, field) => Self::Bool(field.varint()? != 0),
                (5, field) => Self::Struct(Struct(field.bytes()?)),
                (6, field) => Self::List(List(field.bytes()?)),
                _ => continue,
            };
            if value.replace(read).is_some() {
                return Err(PayloadError::Malformed);
            }
        }
        Ok(value.unwrap_or(Self::Null))
    }
}

/// The messages in field 1: the entries of a Struct, the values of a list.
fn messages(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], PayloadError>> {
    Fields::of(bytes).filter_map(|field| match field {
        Ok((1, field)) => Some(field.bytes()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}
