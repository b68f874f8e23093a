//! From the event log into the line log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::*;
use crate::access::AllowAll;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::decode::{BufferPool, DecodeLimits, Decoder};
use crate::shard::{ShardSettings, ShardThreads, Shards};
use crate::source::logs::LogIngest;
use crate::stop::Stopper;
use crate::store::Position;
use crate::store::SpaceGate;
use crate::store::disk::Disk;
use crate::store::disk::sim::SimDisk;
use crate::store::events::{Commit, EventLog, EventLogOptions, Incoming, IncomingEvent};
use crate::store::index::memory::MemoryIndex;
use crate::store::lines::by_hand::{ByHand, dir, options};
use crate::store::lines::{LineStore, LineThreads};
use crate::store::meta::StoreMeta;
use crate::store::segment::{LogKind, SegmentOptions};
use crate::tasklog::{CURSOR, TaskLog};

struct Gateway {
    disk: SimDisk,
    index: Arc<MemoryIndex>,
    meta: Arc<StoreMeta>,
    events: EventLog,
    store: Arc<LineStore>,
    logs: Arc<LogIngest>,
    threads: (ShardThreads, LineThreads),
    task: tokio::task::JoinHandle<()>,
    stopper: Stopper,
}

/// A gateway that makes lines of events, beginning at its cursor or, as if that had not been saved, `from` elsewhere.
fn start(disk: SimDisk, index: Arc<MemoryIndex>, from: Option<Position>) -> Gateway {
    let over: Arc<dyn Disk> = Arc::new(disk.clone());
    let meta = Arc::new(StoreMeta::open(&over, "/store".as_ref(), "boot").unwrap());
    let incarnation = meta.incarnation();
    let segments =
        SegmentOptions { kind: LogKind::Events, segment_bytes: 64 << 20, store_id: 7, incarnation, clock: Clock::manual(1) };
    let events =
        EventLogOptions { disk: Arc::clone(&over), dir: "/store/events".into(), segments, index: Arc::clone(&index) as _ };
    let events = EventLog::open(events).unwrap().0;
    let every = Duration::from_millis(2);
    let (store, appender, line_threads) =
        LineStore::open(over, dir(), options(incarnation, 16 << 20), Arc::clone(&index) as _, 1, every).unwrap();
    let (shards, shard_threads) = Shards::start(&appender, ShardSettings { shards: 2, write_interval: every }).unwrap();
    let limits = DecodeLimits { raw_bytes: 100 << 20, ..DecodeLimits::default() };
    let decoder = Decoder::new(limits, BufferPool::new(1 << 20), Budget::new(256 << 20));
    let logs = Arc::new(LogIngest {
        shards,
        store: Arc::clone(&store),
        gate: SpaceGate::new("/store".as_ref()),
        access: Arc::new(AllowAll),
        limits,
        decoder: decoder.clone(),
        patience: Duration::from_secs(1),
        clock: Clock::manual(1),
    });
    let reader = events.follow(from.unwrap_or(meta.cursor(CURSOR)));
    let task_log =
        TaskLog { events: reader, logs: Arc::clone(&logs), decoder, meta: Arc::clone(&meta), lookup: Arc::new(NoLookup) };
    let stopper = Stopper::default();
    let task = tokio::spawn(task_log.run(stopper.wish()));
    Gateway { disk, index, meta, events, store, logs, threads: (shard_threads, line_threads), task, stopper }
}

impl Gateway {
    fn new() -> Self {
        start(SimDisk::new(1), Arc::default(), None)
    }

    /// Stores events; says where the last one ends.
    async fn store(&self, events: impl IntoIterator<Item = Event>) -> Position {
        let incoming = events.into_iter().enumerate().map(|(seq, event)| {
            let raw = encode(&event);
            let name = format!("{seq}-{}", xxhash_rust::xxh3::xxh3_64(&raw));
            Incoming::Event(IncomingEvent { event_id: name.into(), seq: seq as u64 + 1, digest: 1, raw })
        });
        let (reply, fates) = oneshot::channel();
        let commit = Commit { agent: agent(), events: incoming.collect(), reply, positions: None, permit: None };
        self.events.submit(commit).await.unwrap();
        fates.await.unwrap().unwrap();
        *self.events.synced().borrow()
    }

