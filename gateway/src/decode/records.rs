//! Reads an encoded `gateway.v1.LogRecords` straight from its bytes: the contents become lines of text, what the records say
//! beside them becomes runs. Nothing is allocated per record.
//!
//! A record's content is one or several lines; a newline at its end is the last line's own.

use std::sync::Arc;

use super::batch::{check_length, parse_stream};
use super::cut::{Stretch, append_cut};
use super::pieces::Text;
use super::pool::BufferPool;
use super::room::{Owner, Room};
use super::wire::{Fields, Value};
use super::{BatchBytes, DecodeError, DecodeLimits};
use crate::block::format::MAX_RUNS;
use crate::block::{OutputStream, Run};
use crate::clock::Millis;

/// The field of a `LogRecords` that holds its records.
const RECORDS: u64 = 1;
/// How many different levels and plugins of a batch are looked for, before one is kept a second time.
const REMEMBERED: usize = 32;
/// What a run costs: it is in memory twice while a batch is cut into pieces.
const RUN_BYTES: usize = 2 * size_of::<Run>();

/// Makes text and runs of the records in `raw`.
pub(super) fn read(
    raw: &[u8],
    batch: &BatchBytes,
    limits: &DecodeLimits,
    pool: &Arc<BufferPool>,
    room: &mut Room,
) -> Result<Text, DecodeError> {
    // No longer than `raw`: each record's newline takes the place of the two bytes or more in front of it.
    room.take(BufferPool::size_for(raw.len()))?;
    let mut buffer = pool.buffer(raw.len());
    let most = usize::try_from(limits.raw_bytes).unwrap_or(usize::MAX) / size_of::<Run>();
    let mut runs = Runs { runs: Vec::new(), names: Vec::new(), most, left: count(raw)?, batch, room };
    let (mut lines, mut truncated) = (0, 0);
    for (content, number) in records(raw).zip(1..) {
        let error = |why| DecodeError::Record { number, why: Box::new(why) };
        let record = Record::parse(content.map_err(DecodeError::NotRecords)?).map_err(error)?;
        runs.left -= 1;
        let mut result = Ok(());
        let mut found = |stretch: Stretch| {
            lines += stretch.lines;
            truncated += u32::from(stretch.truncated);
            if result.is_ok() {
                result = runs.add(stretch, &record);
            }
        };
        if record.content.is_empty() {
            found(Stretch { lines: 1, truncated: false });
        }
        append_cut(record.content, limits.line_bytes, &mut buffer.bytes, &mut found);
        result?;
        if !record.content.ends_with(b"\n") {
            buffer.bytes.push(b'\n');
        }
    }
    Ok(Text { runs: runs.runs, owner: Owner::Pooled(buffer), lines, truncated })
}

/// The encoded records, in order; other fields are passed over.
fn records(raw: &[u8]) -> impl Iterator<Item = Result<&[u8], &'static str>> {
    Fields(raw).filter_map(|field| match field {
        Ok((RECORDS, Value::Bytes(record))) => Some(Ok(record)),
        Ok((RECORDS, _)) => Some(Err("field 1 is not a list of records")),
        Ok(_) => None,
        Err(why) => Some(Err(why)),
    })
}

/// How many records there are: what the table of runs needs at most.
fn count(raw: &[u8]) -> Result<usize, DecodeError> {
    records(raw).try_fold(0, |count, record| record.map(|_| count + 1)).map_err(DecodeError::NotRecords)
}

struct Record<'a> {
    time: Millis,
    level: &'a str,
    stream: OutputStream,
    plugin: &'a str,
    content: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut record = Self { time: 0, level: "", stream: OutputStream::Unspecified, plugin: "", content: b"" };
        for field in Fields(bytes) {
            match field.map_err(DecodeError::NotRecords)? {
                (1, Value::Number(time)) => record.time = time.cast_signed(),
                (2, Value::Bytes(level)) => record.level = text(level)?,
                (3, Value::Bytes(stream)) => record.stream = parse_stream(text(stream)?)?,
                (4, Value::Bytes(plugin)) => record.plugin = text(plugin)?,
                (5, Value::Bytes(content)) => record.content = content,
                (1..=5, _) => return Err(DecodeError::NotRecords("a field of a record has another type")),
                _ => {}
            }
        }
        check_length(record.level, record.plugin)?;
        Ok(record)
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotRecords("a string of a record is not UTF-8"))
}

/// The runs so far.
struct Runs<'a> {
    runs: Vec<Run>,
    names: Vec<Arc<str>>,
    most: usize,
    /// How many records lie ahead.
    left: usize,
    batch: &'a BatchBytes,
    room: &'a mut Room,
}

impl Runs<'_> {
    fn add(&mut self, stretch: Stretch, record: &Record<'_>) -> Result<(), DecodeError> {
        let time = if record.time == 0 { self.batch.time } else { record.time };
        let lines = u32::try_from(stretch.lines).map_err(|_| DecodeError::TooLarge { limit: u64::from(u32::MAX) })?;
        if let Some(last) = self.runs.last_mut()
            && !(last.truncated || stretch.truncated)
            && last.time == time
            && last.stream == record.stream
            && *last.level == *record.level
            && *last.plugin == *record.plugin
        {
            last.lines = last.lines.saturating_add(lines);
            return Ok(());
        }
        self.grow()?;
        let (level, plugin) = (self.name(record.level)?, self.name(record.plugin)?);
        let (stream, agent, seq) = (record.stream, self.batch.agent.clone(), self.batch.seq);
        self.runs.push(Run { lines, time, stream, truncated: stretch.truncated, level, plugin, agent, seq });
        Ok(())
    }

    /// Makes place for one more: at once for as many as one block may have, so that usual batches allocate once or twice.
    fn grow(&mut self) -> Result<(), DecodeError> {
        let length = self.runs.len();
        if length == self.most {
            return Err(DecodeError::TooManyRuns { limit: self.most as u64 });
        }
        if length == self.runs.capacity() {
            let step = if length == 0 { 1 } else { length.max(MAX_RUNS).min(self.left + 1) };
            self.room.take(step * RUN_BYTES)?;
            self.runs.reserve_exact(step);
        }
        Ok(())
    }

    fn name(&mut self, text: &str) -> Result<Arc<str>, DecodeError> {
        if let Some(name) = self.names.iter().find(|name| ***name == *text) {
            return Ok(Arc::clone(name));
        }
        self.room.take(text.len() + 2 * size_of::<usize>())?;
        let name: Arc<str> = text.into();
        if self.names.len() < REMEMBERED {
            self.names.push(Arc::clone(&name));
        }
        Ok(name)
    }
}
