//! The spool between those who write lines (threads that must never wait for a network) and the one who sends them.

#![expect(
    clippy::disallowed_types,
    reason = "writers are threads that must never wait for a channel to have room; held for a copy of bytes"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::spool::{CHUNK_BYTES, Spool, Stream};
use crate::time::Millis;

/// A spool with a lock that is held for a copy of bytes at most, never across a wait. Cloning shares it.
#[derive(Clone)]
pub(crate) struct SharedSpool(Arc<Inner>);

struct Inner {
    spool: Mutex<Spool>,
    /// Wakes the sender: there are lines, or no more will come.
    filled: Notify,
    /// Wakes a writer that waits for room.
    drained: Condvar,
}

impl SharedSpool {
    /// A spool of at most `limit` bytes.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { spool: Mutex::new(Spool::new(limit)), filled: Notify::new(), drained: Condvar::new() }))
    }

    /// Does something with the spool, for the sender.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Spool) -> T) -> T {
        let outcome = act(&mut self.0.spool.lock());
        self.0.drained.notify_all();
        outcome
    }

    /// Takes whole lines at once; when the spool is full, the oldest go.
    pub(crate) fn push(&self, stream: Stream, lines: &[u8]) {
        self.0.spool.lock().push(stream, lines, now());
        self.0.filled.notify_one();
    }

    /// Takes whole lines; when the spool is full, waits for room as long as some line leaves within `patience`.
    pub(crate) fn push_patiently(&self, stream: Stream, lines: &[u8], patience: Duration) {
        let mut spool = self.0.spool.lock();
        // A piece larger than the whole spool would wait in vain.
        while !spool.has_room(lines.len().min(CHUNK_BYTES)) {
            let before = spool.bytes();
            let silent = self.0.drained.wait_while_for(&mut spool, |spool| spool.bytes() >= before, patience).timed_out();
            if silent {
                break;
            }
        }
        spool.push(stream, lines, now());
        drop(spool);
        self.0.filled.notify_one();
    }

    /// No more lines will come.
    pub(crate) fn end(&self) {
        self.0.spool.lock().end();
        self.0.filled.notify_one();
    }

    /// Resolves when something was pushed or ended since the last time.
    pub(crate) async fn filled(&self) {
        self.0.filled.notified().await;
    }
}

/// The time of day.
#[must_use]
pub(crate) fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_writer_waits_for_room_and_gives_up_when_nothing_moves() {
        let shared = SharedSpool::new(2_000);
        let line = format!("{}\n", "x".repeat(1_499));
        shared.push_patiently(Stream::Stdout, line.as_bytes(), Duration::from_millis(50));
        let start = Instant::now();
        shared.push_patiently(Stream::Stdout, line.as_bytes(), Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50));

        let shared = SharedSpool::new(2_000);
        shared.push_patiently(Stream::Stdout, line.as_bytes(), Duration::ZERO);
        let sender = {
            let shared = shared.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                shared.with(|spool| spool.meet(1, 0));
                shared.with(|spool| spool.take(Millis::MAX));
                shared.with(|spool| spool.answered(2, 1));
            })
        };
        shared.push_patiently(Stream::Stdout, line.as_bytes(), Duration::from_secs(20));
        assert_eq!(shared.with(|spool| spool.undelivered()), 1);
        sender.join().ok();
    }

    #[test]
    fn pushing_never_waits() {
        let shared = SharedSpool::new(10_000);
        let start = Instant::now();
        for _ in 0..10_000 {
            shared.push(Stream::Stdout, b"line\n");
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(shared.with(|spool| spool.bytes()) < 10_000 + CHUNK_BYTES);
    }
}
