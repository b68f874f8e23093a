//! A store in memory whose parts the tests move by hand: what is written, what is indexed, what is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_types)]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::source::LineSource;
use crate::block::{Block, Codec, Content, GapReason, OutputStream, Run};
use crate::id::{Id, StepRunId};
use crate::store::index::{Counting, StreamRecord};
use crate::store::lines::{BlockRef, StreamTail, TailBlock};
use crate::store::{Position, StoreError};

#[derive(Default)]
struct Stream {
    tail: Option<Arc<StreamTail>>,
    blocks: Vec<(BlockRef, Arc<Block>)>,
    /// How many of them the index knows.
    indexed: usize,
    next_line: u64,
    ended: bool,
    epochs: Vec<(u32, u64)>,
}

impl Stream {
    fn record(&self, pipeline: &str) -> Option<StreamRecord> {
        let (newest, _) = self.blocks.last()?;
        Some(StreamRecord {
            counting: Counting::Gateway,
            next_line: self.next_line,
            ended: self.ended,
            newest: newest.position,
            origin: None,
            epochs: self.epochs.clone(),
            lines: 0,
            bytes: 0,
            pipeline_id: pipeline.into(),
            last_time: 0,
        })
    }
}

#[derive(Default)]
pub(super) struct Fake {
    streams: Mutex<HashMap<StepRunId, Stream>>,
    damaged: Mutex<HashSet<Position>>,
    next_position: AtomicU64,
    trimmed: AtomicU64,
    pub(super) epoch: AtomicU32,
    pub(super) pipeline: Mutex<String>,
    /// Reads fail.
    pub(super) broken: AtomicBool,
    pub(super) reads: AtomicU64,
}

pub(super) fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

pub(super) fn run(lines: u32) -> Run {
    Run {
        lines,
        time: 1_700_000_000_123,
        stream: OutputStream::Stdout,
        truncated: false,
        level: "info".into(),
        plugin: "shell".into(),
        agent: id("agent-1"),
        seq: 1,
    }
}

