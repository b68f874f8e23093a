//! Which streams are in memory. Taken once when a stream opens or a reader comes, never for a batch.

#![expect(clippy::disallowed_types, reason = "off the hot path: once for each stream that opens and each reader that comes")]

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::StreamTail;
use crate::id::StepRunId;

/// The streams in memory by step run.
#[derive(Debug, Default)]
pub(super) struct Registry {
    tails: RwLock<Tails>,
}

#[derive(Debug, Default)]
struct Tails {
    of: HashMap<StepRunId, Arc<StreamTail>>,
    /// Raised whenever streams leave.
    departures: u64,
}

impl Registry {
    pub(super) fn get(&self, step_run: &StepRunId) -> Option<Arc<StreamTail>> {
        self.tails.read().of.get(step_run).cloned()
    }

    /// A number that changes whenever streams leave memory.
    pub(super) fn departures(&self) -> u64 {
        self.tails.read().departures
    }

    /// The stream's tail; `make` is asked if nobody else put one in first. `None` if streams have left since `departures` was
    /// told: this one may be among them, and what `make` would say of it no longer true.
    pub(super) fn get_or_insert(
        &self,
        step_run: &StepRunId,
        departures: u64,
        make: impl FnOnce() -> StreamTail,
    ) -> Option<Arc<StreamTail>> {
        let mut tails = self.tails.write();
        if let Some(tail) = tails.of.get(step_run) {
            return Some(Arc::clone(tail));
        }
        (tails.departures == departures).then(|| {
            let tail = Arc::new(make());
            tails.of.insert(step_run.clone(), Arc::clone(&tail));
            tail
        })
    }

    /// Lets go of a stream that only the registry and the caller hold; false if somebody else has it too.
    pub(super) fn release(&self, step_run: &StepRunId, held: &Arc<StreamTail>) -> bool {
        let mut tails = self.tails.write();
        // Whoever wants the tail must come through this lock, so the count cannot rise meanwhile.
        let released = Arc::strong_count(held) <= 2 && tails.of.remove(step_run).is_some();
        tails.departures += u64::from(released);
        released
    }

    /// Does something about a stream while nobody has it in memory and nobody can take it there; false if somebody has it.
    pub(super) fn while_absent<E>(&self, step_run: &StepRunId, act: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
        let mut tails = self.tails.write();
        if tails.of.contains_key(step_run) {
            return Ok(false);
        }
        tails.departures += 1;
        act().map(|()| true)
    }

    /// Lets go of the streams that only the registry holds.
    pub(super) fn release_unused(&self) {
        let mut tails = self.tails.write();
        tails.of.retain(|_, tail| Arc::strong_count(tail) > 1);
        tails.departures += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.tails.read().of.len()
    }
}
