//! The line log as its readers see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod open;
mod seam;

use std::sync::Arc;

use super::by_hand::{ByHand, id};
use super::{BlockRef, StreamWrite, fold};
use crate::block::{Block, Codec, Content, GapReason, OutputStream, Run};
use crate::store::index::{Counting, StreamRecord};

/// A stream whose lines say their own numbers.
struct Source {
    step_run: &'static str,
    record: StreamRecord,
}

impl Source {
    fn new(step_run: &'static str) -> Self {
        Self { step_run, record: fold::new_record(Counting::Gateway) }
    }

    /// The next block, of so many lines; of none for a gap of unknown size.
    fn block(&mut self, lines: u32) -> Block {
        let first_line = self.record.next_line;
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
            _ => {
                Content::Text { codec: Codec::Plain, raw_bytes: text.len() as u32, skip: 0, runs: vec![run], bytes: text.into() }
            }
        };
        let step_run = id(self.step_run);
        let block = Block { step_run, first_line, lines, epoch: 1, agent_counted: false, origin: None, content };
        fold::add_block(&mut self.record, &block, 0);
        block
    }

    fn write(&mut self, store: &super::LineStore, blocks: &[u32]) -> Vec<StreamWrite> {
        let blocks = blocks.iter().map(|lines| self.block(*lines)).collect();
        let (step_run, record) = (id(self.step_run), self.record.clone());
        let tail = store.tail(&step_run).unwrap();
        vec![StreamWrite { step_run, tail, blocks, record, mark: false, arrived: 0, memory: Vec::new() }]
    }
}

impl ByHand {
    fn append(&mut self, source: &mut Source, blocks: &[u32]) {
        let write = source.write(&self.store, blocks);
        self.appender.append(write).unwrap();
        self.write();
    }
}

/// What a reader who has seen everything before `line` is given next.
fn places(log: &ByHand, line: u64, limit: usize) -> Vec<BlockRef> {
    log.store.blocks_from(&id("s"), line, limit).unwrap().into_iter().map(|block| block.place).collect()
}

fn firsts(places: &[BlockRef]) -> Vec<(u64, u32)> {
    places.iter().map(|place| (place.first_line, place.lines)).collect()
}

fn arc_tail(log: &ByHand) -> Arc<super::StreamTail> {
    log.store.tail(&id("s")).unwrap()
}
