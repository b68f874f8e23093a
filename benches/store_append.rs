//! What it costs to append blocks to a segment log: 36 of 30 KB a write, as the line log does under load, and small ones.
//!
//! `cargo bench --bench store_append`
#![allow(clippy::unwrap_used, reason = "a bench that cannot begin may fail loudly")]

use std::sync::Arc;

use arcgate_gateway::clock::Clock;
use arcgate_gateway::store::disk::RealDisk;
use arcgate_gateway::store::segment::{FrameDraft, FrameKind, LogKind, SegmentLog, SegmentOptions};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A block's header and its bytes.
const HEADER_BYTES: usize = 120;

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store_append");
    for (name, blocks, size) in [("36_of_30KB", 36, 30_000), ("36_of_300B", 36, 300), ("1_of_30KB", 1, 30_000)] {
        let folder = tempfile::tempdir().unwrap();
        let options = SegmentOptions {
            kind: LogKind::Lines,
            segment_bytes: 256 << 20,
            store_id: 1,
            incarnation: 1,
            clock: Clock::system(),
        };
        let (log, mut writer, _) = SegmentLog::open(Arc::new(RealDisk), folder.path(), options, 0, &mut |_| Ok(())).unwrap();
        // What zstd leaves of text looks like noise.
        let noise = (0..size as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect::<Bytes>();
        let parts = [noise.slice(..HEADER_BYTES), noise];
        let drafts = vec![FrameDraft { kind: FrameKind(0x81), parts: &parts }; blocks];
        let mut positions = Vec::with_capacity(blocks);
        group.throughput(Throughput::Bytes((blocks * (HEADER_BYTES + size)) as u64));
        // Segments that are full are synced, as in the gateway, and then removed.
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                positions.clear();
                writer.append(&drafts, &mut positions).unwrap();
                log.trim(log.appended()).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
