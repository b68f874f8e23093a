//! `arcgate tail`: shows a step run's log, history and live, over WebSocket; comes back after a break and misses nothing.
//!
//! `connection` speaks with the gateway, `message` says what goes over the wire, `cursor` knows which line is next and what to
//! ask for after a break, `print` writes lines to stdout and everything else to stderr.

pub(crate) mod connection;
pub(crate) mod cursor;
pub(crate) mod message;
mod print;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use connection::{Connection, TailError};
use cursor::{Cursor, Next};
use message::{Body, Entry, Head, OneOrMany};
use print::Printer;

use arcgate_gateway::backoff::Backoff;

/// What `arcgate tail` was asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's HTTP address.
    pub server: String,
    /// A file with a token for it.
    pub token_file: Option<PathBuf>,
    /// The step run.
    pub step_run: String,
    /// Its pipeline; the protocol wants one, the gateway checks it only if it knows better.
    pub pipeline: String,
    /// Its job; likewise.
    pub job: String,
    /// Begin at this line.
    pub from_line: Option<u64>,
    /// Begin with the last so many lines.
    pub last: Option<u64>,
    /// Whether to wait for more after the history.
    pub follow: bool,
    /// Write entries as JSON, one a line.
    pub json: bool,
    /// Write lines that the step wrote to stderr to stderr.
    pub split: bool,
    /// How long the gateway may be away.
    pub give_up: Duration,
}

/// Runs `arcgate tail`. The exit code is 0 at the end of the log (or of its history), else 1.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let mut printer = Printer::new(options.json, options.split);
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(follow(options, &mut printer));
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(TailError::Output(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Our reader has all it wants, as in `… | head`.
        Err(TailError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            printer.note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// However short the time after which to give up: a connection is given so long to come about.
const OPEN_AT_LEAST: Duration = Duration::from_secs(1);

/// Goes from connection to connection until the log ends, something is final, or the gateway is away too long.
async fn follow(options: &Options, printer: &mut Printer) -> Result<(), TailError> {
    let mut cursor = Cursor::new(options.from_line, options.last);
    let mut backoff = Backoff::default();
    let mut seen = Instant::now();
    let mut told = false;
    loop {
        let before = cursor.clone();
        let limit = options.give_up.saturating_sub(seen.elapsed()).max(OPEN_AT_LEAST);
        let Err(why) = watch(options, &mut cursor, printer, &mut seen, limit).await else { return Ok(()) };
        if !why.is_passing() {
            return Err(why);
        }
        if cursor != before {
            backoff.reset();
            told = false;
        }
        if seen.elapsed() >= options.give_up {
            return Err(TailError::GaveUp(options.give_up, Box::new(why)));
        }
        if !std::mem::replace(&mut told, true) {
            printer.note(&format!("{why}; trying again"));
        }
        sleep(backoff.wait().min(options.give_up.saturating_sub(seen.elapsed()))).await;
    }
}

/// Shows what one connection brings, which must come about within `limit`. `Ok` is the end of the log.
async fn watch(
    options: &Options,
    cursor: &mut Cursor,
    printer: &mut Printer,
    seen: &mut Instant,
    limit: Duration,
) -> Result<(), TailError> {
    let mut connection = Connection::open(&options.server, options.token_file.as_deref(), limit).await?;
    connection.send(message::subscribe(&options.pipeline, &options.job, &options.step_run, cursor)).await?;
    loop {
        let text = connection.next().await?;
        *seen = Instant::now();
        let head: Head<'_> = serde_json::from_str(&text)?;
        match &*head.kind {
            "subscribed" => cursor.subscribed(head.epoch),
            "log" | "log_chunk" if options.json => {
                for value in serde_json::from_str::<Body<serde_json::Value>>(&text)?.data {
                    let entry = <Entry as serde::Deserialize>::deserialize(&value)?;
                    show(&entry, Some(&value), cursor, printer)?;
                }
            }
            "log" | "log_chunk" => {
                for entry in serde_json::from_str::<Body<Entry>>(&text)?.data {
                    show(&entry, None, cursor, printer)?;
                }
            }
            "history_done" if !options.follow => {
                if cursor.is_before_first() {
                    printer.note(&format!("there is no such line of step run \"{}\"; is the name right?", options.step_run));
                }
                return Ok(printer.flush()?);
            }
            "eof" => return Ok(printer.flush()?),
            "error" => return Err(TailError::Refused(head.error.unwrap_or_default().into_owned())),
            // Kinds that a later gateway may have are no reason to stop.
            _ => {}
        }
        printer.flush()?;
    }
}

fn show(entry: &Entry, value: Option<&serde_json::Value>, cursor: &mut Cursor, printer: &mut Printer) -> Result<(), TailError> {
    let count = entry.gap.as_ref().map_or(1, |gap| gap.count.unwrap_or(0));
    match cursor.take(entry.line_number, count) {
        Next::Repeat => return Ok(()),
        Next::Expected => {}
        Next::Hole(missing) => printer.gap(missing.start, missing.end - missing.start, "the gateway did not send them")?,
        Next::Again(from) => printer
            .note(&format!("the gateway has lost its last lines with the power; those from line {from} on were written anew")),
    }
    match (&entry.gap, value) {
        (Some(gap), value) => {
            printer.gap(entry.line_number, count, &gap.reason)?;
            value.map_or(Ok(()), |value| printer.json(value))?;
        }
        (None, Some(value)) => printer.json(value)?,
        (None, None) => {
            printer.line(entry)?;
            if entry.truncated {
                printer.note(&format!("line {} was cut: it is longer than the gateway keeps", entry.line_number));
            }
        }
    }
    Ok(())
}

/// Iterates over one entry or many, as `log` and `log_chunk` have them.
impl<T> IntoIterator for OneOrMany<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
