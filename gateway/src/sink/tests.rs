//! Batches of lines, as deliveries read them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use super::batch::LineBatch;
use super::feed::{Cut, Cutter, LineFeed};
use super::{BatchLimits, LineContent};
use crate::block::lines::LineReader;
use crate::block::{Block, Codec, Content, GapReason, OutputStream, Run};
use crate::store::index::Counting;
use crate::store::lines::by_hand::{ByHand, id};
use crate::store::lines::{StreamWrite, fold};

const LIMITS: BatchLimits = BatchLimits { records: 10, bytes: 1 << 20, age: Duration::ZERO, under_way: 1 };

fn block(first_line: u64, lines: u32) -> Block {
    let text: String = (first_line..first_line + u64::from(lines)).map(|number| format!("line {number}\n")).collect();
    let run = Run {
        lines,
        time: 1,
        stream: OutputStream::Stdout,
        truncated: false,
        level: "".into(),
        plugin: "".into(),
        agent: id("a"),
        seq: 1,
    };
    let content = match lines {
        0 => Content::Gap { reason: GapReason::Unreadable, time: 1 },
        _ => Content::Text { codec: Codec::Plain, raw_bytes: text.len() as u32, skip: 0, runs: vec![run], bytes: text.into() },
    };
    Block { step_run: id("s"), first_line, lines, epoch: 1, agent_counted: false, origin: None, content }
}

/// A line log with blocks of so many lines (0: a gap) and an end, and its feed.
fn log(blocks: &[u32]) -> (ByHand, LineFeed) {
    let mut log = ByHand::new(1);
    let mut record = fold::new_record(Counting::Gateway);
    record.pipeline_id = "pipe".into();
    let mut written = Vec::new();
    for lines in blocks {
        let block = block(record.next_line, *lines);
        fold::add_block(&mut record, &block, 0);
        written.push(block);
    }
    record.ended = true;
    let tail = log.store.tail(&id("s")).unwrap();
    let write = StreamWrite { step_run: id("s"), tail, blocks: written, record, mark: true, arrived: 0, memory: Vec::new() };
    log.appender.append(vec![write]).unwrap();
    assert!(log.write());
    log.sync();
    let feed = LineFeed::new(Arc::clone(&log.store), 7);
    (log, feed)
}

fn batches(feed: &LineFeed, limits: BatchLimits) -> Vec<LineBatch> {
    let mut cutter = Cutter::new(feed.clone(), limits, 0, 1);
    let mut batches = Vec::new();
    loop {
        match cutter.advance().unwrap() {
            Cut::Full(batch) => batches.push(batch),
            Cut::Open(_) => {
                batches.extend(cutter.close());
                return batches;
            }
        }
    }
}

/// The lines by their numbers, `gap`, `end`.
fn shown(batch: &LineBatch) -> Vec<String> {
    let mut reader = LineReader::default();
    let mut shown = Vec::new();
    for entry in batch.entries() {
        let entry = entry.unwrap();
        assert_eq!(&*entry.pipeline_id, "pipe");
        match entry.what {
            LineContent::Block(block) if matches!(block.content, Content::Gap { .. }) => shown.push("gap".into()),
            LineContent::Block(block) => {
                for line in reader.lines(&block, 0).unwrap() {
                    assert_eq!(line.text, format!("line {}", line.number).as_bytes());
                    shown.push(line.number.to_string());
                }
            }
            LineContent::End { step_run, record } => {
                assert_eq!((step_run, record.next_line), (id("s"), 15));
                shown.push("end".into());
            }
        }
    }
    shown
}

#[test]
fn a_batch_of_lines_ends_at_a_block_and_holds_gaps_and_ends_too() {
    let (log, feed) = log(&[4, 4, 0, 3, 3]);
    let batches = batches(&feed, LIMITS);
    let all: Vec<_> = batches.iter().map(shown).collect();
    let numbers = |range: std::ops::RangeInclusive<u32>| range.map(|number| number.to_string());
    assert_eq!(all[0], numbers(1..=8).chain(["gap".to_owned()]).collect::<Vec<_>>());
    assert_eq!(all[1], numbers(9..=14).chain(["end".to_owned()]).collect::<Vec<_>>());
    assert_eq!(batches.iter().map(|batch| batch.extent().records).collect::<Vec<_>>(), [9, 7]);
    assert_eq!(log.store.log().records(), 16, "as many as the writer counts");
    assert_eq!(batches[0].extent().to, batches[1].extent().from);
    assert_eq!(batches[0].token(), format!("{:032x}-1-0-{}", 7, batches[0].extent().to));
}

#[test]
fn halves_share_no_record_and_lose_none_within_a_block_too() {
    let (_log, feed) = log(&[5, 0, 6, 3]);
    let limits = BatchLimits { records: 100, ..LIMITS };
    let whole = batches(&feed, limits).remove(0);
    let expected = shown(&whole);
    assert_eq!(expected.len(), 16);
    let mut parts = vec![whole];
    while let Some(at) = parts.iter().position(|part| part.extent().records > 1) {
        let part = parts.remove(at);
        for (n, half) in part.halves().unwrap().into_iter().enumerate() {
            parts.insert(at + n, half);
        }
        assert_eq!(parts.iter().flat_map(shown).collect::<Vec<_>>(), expected);
    }
    assert!(parts[0].halves().is_none());
    let tokens: std::collections::BTreeSet<_> = parts.iter().map(LineBatch::token).collect();
    assert_eq!(tokens.len(), 16);
}

#[test]
fn a_batch_is_cut_by_bytes_and_a_large_block_is_one() {
    let (_log, feed) = log(&[4, 4, 4, 2]);
    let batches = batches(&feed, BatchLimits { bytes: 40, ..LIMITS });
    assert_eq!(batches.iter().map(|batch| batch.extent().records).collect::<Vec<_>>(), [4, 4, 4, 2, 1]);
}
