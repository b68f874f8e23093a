//! Lines expire; numbers do not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;

use super::{Open, PLENTY, SETTINGS, World, soon};
use crate::block::{Codec, OutputStream, Run};
use crate::decode::Piece;
use crate::id::{Id, StepRunId};
use crate::shard::{Lost, Numbering, Outcome, Payload, ShardSettings, ShardThreads, Shards, Submission};
use crate::store::index::{Index, StreamRecord};
use crate::store::lines::StreamWrite;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

struct Sender {
    shards: Shards,
    threads: ShardThreads,
    runtime: tokio::runtime::Runtime,
    random: StdRng,
}

impl Sender {
    fn to(open: &Open) -> Self {
        let settings = ShardSettings { shards: 1, write_interval: Duration::from_millis(1) };
        let (shards, threads) = Shards::start(&open.appender, settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { shards, threads, runtime, random: StdRng::seed_from_u64(1) }
    }

    /// Sends so many lines of `size` bytes to a stream, and waits until they are durable.
    fn send(&mut self, step_run: &str, lines: u32, size: usize, end_of_log: bool) -> Outcome {
        let mut text = Vec::new();
        for _ in 0..lines {
            text.extend((0..size).map(|_| self.random.random_range(b'!'..b'~')));
            text.push(b'\n');
        }
        let run = Run {
            lines,
            time: 1,
            stream: OutputStream::Stdout,
            truncated: false,
            level: "".into(),
            plugin: "".into(),
            agent: id("agent"),
            seq: 1,
        };
        let piece = Piece {
            lines,
            raw_bytes: text.len() as u32,
            codec: Codec::Plain,
            bytes: Bytes::from(text),
            runs: vec![run],
            ends_with_newline: true,
        };
        let (reply, answer) = oneshot::channel();
        let batch = Submission {
            step_run: id(step_run),
            agent: id("agent"),
            pipeline_id: "pipeline".into(),
            numbering: Numbering::Gateway { fingerprint: self.random.random() },
            payload: Payload::Lines(if lines > 0 { vec![piece] } else { vec![] }),
            lost: Lost::default(),
            end_of_log,
            arrived: 1,
            wants_feeder: false,
            memory: None,
            reply,
        };
        let outcome = self.runtime.block_on(async {
            self.shards.submit(batch, None).await.unwrap();
            answer.await.unwrap().unwrap()
        });
        let next = outcome.next_line;
        soon(|| outcome.tail.next_durable() >= next);
        outcome
    }

    /// Sends to `filler` until the log has `count` more segments.
    fn fill(&mut self, open: &Open, count: usize) {
        let before = open.lines.log().segments().last().unwrap().start;
        let newer = || open.lines.log().segments().iter().filter(|segment| segment.start > before).count();
        while newer() < count {
            self.send("filler", 1, 1500, false);
        }
    }

    fn close(self) {
        self.shards.close();
        self.threads.join();
    }
}

fn record(open: &Open, step_run: &str) -> Option<StreamRecord> {
    open.lines.stream(&id(step_run)).unwrap()
}

/// What is there is in the index.
fn settle(world: &World, open: &Open) {
    soon(|| world.index.indexed(crate::store::index::LogKind::Lines).unwrap() == open.lines.log().appended());
}

#[test]
fn i6_lines_expire_and_numbering_goes_on_even_without_an_index() {
    let mut world = World::new();
    let open = world.open(SETTINGS);
    let mut sender = Sender::to(&open);
    sender.send("going on", 10, 20, false);
    sender.send("ended", 10, 20, true);
    sender.fill(&open, 2);
    sender.close();
    open.close();

    // In time the marks of earlier rounds expire too, and are made again.
    let mut marks = Vec::new();
    for round in 0..4 {
        let mut open = world.open(SETTINGS);
        open.keeper.pass(PLENTY);
        let start = open.lines.log().start();
        world.pass_time(50);
        let mut sender = Sender::to(&open);
        sender.fill(&open, 2);
        settle(&world, &open);
        open.keeper.pass(PLENTY);
        assert!(open.lines.log().start() > start, "round {round}: lines expire");
        assert!(open.lines.blocks_from(&id("going on"), 1, 10).unwrap().is_empty());
        let known = record(&open, "going on").unwrap();
        assert!(known.newest >= open.lines.log().start(), "round {round}: its mark is newer than what went");
        marks.push(known.newest);
        assert_eq!((known.next_line, known.lines, &*known.pipeline_id), (11, 10, "pipeline"));
        assert_eq!(record(&open, "ended"), None, "what has ended is forgotten with its lines");
        sender.close();
        open.close();
    }

    world.lose_index();
    let open = world.open(SETTINGS);
    assert!(open.lines.log().start() > marks[0], "the first mark has expired");
    let known = record(&open, "going on").unwrap();
    assert_eq!((known.next_line, known.lines, &*known.pipeline_id), (11, 10, "pipeline"));
    let mut sender = Sender::to(&open);
    assert_eq!(sender.send("going on", 5, 20, false).next_line, 16);
    let blocks = open.lines.blocks_from(&id("going on"), 1, 10).unwrap();
    assert_eq!(blocks.first().map(|block| block.place.first_line), Some(11));
    sender.close();
    open.close();
}

#[test]
fn an_ended_stream_that_is_in_memory_may_yet_be_added_to() {
    let world = World::new();
    let mut open = world.open(SETTINGS);
    let mut sender = Sender::to(&open);
    sender.send("ended", 10, 20, true);
    sender.fill(&open, 2);
    settle(&world, &open);
    open.keeper.pass(PLENTY);
    world.pass_time(50);
    sender.fill(&open, 2);
    settle(&world, &open);
    open.keeper.pass(PLENTY);
    assert!(open.lines.log().start() > 0);
    assert_eq!(record(&open, "ended").map(|record| (record.next_line, record.ended)), Some((11, true)));
    assert_eq!(sender.send("ended", 1, 20, false).next_line, 12);
    sender.close();
    open.close();
}

#[test]
fn a_mark_of_what_is_known_no_longer_takes_nothing_back() {
    let mut world = World::new();
    let open = world.open(SETTINGS);
    let mut sender = Sender::to(&open);
    let outcome = sender.send("live", 10, 20, false);
    let stale = record(&open, "live").unwrap();
    sender.send("live", 5, 20, true);
    let tail = Arc::clone(&outcome.tail);
    let step_run: StepRunId = id("live");
    let mark = StreamWrite { step_run, tail, blocks: Vec::new(), record: stale, mark: true, arrived: 0, memory: Vec::new() };
    let before = open.lines.log().appended();
    open.appender.append(vec![mark]).unwrap();
    soon(|| record(&open, "live").unwrap().newest >= before);
    let joined = record(&open, "live").unwrap();
    assert_eq!((joined.next_line, joined.lines, joined.ended), (16, 15, true));
    settle(&world, &open);
    assert_eq!(world.index.stream(&id("live")).unwrap(), Some(joined.clone()));
    sender.close();
    open.close();
    world.lose_index();
    let open = world.open(SETTINGS);
    assert_eq!(record(&open, "live"), Some(joined), "the index made anew says the same");
    open.close();
}

#[test]
fn numbers_hold_while_shards_write_and_retention_removes() {
    let world = World::new();
    let mut open = world.open(SETTINGS);
    let mut sender = Sender::to(&open);
    for round in 0..20 {
        for line in 0..5 {
            let outcome = sender.send("live", 1, 700, false);
            assert_eq!(outcome.next_line, 2 + round * 5 + line);
        }
        world.pass_time(50);
        open.keeper.pass(PLENTY);
        assert_eq!(record(&open, "live").unwrap().next_line, 1 + (round + 1) * 5);
    }
    assert!(open.lines.log().start() > 0);
    sender.close();
    open.close();
}

#[test]
fn streams_that_nobody_holds_leave_memory() {
    let world = World::new();
    let mut open = world.open(SETTINGS);
    let held = open.lines.tail(&id("held")).unwrap();
    drop(open.lines.tail(&id("left")).unwrap());
    assert_eq!(open.lines.open_streams(), 2);
    open.keeper.pass(PLENTY);
    assert_eq!(open.lines.open_streams(), 1);
    drop(held);
    open.close();
}
