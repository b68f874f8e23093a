//! Writes lines to stdout as they were written by the step, everything else to stderr.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use super::message::Entry;
use crate::style;

/// Where lines and notes go.
pub(crate) struct Printer {
    out: BufWriter<Stdout>,
    json: bool,
    split: bool,
    coloured: bool,
}

impl Printer {
    /// A printer of text or JSON; if `split`, lines of the step's stderr go to stderr.
    pub(crate) fn new(json: bool, split: bool) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { out, json, split, coloured: style::coloured(io::stderr().is_terminal()) }
    }

    /// A line, with its colours.
    pub(crate) fn line(&mut self, entry: &Entry) -> io::Result<()> {
        let parts = [entry.content.as_bytes(), b"\n"];
        if self.split && entry.stream == "stderr" {
            self.out.flush()?;
            return io::stderr().write_all(&parts.concat());
        }
        parts.iter().try_for_each(|part| self.out.write_all(part))
    }

    /// An entry as JSON.
    pub(crate) fn json(&mut self, entry: &serde_json::Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, entry)?;
        self.out.write_all(b"\n")
    }

    /// Lines that are missing, in their place between the others.
    pub(crate) fn gap(&mut self, first: u64, count: u64, reason: &str) -> io::Result<()> {
        self.out.flush()?;
        let what = match count {
            0 => format!("an unknown number of lines is missing before line {first}"),
            1 => format!("line {first} is missing"),
            _ => format!("lines {first} to {} are missing", first + (count - 1)),
        };
        self.note(&if reason.is_empty() { what } else { format!("{what}: {reason}") });
        Ok(())
    }

    /// Something for people.
    pub(crate) fn note(&mut self, text: &str) {
        // Lines come first, so that the note stands where it belongs. A stderr that is gone is no reason to fail.
        let _ = self.out.flush();
        let (on, off) = if self.coloured && !self.json { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(io::stderr(), "{on}arcgate: {text}{off}");
    }

    /// Lets everything be seen.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
