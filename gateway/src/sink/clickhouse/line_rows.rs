//! Lines as rows of `logs`, and what is no line as rows of `log_marks`.

use serde_json::json;

use super::origin_of;
use super::rowbinary::put_bytes;
use crate::block::lines::Line;
use crate::block::{Block, Content, OutputStream, Run};
use crate::clock::Millis;
use crate::lookup::Parents;
use crate::replay::encode::reason_name;
use crate::sink::{LineContent, LineEntry};
use crate::store::index::{Counting, StreamRecord};

/// The columns of `logs` in the order of a row: first what a run of lines shares, so that it is written once and copied.
pub(super) const LINE_COLUMNS: &str = "step_run_id, origin, timestamp, timestamp_ms, level, stream, plugin_name, agent_id, pipeline_id, job_id, seq, \
                                       epoch, truncated, received, line_number, content";

/// The columns of `log_marks` in the order of a row.
pub(super) const MARK_COLUMNS: &str =
    "step_run_id, first_line, kind, origin, store, position, lines, reason, timestamp_ms, pipeline_id, epoch, received";

/// Where lines come from: what a row says beside its block.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The store's id.
    pub store_id: u128,
    /// When the block was received, in Unix milliseconds.
    pub received: Millis,
    /// The pipeline; empty if not known.
    pub pipeline_id: &'a str,
    /// The job; empty if not known.
    pub job_id: &'a str,
}

impl<'a> Place<'a> {
    /// That of an entry of a batch, whose step run belongs to `parents`, if that is known.
    #[must_use]
    pub fn of(store_id: u128, entry: &'a LineEntry, parents: Option<&'a Parents>) -> Self {
        let (pipeline_id, job_id) = parents.map_or(("", ""), |parents| (&*parents.pipeline_id, &*parents.job_id));
        // What the agent said of its pipeline is in the log, and counts.
        let pipeline_id = if entry.pipeline_id.is_empty() { pipeline_id } else { &entry.pipeline_id };
        Self { store_id, received: entry.received, pipeline_id, job_id }
    }
}

/// What all rows of a run of lines begin with. Kept from one block to the next, so that it allocates nothing.
#[derive(Debug, Default)]
pub struct Prefix(Vec<u8>);

impl Prefix {
    /// Makes it that of a run of `block`.
    pub fn set(&mut self, block: &Block, run: &Run, place: Place<'_>) {
        let row = &mut self.0;
        row.clear();
        put_bytes(row, block.step_run.as_str().as_bytes());
        row.extend_from_slice(&origin(block.agent_counted, place.store_id).to_le_bytes());
        row.extend_from_slice(&seconds(run.time).to_le_bytes());
        row.extend_from_slice(&run.time.to_le_bytes());
        let texts = [&*run.level, stream_name(run.stream), &*run.plugin, run.agent.as_str(), place.pipeline_id, place.job_id];
        texts.iter().for_each(|text| put_bytes(row, text.as_bytes()));
        row.extend_from_slice(&run.seq.to_le_bytes());
        row.extend_from_slice(&block.epoch.to_le_bytes());
        row.push(run.truncated.into());
        row.extend_from_slice(&place.received.to_le_bytes());
    }

    /// Appends a line's row.
    pub fn put(&self, line: &Line<'_>, row: &mut Vec<u8>) {
        row.extend_from_slice(&self.0);
        row.extend_from_slice(&line.number.to_le_bytes());
        put_bytes(row, line.text);
    }
}

/// Appends the row of a gap or an end; nothing for lines.
pub(super) fn put_mark(entry: &LineEntry, store_id: u128, row: &mut Vec<u8>) -> bool {
    let Some(mark) = Mark::of(entry, store_id) else { return false };
    put_bytes(row, mark.step_run.as_bytes());
    row.extend_from_slice(&mark.first_line.to_le_bytes());
    put_bytes(row, mark.kind.as_bytes());
    for number in [mark.origin, origin_of(store_id), entry.position, mark.lines] {
        row.extend_from_slice(&number.to_le_bytes());
    }
    put_bytes(row, mark.reason.as_bytes());
    row.extend_from_slice(&mark.time.to_le_bytes());
    put_bytes(row, entry.pipeline_id.as_bytes());
    row.extend_from_slice(&mark.epoch.to_le_bytes());
    row.extend_from_slice(&entry.received.to_le_bytes());
    true
}

