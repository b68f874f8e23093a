//! `arcgate deadletters ls|show|retry|drop`: looks after what sinks will never take.
//!
//! It works on the letters' files, whether or not a gateway runs. Events that were rejected on their way in are listed as those of the
//! sink `ingest`; they lie in the event log, which can be read only while no gateway has it open.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arcgate_gateway::sink::DeadLetter;
use arcgate_gateway::sink::deadletters::{self, DeadLetters, LetterError, LetterId};
use arcgate_gateway::store::StoreError;
use arcgate_gateway::store::disk::{Disk, RealDisk};
use arcgate_gateway::store::look::{LoggedEvent, Look};
use serde_json::json;

use crate::settings::Settings;
use crate::time::rfc3339;

/// The name under which events that were rejected on their way in are listed.
pub const INGEST: &str = "ingest";

/// Why nothing could be done with dead letters.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A letter.
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was found could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// No such sink.
    #[error("sink {0} has no dead letters")]
    Sink(String),
    /// It cannot be sent again.
    #[error("dead letter {0} was too large to be kept whole, so that it cannot be sent again")]
    Cut(LetterId),
    /// It was never accepted.
    #[error(
        "events that were rejected on their way in cannot be sent again or dropped: no sink ever had them, and they go with their \
         segment of the event log; mend them where they come from, and send them under another event_id"
    )]
    Ingest,
}

/// Which letters of a sink.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// All there are.
    All,
    /// Those of these names.
    These(&'a [String]),
}

/// Lists the letters of all sinks, or of `sink`.
///
/// # Errors
/// They cannot be read.
pub fn list(settings: &Settings, sink: Option<&str>, json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    let mut out = BufWriter::new(out);
    if !json {
        writeln!(out, "{:<18} {:<28} {:<30} {:>8} {:<6} REASON", "SINK", "LETTER", "WHEN", "ATTEMPTS", "STATE")?;
    }
    for name in deadletters::sinks(&RealDisk, &settings.store.path)? {
        if sink.is_some_and(|sink| sink != name) {
            continue;
        }
        let letters = letters_of(settings, &name);
        for info in letters.list()? {
            match letters.read(info.id) {
                Ok(letter) => writeln!(out, "{}", row(&letter, info.retry, json))?,
                Err(LetterError::Missing(_)) => {}
                Err(error) => writeln!(io::stderr(), "arcgate: {error}")?,
            }
        }
    }
    if sink.is_none_or(|sink| sink == INGEST) {
        list_ingest(settings, json, &mut out)?;
    }
    Ok(out.flush()?)
}

