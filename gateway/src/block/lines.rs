//! The lines of a block, read from any of its numbers.

use memchr::{memchr, memchr_iter};
use zstd::zstd_safe::DCtx;

use super::format::FormatError;
use super::{Block, Codec, Content, Run};

/// Reads blocks' lines; keeps what decompressing needs, at most [`super::MAX_RAW_BYTES`] of text, for the next block.
#[derive(Default)]
pub struct LineReader {
    text: Vec<u8>,
    zstd: Option<DCtx<'static>>,
}

/// A line that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number.
    pub number: u64,
    /// Its text, without the newline and a carriage return before it. Not always UTF-8.
    pub text: &'a [u8],
    /// What it has beside its text.
    pub run: &'a Run,
}

impl LineReader {
    /// The lines of `block` from the number `from` on (all, if that is before its first). A gap has none.
    ///
    /// # Errors
    /// The bytes do not decompress to the size that the block says; trying again does not help.
    pub fn lines<'a>(&'a mut self, block: &'a Block, from: u64) -> Result<Lines<'a>, FormatError> {
        let next = block.next_line();
        let number = from.max(block.first_line).min(next);
        let Content::Text { codec, raw_bytes, skip, runs, bytes } = &block.content else {
            return Ok(Lines { rest: &[], number: next, end: next, runs: [].iter(), run: None, left: 0 });
        };
        let mut lines = Lines { rest: &[], number, end: next, runs: runs.iter(), run: None, left: 0 };
        if number == next {
            return Ok(lines);
        }
        let text = self.decompress(*codec, *raw_bytes as usize, bytes)?;
        lines.pass(text, u64::from(*skip) + (number - block.first_line));
        Ok(lines)
    }

    fn decompress<'a>(&'a mut self, codec: Codec, size: usize, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        if size > super::MAX_RAW_BYTES {
            return Err(FormatError::Size("text"));
        }
        self.text.clear();
        let found = match codec {
            Codec::Plain if bytes.len() == size => return Ok(bytes),
            Codec::Plain => None,
            Codec::Zstd => {
                self.text.reserve_exact(size);
                let context = self.zstd.get_or_insert_with(DCtx::create);
                context.decompress(&mut self.text, bytes).ok()
            }
            Codec::Lz4 => {
                self.text.resize(size, 0);
                lz4_flex::block::decompress_into(bytes, &mut self.text).ok()
            }
        };
        if found == Some(size) { Ok(&self.text) } else { Err(FormatError::Bytes) }
    }
}

/// The lines of one block, in order; see [`LineReader::lines`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
    end: u64,
    runs: std::slice::Iter<'a, Run>,
    run: Option<&'a Run>,
    /// How many lines of `run` lie ahead.
    left: u64,
}

impl<'a> Lines<'a> {
    /// The number of the line that comes next; the block's [`Block::next_line`] at the end, unless its text has fewer lines
    /// than it says.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.number
    }

    /// Goes past `count` lines of `text`: finds that many newlines, and passes whole runs at once.
    fn pass(&mut self, text: &'a [u8], count: u64) {
        self.rest = match usize::try_from(count) {
            Ok(0) => text,
            Ok(count) => memchr_iter(b'\n', text).nth(count - 1).and_then(|at| text.get(at + 1..)).unwrap_or_default(),
            Err(_) => &[],
        };
        let mut count = count;
        for run in self.runs.by_ref() {
            let lines = u64::from(run.lines);
            if count < lines {
                (self.run, self.left) = (Some(run), lines - count);
                return;
            }
            count -= lines;
        }
    }

    fn next_run(&mut self) -> Option<&'a Run> {
        while self.left == 0 {
            let run = self.runs.next()?;
            (self.run, self.left) = (Some(run), u64::from(run.lines));
        }
        self.left -= 1;
        self.run
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.number == self.end || self.rest.is_empty() {
            return None;
        }
        let run = self.next_run()?;
        let (text, rest) = match memchr(b'\n', self.rest) {
            Some(at) => (&self.rest[..at], &self.rest[at + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        let number = self.number;
        self.number += 1;
        Some(Line { number, text: text.strip_suffix(b"\r").unwrap_or(text), run })
    }
}
