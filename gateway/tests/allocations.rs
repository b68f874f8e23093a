//! I10: nothing is allocated per line. As many allocations for 10,000 lines as for 1,000, whatever the batch looks like.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use allocation_counter::measure;
use arcgate_api::gateway::v1::{LogRecord, LogRecords};
use arcgate_gateway::block::lines::LineReader;
use arcgate_gateway::block::{Block, Content, OutputStream};
use arcgate_gateway::budget::Budget;
use arcgate_gateway::decode::{BatchBytes, BufferPool, Compression, DecodeLimits, Decoded, Decoder, Format};
use arcgate_gateway::id::Id;
use flate2::write::GzEncoder;
use prost::Message;

fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("   Compiling crate-number-{n:<6} {:<80}\n", n * 7919).into_bytes()).collect()
}

/// Each record of a time of its own: the most that records can differ.
fn records(lines: usize) -> Vec<u8> {
    let record = |n: usize| LogRecord {
        timestamp_ms: 1_700_000_000_000 + n as i64,
        level: ["info", "warn"][n % 2].into(),
        stream: ["stdout", "stderr"][n % 2].into(),
        plugin_name: "shell".into(),
        content: format!("line {n}").into(),
    };
    LogRecords { records: (0..lines).map(record).collect() }.encode_to_vec()
}

fn zstd(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).unwrap()
}

fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

fn batch(compression: Compression, format: Format, data: Vec<u8>) -> BatchBytes {
    BatchBytes {
        compression,
        data: data.into(),
        raw_size: 0,
        format,
        stream: OutputStream::Stdout,
        level: "info".into(),
        plugin: "shell".into(),
        time: 0,
        agent: Id::parse("agent-1").unwrap(),
        seq: 1,
    }
}

/// The kinds of batches, each with this many lines.
fn batches(lines: usize) -> Vec<(&'static str, BatchBytes)> {
    let (text, records) = (text(lines), records(lines));
    let frames = [zstd(&text), zstd(b"one more\n")].concat();
    vec![
        ("one zstd frame", batch(Compression::Zstd, Format::Text, zstd(&text))),
        ("zstd frames", batch(Compression::Zstd, Format::Text, frames)),
        ("gzip", batch(Compression::Gzip, Format::Text, gzip(&text))),
        ("records", batch(Compression::None, Format::Records, records.clone())),
        ("records in zstd", batch(Compression::Zstd, Format::Records, zstd(&records))),
        ("plain", batch(Compression::None, Format::Text, text)),
    ]
}

/// Allocations of the second of two calls: the first fills the pools.
fn allocations(mut work: impl FnMut()) -> u64 {
    work();
    measure(work).count_total
}

fn decoded(decoder: &Decoder, budget: &Budget, batch: &BatchBytes) -> Decoded {
    decoder.decode(batch, budget.try_take(0).unwrap()).unwrap()
}

#[test]
fn i10_decoding_allocates_nothing_per_line() {
    let budget = Budget::new(64 << 20);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(64 << 20), budget.clone());
    for ((kind, few), (_, many)) in batches(1000).into_iter().zip(batches(10_000)) {
        let [few, many] = [few, many].map(|batch| allocations(|| drop(decoded(&decoder, &budget, &batch))));
        assert_eq!(few, many, "{kind}");
        assert!(many < 16, "{kind}: {many} allocations");
    }
}

#[test]
fn i10_reading_lines_allocates_nothing_per_line() {
    let budget = Budget::new(64 << 20);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(64 << 20), budget.clone());
    let mut reader = LineReader::default();
    for lines in [1000, 10_000] {
        for (kind, batch) in batches(lines) {
            let piece = decoded(&decoder, &budget, &batch).pieces.remove(0);
            let (codec, raw_bytes) = (piece.codec, piece.raw_bytes);
            let block = Block {
                step_run: Id::parse("step-1").unwrap(),
                first_line: 1,
                lines: piece.lines,
                epoch: 0,
                agent_counted: false,
                origin: None,
                content: Content::Text { codec, raw_bytes, skip: 0, runs: piece.runs, bytes: piece.bytes },
            };
            let count = allocations(|| assert!(reader.lines(&block, 1).unwrap().count() >= lines));
            assert_eq!(count, 0, "{kind}");
        }
    }
}
