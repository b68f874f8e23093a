//! ClickHouse's `RowBinary`: the values of a row, one after the other, little-endian, texts with their length before them.

/// Appends a text or bytes.
pub(crate) fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    put_length(row, bytes.len() as u64);
    row.extend_from_slice(bytes);
}

/// Appends a length: seven bits a byte, the lowest first.
fn put_length(row: &mut Vec<u8>, mut length: u64) {
    while length >= 0x80 {
        row.push(length as u8 | 0x80);
        length >>= 7;
    }
    row.push(length as u8);
}

/// What is left to read of rows; `None` from any call means that the row is not whole yet.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// A text or bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.length()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A number of one byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// A number of eight bytes.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A signed number of eight bytes.
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn length(&mut self) -> Option<u64> {
        let mut length = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        // No text is that long: it will never be whole.
        Some(u64::MAX)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_again_and_half_a_row_is_none(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
            let mut row = Vec::new();
            texts.iter().for_each(|text| put_bytes(&mut row, text));
            let mut input = Input(&row);
            for text in &texts {
                prop_assert_eq!(input.bytes().unwrap(), &text[..]);
            }
            prop_assert!(input.0.is_empty());
            for end in 0..row.len() {
                let mut input = Input(&row[..end]);
                prop_assert!(texts.iter().any(|_| input.bytes().is_none()));
            }
        }
    }

    #[test]
    fn lengths_are_those_of_the_documented_format() {
        let mut row = Vec::new();
        put_bytes(&mut row, &[b'x'; 300]);
        assert_eq!(row[..3], [0xac, 0x02, b'x']);
    }
}
