//! A bound on memory that many tasks share: who wants some takes a [`Permit`] for it first, and gives it back by dropping it.
//!
//! Taking and giving back is one atomic operation while there is enough. Only who has to wait goes through a queue, so that
//! waiting is fair: whoever came first gets first, however much that is, and none overtakes.
//!
//! A task that waits for one budget while it holds a part of the same one could wait for ever. So take all that a step needs at
//! once, grow with [`Permit::try_grow`] only, and give steps that follow each other budgets of their own.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

#[expect(clippy::disallowed_types, reason = "see the queue of those who wait")]
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A number of bytes that may be in use at a time. Cloning shares it.
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    total: u64,
    used: AtomicU64,
    /// How many wait; kept beside the queue, so that giving back looks at an atomic only.
    waiting: AtomicUsize,
    #[expect(clippy::disallowed_types, reason = "only who has to wait for memory takes it, and nobody waits while holding it")]
    queue: Mutex<VecDeque<Waiter>>,
}

struct Waiter {
    bytes: u64,
    grant: oneshot::Sender<Permit>,
}

impl Budget {
    /// A budget of `total` bytes, none in use.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let (used, waiting) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self(Arc::new(Shared { total, used, waiting, queue: Default::default() }))
    }

    /// The bound.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// How much is in use; never more than [`Budget::total`].
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(SeqCst)
    }

    /// How many wait for a part.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(SeqCst)
    }

    /// Takes `bytes` if they are free and nobody waits.
    #[must_use]
    pub fn try_take(&self, bytes: u64) -> Option<Permit> {
        (self.waiting() == 0 && self.reserve(bytes)).then(|| self.permit(bytes))
    }

    /// Takes `bytes`, or the whole budget if they are more, as soon as they are free and all who came before have theirs. To
    /// drop the future is to leave the queue.
    pub fn take(&self, bytes: u64) -> Take {
        let bytes = bytes.min(self.0.total);
        if let Some(permit) = self.try_take(bytes) {
            return Take { permit: Some(permit), waiting: None };
        }
        let (grant, granted) = oneshot::channel();
        let mut queue = self.0.queue.lock();
        // Counted before the free bytes are looked at once more (in `hand_out`): who gives back now either sees the count, or
        // gave back early enough to be seen.
        self.0.waiting.fetch_add(1, SeqCst);
        queue.push_back(Waiter { bytes, grant });
        drop(queue);
        self.hand_out();
        Take { permit: None, waiting: Some(Place { granted, budget: self.clone() }) }
    }

    fn reserve(&self, bytes: u64) -> bool {
        let free = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.0.total);
        self.0.used.fetch_update(SeqCst, SeqCst, free).is_ok()
    }

    fn permit(&self, bytes: u64) -> Permit {
        Permit { budget: self.clone(), bytes }
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            self.0.used.fetch_sub(bytes, SeqCst);
            if self.waiting() > 0 {
                self.hand_out();
            }
        }
    }

    /// Serves those who wait, in order, as far as the free bytes go.
    fn hand_out(&self) {
        while let Some((grant, permit)) = self.next_served() {
            // Outside the lock: a permit that nobody waits for any more goes back here and now.
            drop(grant.send(permit));
        }
    }

    fn next_served(&self) -> Option<(oneshot::Sender<Permit>, Permit)> {
        let mut queue = self.0.queue.lock();
        loop {
            let first = queue.front()?;
            let gone = first.grant.is_closed();
            if !gone && !self.reserve(first.bytes) {
                return None;
            }
            let first = queue.pop_front()?;
            self.0.waiting.fetch_sub(1, SeqCst);
            if !gone {
                let permit = self.permit(first.bytes);
                return Some((first.grant, permit));
            }
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {}, {} waiting)", self.used(), self.total(), self.waiting())
    }
}

/// A part of a [`Budget`]; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    bytes: u64,
}

