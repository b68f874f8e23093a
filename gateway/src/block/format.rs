//! A block as the body of a frame of the line log (kind [`KIND`]). All numbers are little-endian.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version: 2 |
//! | 1 | 1 | flags: 1 the agent counts, 2 made of an event; others must be 0 |
//! | 2 | 1 | content: 0 text, 1 gap |
//! | 3 | 1 | text: codec (0 plain, 1 zstd, 2 LZ4); gap: reason, as `GapReason` numbers them |
//! | 4 | 4 | epoch |
//! | 8 | 8 | number of the first line that counts |
//! | 16 | 4 | how many numbers the block takes |
//! | 20 | 4 | text: size once decompressed; gap: 0 |
//! | 24 | 4 | text: lines at the beginning that do not count; gap: 0 |
//! | 28 | 4 | size of the bytes at the end; gap: 0 |
//! | 32 | 8 | gap: when, in Unix milliseconds (signed); text: 0 |
//! | 40 | 8 | position of the event the lines were made of, else 0 |
//! | 48 | 8 | how many of the event's lines are stored with this block, else 0 |
//! | 56 | 4 | S: how many strings |
//! | 60 | 4 | R: how many runs |
//! | 64 | … | S strings: 2 bytes length, then UTF-8; the first is the step run |
//! | … | 28·R | the runs |
//! | … | … | the bytes, up to the end of the body |
//!
//! A run, its strings named by their place in the table:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | time in Unix milliseconds (signed) |
//! | 8 | 4 | how many lines |
//! | 12 | 2 | level |
//! | 14 | 2 | plugin |
//! | 16 | 2 | agent |
//! | 18 | 1 | output: 0 not said, 1 stdout, 2 stderr |
//! | 19 | 1 | flags: 1 cut; others must be 0 |
//! | 20 | 8 | seq |
//!
//! Version 1, which is read and not written, has no seq and so runs of 20 bytes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Block, Codec, Content, EventOrigin, GapReason, MAX_RAW_BYTES, OutputStream, Run};
use crate::id::{Id, IdError};

/// The frame kind of a block in the line log; its high bit says that a reader must understand it.
pub const KIND: u8 = 0x81;
/// A block has at most this many runs, so that its table of strings can always be numbered.
pub const MAX_RUNS: usize = 16_384;

/// The size of the part of a body that has the same layout in every block.
pub const HEAD: usize = 64;

const VERSION: u8 = 2;
const RUN: usize = 28;
/// Of version 1.
const OLD_RUN: usize = 20;
const AGENT_COUNTED: u8 = 1;
const FROM_EVENT: u8 = 2;
const TRUNCATED: u8 = 1;
/// What the bytes of a compressed block may have beyond its raw size: text that does not shrink.
const SLACK: usize = 64 << 10;

