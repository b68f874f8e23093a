//! The bounded queue in front of a shard: lock-free, with a bell for its worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use tokio::sync::Semaphore;

use super::Submission;

/// Batches that wait for a shard. Their memory is bounded by the budget; this bounds their number.
pub(super) const SLOTS: usize = 1024;

/// How often a worker looks whether those on the way in have come, once the queue is closed.
const CLOSING: Duration = Duration::from_millis(1);

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
        // Reads what the worker wrote when it went to sleep, and so finds its thread.
        self.asleep.swap(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether it is closed, nothing is inside, and nobody who had found a slot before is still on the way in.
    pub(super) fn is_drained(&self) -> bool {
        self.is_closed() && self.slots.available_permits() == SLOTS
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sleeps until a batch comes, the queue closes, or `until`. Called by the worker's thread only.
    pub(super) fn sleep(&self, until: Instant) {
        self.worker.get_or_init(std::thread::current);
        self.asleep.store(true, Ordering::SeqCst);
        // Whoever pushed before it could see the worker asleep is seen here.
        if self.waiting.is_empty() {
            let until = until.saturating_duration_since(Instant::now());
            // Once closed, nobody rings for having left without pushing.
            std::thread::park_timeout(if self.is_closed() { until.min(CLOSING) } else { until });
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
