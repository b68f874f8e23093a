//! The existing agent, as far as a gateway can see it: what it sends, how it reads the answer, and the defects of its own log.
//!
//! Every cycle it takes up to 100 records above its mark in the order of its file, sends them in a PushEvents call of their
//! own with a handshake, and reads nothing of the answer but `last_accepted_seq`. Without progress it sends the same again
//! at the next tick of 50 ms, without end.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use arcgate_api::gateway::v1::{Event, IngestAck};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{Outcome, events};

/// Its tick.
const TICK: Duration = Duration::from_millis(50);
/// Events in a call.
const WINDOW: usize = 100;

/// A record of its log.
#[derive(Debug, Clone)]
struct Record {
    seq: u64,
    /// `None`: a payload that could not be converted is sent empty.
    payload: Option<Value>,
}

/// An agent with its log.
#[derive(Debug)]
pub(crate) struct StockAgent {
    /// Its name.
    pub(crate) id: String,
    /// Its log in file order, which is not the order of the numbers.
    log: Vec<Record>,
    /// The highest number that it gave.
    last_seq: u64,
    /// Its mark: everything at or below is done, whether it was ever sent or not.
    pub(crate) mark: u64,
    /// What it has sent, ever, in this life of its log.
    sent: BTreeSet<u64>,
    /// Calls that it made.
    pub(crate) calls: u64,
}

impl StockAgent {
    /// An agent with an empty log.
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), log: Vec::new(), last_seq: 0, mark: 0, sent: BTreeSet::new(), calls: 0 }
    }

    /// Appends an event of that CloudEvent type and returns its number.
    pub(crate) fn append(&mut self, kind: &str, data: &Value) -> u64 {
        self.last_seq += 1;
        let payload = json!({
            "specversion": "1.0", "id": uuid::Uuid::new_v4().to_string(), "source": "urn:arcentra:executor:shell", "type": kind,
            "time": "2026-03-04T05:06:07.123456789+02:00", "datacontenttype": "application/json",
            "subject": "pipeline/p/step/build", "pipelineId": "p", "stepId": "build", "stepName": "build", "pluginName": "shell",
            "data": data,
        });
        self.log.push(Record { seq: self.last_seq, payload: Some(payload) });
        self.last_seq
    }

    /// Appends an event whose payload could not be converted.
    pub(crate) fn append_empty(&mut self) -> u64 {
        self.last_seq += 1;
        self.log.push(Record { seq: self.last_seq, payload: None });
        self.last_seq
    }

    /// Leaves a number out: a record that could not be read is skipped when sending.
    pub(crate) fn skip(&mut self) {
        self.last_seq += 1;
    }

    /// Swaps two records in the file: concurrent appends.
    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        self.log.swap(one, other);
    }

    /// The log was deleted and counts from 1 again; the mark's file was deleted too.
    pub(crate) fn reset(&mut self) {
        self.log.clear();
        self.sent.clear();
        self.last_seq = 0;
        self.mark = 0;
    }

    /// The agent was killed before it wrote its mark: what it knows is older than what the gateway answered.
    pub(crate) fn forget_mark(&mut self, mark: u64) {
        self.mark = mark;
    }

    /// Whether everything is acked.
    pub(crate) fn is_done(&self) -> bool {
        self.mark >= self.last_seq
    }

    /// The records that the mark has passed although they were never sent: lost by a mark that was too high.
    pub(crate) fn lost(&self) -> Vec<u64> {
        self.log.iter().map(|record| record.seq).filter(|seq| *seq <= self.mark && !self.sent.contains(seq)).collect()
    }

    /// One send cycle; `None` if there is nothing to send.
    pub(crate) async fn cycle(&mut self, channel: &Channel) -> Outcome<Option<IngestAck>> {
        let window: Vec<Record> = self.log.iter().filter(|record| record.seq > self.mark).take(WINDOW).cloned().collect();
        if window.is_empty() {
            // Nothing left but numbers without records: the real agent stalls here too, having nothing to send.
            self.mark = self.last_seq;
            return Ok(None);
        }
        self.calls += 1;
        self.sent.extend(window.iter().map(|record| record.seq));
        let batch = window.iter().map(|record| self.event(record)).collect();
        let ack = events::push(channel.clone(), &self.id, self.mark, batch).await?;
        self.mark = self.mark.max(ack.last_accepted_seq.min(self.last_seq));
        Ok(Some(ack))
    }

    /// Ticks until everything is acked; calls that fail are repeated at the next tick, as always.
    pub(crate) async fn run(&mut self, channel: &Channel) -> Outcome<()> {
        while !self.is_done() {
            // A failed call is no news to it: the same window goes out at the next tick.
            let _ = self.cycle(channel).await;
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    fn event(&self, record: &Record) -> Event {
        let mut event = events::event(&self.id, format!("evt-{}", record.seq), record.seq, "outbox", &Value::Null);
        event.payload = Some(record.payload.as_ref().map(events::payload).unwrap_or_default());
        if let Some(meta) = &mut event.meta {
            // The time of this attempt: it differs between repeats.
            meta.timestamp = Some(SystemTime::now().into());
        }
        event
    }
}
