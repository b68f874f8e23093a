//! I10: the way of a batch through its shard into the line log allocates per batch, never per line: decoding, numbering, waiting,
//! compressing and writing 10,000 lines takes as many allocations, in all threads together, as 1,000.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arcgate_gateway::block::OutputStream;
use arcgate_gateway::budget::Budget;
use arcgate_gateway::clock::Clock;
use arcgate_gateway::decode::{BatchBytes, BufferPool, Compression, DecodeLimits, Decoder, Format};
use arcgate_gateway::id::Id;
use arcgate_gateway::shard::{Lost, Numbering, Payload, ShardSettings, Shards, Submission};
use arcgate_gateway::store::disk::RealDisk;
use arcgate_gateway::store::index::FjallIndex;
use arcgate_gateway::store::lines::LineStore;
use arcgate_gateway::store::segment::{LogKind, SegmentOptions};
use arcgate_load::Outcome;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Of all threads: this file has one test only.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[expect(unsafe_code, reason = "the allocator's interface is unsafe; this only counts and passes on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Batches sent of each kind. What a batch takes is the least that any took: now and then a list somewhere grows.
const ROUNDS: u64 = 30;

struct Way {
    runtime: Runtime,
    decoder: Decoder,
    budget: Budget,
    shards: Shards,
}

impl Way {
    /// The allocations of one batch of so many lines, from its bytes to the moment when readers can see it.
    fn allocations(&self, lines: u64, compression: Compression) -> Outcome<u64> {
        // Long enough for 1,000 of them not to be coalesced.
        let text: String = (0..lines).map(|n| format!("line {n:>6} of a build {:>80}\n", n * n)).collect();
        let data = if compression == Compression::Zstd { zstd::bulk::compress(text.as_bytes(), 1)? } else { text.into() };
        let agent = Id::parse("agent")?;
        let step_run = Id::parse(&format!("{compression:?}-{lines}"))?;
        let batch = BatchBytes {
            compression,
            data: data.into(),
            raw_size: 0,
            format: Format::Text,
            stream: OutputStream::Stdout,
            level: "info".into(),
            plugin: "shell".into(),
            time: 0,
            agent: agent.clone(),
            seq: 1,
        };
        let pipeline_id: Arc<str> = "pipeline".into();
        let mut least = u64::MAX;
        for fingerprint in 0..ROUNDS {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            let decoded = self.decoder.decode(&batch, self.budget.try_take(4 << 20).ok_or("no memory")?)?;
            let (reply, answer) = oneshot::channel();
            let submission = Submission {
                step_run: step_run.clone(),
                agent: agent.clone(),
                pipeline_id: Arc::clone(&pipeline_id),
                numbering: Numbering::Gateway { fingerprint },
                payload: Payload::Lines(decoded.pieces),
                lost: Lost::default(),
                end_of_log: false,
                arrived: 0,
                wants_feeder: false,
                memory: Some(decoded.memory),
                reply,
            };
            self.runtime.block_on(async {
                self.shards.submit(submission, None).await.map_err(|_| "not taken")?;
                let outcome = answer.await??;
                loop {
                    let mut changed = std::pin::pin!(outcome.tail.changed());
                    changed.as_mut().enable();
                    if outcome.tail.next_written() >= outcome.next_line {
                        return Outcome::Ok(());
                    }
                    changed.await;
                }
            })?;
            least = least.min(ALLOCATIONS.load(Ordering::SeqCst) - before);
        }
        Ok(least)
    }
}

#[test]
fn i10_ten_thousand_lines_are_stored_with_no_more_allocations_than_one_thousand() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let options =
        SegmentOptions { kind: LogKind::Lines, segment_bytes: 256 << 20, store_id: 1, incarnation: 1, clock: Clock::system() };
    let index = Arc::new(FjallIndex::open(&folder.path().join("index"), 1 << 20)?);
    // The sync and the index come after the log path, and not within this test.
    let (_, appender, line_threads) =
        LineStore::open(Arc::new(RealDisk), &folder.path().join("lines"), options, index, 1, Duration::from_secs(3600))?;
    let (shards, shard_threads) = Shards::start(&appender, ShardSettings { shards: 1, write_interval: Duration::ZERO })?;
    drop(appender);
    let budget = Budget::new(64 << 20);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(16 << 20), budget.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let way = Way { runtime, decoder, budget, shards };
    for compression in [Compression::Zstd, Compression::None] {
        let (few, many) = (way.allocations(1_000, compression)?, way.allocations(10_000, compression)?);
        println!("{compression:?}: {few} allocations for 1,000 lines, {many} for 10,000");
        // Whether a thread is met waiting or at work makes a difference of one or two.
        assert!(few.abs_diff(many) <= 2, "{compression:?}: {few} and {many}");
        assert!(few < 100, "{compression:?}: {few} allocations a batch");
    }
    way.shards.close();
    shard_threads.join();
    line_threads.join();
    Ok(())
}
