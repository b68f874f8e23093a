//! What time it is, and waiting for a time: a value, so that tests own it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::Millis;

/// The longest sleep before the clock is looked at again: it may have been set.
const LONGEST_SLEEP: Millis = 1_000;

/// A clock.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Millis;
    /// Ends once `now` is `at` or later.
    fn until(&self, at: Millis) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        jiff::Timestamp::now().as_millisecond()
    }

    fn until(&self, at: Millis) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let left = at.saturating_sub(Self.now());
                if left <= 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(left.min(LONGEST_SLEEP).unsigned_abs())).await;
            }
        })
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Clone)]
pub struct StillClock(Arc<tokio::sync::watch::Sender<Millis>>);

impl StillClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Millis) -> Self {
        Self(Arc::new(tokio::sync::watch::Sender::new(now)))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Millis) {
        self.0.send_modify(|now| *now = now.saturating_add(by));
    }
}

impl Clock for StillClock {
    fn now(&self) -> Millis {
        *self.0.borrow()
    }

    fn until(&self, at: Millis) -> BoxFuture<'static, ()> {
        let mut clock = self.0.subscribe();
        Box::pin(async move {
            // The clock is held by whoever waits; if it is gone all the same, no time comes.
            if clock.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
