//! Lines as messages: the BuildLogMessages that consumers of `BUILD_LOGS` read.
//!
//! A line is one JSON object with the members `pipelineId`, `stepRunId`, `timestamp` (Unix seconds), `lineNumber`, `level`, `stream`,
//! `content`, `agentId` and `pluginName`, those that are empty left out, and beside those `timestampMs` and, if the line was cut,
//! `truncated`. Lines that are missing are one object in their place: `lineNumber` of the first, `level` `gap`, and `gap` with `count`
//! (0: not known) and `reason`. The key is `pipelineId` and `stepRunId` as `projectId:pipelineId:pipelineRunId:stepRunId`, empty parts
//! kept, colons at the ends not.
//!
//! With one message a line, a message is such an object. With one message a block, it is as many of them as fit, each followed by
//! a newline, all of one step run and in order; the header `arcgate-lines` says how many.

use std::io::Write as _;
use std::time::Duration;

use super::delivery::{Encode, Out};
use super::producer::Record;
use super::settings::LogMessages;
use super::topics::Limits;
use crate::block::lines::LineReader;
use crate::block::{Block, Content, GapReason, OutputStream, Run};
use crate::clock::Millis;
use crate::replay::encode::{gap_text, reason_name};
use crate::replay::escape::{escape, escape_bytes};
use crate::sink::batch::Batch;
use crate::sink::cloudevent::json::Json;
use crate::sink::feed::LineFeed;
use crate::sink::{BatchLimits, LineContent};
use crate::store::{Position, StoreError};

/// What a message has beside its key and text.
const BESIDE: usize = 64;

/// See the module.
pub(super) struct Lines {
    pub(super) topic: String,
    pub(super) messages: LogMessages,
}

/// The objects of one run of lines: all but number and content.
#[derive(Default)]
struct Template {
    head: Vec<u8>,
    middle: Vec<u8>,
    tail: Vec<u8>,
}

impl Template {
    fn set(&mut self, pipeline_id: &str, step_run: &str, run: &Run) {
        begin(&mut self.head, pipeline_id, step_run, run.time);
        self.middle.clear();
        member(&mut self.middle, "level", &run.level);
        member(
            &mut self.middle,
            "stream",
            match run.stream {
                OutputStream::Unspecified => "",
                OutputStream::Stdout => "stdout",
                OutputStream::Stderr => "stderr",
            },
        );
        self.tail.clear();
        member(&mut self.tail, "agentId", run.agent.as_str());
        member(&mut self.tail, "pluginName", &run.plugin);
        if run.truncated {
            self.tail.extend_from_slice(b",\"truncated\":true");
        }
    }

    /// Appends a line's object, which may have `limit` bytes.
    fn write(&self, number: u64, text: &[u8], limit: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.until_content(number, out);
        if !text.is_empty() {
            out.extend_from_slice(b",\"content\":\"");
            escape_bytes(text, out);
            out.push(b'"');
        }
        out.extend_from_slice(&self.tail);
        out.push(b'}');
        if out.len() - start > limit {
            out.truncate(start);
            self.write_cut(number, text, limit, out);
        }
    }

    fn write_cut(&self, number: u64, text: &[u8], limit: usize, out: &mut Vec<u8>) {
        const MARK: &[u8] = b",\"truncated\":true";
        let start = out.len();
        self.until_content(number, out);
        out.extend_from_slice(b",\"content\":");
        let text = String::from_utf8_lossy(text);
        // The objects of a run without content are far smaller than what any topic takes; if not, the topic will say so.
        if Json::new(out, start + limit).cut_text(&text, self.tail.len() + MARK.len() + 1).is_err() {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(&self.tail);
        if !self.tail.ends_with(MARK) {
            out.extend_from_slice(MARK);
        }
        out.push(b'}');
    }

    fn until_content(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{number}");
        out.extend_from_slice(&self.middle);
    }
}

/// Begins an object, up to the line's number.
fn begin(out: &mut Vec<u8>, pipeline_id: &str, step_run: &str, time: Millis) {
    out.clear();
    out.push(b'{');
    member(out, "pipelineId", pipeline_id);
    member(out, "stepRunId", step_run);
    // Writing into a Vec cannot fail.
    let _ = write!(out, ",\"timestamp\":{},\"timestampMs\":{time},\"lineNumber\":", time.div_euclid(1000));
}

/// Appends a member with a comma before it, unless it is empty.
fn member(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        escape(text, out);
        out.push(b'"');
    }
}

/// Appends the object that stands for missing lines.
fn gap(out: &mut Vec<u8>, pipeline_id: &str, block: &Block, reason: GapReason, time: Millis) {
    let mut head = Vec::new();
    begin(&mut head, pipeline_id, block.step_run.as_str(), time);
    out.extend_from_slice(&head);
    let (count, why) = (block.lines, reason_name(reason));
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{},\"level\":\"gap\"", block.first_line);
    member(out, "content", &gap_text(count.into(), reason));
    let _ = write!(out, ",\"gap\":{{\"count\":{count},\"reason\":\"{why}\"}}}}");
}

