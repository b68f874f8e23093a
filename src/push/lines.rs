//! Cuts a stream of bytes into whole lines, in bounded memory, whatever the sizes in which the bytes come.

/// The most that is kept of one line. What follows is dropped; the gateway, whose own limit lies below, marks the line as cut.
pub(crate) const MAX_LINE: usize = (4 << 20) + 1;

/// Collects bytes until they are lines.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl LineSplitter {
    /// Takes what came and hands on, in one or two pieces, all lines that are now whole, each with its newline.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], lines: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return self.keep(bytes) };
            self.keep(&bytes[..end]);
            self.end_partial(lines);
            bytes = &bytes[end + 1..];
        }
        if let Some(end) = memchr::memrchr(b'\n', bytes) {
            lines(&bytes[..=end]);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// The stream has ended: a last line without newline is a line too.
    pub(crate) fn finish(&mut self, lines: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.end_partial(lines);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.partial.len();
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_partial(&mut self, lines: &mut impl FnMut(&[u8])) {
        self.partial.push(b'\n');
        lines(&self.partial);
        self.partial.clear();
        // One long line must not hold its memory for the rest of a build.
        self.partial.shrink_to(64 << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut splitter, mut out) = (LineSplitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, &mut |lines| {
                assert_eq!(lines.last(), Some(&b'\n'));
                out.extend_from_slice(lines);
            });
        }
        splitter.finish(&mut |lines| out.extend_from_slice(lines));
        out
    }

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_lines() {
        let text = b"one\n\ntwo\r\n\xff\xfe\n\nlast";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let got = split(&[&text[..first], &text[first..second], &text[second..]]);
                assert_eq!(got, b"one\n\ntwo\r\n\xff\xfe\n\nlast\n", "cut at {first} and {second}");
            }
        }
        assert!(split(&[b""]).is_empty());
        assert_eq!(split(&[b"a\n"]), b"a\n");
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_is_whole() {
        let (mut splitter, mut lengths) = (LineSplitter::default(), Vec::new());
        let mut note = |lines: &[u8]| lengths.push(lines.len());
        for _ in 0..100 {
            splitter.feed(&[b'x'; 65_536], &mut note);
        }
        assert!(splitter.partial.len() <= MAX_LINE);
        splitter.feed(b"tail\nnext\n", &mut note);
        assert_eq!(lengths, [MAX_LINE + 1, 5]);
    }
}
