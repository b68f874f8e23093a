//! `arcgate store verify|ls|reindex`: looks after a store that no gateway has open.
//!
//! `verify` and `ls` only look ([`Look`]); `reindex` opens the store as a gateway does. The folder's lock keeps a running gateway and
//! these commands apart.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arcgate_gateway::gateway;
use arcgate_gateway::store::StoreError;
use arcgate_gateway::store::disk::{Disk, RealDisk};
use arcgate_gateway::store::index::StreamRecord;
use arcgate_gateway::store::inspect::LogReport;
use arcgate_gateway::store::look::{LoggedEvent, Look};
use arcgate_gateway::store::segment::{LogKind, Recovery, SegmentLog};
use serde_json::json;

use crate::settings::Settings;
use crate::time::rfc3339;

/// Why a store could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Looking leaves traces.
    #[error(
        "cannot look at the store in {}: {source}; it is locked meanwhile, and its index is opened, so it must be writable: look \
         at a copy that is",
        path.display()
    )]
    NotWritable {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was found could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Step runs.
    Streams,
    /// Events.
    Events,
    /// Events that could not be accepted.
    DeadLetters,
}

/// Reads all that is stored, checks its checksums and the index, and writes what was found. Gives whether all is sound.
///
/// # Errors
/// The store cannot be opened or read.
pub fn verify(settings: &Settings, out: &mut impl Write) -> Result<bool, CommandError> {
    let store = look(settings)?;
    let mut sound = true;
    for (name, kind) in [("lines", LogKind::Lines), ("events", LogKind::Events)] {
        let report = store.verify(kind)?;
        sound &= report.is_sound();
        let Some((log, found)) = store.log(kind) else {
            writeln!(out, "{name}: {}", report.findings.first().map_or("nothing is stored", |finding| &finding.what))?;
            continue;
        };
        write_report(name, log, found, &report, out)?;
    }
    Ok(sound)
}

/// Lists what is stored.
///
/// # Errors
/// The store cannot be opened or read.
pub fn list(settings: &Settings, what: What, json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    let store = look(settings)?;
    let mut out = BufWriter::new(out);
    match what {
        What::Streams => list_streams(&store, json, &mut out)?,
        What::Events => list_events(&store, false, json, &mut out)?,
        What::DeadLetters => list_events(&store, true, json, &mut out)?,
    }
    Ok(out.flush()?)
}

/// Deletes the index, builds it anew from the logs, and writes what is in it.
///
/// # Errors
/// The store cannot be opened, read or written.
pub fn reindex(settings: &Settings, out: &mut impl Write) -> Result<(), CommandError> {
    // Looks first: what is no store must not become one.
    drop(look(settings)?);
    let gateway::Reindexed { streams, lines, events } = gateway::reindex(&settings.store.path)?;
    writeln!(out, "reindexed {lines} lines in {streams} step runs, and {events} frames of events")?;
    Ok(())
}

fn look(settings: &Settings) -> Result<Look, CommandError> {
    let path = &settings.store.path;
    if path.is_dir() {
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
            .map_err(|error| CommandError::NotWritable { path: path.clone(), source: error.into() })?;
    }
    Ok(Look::open(&(Arc::new(RealDisk) as Arc<dyn Disk>), path)?)
}

fn list_streams(store: &Look, json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    if !json {
        writeln!(out, "{:<40} {:>12} {:>14} {:<6} LAST LINE AT", "STEP RUN", "LINES", "BYTES", "STATE")?;
    }
    for stream in store.streams()? {
        let (step_run, record) = stream?;
        let StreamRecord { lines, bytes, next_line, ended, last_time, pipeline_id, .. } = record;
        // A log that was ended or named before its first line has none.
        let last_time = (lines > 0).then_some(last_time);
        if json {
            let stream = json!({
                "step_run_id": step_run.as_str(),
                "pipeline_id": &*pipeline_id,
                "lines": lines,
                "bytes": bytes,
                "next_line": next_line,
                "ended": ended,
                "last_time_ms": last_time,
            });
            writeln!(out, "{stream}")?;
        } else {
            let state = if ended { "ended" } else { "open" };
            writeln!(
                out,
                "{:<40} {lines:>12} {bytes:>14} {state:<6} {}",
                step_run.as_str(),
                last_time.map_or("-".into(), rfc3339)
            )?;
        }
    }
    Ok(())
}

fn list_events(store: &Look, dead: bool, json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    if !json {
        let last = if dead { "REASON" } else { "DIGEST" };
        writeln!(out, "{:<24} {:<40} {:>12} {:<30} {last}", "AGENT", "EVENT", "SEQ", "RECEIVED")?;
    }
    for event in store.events() {
        let event = event?;
        if event.dead().is_some() == dead {
            writeln!(out, "{}", if json { as_json(&event) } else { as_row(&event) })?;
        }
    }
    Ok(())
}

fn as_row(event: &LoggedEvent) -> String {
    let record = &event.record;
    let last = record.dead.map_or_else(|| digest(event), |reason| reason.to_string());
    let received = rfc3339(event.received);
    format!("{:<24} {:<40} {:>12} {received:<30} {last}", record.agent, record.event_id, record.seq)
}

fn as_json(event: &LoggedEvent) -> String {
    let record = &event.record;
    let mut fields = json!({
        "agent_id": record.agent,
        "event_id": record.event_id,
        "seq": record.seq,
        // As text: readers of JSON have 53 bits for a number.
        "digest": digest(event),
        "position": event.position,
        "received_ms": event.received,
    });
    if let Some(reason) = record.dead {
        fields["reason"] = reason.to_string().into();
    }
    fields.to_string()
}

fn digest(event: &LoggedEvent) -> String {
    format!("{:016x}", event.record.digest)
}

fn write_report(name: &str, log: &SegmentLog, found: &Recovery, report: &LogReport, out: &mut impl Write) -> io::Result<()> {
    let (segments, verdict) = (log.segments().len(), if report.is_sound() { "sound" } else { "NOT SOUND" });
    writeln!(out, "{name}: {verdict}: {} frames, {} bytes in {segments} segments", report.frames, report.bytes)?;
    if found.cut_bytes > 0 {
        let bytes = found.cut_bytes;
        writeln!(
            out,
            "{name}: {bytes} bytes behind the last frame, of a write that was cut short, go when a gateway opens the store"
        )?;
    }
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