/// Why a body is no block, or a block cannot be written. Trying again never helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A newer release wrote it.
    #[error("the block has version {0}, this release reads 1 to {VERSION}; use the release that wrote it")]
    Version(u8),
    /// The body ends too early, or goes on too long.
    #[error("the block's {0} does not fit its frame")]
    Size(&'static str),
    /// A field has a value that means nothing.
    #[error("the block's {0} has a value that means nothing")]
    Field(&'static str),
    /// An identifier is none.
    #[error("an identifier of the block {0}")]
    Id(#[from] IdError),
    /// The bytes do not decompress to what the header says.
    #[error("the block's bytes do not decompress to the size that its header says")]
    Bytes,
}

/// The block's layout in two parts: everything before its bytes, and its bytes, which are not copied.
///
/// # Errors
/// A block that cannot be read again: more than [`MAX_RUNS`] runs, a string over 65,535 bytes, raw text over
/// [`MAX_RAW_BYTES`], counts that contradict each other.
pub fn encode(block: &Block) -> Result<[Bytes; 2], FormatError> {
    let mut fixed = Fixed {
        flags: (u8::from(block.agent_counted) * AGENT_COUNTED) | (u8::from(block.origin.is_some()) * FROM_EVENT),
        ..Fixed::default()
    };
    check_numbers(block.first_line, block.lines)?;
    let mut strings = Strings::default();
    strings.place(block.step_run.as_str())?;
    let mut table = Vec::new();
    let mut data = Bytes::new();
    match &block.content {
        Content::Text { codec, raw_bytes, skip, runs, bytes } => {
            check_text(block.lines, *codec, *raw_bytes, *skip, runs, bytes.len())?;
            fixed.what = *codec as u8;
            (fixed.raw_bytes, fixed.skip) = (*raw_bytes, *skip);
            fixed.runs = u32::try_from(runs.len()).map_err(|_| FormatError::Size("table of runs"))?;
            fixed.data = u32::try_from(bytes.len()).map_err(|_| FormatError::Size("text"))?;
            table.reserve_exact(runs.len() * RUN);
            for run in runs {
                put_run(run, &mut strings, &mut table)?;
            }
            data = bytes.clone();
        }
        Content::Gap { reason, time } => {
            (fixed.content, fixed.what, fixed.time) = (1, *reason as u8, *time);
        }
    }
    let origin = block.origin.unwrap_or(EventOrigin { position: 0, lines_done: 0 });
    let mut head = Vec::with_capacity(HEAD + strings.table.len() + table.len());
    head.extend_from_slice(&[VERSION, fixed.flags, fixed.content, fixed.what]);
    head.extend_from_slice(&block.epoch.to_le_bytes());
    head.extend_from_slice(&block.first_line.to_le_bytes());
    for number in [block.lines, fixed.raw_bytes, fixed.skip, fixed.data] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head.extend_from_slice(&fixed.time.to_le_bytes());
    head.extend_from_slice(&origin.position.to_le_bytes());
    head.extend_from_slice(&origin.lines_done.to_le_bytes());
    head.extend_from_slice(&u32::from(strings.count).to_le_bytes());
    head.extend_from_slice(&fixed.runs.to_le_bytes());
    head.extend_from_slice(&strings.table);
    head.extend_from_slice(&table);
    Ok([Bytes::from(head), data])
}

/// The fields of the header that depend on the content.
#[derive(Default)]
struct Fixed {
    flags: u8,
    content: u8,
    what: u8,
    raw_bytes: u32,
    skip: u32,
    data: u32,
    time: i64,
    runs: u32,
}

/// The table of strings as it is written: each text once.
#[derive(Default)]
struct Strings<'a> {
    table: Vec<u8>,
    places: HashMap<&'a str, u16>,
    count: u16,
}

impl<'a> Strings<'a> {
    fn place(&mut self, text: &'a str) -> Result<u16, FormatError> {
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        let length = u16::try_from(text.len()).map_err(|_| FormatError::Size("string"))?;
        let place = self.count;
        self.count = place.checked_add(1).ok_or(FormatError::Size("table of strings"))?;
        self.table.extend_from_slice(&length.to_le_bytes());
        self.table.extend_from_slice(text.as_bytes());
        self.places.insert(text, place);
        Ok(place)
    }
}

fn put_run<'a>(run: &'a Run, strings: &mut Strings<'a>, table: &mut Vec<u8>) -> Result<(), FormatError> {
    let places = [strings.place(&run.level)?, strings.place(&run.plugin)?, strings.place(run.agent.as_str())?];
    table.extend_from_slice(&run.time.to_le_bytes());
    table.extend_from_slice(&run.lines.to_le_bytes());
    for place in places {
        table.extend_from_slice(&place.to_le_bytes());
    }
    table.extend_from_slice(&[run.stream as u8, u8::from(run.truncated) * TRUNCATED]);
    table.extend_from_slice(&run.seq.to_le_bytes());
    Ok(())
}

/// Reads a block's layout. Its bytes are a slice of `body`, not a copy; they are not decompressed, so whether they do is not
/// checked here.
///
/// # Errors
/// `body` is not what [`encode`] makes; no input makes it panic or take much memory.
pub fn decode(body: &Bytes) -> Result<Block, FormatError> {
    let mut input = Input(body);
    let version = input.u8("header")?;
    if !matches!(version, 1 | VERSION) {
        return Err(FormatError::Version(version));
    }
    let flags = input.u8("header")?;
    if flags & !(AGENT_COUNTED | FROM_EVENT) != 0 {
        return Err(FormatError::Field("flags"));
    }
    let (content, what) = (input.u8("header")?, input.u8("header")?);
    let epoch = input.u32("header")?;
    let first_line = input.u64("header")?;
    let lines = input.u32("header")?;
    let (raw_bytes, skip, data) = (input.u32("header")?, input.u32("header")?, input.u32("header")?);
    let time = input.u64("header")?.cast_signed();
    let origin = EventOrigin { position: input.u64("header")?, lines_done: input.u64("header")? };
    let (strings, runs) = (input.u32("header")? as usize, input.u32("header")? as usize);
    check_numbers(first_line, lines)?;
    let strings = read_strings(&mut input, strings)?;
    let step_run = Id::parse(strings.first().ok_or(FormatError::Size("table of strings"))?)?;
    let runs = read_runs(&mut input, version, runs, &strings)?;
    if input.0.len() != data as usize {
        return Err(FormatError::Size("text"));
    }
    let content = match content {
        0 => {
            let codec = codec(what)?;
            check_text(lines, codec, raw_bytes, skip, &runs, input.0.len())?;
            Content::Text { codec, raw_bytes, skip, runs, bytes: body.slice_ref(input.0) }
        }
        1 if runs.is_empty() && data == 0 => Content::Gap { reason: reason(what)?, time },
        _ => return Err(FormatError::Field("content")),
    };
    Ok(Block {
        step_run,
        first_line,
        lines,
        epoch,
        agent_counted: flags & AGENT_COUNTED != 0,
        origin: (flags & FROM_EVENT != 0).then_some(origin),
        content,
    })
}