pub(super) fn text(lines: &[String]) -> Content {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let count = u32::try_from(lines.len()).unwrap();
    Content::Text {
        codec: Codec::Plain,
        raw_bytes: u32::try_from(text.len()).unwrap(),
        skip: 0,
        runs: vec![run(count)],
        bytes: text.into(),
    }
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        let fake = Self::default();
        fake.epoch.store(1, Ordering::SeqCst);
        fake.next_position.store(8, Ordering::SeqCst);
        Arc::new(fake)
    }

    fn with<T>(&self, step_run: &str, work: impl FnOnce(&mut Stream) -> T) -> T {
        let mut streams = self.streams.lock();
        let stream = streams.entry(id(step_run)).or_insert_with(|| Stream { next_line: 1, ..Stream::default() });
        work(stream)
    }

    /// Writes blocks in one write; a reader may see them at once. `kept`: their content stays in memory.
    pub(super) fn write(&self, step_run: &str, blocks: Vec<(u64, u32, Content)>, kept: bool) {
        self.tail(&id(step_run)).unwrap();
        self.with(step_run, |stream| {
            let mut group = Vec::new();
            for (first_line, lines, content) in blocks {
                let position = self.next_position.fetch_add(64, Ordering::SeqCst);
                let place = BlockRef { first_line, lines, position };
                let epoch = self.epoch.load(Ordering::SeqCst);
                let block =
                    Block { step_run: id(step_run), first_line, lines, epoch, agent_counted: false, origin: None, content };
                if stream.epochs.last().is_none_or(|(last, _)| *last < epoch) {
                    stream.epochs.push((epoch, first_line));
                }
                let block = Arc::new(block);
                stream.next_line = stream.next_line.max(place.next_line());
                stream.blocks.push((place, Arc::clone(&block)));
                group.push(TailBlock { place, block: kept.then_some(block) });
            }
            let record = stream.record(&self.pipeline.lock());
            stream.tail.as_ref().unwrap().publish(&group.into(), record.unwrap(), 0);
        });
    }

    /// Appends lines in one block.
    pub(super) fn lines(&self, step_run: &str, lines: &[String]) {
        let first = self.next_line(step_run);
        self.write(step_run, vec![(first, u32::try_from(lines.len()).unwrap(), text(lines))], true);
    }

    /// Appends lines `line <number>` up to `last`, in one block.
    pub(super) fn numbered(&self, step_run: &str, last: u64) {
        let lines: Vec<String> = (self.next_line(step_run)..=last).map(|number| format!("line {number}")).collect();
        self.lines(step_run, &lines);
    }

    pub(super) fn gap(&self, step_run: &str, lines: u32, reason: GapReason) {
        let first = self.next_line(step_run);
        self.write(step_run, vec![(first, lines, Content::Gap { reason, time: 1_700_000_000_000 })], true);
    }

    /// Says that nothing follows.
    pub(super) fn end(&self, step_run: &str) {
        self.with(step_run, |stream| {
            stream.ended = true;
            let record = stream.record(&self.pipeline.lock()).unwrap();
            stream.tail.as_ref().unwrap().publish(&(Arc::new([]) as _), record, 0);
        });
    }

    pub(super) fn next_line(&self, step_run: &str) -> u64 {
        self.with(step_run, |stream| stream.next_line)
    }

    /// Indexes `count` more blocks, then lets the tail forget them.
    pub(super) fn index(&self, step_run: &str, count: usize) {
        self.index_only(step_run, count);
        self.forget(step_run);
    }

    pub(super) fn index_only(&self, step_run: &str, count: usize) {
        self.with(step_run, |stream| stream.indexed = stream.blocks.len().min(stream.indexed.saturating_add(count)));
    }

    pub(super) fn forget(&self, step_run: &str) {
        self.with(step_run, |stream| {
            let indexed = stream.blocks.get(stream.indexed).map_or(u64::MAX, |(place, _)| place.position);
            if let Some(tail) = &stream.tail {
                tail.forget_before(indexed);
            }
        });
    }

    /// Removes the oldest `count` blocks of a stream, by retention.
    pub(super) fn trim(&self, step_run: &str, count: usize) {
        let position = self.with(step_run, |stream| stream.blocks[count - 1].0.position + 1);
        self.trimmed.fetch_max(position, Ordering::SeqCst);
    }

    pub(super) fn damage(&self, step_run: &str, block: usize) {
        let position = self.with(step_run, |stream| stream.blocks[block].0.position);
        self.damaged.lock().insert(position);
    }
}

impl LineSource for Fake {
    fn tail(&self, step_run: &StepRunId) -> Result<Arc<StreamTail>, StoreError> {
        Ok(self.with(step_run.as_str(), |stream| {
            let record = stream.record(&self.pipeline.lock());
            Arc::clone(stream.tail.get_or_insert_with(|| Arc::new(StreamTail::new(record))))
        }))
    }

    fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError> {
        Ok(self.with(step_run.as_str(), |stream| stream.record(&self.pipeline.lock())))
    }

    fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<TailBlock>, StoreError> {
        let snapshot = self.tail(step_run)?.snapshot();
        Ok(self.with(step_run.as_str(), |stream| {
            let trimmed = self.trimmed.load(Ordering::SeqCst);
            let mut found: Vec<TailBlock> = snapshot.blocks().cloned().collect();
            for (place, _) in &stream.blocks[..stream.indexed] {
                if found.iter().all(|block| block.place.position != place.position) {
                    found.push(TailBlock { place: *place, block: None });
                }
            }
            found.retain(|block| {
                let place = block.place;
                place.position >= trimmed && (place.next_line() > line || (place.lines == 0 && place.first_line >= line))
            });
            found.sort_by_key(|block| block.place.position);
            found.truncate(limit);
            found
        }))
    }

    fn read(&self, place: &BlockRef) -> Result<Block, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Index("on fire".into()));
        }
        if self.damaged.lock().contains(&place.position) {
            return Err(StoreError::Damaged { path: PathBuf::from("1.seg"), position: place.position, why: "test" });
        }
        if place.position < self.trimmed.load(Ordering::SeqCst) {
            return Err(StoreError::Trimmed(place.position));
        }
        let streams = self.streams.lock();
        let all = streams.values().flat_map(|stream| &stream.blocks);
        let found = all.filter(|(known, _)| known.position == place.position).map(|(_, block)| Block::clone(block)).next();
        found.ok_or(StoreError::Trimmed(place.position))
    }

    fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }
}
