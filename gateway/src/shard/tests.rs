//! A shard's worker driven by hand over the real line log: time, writes and syncs happen when a test says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod coalescing;
mod due;
mod events;
mod numbering;
mod property;
mod queue;
mod repeats;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::queue::Queue;
use super::worker::Worker;
use super::{Lost, Numbering, Outcome, Payload, Refusal, ShardSettings, Submission};
use crate::block::{Codec, OutputStream, Run};
use crate::decode::Piece;
use crate::store::Position;
use crate::store::lines::by_hand::{ByHand, Shown, id};

const SETTINGS: ShardSettings = ShardSettings { shards: 1, write_interval: Duration::from_millis(200) };

/// A worker and the line log beneath it.
struct Rig {
    log: ByHand,
    worker: Worker,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::over(ByHand::new(1))
    }

    fn over(log: ByHand) -> Self {
        let worker = Worker::new(Queue::new(), log.appender.clone(), SETTINGS);
        Self { log, worker, now: Instant::now() }
    }

    fn send(&mut self, mut batch: Submission) -> Result<Outcome, Refusal> {
        let (reply, mut answer) = oneshot::channel();
        batch.reply = reply;
        self.worker.take(batch, self.now);
        answer.try_recv().unwrap()
    }

    /// Taken, repeated, late, and the first number that is lacking.
    fn counts(&mut self, batch: Submission) -> [u64; 4] {
        let outcome = self.send(batch).unwrap();
        [outcome.taken, outcome.repeated, outcome.late, outcome.next_line]
    }

    fn refusal(&mut self, batch: Submission) -> String {
        self.send(batch).unwrap_err().to_string()
    }

    /// Writes all that waits; says whether that went well.
    fn flush(&mut self) -> bool {
        self.worker.flush(None);
        self.log.write()
    }

    fn texts(&mut self, step_run: &str) -> Vec<String> {
        self.flush();
        self.log.texts(step_run)
    }

    fn shown(&mut self, step_run: &str) -> Vec<Shown> {
        self.flush();
        self.log.shown(step_run)
    }

    /// Another process begins, with what the disk and the index hold now. What was not written is gone.
    fn restart(mut self) -> Self {
        self.log.reopen();
        Self::over(self.log)
    }
}

/// A batch of nothing, of agent `a`.
fn batch(step_run: &str, numbering: Numbering) -> Submission {
    Submission {
        step_run: id(step_run),
        agent: id("a"),
        pipeline_id: "".into(),
        numbering,
        payload: Payload::Lines(Vec::new()),
        lost: Lost::default(),
        end_of_log: false,
        arrived: 1000,
        wants_feeder: false,
        memory: None,
        reply: oneshot::channel().0,
    }
}

/// Lines that the gateway counts.
fn counted_here(step_run: &str, fingerprint: u64, text: &str) -> Submission {
    Submission { payload: lines(text), ..batch(step_run, Numbering::Gateway { fingerprint }) }
}

/// Lines that their agent counts.
fn counted_there(step_run: &str, first_line: u64, text: &str) -> Submission {
    Submission { payload: lines(text), ..batch(step_run, Numbering::Agent { first_line }) }
}

/// Lines of an event, each text a piece.
fn from_event(step_run: &str, position: Position, texts: &[&str]) -> Submission {
    let pieces = texts.iter().map(|text| piece(text, run(text, 1000))).collect();
    Submission { payload: Payload::Lines(pieces), ..batch(step_run, Numbering::Event { position }) }
}

fn lines(text: &str) -> Payload {
    Payload::Lines(vec![piece(text, run(text, 1000))])
}

/// One run for all lines of `text`.
fn run(text: &str, time: i64) -> Run {
    Run {
        lines: text.lines().count() as u32,
        time,
        stream: OutputStream::Stdout,
        truncated: false,
        level: "".into(),
        plugin: "".into(),
        agent: id("a"),
        seq: 1,
    }
}

fn piece(text: &str, run: Run) -> Piece {
    Piece {
        lines: run.lines,
        raw_bytes: text.len() as u32,
        codec: Codec::Plain,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        runs: vec![run],
        ends_with_newline: text.ends_with('\n'),
    }
}

/// As a batch that came compressed and is kept so.
fn zstd_piece(text: &str, run: Run) -> Piece {
    let bytes = zstd::bulk::compress(text.as_bytes(), 1).unwrap().into();
    Piece { codec: Codec::Zstd, bytes, ..piece(text, run) }
}

/// Waits until something is so, at most ten seconds.
fn wait_until(so: impl Fn() -> bool) {
    let by = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < by, "it did not come");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The line log's own record of a stream is what a rebuilt index says of it.
fn assert_rebuilt_alike(rig: Rig) -> Rig {
    let mut rig = rig;
    rig.flush();
    rig.log.sync();
    let before = rig.log.index.snapshot();
    rig.log.index.restore(Default::default());
    let rig = rig.restart();
    assert_eq!(rig.log.index.snapshot(), before);
    rig
}

fn arc(text: &str) -> Arc<str> {
    text.into()
}

/// A line that its agent counts, for other stations' tests.
pub(crate) fn numbered(step_run: &str, reply: oneshot::Sender<Result<Outcome, Refusal>>) -> Submission {
    Submission { reply, ..counted_there(step_run, 1, "numbered\n") }
}