fn list_ingest(settings: &Settings, json: bool, out: &mut impl Write) -> Result<(), CommandError> {
    let store = match look(settings) {
        Ok(store) => store,
        Err(StoreError::Missing(_)) => return Ok(()),
        Err(StoreError::Locked { pid, .. }) => {
            writeln!(
                io::stderr(),
                "arcgate: events that were rejected on their way in are not listed: a gateway runs (pid {pid})"
            )?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for event in store.events() {
        let event = event?;
        if event.dead().is_some() {
            writeln!(out, "{}", row(&as_letter(&event), false, json))?;
        }
    }
    Ok(())
}

/// Prints a letter as JSON.
///
/// # Errors
/// There is none of that name, or it cannot be read.
pub fn show(settings: &Settings, sink: &str, letter: &str, out: &mut impl Write) -> Result<(), CommandError> {
    let id = letter.parse()?;
    let letter = if sink == INGEST { ingest_letter(settings, id)? } else { known(settings, sink)?.read(id)? };
    serde_json::to_writer_pretty(&mut *out, &letter).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

fn ingest_letter(settings: &Settings, id: LetterId) -> Result<DeadLetter, CommandError> {
    for event in look(settings)?.events() {
        let event = event?;
        if event.position == id.position && event.dead().is_some() {
            return Ok(as_letter(&event));
        }
    }
    Err(LetterError::Missing(id).into())
}

/// Asks the gateway to send letters again.
///
/// # Errors
/// There are none of those names; they cannot be sent again; the disk.
pub fn retry(settings: &Settings, sink: &str, which: &Which<'_>, out: &mut impl Write) -> Result<(), CommandError> {
    let letters = known(settings, sink)?;
    let (ids, all) = (ids(&letters, which)?, matches!(which, Which::All));
    let mut asked = 0_u64;
    for id in ids {
        if letters.read(id)?.cut {
            if all {
                continue;
            }
            return Err(CommandError::Cut(id));
        }
        letters.ask_retry(id)?;
        asked += 1;
    }
    Ok(writeln!(
        out,
        "{asked} to be sent again: within a second if a gateway runs, else when it does; `arcgate deadletters ls` shows what is left"
    )?)
}

/// Removes letters.
///
/// # Errors
/// There are none of those names; the disk.
pub fn remove(settings: &Settings, sink: &str, which: &Which<'_>, out: &mut impl Write) -> Result<(), CommandError> {
    let mut letters = known(settings, sink)?;
    let mut dropped = 0_u64;
    for id in ids(&letters, which)? {
        match (letters.remove(id)?, which) {
            (true, _) => dropped += 1,
            (false, Which::All) => {}
            (false, Which::These(_)) => return Err(LetterError::Missing(id).into()),
        }
    }
    Ok(writeln!(out, "{dropped} dropped")?)
}

fn ids(letters: &DeadLetters, which: &Which<'_>) -> Result<Vec<LetterId>, CommandError> {
    match which {
        Which::All => Ok(letters.list()?.into_iter().map(|letter| letter.id).collect()),
        Which::These(names) => Ok(names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?),
    }
}

/// The letters of a sink that has a folder: no other name becomes a part of a path.
fn known(settings: &Settings, sink: &str) -> Result<DeadLetters, CommandError> {
    if sink == INGEST {
        return Err(CommandError::Ingest);
    }
    let sinks = deadletters::sinks(&RealDisk, &settings.store.path)?;
    if !sinks.iter().any(|name| name == sink) {
        return Err(CommandError::Sink(sink.to_owned()));
    }
    Ok(letters_of(settings, sink))
}

fn letters_of(settings: &Settings, sink: &str) -> DeadLetters {
    DeadLetters::new(Arc::new(RealDisk), &settings.store.path, sink)
}

fn look(settings: &Settings) -> Result<Look, StoreError> {
    Look::open(&(Arc::new(RealDisk) as Arc<dyn Disk>), &settings.store.path)
}

fn as_letter(event: &LoggedEvent) -> DeadLetter {
    let record = &event.record;
    DeadLetter {
        sink: INGEST.to_owned(),
        position: event.position,
        line: None,
        at_ms: event.received,
        reason: event.dead().map(|reason| reason.to_string()).unwrap_or_default(),
        attempts: 0,
        route: [
            ("agent_id", record.agent.to_string()),
            ("event_id", record.event_id.to_string()),
            ("seq", record.seq.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        cut: false,
        record: String::from_utf8_lossy(&record.raw).into_owned(),
    }
}

fn row(letter: &DeadLetter, retry: bool, json: bool) -> String {
    let state = if retry { "retry" } else { "kept" };
    if json {
        let DeadLetter { sink, position, line, at_ms, reason, attempts, route, cut, record } = letter;
        return json!({
            "sink": sink,
            "letter": letter.id().to_string(),
            "position": position,
            "line": line,
            "at_ms": at_ms,
            "reason": reason,
            "attempts": attempts,
            "state": state,
            "route": route,
            "cut": cut,
            "bytes": record.len(),
        })
        .to_string();
    }
    let (when, reason) = (rfc3339(letter.at_ms), letter.reason.replace(char::is_control, " "));
    format!("{:<18} {:<28} {when:<30} {:>8} {state:<6} {reason}", letter.sink, letter.id().to_string(), letter.attempts)
}

#[cfg(test)]
mod tests;
