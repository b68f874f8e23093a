//! What a batch of lines is answered.

use std::time::Instant;

use arcgate_api::gateway::v1::IngestAck;
use arcgate_api::gateway::v1::ingest_ack::Status;

use crate::shard::{Outcome, Refusal};

/// What became of one batch.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The batch's seq.
    pub(super) seq: u64,
    /// Why nothing of it was taken, if so.
    pub(super) rejection: Option<String>,
    /// Lines by what became of them.
    pub(super) taken: u64,
    pub(super) repeated: u64,
    pub(super) late: u64,
    pub(super) dropped: u64,
    /// The first number that the gateway lacks; 0 if not known.
    pub(super) next_line: u64,
    /// The last number that a sync covers.
    pub(super) durable_line: u64,
    /// Lines were cut to the limit.
    pub(super) truncated: u32,
    /// When the batch came.
    pub(super) came: Option<Instant>,
}

impl Verdict {
    /// Nothing of the batch was taken.
    pub(super) fn rejected(seq: u64, why: impl Into<String>) -> Self {
        Self { seq, rejection: Some(why.into()), ..Self::default() }
    }

    /// There was no room for the batch's lines in time, and they are gone.
    pub(super) fn dropped(seq: u64, lines: u64) -> Self {
        Self { seq, dropped: lines, ..Self::default() }
    }

    /// What the shard says.
    pub(super) fn of(seq: u64, truncated: u32, answer: Result<Outcome, Refusal>) -> Self {
        match answer {
            Ok(outcome) => Self {
                seq,
                rejection: None,
                taken: outcome.taken,
                repeated: outcome.repeated,
                late: outcome.late,
                dropped: 0,
                next_line: outcome.next_line,
                durable_line: outcome.next_durable.saturating_sub(1),
                truncated,
                came: None,
            },
            Err(refusal) => Self::rejected(seq, refusal.to_string()),
        }
    }

    /// The answer to this batch alone.
    pub(super) fn into_ack(self, limit: usize) -> IngestAck {
        let mut totals = Totals::default();
        totals.add(self);
        totals.into_ack(limit)
    }
}

/// What became of all batches of a stream.
#[derive(Debug, Default)]
pub(super) struct Totals {
    batches: u64,
    rejected: u64,
    highest_seq: u64,
    rejected_seqs: Vec<u64>,
    message: String,
    taken: u64,
    repeated: u64,
    late: u64,
    dropped: u64,
    truncated: u64,
    next_line: u64,
    durable_line: u64,
}

/// An answer names this many rejected batches at most.
const MAX_REJECTED_SEQS: usize = 1000;

impl Totals {
    /// Adds one batch.
    pub(super) fn add(&mut self, verdict: Verdict) {
        self.batches += 1;
        self.highest_seq = self.highest_seq.max(verdict.seq);
        self.taken += verdict.taken;
        self.repeated += verdict.repeated;
        self.late += verdict.late;
        self.dropped += verdict.dropped;
        self.truncated += u64::from(verdict.truncated);
        if verdict.next_line > 0 {
            self.next_line = verdict.next_line;
            self.durable_line = verdict.durable_line;
        }
        if let Some(why) = verdict.rejection {
            self.rejected += 1;
            if self.rejected_seqs.len() < MAX_REJECTED_SEQS {
                self.rejected_seqs.push(verdict.seq);
            }
            if self.message.is_empty() {
                self.message = why;
            }
        }
    }

    /// The answer; lines cut to `limit` bytes are spoken of.
    pub(super) fn into_ack(self, limit: usize) -> IngestAck {
        let status = if self.rejected == 0 && self.dropped == 0 {
            Status::Accepted
        } else if self.rejected == self.batches {
            Status::Rejected
        } else {
            Status::PartialAccepted
        };
        let mut message = self.message;
        if self.rejected > 1 {
            message = format!("{message} (and {} more rejected batches)", self.rejected - 1);
        }
        if self.dropped > 0 {
            message = joined(&message, &format!("{} lines were dropped: the gateway had no room in time", self.dropped));
        }
        if self.truncated > 0 {
            message = joined(&message, &format!("{} lines were cut to {limit} bytes", self.truncated));
        }
        IngestAck {
            status: status.into(),
            message,
            last_accepted_seq: self.highest_seq,
            expected_seq: self.highest_seq.saturating_add(1),
            rejected_seqs: self.rejected_seqs,
            taken: self.taken,
            repeated: self.repeated,
            late: self.late,
            dropped: self.dropped,
            next_line: self.next_line,
            durable_line: self.durable_line,
        }
    }
}

fn joined(message: &str, more: &str) -> String {
    if message.is_empty() { more.to_owned() } else { format!("{message}; {more}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_anything_is_missing() {
        let status = |verdicts: Vec<Verdict>| {
            let mut totals = Totals::default();
            verdicts.into_iter().for_each(|verdict| totals.add(verdict));
            totals.into_ack(1).status()
        };
        let taken = || Verdict { seq: 1, taken: 3, ..Verdict::default() };
        assert_eq!(status(vec![]), Status::Accepted);
        assert_eq!(status(vec![taken()]), Status::Accepted);
        assert_eq!(status(vec![Verdict::rejected(1, "no")]), Status::Rejected);
        assert_eq!(status(vec![taken(), Verdict::rejected(2, "no")]), Status::PartialAccepted);
        assert_eq!(status(vec![taken(), Verdict::dropped(2, 9)]), Status::PartialAccepted);
    }

    #[test]
    fn a_thousand_rejected_seqs_are_named_and_the_rest_counted() {
        let mut totals = Totals::default();
        (1..=1500).for_each(|seq| totals.add(Verdict::rejected(seq, "bad")));
        let ack = totals.into_ack(1);
        assert_eq!(ack.rejected_seqs.len(), 1000);
        assert_eq!(ack.last_accepted_seq, 1500);
        assert_eq!(ack.message, "bad (and 1499 more rejected batches)");
    }
}
