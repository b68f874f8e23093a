//! Puts entries together to messages: chunks of history, single live lines.

use super::outbox::Outbox;
use super::reply;
use super::request::Target;
use crate::block::Run;
use crate::id::StepRunId;
use crate::replay::encode::{self, Template};
use crate::replay::escape::{cut, escape_bytes};
use crate::replay::page::Gap;

/// A chunk has at most this many lines …
const CHUNK_LINES: usize = 200;
/// … and ends before this many bytes, unless one line has more.
const CHUNK_BYTES: usize = 1 << 20;
/// A long line is escaped in pieces of this size, so that the buffer is never much fuller than it should be.
const PIECE: usize = 2 << 10;

/// The message under way.
#[derive(Debug, Default)]
struct Open {
    entries: usize,
    /// The line under way, and how many bytes of its text are written.
    line: Option<(u64, usize)>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Writer {
    step_run: StepRunId,
    chunk_head: Vec<u8>,
    line_head: Vec<u8>,
    in_chunks: bool,
    open: Option<Open>,
    template: Option<Template>,
}

impl Writer {
    /// A writer of chunks.
    pub(super) fn new(step_run: StepRunId, target: &Target) -> Self {
        let with_data = |kind, data: &[u8]| [reply::head(reply::LOG, kind, target), data.to_vec()].concat();
        Self {
            step_run,
            chunk_head: with_data("log_chunk", b",\"data\":["),
            line_head: with_data("log", b",\"data\":"),
            in_chunks: true,
            open: None,
            template: None,
        }
    }

    /// From now on, each line is a message.
    pub(super) fn stop_chunks(&mut self, outbox: &mut Outbox) {
        self.finish(outbox);
        self.in_chunks = false;
    }

    /// Whether a message has begun and not ended.
    pub(super) fn in_message(&self) -> bool {
        self.open.is_some()
    }

    /// The line that is partly written, if any.
    pub(super) fn line_under_way(&self) -> Option<u64> {
        self.open.as_ref()?.line.map(|(number, _)| number)
    }

    /// Writes a gap.
    pub(super) fn gap(&mut self, gap: &Gap, outbox: &mut Outbox) {
        self.begin_entry(0, outbox);
        encode::gap(&self.step_run, gap, outbox.payload());
        self.end_entry(outbox);
    }

    /// Writes a line, or more of it, until the outbox has `most` bytes. Returns whether it is complete.
    pub(super) fn line(&mut self, number: u64, text: &[u8], run: &Run, outbox: &mut Outbox, most: usize) -> bool {
        let template = match self.template.take() {
            Some(template) if template.is_for(run) => template,
            _ => Template::new(&self.step_run, run),
        };
        let mut done = match &self.open {
            Some(Open { line: Some((_, done)), .. }) => *done,
            _ => {
                self.begin_entry(template.overhead() + text.len(), outbox);
                template.begin(number, outbox.payload());
                0
            }
        };
        while let Some(rest) = text.get(done..).filter(|rest| !rest.is_empty()) {
            if done > 0 && outbox.len() >= most {
                if let Some(open) = &mut self.open {
                    open.line = Some((number, done));
                }
                self.template = Some(template);
                return false;
            }
            let count = cut(rest, PIECE);
            escape_bytes(&rest[..count], outbox.payload());
            done += count;
        }
        template.end(outbox.payload());
        self.template = Some(template);
        self.end_entry(outbox);
        true
    }

    /// Ends the message under way, and the line that is partly written.
    pub(super) fn finish(&mut self, outbox: &mut Outbox) {
        let Some(open) = self.open.take() else { return };
        if let (Some(_), Some(template)) = (open.line, &self.template) {
            template.end(outbox.payload());
        }
        let end: &[u8] = if self.in_chunks { b"]}" } else { b"}" };
        outbox.payload().extend_from_slice(end);
        outbox.finish();
    }

    fn begin_entry(&mut self, size: usize, outbox: &mut Outbox) {
        if self.open.as_ref().is_some_and(|open| open.entries == CHUNK_LINES || outbox.message_len() + size > CHUNK_BYTES) {
            self.finish(outbox);
        }
        match &self.open {
            Some(_) => outbox.payload().push(b','),
            None => {
                let head = if self.in_chunks { &self.chunk_head } else { &self.line_head };
                outbox.payload().extend_from_slice(head);
                self.open = Some(Open::default());
            }
        }
    }

    fn end_entry(&mut self, outbox: &mut Outbox) {
        if let Some(open) = &mut self.open {
            open.line = None;
            open.entries += 1;
        }
        if !self.in_chunks {
            self.finish(outbox);
        }
    }
}
