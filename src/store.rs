//! `arcgate store verify|ls|reindex`: looks after a store that no gateway has open.
//!
//! Opening the store here is what a gateway does too: its end is found, the index is brought up to it. The folder's lock keeps a
//! running gateway and these commands apart.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arcgate_gateway::block::format;
use arcgate_gateway::clock::Clock;
use arcgate_gateway::gateway;
use arcgate_gateway::id::Id;
use arcgate_gateway::store::disk::RealDisk;
use arcgate_gateway::store::events::{DEAD_LETTER, EVENT, EventLog, EventLogOptions, record};
use arcgate_gateway::store::index::StreamRecord;
use arcgate_gateway::store::inspect::{self, LogReport, Meaning};
use arcgate_gateway::store::lines::{BLOCK, BlockRef, LineStore, MARK};
use arcgate_gateway::store::segment::{Frame, LogKind, SegmentLog};
use arcgate_gateway::store::{Parts, StoreError};
use serde_json::json;

use crate::settings::Settings;

/// Why a store could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is none.
    #[error("there is no store in {}; name another with --data", .0.display())]
    Missing(std::path::PathBuf),
    /// It could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was found could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Reads all that is stored, checks its checksums and the index, and writes what was found. Gives whether all is sound.
///
/// # Errors
/// The store cannot be opened or read.
pub fn verify(settings: &Settings, out: &mut impl Write) -> Result<bool, CommandError> {
    let opened = Opened::open(settings)?;
    let mut sound = true;
    for (name, kind, log) in
        [("lines", LogKind::Lines, opened.lines.log().clone()), ("events", LogKind::Events, opened.events.segments().clone())]
    {
        let report = check(kind, &log, &opened.parts)?;
        sound &= report.is_sound();
        write_report(name, &log, &report, out)?;
    }
    opened.close()?;
    Ok(sound)
}

/// Writes the step runs that have lines, by their names.
///
/// # Errors
/// The store cannot be opened or read.
pub fn list(settings: &Settings, json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    let opened = Opened::open(settings)?;
    if !json {
        writeln!(out, "{:<40} {:>12} {:>14} {:<6} LAST LINE AT", "STEP RUN", "LINES", "BYTES", "STATE")?;
    }
    for stream in inspect::streams(&*opened.parts.index) {
        let (step_run, record) = stream?;
        writeln!(out, "{}", if json { as_json(step_run.as_str(), &record) } else { as_row(step_run.as_str(), &record) })?;
    }
    opened.close()
}

/// Deletes the index and builds it anew from the logs.
///
/// # Errors
/// The store cannot be opened, read or written.
pub fn reindex(settings: &Settings) -> Result<(), CommandError> {
    must_exist(&settings.store.path)?;
    Ok(gateway::reindex(&settings.store.path)?)
}

/// An open store that takes no input.
struct Opened {
    parts: Parts,
    lines: Arc<LineStore>,
    events: EventLog,
    end: Box<dyn FnOnce()>,
}

impl Opened {
    fn open(settings: &Settings) -> Result<Self, CommandError> {
        must_exist(&settings.store.path)?;
        let parts = Parts::open(Arc::new(RealDisk), &settings.store.path)?;
        let (clock, segment_bytes) = (Clock::system(), settings.store.segment_bytes);
        let (lines, appender, threads) = LineStore::open(
            Arc::clone(&parts.disk),
            &parts.lines_dir(),
            parts.options(LogKind::Lines, segment_bytes, &clock),
            Arc::clone(&parts.index),
            parts.meta.epoch(),
            Duration::from_secs(1),
        )?;
        let (events, _) = EventLog::open(EventLogOptions {
            disk: Arc::clone(&parts.disk),
            dir: parts.events_dir(),
            segments: parts.options(LogKind::Events, segment_bytes, &clock),
            index: Arc::clone(&parts.index),
        })?;
        let end = Box::new(move || {
            drop(appender);
            threads.join();
        });
        Ok(Self { parts, lines, events, end })
    }

    fn close(self) -> Result<(), CommandError> {
        (self.end)();
        self.events.close();
        Ok(self.parts.meta.close_clean()?)
    }
}

/// A store is looked after, not made.
fn must_exist(path: &Path) -> Result<(), CommandError> {
    if path.join("META").exists() { Ok(()) } else { Err(CommandError::Missing(path.to_owned())) }
}

fn check(kind: LogKind, log: &SegmentLog, parts: &Parts) -> Result<LogReport, StoreError> {
    let meaning = match kind {
        LogKind::Lines => meaning_of_line_frame,
        LogKind::Events => meaning_of_event_frame,
    };
    inspect::verify(kind, log.start(), log.scan(log.start(), log.synced()), meaning, &*parts.index)
}

fn meaning_of_line_frame(frame: &Frame) -> Meaning {
    match frame.kind {
        BLOCK => match format::decode(&frame.body) {
            Ok(block) => {
                let place = BlockRef { first_line: block.first_line, lines: block.lines, position: frame.position };
                Meaning::Block(block.step_run, place)
            }
            Err(error) => Meaning::Unreadable(error.to_string()),
        },
        MARK => Meaning::Other,
        unknown if unknown.must_be_understood() => Meaning::Unreadable("a later release wrote this frame".into()),
        _ => Meaning::Other,
    }
}

fn meaning_of_event_frame(frame: &Frame) -> Meaning {
    match frame.kind {
        EVENT | DEAD_LETTER => match record::decode(frame.body.clone()) {
            Ok(event) if event.dead.is_none() => match Id::parse(&event.agent) {
                Ok(agent) => Meaning::Event(agent, event.event_id),
                Err(error) => Meaning::Unreadable(format!("the agent's id {error}")),
            },
            Ok(_) => Meaning::Other,
            Err(error) => Meaning::Unreadable(error.to_string()),
        },
        // Marks of events are a cache of what retention has removed.
        _ => Meaning::Other,
    }
}

fn write_report(name: &str, log: &SegmentLog, report: &LogReport, out: &mut impl Write) -> io::Result<()> {
    let (segments, verdict) = (log.segments().len(), if report.is_sound() { "sound" } else { "NOT SOUND" });
    writeln!(out, "{name}: {verdict}: {} frames, {} bytes in {segments} segments", report.frames, report.bytes)?;
    for (count, what) in [
        (report.damaged, format!("damaged regions, {} bytes in all; readers see gaps there", report.damaged_bytes)),
        (report.unreadable, "frames that this release cannot read".to_owned()),
        (report.missing, "frames that the index lacks".to_owned()),
        (report.surplus, "entries of the index without a frame".to_owned()),
    ] {
        if count > 0 {
            writeln!(out, "{name}: {count} {what}")?;
        }
    }
    for finding in &report.findings {
        writeln!(out, "{name}: at position {}: {}", finding.position, finding.what)?;
    }
    if report.needs_reindex() {
        writeln!(out, "{name}: `arcgate store reindex` mends the index")?;
    }
    Ok(())
}

fn as_row(step_run: &str, record: &StreamRecord) -> String {
    let state = if record.ended { "ended" } else { "open" };
    let StreamRecord { lines, bytes, .. } = record;
    format!("{step_run:<40} {lines:>12} {bytes:>14} {state:<6} {}", crate::time::rfc3339(record.last_time))
}

fn as_json(step_run: &str, record: &StreamRecord) -> String {
    json!({
        "step_run_id": step_run,
        "pipeline_id": &*record.pipeline_id,
        "lines": record.lines,
        "bytes": record.bytes,
        "next_line": record.next_line,
        "ended": record.ended,
        "last_time_ms": record.last_time,
    })
    .to_string()
}