    /// Waits until the cursor has come to `position`: all lines before are durable.
    async fn saved(&self, position: Position) {
        let by = Instant::now() + Duration::from_secs(30);
        while self.meta.cursor(CURSOR) < position {
            assert!(Instant::now() < by, "the cursor stands at {}", self.meta.cursor(CURSOR));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends in order, and gives back what is left to begin anew.
    async fn stop(self) -> (SimDisk, Arc<MemoryIndex>) {
        self.stopper.stop();
        self.task.await.unwrap();
        tokio::task::spawn_blocking(move || {
            self.logs.shards.close();
            self.threads.0.join();
            self.threads.1.join();
            self.events.close();
            (self.disk, self.index)
        })
        .await
        .unwrap()
    }
}

/// What is stored of a stream, once all is at rest.
fn texts(disk: &SimDisk, index: &Arc<MemoryIndex>, step_run: &str) -> Vec<String> {
    ByHand::open(disk.clone(), Arc::clone(index), 1, 1000).unwrap().texts(step_run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_become_lines_once_whatever_the_cursor_says() {
    let gateway = Gateway::new();
    let some = |from: u64| {
        (from..from + 300).map(|n| with_step_id(&format!("s{}", n % 3), log_event("stdout", &format!("{n}\nagain {n}\n"))))
    };
    let middle = gateway.store(some(0)).await;
    let end = gateway.store([event("arcentra.task.started", object([]))]).await;
    gateway.saved(end).await;
    let (mut disk, mut index) = gateway.stop().await;
    // Even if the cursor is saved too seldom, at any place, or not at all.
    for from in [Some(0), Some(middle), None] {
        let gateway = start(disk, index, from);
        let end = gateway.store(some(300 + from.unwrap_or(1) * 1000)).await;
        gateway.saved(end).await;
        (disk, index) = gateway.stop().await;
    }
    for stream in 0..3 {
        let lines = texts(&disk, &index, &format!("s{stream}"));
        assert_eq!(lines.len(), 4 * 200);
        let mut once = lines.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), lines.len(), "none twice");
        assert_eq!(
            lines[..4],
            [format!("{stream}"), format!("again {stream}"), format!("{}", stream + 3), format!("again {}", stream + 3)]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_midst_loses_and_doubles_nothing() {
    const EVENTS: u64 = 3_000;
    let gateway = Gateway::new();
    let end = gateway.store((0..EVENTS).map(|n| with_step_id("s", log_event("stdout", &format!("{n}\n"))))).await;
    let (mut disk, mut index) = gateway.stop().await;
    loop {
        let gateway = start(disk, index, None);
        tokio::time::sleep(Duration::from_millis(3)).await;
        let done = gateway.meta.cursor(CURSOR) >= end;
        (disk, index) = gateway.stop().await;
        if done {
            break;
        }
    }
    assert_eq!(texts(&disk, &index, "s"), (0..EVENTS).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_event_is_cut_into_blocks() {
    let gateway = Gateway::new();
    let line = |n: u64| format!("line {n} {}", "x".repeat(90));
    let content: String = (0..100_000).map(|n| line(n) + "\n").collect();
    let end =
        gateway.store([with_step_id("s", log_event("stdout", &content)), with_step_id("s", log_event("stderr", "last"))]).await;
    gateway.saved(end).await;
    let (disk, index) = gateway.stop().await;
    let gateway = start(disk, index, Some(0));
    let end = gateway.store([with_step_id("s", event("arcentra.step.completed", object([])))]).await;
    gateway.saved(end).await;
    let step_run = Id::parse("s").unwrap();
    assert!(gateway.store.tail(&step_run).unwrap().is_ended());
    assert!(gateway.store.blocks_from(&step_run, 1, 100).unwrap().len() >= 4);
    let (disk, index) = gateway.stop().await;
    let texts = texts(&disk, &index, "s");
    assert_eq!(texts.len(), 100_001);
    assert!(texts.iter().take(100_000).enumerate().all(|(n, text)| *text == line(n as u64)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_stream_that_its_agent_counts_add_nothing_but_its_end() {
    let gateway = Gateway::new();
    let (reply, answer) = oneshot::channel();
    let numbered = crate::shard::tests::numbered("s", reply);
    gateway.logs.shards.submit(numbered, None).await.unwrap();
    answer.await.unwrap().unwrap();
    let events = [log_event("stdout", "x\n"), event("arcentra.step.completed", object([])), log_event("stdout", "y\n")];
    let end = gateway.store(events.map(|event| with_step_id("s", event))).await;
    gateway.saved(end).await;
    assert!(gateway.store.tail(&Id::parse("s").unwrap()).unwrap().is_ended());
    let (disk, index) = gateway.stop().await;
    assert_eq!(texts(&disk, &index, "s"), ["numbered"]);
}
