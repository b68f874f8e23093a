//! When to try again, and what to say of it: once a cause, and once when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Failures since the last success.
#[derive(Debug)]
pub(super) struct Trouble {
    backoff: Backoff,
    said: Option<String>,
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Trouble {
    /// None yet. Pauses grow from `first` to `longest`.
    pub(super) fn new((first, longest): (Duration, Duration)) -> Self {
        Self { backoff: Backoff::between(first, longest), said: None, since: None, until: None }
    }

    /// Another failure; says whether its cause is to be told.
    pub(super) fn add(&mut self, why: &str) -> bool {
        let now = Instant::now();
        self.since.get_or_insert(now);
        // Batches that were under way together fail together, and that is one failure: each taken for one, the pause would be the
        // longest at once.
        if self.may_try() {
            self.until = Some(now + self.backoff.wait());
        }
        let news = self.said.as_deref() != Some(why);
        if news {
            self.said = Some(why.to_owned());
        }
        news
    }

    /// It works; says how long it has not, if so.
    pub(super) fn end(&mut self) -> Option<Duration> {
        let since = self.since.take()?;
        self.backoff.reset();
        (self.said, self.until) = (None, None);
        Some(since.elapsed())
    }

    /// Whether the last try failed.
    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// When to try again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is time to try.
    pub(super) fn may_try(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_fail_together_are_one_failure_and_the_next_try_makes_the_pause_longer() {
        // So long that none ends by itself meanwhile.
        let first = Duration::from_secs(3600);
        let mut trouble = Trouble::new((first, first * 100));
        for tries in 0..5 {
            let before = Instant::now();
            trouble.add("away");
            let until = trouble.until();
            for _ in 0..8 {
                trouble.add("away");
            }
            assert_eq!(trouble.until(), until, "try {tries}");
            let pause = until.map(|until| until - before).unwrap_or_default();
            assert!(pause >= first * 2_u32.pow(tries) / 2, "try {tries}: {pause:?}");
            trouble.until = Some(Instant::now());
        }
        assert!(trouble.end().is_some() && trouble.may_try());
    }
}