/// A row of `log_marks`.
struct Mark<'a> {
    step_run: &'a str,
    first_line: u64,
    kind: &'static str,
    origin: u64,
    lines: u64,
    reason: &'static str,
    time: Millis,
    epoch: u32,
}

impl<'a> Mark<'a> {
    fn of(entry: &'a LineEntry, store_id: u128) -> Option<Self> {
        match &entry.what {
            LineContent::Block(block) => {
                let Content::Gap { reason, time } = block.content else { return None };
                Some(Self {
                    step_run: block.step_run.as_str(),
                    first_line: block.first_line,
                    kind: "gap",
                    origin: origin(block.agent_counted, store_id),
                    lines: block.lines.into(),
                    reason: reason_name(reason),
                    time,
                    epoch: block.epoch,
                })
            }
            LineContent::End { step_run, record } => {
                let StreamRecord { counting, next_line, last_time, .. } = &**record;
                Some(Self {
                    step_run: step_run.as_str(),
                    first_line: *next_line,
                    kind: "end",
                    origin: origin(matches!(counting, Counting::Agent(_)), store_id),
                    lines: 0,
                    reason: "",
                    time: *last_time,
                    epoch: record.epochs.last().map_or(0, |(epoch, _)| *epoch),
                })
            }
        }
    }
}

/// A line's row as JSON: what a dead letter keeps.
#[must_use]
pub fn line_json(block: &Block, line: &Line<'_>, place: Place<'_>) -> Vec<u8> {
    let run = line.run;
    let row = json!({
        "step_run_id": block.step_run.as_str(), "line_number": line.number, "origin": origin(block.agent_counted, place.store_id),
        "timestamp": seconds(run.time), "timestamp_ms": run.time, "level": &*run.level, "content": String::from_utf8_lossy(line.text),
        "stream": stream_name(run.stream), "plugin_name": &*run.plugin, "agent_id": run.agent.as_str(), "pipeline_id": place.pipeline_id,
        "job_id": place.job_id, "seq": run.seq, "epoch": block.epoch, "truncated": run.truncated, "received": decimal(place.received),
    });
    row.to_string().into_bytes()
}

/// A mark's row as JSON; `None` for lines.
#[must_use]
pub fn mark_json(entry: &LineEntry, store_id: u128) -> Option<Vec<u8>> {
    let mark = Mark::of(entry, store_id)?;
    let row = json!({
        "step_run_id": mark.step_run, "first_line": mark.first_line, "kind": mark.kind, "origin": mark.origin,
        "store": origin_of(store_id), "position": entry.position, "lines": mark.lines, "reason": mark.reason, "timestamp_ms": mark.time,
        "pipeline_id": &*entry.pipeline_id, "epoch": mark.epoch, "received": decimal(entry.received),
    });
    Some(row.to_string().into_bytes())
}

/// Who counted the lines.
fn origin(agent_counted: bool, store_id: u128) -> u64 {
    if agent_counted { 0 } else { origin_of(store_id) }
}

/// A time as a `DateTime` can hold it. A build's clock may say anything.
fn seconds(time: Millis) -> u32 {
    u32::try_from(time.div_euclid(1000).clamp(0, u32::MAX.into())).unwrap_or(u32::MAX)
}

/// Milliseconds as ClickHouse reads a `DateTime64(3)` from JSON.
pub(super) fn decimal(time: Millis) -> String {
    format!("{}.{:03}", time.div_euclid(1000), time.rem_euclid(1000))
}

/// An output's name.
fn stream_name(stream: OutputStream) -> &'static str {
    match stream {
        OutputStream::Unspecified => "",
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    }
}
