//! What it costs to show lines: from a stored block to the JSON of a chunk of 200 lines.
//!
//! Aim: 0.5 CPU-seconds per million lines, sockets included.

use std::hint::black_box;
use std::sync::Arc;

use arcgate_gateway::block::lines::LineReader;
use arcgate_gateway::block::{Block, Codec, Content, OutputStream, Run};
use arcgate_gateway::clock::Clock;
use arcgate_gateway::id::{Id, StepRunId};
use arcgate_gateway::replay::LineSource;
use arcgate_gateway::replay::cursor::LineCursor;
use arcgate_gateway::replay::encode::Template;
use arcgate_gateway::replay::page::{Entry, Page};
use arcgate_gateway::store::StoreError;
use arcgate_gateway::store::index::{Counting, StreamRecord};
use arcgate_gateway::store::lines::{BlockRef, StreamTail, TailBlock};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CHUNK: u32 = 200;
const BLOCK: u32 = 1000;

/// A line as a build writes it: about 100 bytes, some with quotes and colours.
fn line(number: u32) -> String {
    let unit = number % 97;
    match number % 5 {
        0 => format!(
            "\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m crate-{unit} v0.{unit}.3 (registry+https://github.com/rust-lang/crates.io-index)"
        ),
        1 => format!(
            "cc -O2 -Wall -Wextra -DNAME=\"unit-{unit}\" -Iinclude -Ibuild/gen/unit-{unit} -c src/unit-{unit}.c -o build/unit-{unit}.o"
        ),
        _ => format!("[{number:>7}] test module_{unit}::case_{number} ... ok, 0 failed, 0 ignored, finished in 0.0{unit}s"),
    }
}

fn text(lines: u32) -> Vec<u8> {
    (0..lines).flat_map(|number| format!("{}\n", line(number)).into_bytes()).collect()
}

fn run(lines: u32, agent: &Id) -> Run {
    Run {
        lines,
        time: 1_700_000_000_123,
        stream: OutputStream::Stdout,
        truncated: false,
        level: "info".into(),
        plugin: "shell".into(),
        agent: agent.clone(),
        seq: 1,
    }
}

/// One zstd block, found through the index.
struct OneBlock(Block);

impl LineSource for OneBlock {
    fn tail(&self, _: &StepRunId) -> Result<Arc<StreamTail>, StoreError> {
        Ok(Arc::new(StreamTail::new(self.stream(&self.0.step_run)?)))
    }

    fn stream(&self, _: &StepRunId) -> Result<Option<StreamRecord>, StoreError> {
        Ok(Some(StreamRecord {
            counting: Counting::Gateway,
            next_line: self.0.next_line(),
            ended: false,
            newest: 8,
            origin: None,
            epochs: vec![(1, 1)],
            lines: self.0.lines.into(),
            bytes: 0,
            pipeline_id: "".into(),
            last_time: 0,
        }))
    }

    fn blocks_from(&self, _: &StepRunId, _: u64, _: usize) -> Result<Vec<TailBlock>, StoreError> {
        let place = BlockRef { first_line: 1, lines: self.0.lines, position: 8 };
        Ok(vec![TailBlock { place, block: None }])
    }

    fn read(&self, _: &BlockRef) -> Result<Block, StoreError> {
        Ok(self.0.clone())
    }

    fn epoch(&self) -> u32 {
        1
    }
}

fn replay(criterion: &mut Criterion) {
    let ids = (Id::parse("01HZX3V9C8Q2W4T6Y8A1B3D5F7"), Id::parse("kX9-aB_3q"));
    let (Ok(step_run), Ok(agent)) = ids else { return };

    let mut group = criterion.benchmark_group("replay");
    let lines: Vec<String> = (0..CHUNK).map(line).collect();
    let template = Template::new(&step_run, &run(CHUNK, &agent));
    let mut out = Vec::with_capacity(256 << 10);
    group.throughput(Throughput::Elements(CHUNK.into()));
    group.bench_function("encode a chunk of 200 lines", |bencher| {
        bencher.iter(|| {
            out.clear();
            for (number, line) in (1..).zip(&lines) {
                template.line(number, line.as_bytes(), &mut out);
                out.push(b',');
            }
            black_box(&out);
        });
    });

    let text = text(BLOCK);
    let raw_bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let Ok(bytes) = zstd::bulk::compress(&text, 3) else { return };
    let runs = vec![run(BLOCK, &agent)];
    let content = Content::Text { codec: Codec::Zstd, raw_bytes, skip: 0, runs, bytes: bytes.into() };
    let block =
        Block { step_run: step_run.clone(), first_line: 1, lines: BLOCK, epoch: 1, agent_counted: false, origin: None, content };
    let source = OneBlock(block);
    let Ok(tail) = source.tail(&step_run) else { return };
    let (mut reader, mut page) = (LineReader::default(), Page::default());
    group.throughput(Throughput::Elements(BLOCK.into()));
    group.bench_function("read, decompress and encode a zstd block of 1000 lines", |bencher| {
        bencher.iter(|| {
            let mut cursor = LineCursor::new(step_run.clone(), 1, Clock::system());
            let mut mark = cursor.mark();
            page.clear();
            let loaded = cursor.load(&source, &tail, &mut reader, &mut page);
            out.clear();
            while let Some(entry) = page.peek() {
                if let Entry::Line { number, text, .. } = entry {
                    template.line(number, text, &mut out);
                }
                page.advance(&mut mark);
            }
            black_box((&out, loaded.is_ok()));
        });
    });
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
