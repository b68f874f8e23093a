//! How long to wait before trying again: longer each time, never in step with others, bounded.

use std::time::Duration;

/// Waits that double from the first to the longest, each shortened by up to half at random.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// From [`Backoff::FIRST`] to [`Backoff::LONGEST`].
    fn default() -> Self {
        Self::between(Self::FIRST, Self::LONGEST)
    }
}

impl Backoff {
    /// The first wait, before it is shortened.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// The longest wait.
    pub const LONGEST: Duration = Duration::from_secs(5);

    /// Waits from `first` to `longest`, before they are shortened.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(10)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        // The low bits of a random UUID are all the chance that is needed here.
        let chance = u32::from(uuid::Uuid::new_v4().as_bytes()[15]);
        full - full / 2 * chance / 255
    }

    /// It worked: begin anew.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        for round in 0..50u32 {
            let full = Backoff::FIRST.saturating_mul(1 << round.min(10)).min(Backoff::LONGEST);
            let wait = backoff.wait();
            assert!(wait >= full / 2 && wait <= full, "round {round}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Backoff::FIRST);
    }
}
