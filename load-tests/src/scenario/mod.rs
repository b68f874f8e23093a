//! The scenarios, and what they share: agents that keep a window of unanswered batches.

pub(crate) mod alone;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod logs;
pub(crate) mod replay;
pub(crate) mod sinks;
pub(crate) mod tail;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcgate_api::gateway::v1::IngestAck;
use arcgate_load::Outcome;
use clickhouse::Client;
use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, mpsc};

use crate::report::latencies;

/// What a row of one of the gateway's tables takes on disk, in bytes; `client` names the database.
pub(crate) async fn stored_in_clickhouse(client: &Client, table: &str) -> Outcome<f64> {
    let sql = "SELECT sum(data_compressed_bytes) / sum(rows) FROM system.parts \
               WHERE database = currentDatabase() AND table = ? AND active";
    Ok(client.query(sql).bind(table).fetch_one().await?)
}

/// When the load began and when it ends, and how fast it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// When the first batch is due.
    pub(crate) begin: Instant,
    /// No batch is sent after this.
    pub(crate) end: Instant,
    /// The time between two batches of one agent; `None`: as fast as they are acked.
    pub(crate) interval: Option<Duration>,
}

impl Pace {
    /// The pace of each of `agents` that send batches of `size`, at `rate` altogether.
    pub(crate) fn new(seconds: f64, rate: Option<f64>, size: usize, agents: usize) -> Self {
        let begin = Instant::now();
        let interval = rate.map(|rate| Duration::from_secs_f64((size * agents) as f64 / rate));
        Self { begin, end: begin + Duration::from_secs_f64(seconds), interval }
    }

    /// The pace of one of `agents`, with its batches due in turn with the others', not all at the same instant: agents know
    /// nothing of each other.
    pub(crate) fn of(self, agent: usize, agents: usize) -> Self {
        let shift = self.interval.unwrap_or_default().mul_f64(agent as f64 / agents as f64);
        Self { begin: self.begin + shift, end: self.end + shift, ..self }
    }

    /// Waits until batch number `index` is due and returns when that is; `None` once the load is over.
    ///
    /// With a rate, a batch that is sent late, because the gateway held the agent back, still counts from when it was due:
    /// otherwise a gateway that stalls would be asked less just then, and look better than it is (coordinated omission).
    pub(crate) async fn due(&self, index: u32) -> Option<Instant> {
        let due = match self.interval {
            Some(interval) => self.begin + interval * index,
            None => Instant::now(),
        };
        if due >= self.end || Instant::now() >= self.end + (self.end - self.begin) {
            return None;
        }
        tokio::time::sleep_until(due.into()).await;
        Some(due)
    }
}

/// What one agent's answers said, summed.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Lines or events newly accepted.
    pub(crate) taken: u64,
    /// Those that were dropped, late, repeated, or in rejected batches.
    pub(crate) lost: u64,
    /// From due to answered, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self { taken: 0, lost: 0, latency: latencies()? })
    }

    /// Notes the answer to a batch of `size` that was due at `due`.
    pub(crate) fn note(&mut self, ack: &IngestAck, due: Instant, size: u64) {
        self.taken += ack.taken;
        self.lost += size.saturating_sub(ack.taken);
        self.latency.saturating_record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) -> Outcome<()> {
        self.taken += other.taken;
        self.lost += other.lost;
        Ok(self.latency.add(&other.latency)?)
    }

    /// The faults of a run, for its report.
    pub(crate) fn faults(&self, unit: &str) -> Vec<String> {
        if self.lost == 0 { Vec::new() } else { vec![format!("{} {unit} not newly accepted", self.lost)] }
    }
}

/// The sending half's view of a window: a place is taken before a batch is sent, and given back by its answer.
#[derive(Debug)]
pub(crate) struct Window {
    places: Arc<Semaphore>,
    sent: mpsc::Sender<Instant>,
}

impl Window {
    /// A window of `size` unanswered batches, and what its answering half reads.
    pub(crate) fn new(size: usize) -> (Self, Answers) {
        let places = Arc::new(Semaphore::new(size));
        let (sent, due) = mpsc::channel(size);
        (Self { places: Arc::clone(&places), sent }, Answers { places, due })
    }

    /// Waits for a place for the batch that was due at `due`.
    pub(crate) async fn take(&self, due: Instant) -> Outcome<()> {
        self.places.acquire().await?.forget();
        Ok(self.sent.send(due).await?)
    }
}

/// The answering half of a [`Window`].
#[derive(Debug)]
pub(crate) struct Answers {
    places: Arc<Semaphore>,
    due: mpsc::Receiver<Instant>,
}

impl Answers {
    /// When the batch was due that is answered next; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Instant> {
        self.due.recv().await
    }

    /// Gives the place of an answered batch back.
    pub(crate) fn answered(&self) {
        self.places.add_permits(1);
    }
}
