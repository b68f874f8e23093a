//! The thread that syncs the line log and, after the sync, indexes what it covers. It stalls nobody: writes go on meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use crossbeam::sync::Unparker;

use tokio::sync::watch;

use super::StreamTail;
use crate::id::StepRunId;
use crate::store::index::{Index, LineUpdate};
use crate::store::segment::SegmentLog;
use crate::store::{Position, StoreError};

/// A sync is due before its time once this much waits for it, so that a restart has little to read again.
const MAX_UNSYNCED_BYTES: u64 = 16 << 20;

/// A log that has ended is synced after this time: who wrote it waits for that, to say that all of it is kept.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// One write that has returned.
pub(super) struct Written {
    /// The log's end after it.
    pub(super) end: Position,
    /// What it held.
    pub(super) updates: Vec<(Arc<StreamTail>, LineUpdate)>,
}

/// See the module.
pub(super) struct Syncer {
    pub(super) log: SegmentLog,
    pub(super) index: Arc<dyn Index>,
    pub(super) written: Receiver<Written>,
    pub(super) interval: Duration,
    pub(super) indexed: Arc<AtomicU64>,
    /// Tells followers of the log that more is synced and indexed.
    pub(super) synced: watch::Sender<Position>,
    pub(super) room: Unparker,
}

/// What has been written since the last sync.
#[derive(Default)]
pub(super) struct Unsynced {
    since: Option<Instant>,
    /// A log has ended.
    ended: bool,
    end: Position,
    streams: HashMap<StepRunId, (Arc<StreamTail>, LineUpdate)>,
}

impl Syncer {
    /// Runs until the writer is gone, then syncs what is left.
    pub(super) fn run(self) {
        let mut unsynced = Unsynced::default();
        loop {
            let open = self.gather(&mut unsynced);
            self.round(&mut unsynced);
            if !open {
                return;
            }
        }
    }

    /// Syncs and indexes what has been written since the last time, if anything has.
    pub(super) fn round(&self, unsynced: &mut Unsynced) {
        if unsynced.since.is_none() {
            return;
        }
        if let Err(error) = self.sync_and_index(unsynced) {
            tracing::error!(%error, "lines could not be made durable; no more input is taken until a restart");
            self.log.poison(format!("sync lines: {error}"));
        }
        self.room.unpark();
    }

    /// Waits until a sync is due. False once the writer is gone.
    fn gather(&self, unsynced: &mut Unsynced) -> bool {
        loop {
            let interval = if unsynced.ended { self.interval.min(END_INTERVAL) } else { self.interval };
            let message = match unsynced.since.map(|since| interval.saturating_sub(since.elapsed())) {
                None => self.written.recv().map_err(|_| RecvTimeoutError::Disconnected),
                // Not even a look at what has come meanwhile: a writer that is fast enough would put the sync off for ever.
                Some(Duration::ZERO) => return true,
                Some(left) => self.written.recv_timeout(left),
            };
            match message {
                Ok(written) => unsynced.add(written),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            if unsynced.end.saturating_sub(self.log.synced()) >= MAX_UNSYNCED_BYTES {
                return true;
            }
        }
    }

    fn sync_and_index(&self, unsynced: &mut Unsynced) -> Result<(), StoreError> {
        let started = Instant::now();
        let streams = std::mem::take(&mut unsynced.streams);
        (unsynced.since, unsynced.ended) = (None, false);
        // The log may have grown since; what this round indexes is what it has gathered, and the sync covers all of that.
        let covered = unsynced.end;
        let synced = self.log.sync()?;
        debug_assert!(covered <= synced, "a sync must cover what was written before it");
        metrics::histogram!("arcgate_sync_seconds", "log" => "lines").record(started.elapsed().as_secs_f64());
        let (tails, updates): (Vec<_>, Vec<_>) = streams.into_values().unzip();
        for (tail, update) in tails.iter().zip(&updates) {
            tail.mark_durable(update.record.next_line);
        }
        self.index.apply_lines(covered, &updates)?;
        self.indexed.store(covered, Ordering::Release);
        self.synced.send_replace(covered);
        for tail in tails {
            tail.forget_before(covered);
        }
        Ok(())
    }
}

impl Unsynced {
    pub(super) fn add(&mut self, written: Written) {
        self.since.get_or_insert_with(Instant::now);
        self.end = written.end;
        for (tail, update) in written.updates {
            self.ended |= update.record.ended;
            match self.streams.get_mut(&update.step_run) {
                Some((_, known)) => {
                    known.blocks.extend(update.blocks);
                    known.record = update.record;
                }
                None => {
                    self.streams.insert(update.step_run.clone(), (tail, update));
                }
            }
        }
    }
}
