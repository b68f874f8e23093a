//! Lines and gaps as the JSON entries of the log channel, written straight into a buffer.
//!
//! All but a line's number and text is the same for a run of lines: [`Template`] holds it, written once.

use std::io::Write as _;

use super::escape::{escape, escape_bytes};
use super::page::Gap;
use crate::block::{GapReason, OutputStream, Run};
use crate::clock::Millis;
use crate::id::StepRunId;

/// Everything of an entry but the line's number and text.
#[derive(Debug)]
pub struct Template {
    run: Run,
    head: Vec<u8>,
    middle: Vec<u8>,
    tail: Vec<u8>,
}

impl Template {
    /// The template of a stream's run.
    #[must_use]
    pub fn new(step_run: &StepRunId, run: &Run) -> Self {
        let mut head = Vec::with_capacity(160);
        write_head(step_run, run.time, &mut head);
        let mut middle = Vec::with_capacity(48);
        middle.extend_from_slice(b",\"level\":\"");
        escape(&run.level, &mut middle);
        middle.extend_from_slice(b"\",\"content\":\"");
        let mut tail = Vec::with_capacity(96);
        tail.extend_from_slice(b"\",\"stream\":\"");
        tail.extend_from_slice(match run.stream {
            OutputStream::Unspecified => b"",
            OutputStream::Stdout => b"stdout",
            OutputStream::Stderr => b"stderr",
        });
        tail.extend_from_slice(b"\",\"plugin_name\":\"");
        escape(&run.plugin, &mut tail);
        tail.extend_from_slice(b"\",\"agent_id\":\"");
        escape(run.agent.as_str(), &mut tail);
        tail.extend_from_slice(if run.truncated { b"\",\"truncated\":true}" } else { b"\"}" });
        Self { run: run.clone(), head, middle, tail }
    }

    /// Whether it is `run`'s.
    #[must_use]
    pub fn is_for(&self, run: &Run) -> bool {
        let own = &self.run;
        own.time == run.time
            && own.stream == run.stream
            && own.truncated == run.truncated
            && own.level == run.level
            && own.plugin == run.plugin
            && own.agent == run.agent
    }

    /// Writes an entry up to its text.
    pub fn begin(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        write_number(number, out);
        out.extend_from_slice(&self.middle);
    }

    /// Writes an entry from the end of its text on.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tail);
    }

    /// Writes a whole entry.
    pub fn line(&self, number: u64, text: &[u8], out: &mut Vec<u8>) {
        self.begin(number, out);
        escape_bytes(text, out);
        self.end(out);
    }

    /// How many bytes an entry has beside its text, and at most twenty more.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.head.len() + 20 + self.middle.len() + self.tail.len()
    }
}

/// Writes the entry of a gap.
pub fn gap(step_run: &StepRunId, gap: &Gap, out: &mut Vec<u8>) {
    let (count, reason) = (gap.count, reason_name(gap.reason));
    write_head(step_run, gap.time, out);
    write_number(gap.first_line, out);
    out.extend_from_slice(b",\"level\":\"gap\",\"content\":\"");
    out.extend_from_slice(gap_text(count, gap.reason).as_bytes());
    // Writing into a Vec cannot fail.
    let _ = write!(out, "\",\"gap\":{{\"count\":{count},\"reason\":\"{reason}\"}}}}");
}

/// What stands in the place of `count` missing lines; 0 if their number is not known.
#[must_use]
pub fn gap_text(count: u64, reason: GapReason) -> String {
    let why = explanation(reason);
    match count {
        0 => format!("an unknown number of lines is missing: {why}"),
        1 => format!("1 line is missing: {why}"),
        _ => format!("{count} lines are missing: {why}"),
    }
}

/// A gap's reason as readers see it.
#[must_use]
pub fn reason_name(reason: GapReason) -> &'static str {
    match reason {
        GapReason::QueueFull => "queue_full",
        GapReason::Unreadable => "unreadable",
        GapReason::NeverSent => "never_sent",
        GapReason::Damaged => "damaged",
        GapReason::Expired => "expired",
        GapReason::DroppedBySender => "dropped_by_sender",
        GapReason::Unreachable => "unreachable",
    }
}

/// The reason that readers see as `name`, if it is one that is stored.
#[must_use]
pub fn reason_of(name: &str) -> Option<GapReason> {
    use GapReason::{Damaged, DroppedBySender, Expired, NeverSent, QueueFull, Unreadable};
    [QueueFull, Unreadable, NeverSent, Damaged, Expired, DroppedBySender].into_iter().find(|reason| reason_name(*reason) == name)
}

fn explanation(reason: GapReason) -> &'static str {
    match reason {
        GapReason::QueueFull => "the gateway was too busy to take them",
        GapReason::Unreadable => "a batch could not be read",
        GapReason::NeverSent => "they never reached the gateway",
        GapReason::Damaged => "what was stored of them is damaged",
        GapReason::Expired => "they are older than what the gateway keeps",
        GapReason::DroppedBySender => "the sender dropped them before they reached the gateway",
        GapReason::Unreachable => "they are not in the gateway's own store, and ClickHouse cannot be read now",
    }
}

/// Writes an entry's fields up to the number.
fn write_head(step_run: &StepRunId, time: Millis, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"step_run_id\":\"");
    escape(step_run.as_str(), out);
    let seconds = time.div_euclid(1000);
    // Writing into a Vec cannot fail.
    let _ = write!(out, "\",\"timestamp\":{seconds},\"timestamp_ms\":{time},\"line_number\":");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        // A digit always fits.
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
