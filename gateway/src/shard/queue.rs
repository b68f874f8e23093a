//! The bounded queue in front of a shard: lock-free, with a bell for its worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use tokio::sync::Semaphore;

use super::Submission;

/// Batches that wait for a shard. Their memory is bounded by the budget; this bounds their number.
const SLOTS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: ArrayQueue<Submission>,
    /// One permit a free slot: who holds one can always push. Waiters queue here in order of arrival.
    slots: Semaphore,
    asleep: AtomicBool,
    closed: AtomicBool,
    worker: OnceLock<Thread>,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: ArrayQueue::new(SLOTS),
            slots: Semaphore::new(SLOTS),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            worker: OnceLock::new(),
        })
    }

    /// Puts a batch in, waiting for a slot at most `patience` (for ever if `None`). Gives it back if there was none in time or
    /// the shard has closed.
    pub(super) async fn push(&self, batch: Submission, patience: Option<Duration>) -> Result<(), Submission> {
        let slot = match (self.slots.try_acquire(), patience) {
            (Ok(slot), _) => Some(slot),
            (Err(_), None) => self.slots.acquire().await.ok(),
            (Err(_), Some(patience)) => tokio::time::timeout(patience, self.slots.acquire()).await.ok().and_then(Result::ok),
        };
        let Some(slot) = slot else { return Err(batch) };
        slot.forget();
        // Cannot fail: the slot was free.
        self.waiting.push(batch)?;
        self.wake();
        Ok(())
    }

    pub(super) fn pop(&self) -> Option<Submission> {
        let batch = self.waiting.pop()?;
        self.slots.add_permits(1);
        Some(batch)
    }

    /// No more batches; those inside are still taken out.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.slots.close();
        self.asleep.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sleeps until a batch comes, the queue closes, or `until`. Called by the worker's thread only.
    pub(super) fn sleep(&self, until: Option<Instant>) {
        self.worker.get_or_init(std::thread::current);
        self.asleep.store(true, Ordering::SeqCst);
        // Whoever pushed before it could see the worker asleep is seen here.
        if self.waiting.is_empty() && !self.is_closed() {
            match until {
                Some(until) => std::thread::park_timeout(until.saturating_duration_since(Instant::now())),
                None => std::thread::park(),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(worker) = self.worker.get()
        {
            worker.unpark();
        }
    }
}
