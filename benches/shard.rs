//! What it costs from a decoded batch to its write: hand it to its shard, number it, coalesce or keep it, append it to the line log.
//!
//! `cargo bench --bench shard`
#![allow(clippy::unwrap_used, reason = "a bench that cannot begin may fail loudly")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcgate_gateway::block::{Codec, OutputStream, Run};
use arcgate_gateway::clock::Clock;
use arcgate_gateway::decode::Piece;
use arcgate_gateway::id::Id;
use arcgate_gateway::shard::{Lost, Numbering, Payload, ShardSettings, Shards, Submission};
use arcgate_gateway::store::disk::RealDisk;
use arcgate_gateway::store::index::FjallIndex;
use arcgate_gateway::store::lines::{LineStore, StreamTail};
use arcgate_gateway::store::segment::{LogKind, SegmentOptions};
use arcgate_load::text::BuildLog;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const STREAMS: u64 = 16;
/// What is written is removed again after so many batches.
const KEPT: u64 = 4096;

/// A batch as decoding leaves it.
struct Batch {
    lines: u32,
    raw_bytes: u32,
    codec: Codec,
    bytes: Bytes,
}

impl Batch {
    fn new(lines: usize, codec: Codec) -> Self {
        let text = BuildLog::new(1).lines(lines);
        let raw_bytes = text.len() as u32;
        let bytes = if codec == Codec::Zstd { zstd::bulk::compress(text.as_bytes(), 1).unwrap().into() } else { text.into() };
        Self { lines: lines as u32, raw_bytes, codec, bytes }
    }

    fn submission(&self, number: u64) -> (Submission, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let agent = Id::parse("agent").unwrap();
        let run = Run {
            lines: self.lines,
            time: 0,
            stream: OutputStream::Stdout,
            truncated: false,
            level: "".into(),
            plugin: "".into(),
            agent: agent.clone(),
            seq: 1,
        };
        let Self { lines, raw_bytes, codec, .. } = *self;
        let piece = Piece { lines, raw_bytes, codec, bytes: self.bytes.clone(), runs: vec![run], ends_with_newline: true };
        let submission = Submission {
            step_run: Id::parse(&format!("step-{}", number % STREAMS)).unwrap(),
            agent,
            pipeline_id: "".into(),
            numbering: Numbering::Gateway { fingerprint: number },
            payload: Payload::Lines(vec![piece]),
            lost: Lost::default(),
            end_of_log: false,
            arrived: 0,
            wants_feeder: false,
            memory: None,
            reply,
        };
        (submission, answer)
    }
}

type Answer = Result<arcgate_gateway::shard::Outcome, arcgate_gateway::shard::Refusal>;

/// Submits `count` batches and returns once the last line of each stream is written.
async fn push(shards: &Shards, store: &LineStore, batch: &Batch, first: u64, count: u64) {
    let mut newest: Vec<Option<oneshot::Receiver<Answer>>> = (0..STREAMS).map(|_| None).collect();
    for number in first..first + count {
        let (submission, answer) = batch.submission(number);
        assert!(shards.submit(submission, None).await.is_ok());
        newest[(number % STREAMS) as usize] = Some(answer);
        if number % KEPT == 0 {
            store.log().trim(store.log().synced()).unwrap();
        }
    }
    for answer in newest.into_iter().flatten() {
        let outcome = answer.await.unwrap().unwrap();
        written(&outcome.tail, outcome.next_line).await;
    }
}

async fn written(tail: &Arc<StreamTail>, next_line: u64) {
    loop {
        let mut changed = std::pin::pin!(tail.changed());
        changed.as_mut().enable();
        if tail.next_written() >= next_line {
            return;
        }
        changed.await;
    }
}

fn shard(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("shard");
    let cases = [
        ("zstd", Batch::new(1000, Codec::Zstd)),
        ("raw", Batch::new(1000, Codec::Plain)),
        ("small", Batch::new(10, Codec::Plain)),
        ("one_line", Batch::new(1, Codec::Plain)),
    ];
    for (name, batch) in cases {
        let folder = tempfile::tempdir().unwrap();
        let options =
            SegmentOptions { kind: LogKind::Lines, segment_bytes: 64 << 20, store_id: 1, incarnation: 1, clock: Clock::system() };
        let index = Arc::new(FjallIndex::open(&folder.path().join("index"), 16 << 20).unwrap());
        let (store, appender, line_threads) =
            LineStore::open(Arc::new(RealDisk), &folder.path().join("lines"), options, index, 1, Duration::from_secs(1)).unwrap();
        let settings = ShardSettings { shards: 2, write_interval: Duration::from_millis(1) };
        let (shards, shard_threads) = Shards::start(&appender, settings).unwrap();
        drop(appender);
        let mut pushed = 0;
        group.throughput(Throughput::Elements(u64::from(batch.lines)));
        group.bench_function(BenchmarkId::new("submit_to_written", name), |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                runtime.block_on(push(&shards, &store, &batch, pushed, count));
                pushed += count;
                began.elapsed()
            });
        });
        shards.close();
        shard_threads.join();
        line_threads.join();
    }
    group.finish();
}

criterion_group!(benches, shard);
criterion_main!(benches);
