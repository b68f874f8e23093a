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
const BYTES_EACH: usize = 80;
/// What a stream takes beside that, without its name.
const BYTES_A_STREAM: usize = 256;

/// The batches a shard has seen.
pub(super) struct Recent {
    of_stream: HashMap<StepRunId, VecDeque<Seen>>,
    /// All of them, oldest first; those that their stream has forgotten before are still in it.
    order: VecDeque<(StepRunId, Seen)>,
    /// How many there ever were.
    count: u64,
    /// What all of it takes.
    bytes: usize,
    limit: usize,
}

#[derive(Clone, Copy)]
struct Seen {
    number: u64,
    fingerprint: u64,
    at: Millis,
}

impl Recent {
    /// The memory of one of `shards` shards.
    pub(super) fn new(shards: usize) -> Self {
        Self { of_stream: HashMap::new(), order: VecDeque::new(), count: 0, bytes: 0, limit: MAX_BYTES / shards.max(1) }
    }

    /// Whether the batch has been seen.
    pub(super) fn has(&self, step_run: &StepRunId, fingerprint: u64, now: Millis) -> bool {
        let Some(known) = self.of_stream.get(step_run) else { return false };
        known.iter().rev().any(|seen| seen.fingerprint == fingerprint && now - seen.at <= MAX_AGE)
    }

    /// Takes note of a batch.
    pub(super) fn remember(&mut self, step_run: &StepRunId, fingerprint: u64, now: Millis) {
        self.count += 1;
        let seen = Seen { number: self.count, fingerprint, at: now };
        let known = match self.of_stream.get_mut(step_run) {
            Some(known) => known,
            None => {
                self.bytes += bytes_of_stream(step_run);
                self.of_stream.entry(step_run.clone()).or_default()
            }
        };
        known.push_back(seen);
        if known.len() > OF_A_STREAM {
            known.pop_front();
        }
        self.order.push_back((step_run.clone(), seen));
        self.bytes += BYTES_EACH;
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Millis) {
        while let Some((_, oldest)) = self.order.front() {
            if now - oldest.at <= MAX_AGE && self.bytes <= self.limit {
                return;
            }
            let Some((step_run, oldest)) = self.order.pop_front() else { return };
            self.bytes -= BYTES_EACH;
            let Some(known) = self.of_stream.get_mut(&step_run) else { continue };
            if known.front().is_some_and(|first| first.number == oldest.number) {
                known.pop_front();
            }
            if known.is_empty() {
                self.of_stream.remove(&step_run);
                self.bytes -= bytes_of_stream(&step_run);
            }
        }
    }
}

fn bytes_of_stream(step_run: &StepRunId) -> usize {
    BYTES_A_STREAM + step_run.as_str().len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(text: &str) -> StepRunId {
        StepRunId::parse(text).unwrap()
    }

    #[test]
    fn a_batch_is_recognised_for_ten_minutes() {
        let mut recent = Recent::new(1);
        assert!(!recent.has(&id("s"), 7, 0));
        recent.remember(&id("s"), 7, 0);
        assert!(recent.has(&id("s"), 7, MAX_AGE));
        assert!(!recent.has(&id("s"), 7, MAX_AGE + 1));
        assert!(!recent.has(&id("t"), 7, 0), "of another stream");
    }

    #[test]
    fn only_the_last_of_a_stream_are_kept() {
        let mut recent = Recent::new(1);
        (0..=OF_A_STREAM as u64).for_each(|fingerprint| recent.remember(&id("s"), fingerprint, 0));
        assert!(!recent.has(&id("s"), 0, 0));
        assert!(recent.has(&id("s"), 1, 0));
        // What is forgotten of a stream so does not make it forget more, later.
        (0..3 * OF_A_STREAM as u64).for_each(|fingerprint| recent.remember(&id("s"), fingerprint, 0));
        assert!(recent.has(&id("s"), 2 * OF_A_STREAM as u64, 0));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut recent = Recent::new(1);
        recent.limit = 10_000;
        for stream in 0..1000 {
            recent.remember(&id(&format!("{stream:0200}")), 1, 0);
            assert!(recent.bytes <= recent.limit);
        }
        assert!(recent.has(&id(&format!("{:0200}", 999)), 1, 0));
        assert!(recent.of_stream.len() <= 20 && recent.order.len() <= 20, "{}", recent.order.len());
        recent.remember(&id("s"), 1, MAX_AGE + 1);
        assert_eq!((recent.of_stream.len(), recent.order.len()), (1, 1), "all else is too old");
        assert_eq!(recent.bytes, BYTES_EACH + bytes_of_stream(&id("s")));
    }
}
