//! Which streams are in memory. Taken once when a stream opens or a reader comes, never for a batch.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::StreamTail;
use crate::id::StepRunId;

/// The streams in memory by step run.
#[derive(Debug, Default)]
pub(super) struct Registry {
    #[expect(clippy::disallowed_types, reason = "off the hot path: once for each stream that opens and each reader that comes")]
    tails: RwLock<HashMap<StepRunId, Arc<StreamTail>>>,
}

impl Registry {
    pub(super) fn get(&self, step_run: &StepRunId) -> Option<Arc<StreamTail>> {
        self.tails.read().get(step_run).cloned()
    }

    /// The stream's tail; `make` is asked if nobody else put one in first.
    pub(super) fn get_or_insert(&self, step_run: &StepRunId, make: impl FnOnce() -> StreamTail) -> Arc<StreamTail> {
        Arc::clone(self.tails.write().entry(step_run.clone()).or_insert_with(|| Arc::new(make())))
    }

    /// Lets go of a stream that only the registry and the caller hold; false if somebody else has it too.
    pub(super) fn release(&self, step_run: &StepRunId, held: &Arc<StreamTail>) -> bool {
        let mut tails = self.tails.write();
        // Whoever wants the tail must come through this lock, so the count cannot rise meanwhile.
        Arc::strong_count(held) <= 2 && tails.remove(step_run).is_some()
    }

    /// Does something about a stream while nobody has it in memory and nobody can take it there; false if somebody has it.
    pub(super) fn while_absent<E>(&self, step_run: &StepRunId, act: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
        let tails = self.tails.write();
        if tails.contains_key(step_run) { Ok(false) } else { act().map(|()| true) }
    }

    /// Lets go of the streams that only the registry holds.
    pub(super) fn release_unused(&self) {
        self.tails.write().retain(|_, tail| Arc::strong_count(tail) > 1);
    }

    pub(super) fn len(&self) -> usize {
        self.tails.read().len()
    }
}
