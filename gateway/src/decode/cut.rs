//! Finds the lines that are too long, and cuts them.

use memchr::{memchr, memchr_iter, memrchr};

/// How many lines `text` has; a last one without newline is one.
pub(super) fn count_lines(text: &[u8]) -> usize {
    memchr_iter(b'\n', text).count() + usize::from(text.last().is_some_and(|last| *last != b'\n'))
}

/// Where the first line of `text` begins that has more than `limit` bytes, its newline and a carriage return before that not
/// counted. Looks at one place in every `limit` bytes, not at every line.
pub(super) fn first_too_long(text: &[u8], limit: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = text.get(at..).filter(|rest| rest.len() > limit)?;
        // If a newline is here, all lines before it are short enough.
        let near = rest.get(..=limit).unwrap_or(rest);
        at += match memrchr(b'\n', near) {
            Some(newline) => newline + 1,
            None if matches!(rest.get(limit..), Some([b'\r'] | [b'\r', b'\n', ..])) => limit + 2,
            None => return Some(at),
        };
    }
}

/// Lines that follow each other, all short enough or one that has been cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) lines: usize,
    pub(super) truncated: bool,
}

/// Appends `text` to `output`, its long lines cut to `limit` bytes, and tells `found` the stretches. A last line without newline
/// stays one.
pub(super) fn append_cut(text: &[u8], limit: usize, output: &mut Vec<u8>, mut found: impl FnMut(Stretch)) {
    let mut rest = text;
    while let Some(at) = first_too_long(rest, limit) {
        let (before, long) = rest.split_at(at);
        output.extend_from_slice(before);
        if !before.is_empty() {
            found(Stretch { lines: count_lines(before), truncated: false });
        }
        let end = memchr(b'\n', long).unwrap_or(long.len());
        output.extend_from_slice(&long[..limit]);
        rest = &long[end..];
        if let Some(after) = rest.strip_prefix(b"\n") {
            output.push(b'\n');
            rest = after;
        }
        found(Stretch { lines: 1, truncated: true });
    }
    output.extend_from_slice(rest);
    if !rest.is_empty() {
        found(Stretch { lines: count_lines(rest), truncated: false });
    }
}
