//! One owner for each log stream: numbers lines, batches, wakes readers.
//!
//! The hash of the step run names one of N shards; a batch goes into that shard's bounded lock-free queue, and one thread owns
//! all the shard's streams. No lock anywhere in this folder (clippy bans them).
//!
//! Callers: [`crate::source`] submits; the worker hands blocks to [`crate::store::lines`].

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::id::StepRunId;
use crate::store::lines::LineAppender;

mod pending;
mod queue;
mod recent;
mod stream;
mod submission;
#[cfg(test)]
pub(crate) mod tests;
mod worker;

pub use submission::{Lost, MAX_LINE, Numbering, Outcome, Payload, Refusal, Submission};

use queue::Queue;
use worker::Worker;

/// How shards work.
#[derive(Debug, Clone, Copy)]
pub struct ShardSettings {
    /// How many there are, at least 1.
    pub shards: usize,
    /// The longest time that lines without a reader wait to be written.
    pub write_interval: Duration,
}

/// All shards. Dropping it closes them.
#[derive(Debug)]
pub struct Shards {
    queues: Vec<Arc<Queue>>,
}

/// The shards' threads.
pub struct ShardThreads(Vec<JoinHandle<()>>);

impl ShardThreads {
    /// Waits until all that was submitted has been handed to the store.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a shard's thread has panicked; what it had not written is lost");
            }
        }
    }
}

impl Shards {
    /// Starts the shards; they append to `lines`.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(lines: &LineAppender, settings: ShardSettings) -> std::io::Result<(Self, ShardThreads)> {
        let mut shards = Self { queues: Vec::new() };
        let mut threads = Vec::new();
        for number in 0..settings.shards.max(1) {
            let queue = Queue::new();
            let worker = Worker::new(Arc::clone(&queue), lines.clone(), settings);
            shards.queues.push(queue);
            threads.push(std::thread::Builder::new().name(format!("shard-{number}")).spawn(move || worker.run())?);
        }
        Ok((shards, ShardThreads(threads)))
    }

    /// Hands a batch to the shard that owns its stream; waits for room at most `patience`, for ever if `None`. The answer comes
    /// through [`Submission::reply`].
    ///
    /// # Errors
    /// The batch, if there was no room in time or the shards have closed.
    pub async fn submit(&self, batch: Submission, patience: Option<Duration>) -> Result<(), Submission> {
        self.queue_of(&batch.step_run).push(batch, patience).await
    }

    /// Takes no more batches.
    pub fn close(&self) {
        self.queues.iter().for_each(|queue| queue.close());
    }

    /// How many batches wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.len()).sum()
    }

    fn queue_of(&self, step_run: &StepRunId) -> &Queue {
        let mut hasher = Xxh3::new();
        step_run.hash(&mut hasher);
        &self.queues[(hasher.finish() % self.queues.len() as u64) as usize]
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.close();
    }
}