/// What [`peek`] tells of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Lines.
    Text {
        /// How many count.
        lines: u32,
        /// The size of the text, uncompressed.
        raw_bytes: u32,
    },
    /// A gap.
    Gap,
}

/// What the first [`HEAD`] bytes of a body say, for those who count blocks without reading them. `None` if it is no block of a
/// version that this release reads; the rest of the body is not checked.
#[must_use]
pub fn peek(body: &[u8]) -> Option<Peek> {
    let number = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    match (body.first()?, body.get(2)?) {
        (1 | &VERSION, 0) => Some(Peek::Text { lines: number(16)?, raw_bytes: number(20)? }),
        (1 | &VERSION, 1) => Some(Peek::Gap),
        _ => None,
    }
}

/// What holds for every block.
fn check_numbers(first_line: u64, lines: u32) -> Result<(), FormatError> {
    let fits = first_line > 0 && first_line.checked_add(u64::from(lines)).is_some();
    if fits { Ok(()) } else { Err(FormatError::Field("first line")) }
}

/// What holds for every text, whoever wrote it.
fn check_text(lines: u32, codec: Codec, raw: u32, skip: u32, runs: &[Run], data: usize) -> Result<(), FormatError> {
    let raw = raw as usize;
    if raw > MAX_RAW_BYTES || data > raw + SLACK || (codec == Codec::Plain && data != raw) {
        return Err(FormatError::Size("text"));
    }
    if runs.len() > MAX_RUNS {
        return Err(FormatError::Size("table of runs"));
    }
    let covered: u64 = runs.iter().map(|run| u64::from(run.lines)).sum();
    // Each line but the last has its newline, so there are no more lines than bytes.
    if covered < u64::from(skip) + u64::from(lines) || covered > raw as u64 {
        return Err(FormatError::Field("count of lines"));
    }
    Ok(())
}

fn codec(number: u8) -> Result<Codec, FormatError> {
    [Codec::Plain, Codec::Zstd, Codec::Lz4].into_iter().find(|it| *it as u8 == number).ok_or(FormatError::Field("codec"))
}

fn reason(number: u8) -> Result<GapReason, FormatError> {
    use GapReason::{Damaged, DroppedBySender, Expired, NeverSent, QueueFull, Unreadable};
    [QueueFull, Unreadable, NeverSent, Damaged, Expired, DroppedBySender]
        .into_iter()
        .find(|it| *it as u8 == number)
        .ok_or(FormatError::Field("reason"))
}

fn read_strings(input: &mut Input<'_>, count: usize) -> Result<Vec<Arc<str>>, FormatError> {
    // Each takes two bytes at least: a count that lies is found before memory is taken for it.
    if count > input.0.len() / 2 || count > usize::from(u16::MAX) {
        return Err(FormatError::Size("table of strings"));
    }
    let mut strings = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(input.u16("table of strings")?);
        let text = std::str::from_utf8(input.take(length, "table of strings")?);
        strings.push(text.map_err(|_| FormatError::Field("table of strings"))?.into());
    }
    Ok(strings)
}

fn read_runs(input: &mut Input<'_>, version: u8, count: usize, strings: &[Arc<str>]) -> Result<Vec<Run>, FormatError> {
    if count > MAX_RUNS || count > input.0.len() / if version == 1 { OLD_RUN } else { RUN } {
        return Err(FormatError::Size("table of runs"));
    }
    let text = |place: u16| strings.get(usize::from(place)).ok_or(FormatError::Field("run"));
    let mut agents: HashMap<u16, Id> = HashMap::new();
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let time = input.u64("table of runs")?.cast_signed();
        let lines = input.u32("table of runs")?;
        let (level, plugin) = (text(input.u16("table of runs")?)?, text(input.u16("table of runs")?)?);
        let place = input.u16("table of runs")?;
        let agent = match agents.get(&place) {
            Some(agent) => agent.clone(),
            None => agents.entry(place).or_insert(Id::parse(text(place)?)?).clone(),
        };
        let stream = match input.u8("table of runs")? {
            0 => OutputStream::Unspecified,
            1 => OutputStream::Stdout,
            2 => OutputStream::Stderr,
            _ => return Err(FormatError::Field("output")),
        };
        let flags = input.u8("table of runs")?;
        if flags & !TRUNCATED != 0 {
            return Err(FormatError::Field("run"));
        }
        let seq = if version == 1 { 0 } else { input.u64("table of runs")? };
        let (level, plugin) = (Arc::clone(level), Arc::clone(plugin));
        runs.push(Run { lines, time, stream, truncated: flags & TRUNCATED != 0, level, plugin, agent, seq });
    }
    Ok(runs)
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FormatError::Size(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(FormatError::Size(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, FormatError> {
        self.array(what).map(u8::from_le_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, FormatError> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, FormatError> {
        self.array(what).map(u64::from_le_bytes)
    }
}
