//! What it costs to decode a batch of 1,000 lines: decompress, count the lines, make a piece of it.
//!
//! `cargo bench --bench decode`

use std::hint::black_box;
use std::io::Write;

use arcgate_api::gateway::v1::{LogRecord, LogRecords};
use arcgate_gateway::block::OutputStream;
use arcgate_gateway::budget::Budget;
use arcgate_gateway::decode::{BatchBytes, BufferPool, Compression, DecodeLimits, Decoder, Format};
use arcgate_gateway::id::Id;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::write::GzEncoder;
use prost::Message;

const LINES: usize = 1000;
/// Of a line, with its newline.
const LINE_BYTES: usize = 121;

/// Lines as a build writes them: some words again and again, some numbers, a path.
fn line(n: usize) -> String {
    const CRATES: [&str; 8] = ["serde", "tokio", "hyper", "bytes", "tracing", "prost", "memchr", "rustix"];
    let name = CRATES[n * 7 % CRATES.len()];
    let hash = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut line = format!("   Compiling {name} v1.{}.{} (/build/target/release/deps/{name}-{hash:016x}.rlib) ", n % 50, n % 9);
    line.push_str(&format!("in {}.{:03} s, {} units, codegen and link of a step", n % 13, n * 31 % 1000, n * 17 % 400));
    line.truncate(LINE_BYTES - 1);
    format!("{line:<width$}\n", width = LINE_BYTES - 1)
}

fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(raw).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn batches() -> Vec<(&'static str, Compression, Format, Vec<u8>)> {
    let text: Vec<u8> = (0..LINES).flat_map(|n| line(n).into_bytes()).collect();
    let record = |n: usize| LogRecord {
        timestamp_ms: 1_700_000_000_000 + n as i64 / 10,
        level: "info".into(),
        stream: "stdout".into(),
        plugin_name: "shell".into(),
        content: line(n).trim_end().to_owned().into(),
    };
    let records = LogRecords { records: (0..LINES).map(record).collect() }.encode_to_vec();
    let zstd = |raw: &[u8]| zstd::bulk::compress(raw, 3).unwrap_or_default();
    let frames: Vec<u8> = text.chunks(text.len() / 2 + 1).flat_map(zstd).collect();
    vec![
        ("zstd", Compression::Zstd, Format::Text, zstd(&text)),
        ("zstd_two_frames", Compression::Zstd, Format::Text, frames),
        ("gzip", Compression::Gzip, Format::Text, gzip(&text)),
        ("records_zstd", Compression::Zstd, Format::Records, zstd(&records)),
        ("records", Compression::None, Format::Records, records),
        ("raw", Compression::None, Format::Text, text),
    ]
}

fn decode(criterion: &mut Criterion) {
    let Ok(agent) = Id::parse("agent-1") else { return };
    let budget = Budget::new(64 << 20);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(8 << 20), budget.clone());
    let mut group = criterion.benchmark_group("decode");
    let (elements, bytes) = (LINES as u64, (LINES * LINE_BYTES) as u64);
    group.throughput(Throughput::ElementsAndBytes { elements, bytes });
    for (name, compression, format, data) in batches() {
        let batch = BatchBytes {
            compression,
            data: data.into(),
            raw_size: 0,
            format,
            stream: OutputStream::Stdout,
            level: "info".into(),
            plugin: "shell".into(),
            time: 0,
            agent: agent.clone(),
            seq: 1,
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let decoded = budget.try_take(0).map(|permit| decoder.decode(black_box(&batch), permit));
                assert!(decoded.is_some_and(|decoded| decoded.is_ok_and(|decoded| decoded.lines == elements)));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
