//! Text as the inside of a JSON string. Runs of bytes that stand for themselves are found eight at a time and copied whole.

/// At most this many bytes are written for each byte that is read.
pub const MAX_GROWTH: usize = 6;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Appends `text` to `out`; what is no UTF-8 becomes U+FFFD.
pub fn escape_bytes(text: &[u8], out: &mut Vec<u8>) {
    if let Ok(text) = std::str::from_utf8(text) {
        return escape(text, out);
    }
    for chunk in text.utf8_chunks() {
        escape(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

/// Appends `text` to `out`.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = first_special(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(other >> 4), usize::from(other & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', DIGITS[high], DIGITS[low]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// How much of `text` to escape so that at most `most` bytes are read and no character is cut in two.
#[must_use]
pub fn cut(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    // A character has at most three bytes that continue it; with more, what stands there is none.
    (most.saturating_sub(3)..=most).rev().find(|at| *at > 0 && text[*at] & 0xC0 != 0x80).unwrap_or(most)
}

/// Where the first byte lies that does not stand for itself: a quote, a backslash or a control character.
fn first_special(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // In each byte, the high bit is set where it is below 0x20, or 0x22, or 0x5C. A byte above such a one may be marked
        // wrongly; the lowest mark is always right.
        let control = word.wrapping_sub(ONES * 0x20);
        let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * 0x5C)).wrapping_sub(ONES);
        let marks = (control | quote | backslash) & !word & HIGH;
        if marks != 0 {
            return Some(at * 8 + (marks.trailing_zeros() / 8) as usize);
        }
    }
    let before = text.len() - rest.len();
    rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\').map(|at| before + at)
}
