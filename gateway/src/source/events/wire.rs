//! Protobuf as it lies on the wire: the fields of one message, without building anything.

use super::payload::PayloadError;

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes or a message.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32,
}

impl<'a> Field<'a> {
    /// The bytes of a text, bytes or message field.
    pub(crate) fn bytes(self) -> Result<&'a [u8], PayloadError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(PayloadError::Malformed),
        }
    }

    /// The text of a text field.
    pub(crate) fn text(self) -> Result<&'a str, PayloadError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| PayloadError::NotUtf8)
    }

    /// The number of a varint field.
    pub(crate) fn varint(self) -> Result<u64, PayloadError> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(PayloadError::Malformed),
        }
    }
}

/// The fields of an encoded message, in the order in which they lie there: `(number, value)`. Ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn varint(&mut self) -> Option<u64> {
        // Nearly all tags and lengths are one byte.
        if let Some((&byte, rest)) = self.0.split_first()
            && byte < 0x80
        {
            self.0 = rest;
            return Some(byte.into());
        }
        let mut number = 0;
        for (at, &byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                // The tenth byte has room for one bit.
                return (at < 9 || byte < 2).then_some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Field<'a>)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let number = (tag >> 3 != 0).then_some(tag >> 3)?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed32)?,
            // Groups (3, 4) are not part of proto3.
            _ => return None,
        };
        Some((number, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(PayloadError::Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
