//! A batch under way.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::sink::batch::Batch;
use crate::sink::cursor::End;
use crate::sink::feed::Feed;

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its end is not saved yet.
    Cut,
    /// It may be sent.
    Waiting,
    /// A part of it is being delivered.
    Sending,
    /// All of it is confirmed, or durable as dead letters, or gone by retention.
    Confirmed,
}

/// See the module.
pub(super) struct Slot<F> {
    pub(super) id: u64,
    pub(super) batch: Batch<F>,
    /// What is left to deliver; the first part is next.
    pub(super) parts: VecDeque<Batch<F>>,
    /// Why the first part, a single record, will never be taken.
    pub(super) refused: Option<String>,
    pub(super) state: State,
    /// When it was sent first.
    pub(super) began: Option<Instant>,
}

impl<F: Feed> Slot<F> {
    pub(super) fn new(id: u64, batch: Batch<F>, state: State) -> Self {
        Self { id, parts: VecDeque::from([batch.clone()]), batch, refused: None, state, began: None }
    }

    pub(super) fn end(&self) -> End {
        End { to: self.batch.extent().to, epoch: self.batch.extent().epoch }
    }

    /// The first part was taken, or is durable as dead letters.
    pub(super) fn pass(&mut self) {
        self.parts.pop_front();
        self.refused = None;
        self.state = if self.parts.is_empty() { State::Confirmed } else { State::Waiting };
    }

    /// The first part will not be taken as it is.
    pub(super) fn refuse(&mut self, why: String) {
        self.state = State::Waiting;
        match self.parts.front().and_then(Batch::halves) {
            Some([first, second]) => {
                self.parts.pop_front();
                self.parts.push_front(second);
                self.parts.push_front(first);
            }
            None => self.refused = Some(why),
        }
    }

    /// Only this is left of it; `None` if retention has removed all.
    pub(super) fn clip(&mut self, left: Option<Batch<F>>) {
        self.refused = None;
        match left.filter(|batch| batch.extent().records > 0) {
            Some(batch) => {
                self.parts = VecDeque::from([batch.clone()]);
                self.batch = batch;
            }
            None => self.state = State::Confirmed,
        }
    }
}
