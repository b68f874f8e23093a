//! What is counted of logs, with the handles looked up once a connection instead of once a batch.

use metrics::{Counter, Histogram, counter, histogram};

use super::verdict::Verdict;

/// The counters of one protocol.
pub(super) struct LogMetrics {
    bytes: Counter,
    taken: Counter,
    repeated: Counter,
    late: Counter,
    dropped: Counter,
    rejected: Counter,
    batch_lines: Histogram,
    ack_seconds: Histogram,
}

impl LogMetrics {
    pub(super) fn of(protocol: &'static str) -> Self {
        let lines = |result| counter!("arcgate_lines_total", "protocol" => protocol, "result" => result);
        Self {
            bytes: counter!("arcgate_log_bytes_total", "protocol" => protocol),
            taken: lines("taken"),
            repeated: lines("repeated"),
            late: lines("late"),
            dropped: lines("dropped"),
            rejected: counter!("arcgate_log_batches_rejected_total", "protocol" => protocol),
            batch_lines: histogram!("arcgate_log_batch_lines", "protocol" => protocol),
            ack_seconds: histogram!("arcgate_ack_seconds", "protocol" => protocol),
        }
    }

    /// A batch has come.
    pub(super) fn came(&self, bytes: usize) {
        self.bytes.increment(bytes as u64);
    }

    /// A batch has been decided.
    pub(super) fn decided(&self, verdict: &Verdict) {
        self.taken.increment(verdict.taken);
        self.repeated.increment(verdict.repeated);
        self.late.increment(verdict.late);
        self.dropped.increment(verdict.dropped);
        self.batch_lines.record((verdict.taken + verdict.repeated + verdict.late + verdict.dropped) as f64);
        if verdict.rejection.is_some() {
            self.rejected.increment(1);
        }
        if let Some(came) = verdict.came {
            self.ack_seconds.record(came.elapsed());
        }
    }
}
