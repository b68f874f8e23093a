//! Batches are queued one after the other, in the order of their log, although each is delivered by a task of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::store::Position;

/// How long a batch waits for one that may come before it. Only at the beginning, or behind frames that are no records, does it not
/// know that none does.
const SETTLING: Duration = Duration::from_millis(50);

/// Who may queue its messages.
pub(super) struct Turns(watch::Sender<State>);

#[derive(Default)]
struct State {
    /// All batches before have been queued.
    reached: Option<Position>,
    /// One is being queued.
    busy: bool,
    /// Where those begin that wait.
    waiting: BTreeSet<Position>,
}

/// The turn of one batch; ends when dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    /// The batch ends here.
    to: Position,
}

/// A place among those who wait.
struct Place<'t> {
    turns: &'t Turns,
    from: Position,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Waits until all batches before that which begins at `from` and ends at `to` have been queued.
    pub(super) async fn take(self: &Arc<Self>, from: Position, to: Position) -> Turn {
        let mut states = self.0.subscribe();
        self.0.send_if_modified(|state| state.waiting.insert(from));
        let place = Place { turns: self, from };
        let mut settled = false;
        loop {
            states.mark_unchanged();
            let mut taken = false;
            self.0.send_if_modified(|state| {
                // What begins before was queued already, and is queued again.
                let next = state.reached.is_some_and(|reached| from <= reached) || settled;
                taken = !state.busy && next && state.waiting.first() == Some(&from);
                state.busy |= taken;
                taken
            });
            if taken {
                drop(place);
                return Turn { turns: Arc::clone(self), to };
            }
            settled = timeout(SETTLING, states.changed()).await.is_err();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.0.send_if_modified(|state| state.waiting.remove(&self.from));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.send_modify(|state| {
            state.busy = false;
            state.reached = Some(state.reached.map_or(self.to, |reached| reached.max(self.to)));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn batches_are_queued_in_the_order_of_their_log_however_their_tasks_come() {
        let turns = Arc::new(Turns::new());
        let (said, mut heard) = tokio::sync::mpsc::channel(16);
        let tasks: Vec<_> = [3, 1, 4, 0, 2]
            .map(|at| {
                let (turns, said) = (Arc::clone(&turns), said.clone());
                tokio::spawn(async move {
                    let turn = turns.take(at * 10, at * 10 + 10).await;
                    let _ = said.send(at).await;
                    drop(turn);
                })
            })
            .into();
        for expected in 0..5 {
            assert_eq!(heard.recv().await, Some(expected));
        }
        drop(tasks);
        drop(turns.take(20, 30).await);
        drop(turns.take(70, 80).await);
    }
}
