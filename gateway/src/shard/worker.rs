//! A shard's thread: it alone owns its streams, so numbering, coalescing and flushing need no lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ShardSettings;
use super::queue::Queue;
use super::recent::Recent;
use super::stream::{Counts, Stream};
use super::submission::{Numbering, Outcome, Payload, Refusal, Submission};
use crate::id::StepRunId;
use crate::store::lines::LineAppender;

/// A stream with readers is written at least this often, and so is the end of each.
pub(super) const READER_INTERVAL: Duration = Duration::from_millis(2);

/// Once this much waits in a shard, all of it is written: it pays for a write, and is a bound on what waits.
pub(super) const FLUSH_BYTES: usize = 1 << 20;

/// Batches taken before the worker looks at what is due.
const BATCHES_A_ROUND: usize = 64;

/// A stream that nobody has used for this long leaves memory.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Worker {
    pub(super) queue: Arc<Queue>,
    pub(super) lines: LineAppender,
    pub(super) settings: ShardSettings,
    pub(super) streams: HashMap<StepRunId, Stream>,
    recent: Recent,
    /// Streams with something to write, by when it is due: those with readers or at their end, and the others. Each is in order, as the delay
    /// within one is always the same.
    due_soon: VecDeque<(Instant, StepRunId)>,
    due_later: VecDeque<(Instant, StepRunId)>,
    waiting_bytes: usize,
    next_sweep: Instant,
}

impl Worker {
    pub(super) fn new(queue: Arc<Queue>, lines: LineAppender, settings: ShardSettings) -> Self {
        Self {
            queue,
            lines,
            settings,
            streams: HashMap::new(),
            recent: Recent::new(settings.shards),
            due_soon: VecDeque::new(),
            due_later: VecDeque::new(),
            waiting_bytes: 0,
            next_sweep: Instant::now() + IDLE,
        }
    }

    /// Runs until the queue is closed and empty, then writes what is left.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            let mut taken = 0;
            while taken < BATCHES_A_ROUND
                && let Some(batch) = self.queue.pop()
            {
                self.take(batch, now);
                taken += 1;
            }
            if self.waiting_bytes >= FLUSH_BYTES {
                self.flush(None);
            } else {
                self.flush(Some(Instant::now()));
            }
            if taken > 0 {
                continue;
            }
            if self.queue.is_drained() {
                self.flush(None);
                return;
            }
            self.release_idle(now);
            self.queue.sleep(self.next_due());
        }
    }

    pub(super) fn take(&mut self, mut batch: Submission, now: Instant) {
        let outcome = self.add(&mut batch, now);
        // Nobody may listen any more; what was taken stays taken.
        let _ = batch.reply.send(outcome);
    }

    fn add(&mut self, batch: &mut Submission, now: Instant) -> Result<Outcome, Refusal> {
        self.lines.store().accepts()?;
        let stream = match self.streams.get_mut(&batch.step_run) {
            Some(stream) => stream,
            None => {
                let stream = Stream::load(self.lines.store(), &batch.step_run, now)?;
                self.streams.entry(batch.step_run.clone()).or_insert(stream)
            }
        };
        stream.last_used = now;
        let before = stream.pending.bytes();
        let mut counts = Counts::default();
        let fingerprint = fingerprint_of(batch);
        let repeats = fingerprint.is_some_and(|it| self.recent.has(&batch.step_run, it, batch.arrived));
        if repeats {
            // What it says beside its lines may be new.
            counts.repeated = batch.payload.lines();
            batch.payload = Payload::Lines(Vec::new());
            batch.memory = None;
        }
        if !batch.is_question() {
            let added = stream.add(batch, self.lines.store().epoch())?;
            counts.taken += added.taken;
            counts.repeated += added.repeated;
            counts.late += added.late;
        }
        if let Some(fingerprint) = fingerprint
            && !repeats
        {
            self.recent.remember(&batch.step_run, fingerprint, batch.arrived);
        }
        self.waiting_bytes += stream.pending.bytes() - before;
        let outcome = Outcome {
            taken: counts.taken,
            repeated: counts.repeated,
            late: counts.late,
            next_line: stream.next_line(),
            next_durable: stream.tail.next_durable(),
            feeder: batch.wants_feeder.then(|| stream.tail.enter_feeder()),
            tail: Arc::clone(&stream.tail),
        };
        if stream.is_dirty() {
            // At the end of a log nothing comes that its last lines could be written with, and somebody may look for them now.
            let soon = stream.tail.has_readers() || batch.end_of_log;
            let due = now + if soon { READER_INTERVAL } else { self.settings.write_interval };
            if stream.pending.due.is_none_or(|known| due < known) {
                stream.pending.due = Some(due);
                let queue = if soon { &mut self.due_soon } else { &mut self.due_later };
                queue.push_back((due, batch.step_run.clone()));
            }
        }
        Ok(outcome)
    }

    pub(super) fn next_due(&self) -> Instant {
        let due = [self.due_soon.front(), self.due_later.front()];
        due.into_iter().flatten().map(|(due, _)| *due).chain([self.next_sweep]).min().unwrap_or(self.next_sweep)
    }

    /// Writes what is due at `now`, or everything.
    pub(super) fn flush(&mut self, now: Option<Instant>) {
        let mut writes = Vec::new();
        for queue in [&mut self.due_soon, &mut self.due_later] {
            while queue.front().is_some_and(|(due, _)| now.is_none_or(|now| *due <= now)) {
                let Some((_, step_run)) = queue.pop_front() else { break };
                let Some(stream) = self.streams.get_mut(&step_run) else { continue };
                if stream.is_dirty() {
                    self.waiting_bytes -= stream.pending.bytes();
                    writes.extend(stream.take(&step_run, self.lines.store().epoch()));
                }
            }
        }
        if writes.is_empty() {
            return;
        }
        if let Err(error) = self.lines.append(writes) {
            tracing::error!(%error, "lines that had been taken are lost");
            // Else later lines would be taken, to be lost as well, and would get numbers as if these were there.
            self.lines.store().log().poison("hand lines to the thread that writes them");
        }
    }

    /// Lets go of streams that nobody uses, so that memory follows what is open and not what ever was.
    pub(super) fn release_idle(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + IDLE;
        let Self { streams, lines, .. } = self;
        streams.retain(|step_run, stream| {
            let in_use = now.duration_since(stream.last_used) < IDLE
                || stream.is_dirty()
                || stream.tail.next_durable() < stream.next_line()
                || stream.tail.snapshot().blocks().next().is_some();
            // A reader may hold it, or a write that is under way: then it stays, so that both see what is added to it.
            in_use || !lines.store().release(step_run, &stream.tail)
        });
    }
}

impl Drop for Worker {
    /// However it ends: who waits for an answer or for room hears that there will be none.
    fn drop(&mut self) {
        self.queue.close();
        while self.queue.pop().is_some() {}
    }
}

/// What the batch is recognised by when it comes again, if the gateway counts its lines. One that could not be read counts too.
fn fingerprint_of(batch: &Submission) -> Option<u64> {
    match batch.numbering {
        Numbering::Gateway { fingerprint } if batch.brings_something() => Some(fingerprint),
        _ => None,
    }
}
