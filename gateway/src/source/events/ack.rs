//! The answer to a batch of events, or to a whole stream of them.
//!
//! | status | exactly when |
//! |---|---|
//! | `OUT_OF_ORDER` | seqs are missing between the sender's mark and the first event, and are waited for: the mark stays where it was |
//! | else `REJECTED` | there are events, and all are rejected |
//! | else `PARTIAL_ACCEPTED` | some events are rejected, or a seq is missing after the first event and the mark stays below it; or, where the answer waits for a sink, some are not there yet |
//! | else `ACCEPTED` | every event is stored or was before, and the mark is the highest seq (no event: the mark as it was) |
//!
//! `expected_seq` is `last_accepted_seq + 1`. `rejected_seqs` are the seqs of the dead letters, rising; 0 stands for events whose
//! seq is 0 or could not be read.

use std::fmt::Write as _;

use arcgate_api::gateway::v1::IngestAck;
use arcgate_api::gateway::v1::ingest_ack::Status;

use super::mark::Answer;
use crate::store::events::{DeadReason, EventFate, Incoming};

/// How many rejected seqs an answer names at most, so that an endless stream of bad events costs no memory without bound.
const MAX_REJECTED: usize = 65_536;

/// How many reasons the answer's message names.
const REASONS: usize = 3;

/// What has to be known of an event for the answer, once it is on its way to the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Its seq; 0 if not known.
    pub(crate) seq: u64,
    reason: Option<DeadReason>,
}

impl From<&Incoming> for Sent {
    fn from(event: &Incoming) -> Self {
        let reason = match event {
            Incoming::Event(_) => None,
            Incoming::Dead { reason, .. } => Some(*reason),
        };
        Self { seq: event.seq(), reason }
    }
}

/// What became of the events that one answer speaks of.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    taken: u64,
    repeated: u64,
    conflicts: u64,
    rejected: u64,
    rejected_seqs: Vec<u64>,
    reasons: Vec<(u64, DeadReason)>,
    /// Events that are stored, while the sink that the answer waits for does not have them yet.
    pub(crate) late: u64,
    /// The lowest and the highest seq.
    pub(crate) span: Option<(u64, u64)>,
}

impl Tally {
    /// Adds events and their fates.
    pub(crate) fn add(&mut self, sent: &[Sent], fates: &[EventFate]) {
        for (sent, fate) in sent.iter().zip(fates) {
            match fate {
                EventFate::Stored => self.taken += 1,
                EventFate::Repeated => self.repeated += 1,
                EventFate::Conflict => {
                    self.repeated += 1;
                    self.conflicts += 1;
                }
                EventFate::Dead => self.reject(*sent),
            }
            self.widen(sent.seq);
        }
    }

    /// Takes note of an event of which nothing is said yet.
    pub(crate) fn hold(&mut self, sent: Sent) {
        self.late += 1;
        self.widen(sent.seq);
    }

    fn widen(&mut self, seq: u64) {
        if seq > 0 {
            let (lowest, highest) = self.span.unwrap_or((seq, seq));
            self.span = Some((lowest.min(seq), highest.max(seq)));
        }
    }

    fn reject(&mut self, sent: Sent) {
        self.rejected += 1;
        if self.rejected_seqs.len() < MAX_REJECTED {
            self.rejected_seqs.push(sent.seq);
        }
        if let Some(reason) = sent.reason
            && self.reasons.len() < REASONS
        {
            self.reasons.push((sent.seq, reason));
        }
    }

    /// Counts it all in the metrics.
    pub(crate) fn count(&self, protocol: &'static str) {
        for (result, count) in [
            ("taken", self.taken),
            ("repeated", self.repeated - self.conflicts),
            ("conflict", self.conflicts),
            ("rejected", self.rejected),
        ] {
            metrics::counter!("arcgate_events_total", "protocol" => protocol, "result" => result).increment(count);
        }
    }

    /// The answer.
    pub(crate) fn ack(mut self, answer: Answer) -> IngestAck {
        let accepted = self.taken + self.repeated;
        let highest = self.span.map_or(answer.mark, |(_, highest)| highest);
        let status = if answer.waits {
            Status::OutOfOrder
        } else if self.rejected > 0 && accepted == 0 && self.late == 0 {
            Status::Rejected
        } else if self.rejected > 0 || self.late > 0 || answer.mark < highest {
            Status::PartialAccepted
        } else {
            Status::Accepted
        };
        self.rejected_seqs.sort_unstable();
        IngestAck {
            status: status.into(),
            message: self.message(answer, highest),
            last_accepted_seq: answer.mark,
            expected_seq: answer.mark.saturating_add(1),
            rejected_seqs: self.rejected_seqs,
            taken: self.taken,
            repeated: self.repeated,
            ..IngestAck::default()
        }
    }

    fn message(&self, answer: Answer, highest: u64) -> String {
        let mut message = String::new();
        let missing = answer.mark.saturating_add(1);
        // Writing to a String cannot fail.
        if self.rejected > 0 {
            let _ = write!(message, "{} rejected, do not send again:", events(self.rejected));
            for (seq, reason) in &self.reasons {
                let _ = write!(message, " seq {seq}: {reason};");
            }
            if self.rejected > self.reasons.len() as u64 {
                message.push_str(" and others;");
            }
            message.pop();
            message.push_str(". ");
        }
        if answer.waits {
            let _ = write!(message, "seq {missing} is missing before the first event; it is waited for up to a second. ");
        } else if self.late > 0 {
            let _ = write!(
                message,
                "{} stored, but not delivered yet; send seq {missing} and what follows again. ",
                events(self.late)
            );
        } else if answer.mark < highest {
            let _ = write!(message, "seq {missing} is missing; send it, then what follows, again. ");
        }
        if self.conflicts > 0 {
            let _ = write!(
                message,
                "{} had the event_id of an earlier one with other content; the earlier stays. ",
                events(self.conflicts)
            );
        }
        message.truncate(message.trim_end().len());
        message
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".into() } else { format!("{count} events") }
}
