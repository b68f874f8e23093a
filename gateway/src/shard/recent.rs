//! Batches seen lately, so that one that comes again adds nothing: the last 1,024 of a stream, 10 minutes, a share of 32 MB.

use std::collections::{HashMap, VecDeque};

use crate::clock::Millis;
use crate::id::StepRunId;

/// Batches remembered of one stream.
const OF_A_STREAM: usize = 1024;
/// How long a batch is remembered, in milliseconds.
const MAX_AGE: Millis = 10 * 60 * 1000;
/// Memory of all shards together, in bytes.
const MAX_BYTES: usize = 32 << 20;
/// What one remembered batch takes, with the slack of the collections.
const BYTES_EACH: usize = 64;

/// The batches a shard has seen, oldest first.
pub(super) struct Recent {
    of_stream: HashMap<StepRunId, VecDeque<Seen>>,
    order: VecDeque<StepRunId>,
    limit: usize,
}

#[derive(Clone, Copy)]
struct Seen {
    fingerprint: u64,
    at: Millis,
}

impl Recent {
    /// The memory of one of `shards` shards.
    pub(super) fn new(shards: usize) -> Self {
        Self { of_stream: HashMap::new(), order: VecDeque::new(), limit: MAX_BYTES / BYTES_EACH / shards }
    }

    /// Whether the batch has been seen; if not, it is from now on.
    pub(super) fn seen(&mut self, step_run: &StepRunId, fingerprint: u64, now: Millis) -> bool {
        let known = self.of_stream.entry(step_run.clone()).or_default();
        if known.iter().rev().any(|seen| seen.fingerprint == fingerprint && now - seen.at <= MAX_AGE) {
            return true;
        }
        known.push_back(Seen { fingerprint, at: now });
        self.order.push_back(step_run.clone());
        if known.len() > OF_A_STREAM {
            known.pop_front();
        }
        self.forget_old(now);
        false
    }

    /// `order` holds one entry for each batch ever remembered, so popping it from the front forgets oldest first.
    fn forget_old(&mut self, now: Millis) {
        while let Some(step_run) = self.order.front() {
            let Some(known) = self.of_stream.get_mut(step_run) else {
                self.order.pop_front();
                continue;
            };
            let expired = known.front().is_some_and(|oldest| now - oldest.at > MAX_AGE);
            if !expired && self.order.len() <= self.limit {
                return;
            }
            known.pop_front();
            if known.is_empty() {
                self.of_stream.remove(step_run);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_is_recognised_for_ten_minutes() {
        let mut recent = Recent::new(1);
        let step_run = StepRunId::parse("s").unwrap();
        assert!(!recent.seen(&step_run, 7, 0));
        assert!(recent.seen(&step_run, 7, MAX_AGE));
        assert!(!recent.seen(&step_run, 7, MAX_AGE + 1));
    }

    #[test]
    fn only_the_last_of_a_stream_are_kept_and_memory_is_bounded() {
        let mut recent = Recent::new(1);
        let step_run = StepRunId::parse("s").unwrap();
        for fingerprint in 0..=OF_A_STREAM as u64 {
            assert!(!recent.seen(&step_run, fingerprint, 0));
        }
        assert!(!recent.seen(&step_run, 0, 0));
        assert!(recent.seen(&step_run, 5, 0));
        recent.limit = 3;
        for stream in 0..10 {
            recent.seen(&StepRunId::parse(&format!("t{stream}")).unwrap(), 1, 0);
        }
        assert!(recent.order.len() <= 4, "{}", recent.order.len());
        assert!(recent.of_stream.len() <= 4);
    }
}