/// What a message is made of, one after the other.
pub(super) struct Writer<'o> {
    topic: &'o str,
    messages: LogMessages,
    limit: usize,
    out: &'o mut dyn Out,
    /// The message that grows.
    text: Vec<u8>,
    /// Its lines, and the number of the first.
    lines: u64,
    first: u64,
    reader: LineReader,
    template: Template,
}

impl<'o> Writer<'o> {
    /// Messages of at most `limit` bytes, with their keys.
    pub(super) fn new(lines: &'o Lines, limit: usize, out: &'o mut dyn Out) -> Self {
        Self {
            topic: &lines.topic,
            messages: lines.messages,
            limit,
            out,
            text: Vec::new(),
            lines: 0,
            first: 0,
            reader: LineReader::default(),
            template: Template::default(),
        }
    }

    /// The messages of a block; says whether more are wanted.
    pub(super) fn block(&mut self, position: Position, pipeline_id: &str, block: &Block) -> bool {
        let key = format!(":{pipeline_id}::{}", block.step_run);
        let key = key.trim_matches(':');
        // With room for a newline.
        let limit = self.limit.saturating_sub(BESIDE + key.len() + 1);
        if let Content::Gap { reason, time } = &block.content {
            gap(&mut self.text, pipeline_id, block, *reason, *time);
            self.first = block.first_line;
            return self.added(position, key, limit) && self.flush(position, key);
        }
        // Borrowed apart from the rest while the lines are read.
        let mut reader = std::mem::take(&mut self.reader);
        let more = match reader.lines(block, block.first_line) {
            Ok(lines) => {
                let mut run: Option<&Run> = None;
                let mut more = true;
                for line in lines {
                    if !run.is_some_and(|run| std::ptr::eq(run, line.run)) {
                        self.template.set(pipeline_id, block.step_run.as_str(), line.run);
                        run = Some(line.run);
                    }
                    if self.lines == 0 {
                        self.first = line.number;
                    }
                    self.template.write(line.number, line.text, limit, &mut self.text);
                    more = self.added(position, key, limit);
                    if !more {
                        break;
                    }
                }
                more
            }
            Err(error) => {
                // Readers see it as damage, and so do consumers.
                tracing::error!(position, %error, "a block cannot be read; what is sent in its place is a gap");
                gap(&mut self.text, pipeline_id, block, GapReason::Damaged, 0);
                self.first = block.first_line;
                self.added(position, key, limit)
            }
        };
        self.reader = reader;
        more && self.flush(position, key)
    }

    /// An object has been added to the text: sends what is full.
    fn added(&mut self, position: Position, key: &str, limit: usize) -> bool {
        self.lines += 1;
        match self.messages {
            LogMessages::Lines => self.flush(position, key),
            LogMessages::Blocks => {
                self.text.push(b'\n');
                if self.text.len() <= limit + 1 || self.lines == 1 {
                    return true;
                }
                // The last one has made it too large: it begins the next message.
                let whole = &self.text[..self.text.len() - 1];
                let last = memchr::memrchr(b'\n', whole).map_or(0, |at| at + 1);
                let next = self.text.split_off(last);
                self.lines -= 1;
                let begins = self.first + self.lines;
                let more = self.flush(position, key);
                (self.text, self.lines, self.first) = (next, 1, begins);
                more
            }
        }
    }

    /// Sends the message, if there is one.
    fn flush(&mut self, position: Position, key: &str) -> bool {
        if self.lines == 0 {
            return true;
        }
        let count = self.lines.to_string();
        let headers = [("arcgate-lines", count.as_str())];
        let headers = if self.messages == LogMessages::Blocks { &headers[..] } else { &[] };
        let line = Some(self.first);
        let more = self.out.send(&Record { topic: self.topic, key, headers, value: &self.text, position, line });
        self.text.clear();
        self.lines = 0;
        more
    }
}

impl Encode for Lines {
    type Feed = LineFeed;

    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }

    fn pace(&self) -> (BatchLimits, u32) {
        let limits = BatchLimits { records: 50_000, bytes: 4 << 20, age: Duration::from_millis(200), under_way: 4 };
        (limits, 20)
    }

    fn encode(&self, batch: &Batch<LineFeed>, limits: &Limits, out: &mut dyn Out) -> Result<(), StoreError> {
        let mut writer = Writer::new(self, limits.get(&self.topic).copied().unwrap_or_default(), out);
        for entry in batch.entries() {
            let entry = entry?;
            match &entry.what {
                LineContent::Block(block) => {
                    if !writer.block(entry.position, &entry.pipeline_id, block) {
                        break;
                    }
                }
                // A BuildLogMessage has no way to say it; the step's own events do.
                LineContent::End { .. } => {}
            }
        }
        Ok(())
    }
}