impl Permit {
    /// How many bytes it is for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes into this permit if they are free and nobody waits; says whether it did.
    #[must_use]
    pub fn try_grow(&mut self, more: u64) -> bool {
        self.budget.try_take(more).is_some_and(|permit| {
            self.merge(permit);
            true
        })
    }

    /// Gives back what is over `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let over = self.bytes.saturating_sub(bytes);
        drop(self.split(over));
    }

    /// Makes a permit of its own of `bytes` of this one, or of all of it if it has less.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.permit(bytes)
    }

    /// Takes in another permit. One of another budget is given back instead, and this one stays as it is.
    pub fn merge(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.budget.0, &other.budget.0) {
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// The future of [`Budget::take`].
#[derive(Debug)]
#[must_use = "nothing is taken for long unless it is awaited"]
pub struct Take {
    permit: Option<Permit>,
    waiting: Option<Place>,
}

impl Future for Take {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        if let Some(place) = &mut self.waiting
            && let Poll::Ready(Ok(permit)) = Pin::new(&mut place.granted).poll(context)
        {
            self.waiting = None;
            return Poll::Ready(permit);
        }
        self.permit.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A place in the queue.
#[derive(Debug)]
struct Place {
    granted: oneshot::Receiver<Permit>,
    budget: Budget,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Who leaves while first in the queue must not keep the others waiting.
        self.granted.close();
        self.budget.hand_out();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn permits_are_split_merged_and_given_back() {
        let budget = Budget::new(100);
        let mut all = budget.try_take(100).unwrap();
        assert!(budget.try_take(1).is_none());
        assert!(!all.try_grow(1));
        let part = all.split(30);
        all.shrink_to(50);
        assert_eq!((all.bytes(), part.bytes(), budget.used()), (50, 30, 80));
        assert!(all.try_grow(20));
        all.merge(part);
        all.merge(Budget::new(5).try_take(5).unwrap());
        assert_eq!((all.bytes(), budget.used()), (100, 100));
        drop(all);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_take(u64::MAX).is_none());
    }

    #[test]
    fn more_than_all_is_all() {
        let budget = Budget::new(100);
        assert_eq!(budget.take(u64::MAX).now_or_never().unwrap().bytes(), 100);
        assert_eq!(Budget::new(0).take(5).now_or_never().unwrap().bytes(), 0);
    }

    #[test]
    fn nobody_overtakes() {
        let budget = Budget::new(100);
        let held = budget.try_take(60).unwrap();
        let mut large = budget.take(80);
        let mut small = budget.take(10);
        assert!(budget.try_take(1).is_none(), "40 are free, but others came before");
        assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        drop(held);
        let large = large.now_or_never().unwrap();
        let small = small.now_or_never().unwrap();
        assert_eq!((large.bytes(), small.bytes(), budget.used(), budget.waiting()), (80, 10, 90, 0));
    }

    #[test]
    fn who_leaves_the_queue_keeps_nobody_waiting() {
        let budget = Budget::new(100);
        let held = budget.try_take(60).unwrap();
        let large = budget.take(80);
        let small = budget.take(10);
        drop(large);
        assert_eq!(small.now_or_never().unwrap().bytes(), 10);
        let served = budget.take(90);
        drop(held);
        // Granted, but dropped before anyone looked: it comes back.
        drop(served);
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn under_load_the_bound_holds_and_everyone_is_served() {
        let budget = Budget::new(1000);
        let tasks: Vec<_> = (0..64_u64)
            .map(|task| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    for round in 0..500 {
                        let bytes = 1 + (task * 37 + round * 101) % 1200;
                        if round % 7 == 0 {
                            // Some give up while they wait, or just as they are served.
                            drop(timeout(Duration::from_micros(round), budget.take(bytes)).await);
                            continue;
                        }
                        let permit = budget.take(bytes).await;
                        assert!(budget.used() <= 1000 && permit.bytes() == bytes.min(1000));
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        }
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }
}
