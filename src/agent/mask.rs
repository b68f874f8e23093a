//! Takes secrets out of what a step says, before it leaves the process.
//!
//! It is given whole lines, so it does not matter in which pieces they were read. A secret of several lines is looked for line by
//! line. Where secrets overlap, what they cover together becomes one `***`.

use std::borrow::Cow;

use memchr::memmem::Finder;

/// What stands in a secret's place.
const MASK: &[u8] = b"***";
/// Shorter lines of a secret with several lines tell nothing (`{`, `--`), and would be masked everywhere.
const SHORTEST_PART: usize = 4;

/// The secrets of one step.
#[derive(Debug, Default)]
pub(super) struct Mask {
    secrets: Vec<Finder<'static>>,
}

impl Mask {
    /// Knows these values.
    pub(super) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut parts: Vec<&str> = Vec::new();
        for value in values {
            let lines: Vec<&str> = value.lines().filter(|line| !line.is_empty()).collect();
            let shortest = if lines.len() > 1 { SHORTEST_PART } else { 1 };
            parts.extend(lines.into_iter().filter(|line| line.len() >= shortest));
        }
        parts.sort_unstable();
        parts.dedup();
        Self { secrets: parts.into_iter().map(|part| Finder::new(part).into_owned()).collect() }
    }

    /// Whole lines without secrets.
    pub(super) fn lines<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let found = self.find(bytes);
        if found.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut masked = Vec::with_capacity(bytes.len());
        let mut kept = 0;
        for (begin, end) in found {
            masked.extend_from_slice(&bytes[kept..begin]);
            masked.extend_from_slice(MASK);
            kept = end;
        }
        masked.extend_from_slice(&bytes[kept..]);
        Cow::Owned(masked)
    }

    /// A text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.lines(text.as_bytes())).into_owned()
    }

    /// The longest secret, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.secrets.iter().map(|secret| secret.needle().len()).max().unwrap_or(0)
    }

    /// Where secrets are: ranges in order that do not touch.
    fn find(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for secret in &self.secrets {
            let mut from = 0;
            // Each place, also those that overlap.
            while let Some(at) = bytes.get(from..).and_then(|rest| secret.find(rest)) {
                found.push((from + at, from + at + secret.needle().len()));
                from += at + 1;
            }
        }
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (begin, end) in found {
            match merged.last_mut() {
                Some(last) if begin <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::push::lines::LineSplitter;

    fn masked(secrets: &[&str], text: &str) -> String {
        Mask::new(secrets.iter().copied()).text(text)
    }

    #[test]
    fn secrets_are_masked_where_they_overlap_and_line_by_line() {
        assert_eq!(masked(&["hunter2"], "pass=hunter2;hunter2\n"), "pass=***;***\n");
        assert_eq!(masked(&["abcd", "cdef"], "xabcdefx"), "x***x");
        assert_eq!(masked(&["aa"], "aaaaa"), "***");
        assert_eq!(masked(&["-----BEGIN\nMIIC\r\n}\n"], "-----BEGIN\nMIIC\n}\n"), "***\n***\n}\n");
        assert_eq!(masked(&["", "\n"], "as it is"), "as it is");
        assert_eq!(masked(&["ü"], "für"), "f***r");
        assert_eq!(masked(&["7"], "17"), "1***", "a short secret is one, too");
    }

    proptest! {
        /// However the output comes in pieces, no secret is left in its lines, and nothing else is lost.
        #[test]
        fn no_secret_leaves_in_any_cut_of_the_output(
            secrets in prop::collection::vec("[ab]{1,4}(\n[ab]{4,6}){0,2}", 1..4),
            text in "[abc\n]{0,120}",
            cuts in prop::collection::vec(0usize..120, 0..8),
        ) {
            let mask = Mask::new(secrets.iter().map(String::as_str));
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut splitter, mut out) = (LineSplitter::default(), Vec::new());
            for pair in cuts.windows(2) {
                splitter.feed(&text.as_bytes()[pair[0]..pair[1]], &mut |lines| out.extend_from_slice(&mask.lines(lines)));
            }
            splitter.finish(&mut |lines| out.extend_from_slice(&mask.lines(lines)));
            let out = String::from_utf8(out).unwrap();
            for secret in &secrets {
                let parts: Vec<&str> = secret.lines().collect();
                for part in parts.iter().filter(|part| parts.len() == 1 || part.len() >= SHORTEST_PART) {
                    prop_assert!(!out.contains(part), "{out:?} holds {part:?}");
                }
            }
            // What is no secret's letter stays.
            let others = |text: &str| text.chars().filter(|c| *c == 'c').count();
            prop_assert_eq!(others(&out), others(&text));
            prop_assert_eq!(out.lines().count(), text.lines().count());
        }
    }
}
