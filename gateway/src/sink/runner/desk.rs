//! The part of a runner that reads and writes the disk, on threads that may wait for it.

use std::collections::VecDeque;

use crate::sink::batch::Batch;
use crate::sink::cursor::{End, Saved, SinkCursor};
use crate::sink::deadletters::DeadLetters;
use crate::sink::delivery::BatchLimits;
use crate::sink::feed::{Cut, Cutter, Feed};
use crate::store::{Position, StoreError};

/// See the module.
pub(super) struct Desk<F> {
    pub(super) feed: F,
    pub(super) limits: BatchLimits,
    pub(super) epoch: u32,
    pub(super) cutter: Cutter<F>,
    pub(super) cursor: SinkCursor,
    pub(super) letters: DeadLetters,
    /// A defect that a test wants to see found: the cursor passes what is only about to be sent.
    #[cfg(test)]
    pub(super) saves_early: bool,
}

/// What one round is to do.
pub(super) struct Job {
    /// How many batches may be cut.
    pub(super) room: usize,
    /// The first batch is cut even if it is not full.
    pub(super) aged: bool,
    /// All before is confirmed.
    pub(super) reached: Position,
    /// The ends of the batches under way.
    pub(super) ends: Vec<End>,
    /// Batches of which retention has removed a part, by their numbers.
    pub(super) clipped: Vec<(u64, End)>,
}

/// What one round has done.
pub(super) struct Round<F> {
    /// The new batches.
    pub(super) batches: Vec<Batch<F>>,
    /// What is left of the clipped ones, if anything is.
    pub(super) clipped: Vec<(u64, Option<Batch<F>>)>,
    /// There are records behind the last batch; `None` if nobody looked.
    pub(super) open: Option<bool>,
    /// All before is confirmed, or held no record.
    pub(super) reached: Position,
    /// Why it did not do more.
    pub(super) error: Option<StoreError>,
    /// All of it is saved.
    pub(super) saved: bool,
}

impl<F: Feed> Desk<F> {
    /// Cuts the batches again that an earlier run may have sent, oldest first.
    pub(super) fn resume(&mut self) -> Result<VecDeque<Batch<F>>, StoreError> {
        let Saved { cursor, ends } = self.cursor.saved().cloned().unwrap_or_default();
        let synced = *self.feed.synced().borrow();
        let mut cutter = self.cutter_at(cursor);
        let mut batches = VecDeque::new();
        // Nothing is sent that is not synced; if it is gone all the same, the disk has lied.
        for End { to, epoch } in ends.into_iter().take_while(|end| end.to <= synced) {
            if to <= cutter.position() {
                continue;
            }
            let batch = cutter.recut(to, epoch)?;
            if batch.extent().records > 0 {
                batches.push_back(batch);
            }
        }
        self.cutter = cutter;
        Ok(batches)
    }

    /// Begins to cut at `from`, or where the log begins now.
    fn cutter_at(&self, from: Position) -> Cutter<F> {
        Cutter::new(self.feed.clone(), self.limits, from.max(self.feed.log().start()), self.epoch)
    }

    /// Cuts, and saves the cursor and the new batches' ends in one write.
    pub(super) fn round(&mut self, job: Job) -> Round<F> {
        let Job { room, aged, reached, mut ends, clipped } = job;
        let mut round = Round { batches: Vec::new(), clipped: Vec::new(), open: None, reached, error: None, saved: false };
        if let Err(error) = self.clip(clipped, &mut round).and_then(|()| self.cut(room, aged, ends.is_empty(), &mut round)) {
            round.error = Some(error);
        }
        ends.extend(round.batches.iter().map(|batch| End { to: batch.extent().to, epoch: batch.extent().epoch }));
        let next = Saved { cursor: round.reached, ends };
        #[cfg(test)]
        let next = if self.saves_early { early(next) } else { next };
        match self.cursor.save(next) {
            Ok(()) => round.saved = true,
            Err(error) => round.error = Some(error),
        }
        round
    }

    fn clip(&self, clipped: Vec<(u64, End)>, round: &mut Round<F>) -> Result<(), StoreError> {
        for (id, End { to, epoch }) in clipped {
            let mut cutter = self.cutter_at(0);
            let left = if cutter.position() < to { Some(cutter.recut(to, epoch)?) } else { None };
            round.clipped.push((id, left));
        }
        Ok(())
    }

    fn cut(&mut self, room: usize, aged: bool, nothing_under_way: bool, round: &mut Round<F>) -> Result<(), StoreError> {
        while round.batches.len() < room {
            match self.cutter.advance() {
                Ok(Cut::Full(batch)) => round.batches.push(batch),
                Ok(Cut::Open(_)) if aged && round.batches.is_empty() && self.close(round) => round.open = Some(false),
                Ok(Cut::Open(open)) => {
                    round.open = Some(open);
                    if !open && nothing_under_way && round.batches.is_empty() {
                        self.cutter.skip();
                        round.reached = round.reached.max(self.cutter.position());
                    }
                    break;
                }
                Err(StoreError::Trimmed(_)) => self.cutter = self.cutter_at(self.cutter.position()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn close(&mut self, round: &mut Round<F>) -> bool {
        let batch = self.cutter.close();
        let closed = batch.is_some();
        round.batches.extend(batch);
        closed
    }
}

#[cfg(test)]
fn early(Saved { cursor, ends }: Saved) -> Saved {
    Saved { cursor: ends.last().map_or(cursor, |end| end.to), ends: Vec::new() }
}
