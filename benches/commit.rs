//! What it costs to accept events: from their bytes to an answer after the sync, with the index on disk.
//!
//! Aim: 60,000 events/s with 64 agents. `decode` is done in the connections' own tasks, `commit` by one thread for all.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use arcgate_api::gateway::v1::{Event, Meta};
use arcgate_gateway::clock::Clock;
use arcgate_gateway::id::{AgentId, Id};
use arcgate_gateway::source::events::decode::{MAX_EVENT_BYTES, decode_event};
use arcgate_gateway::store::disk::RealDisk;
use arcgate_gateway::store::events::{Commit, EventLog, EventLogOptions, Incoming};
use arcgate_gateway::store::index::FjallIndex;
use arcgate_gateway::store::segment::{LogKind, SegmentOptions};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::oneshot;

const AGENTS: u64 = 64;
/// What the stock agent sends at once.
const BATCH: u64 = 100;

/// An event as the stock agent sends it: a CloudEvent in a Struct.
fn encoded(agent: &str, seq: u64, content: &str) -> Bytes {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    let data = Struct { fields: [("stream".into(), text("stdout")), ("content".into(), text(content))].into() };
    let fields = [
        ("specversion", text("1.0")),
        ("id", text(&format!("7f9c24e8-3b12-4fef-91e0-{seq:012x}"))),
        ("source", text("urn:arcentra:executor:shell")),
        ("type", text("arcentra.task.log")),
        ("time", text("2026-01-02T03:04:05.678901234+01:00")),
        ("datacontenttype", text("application/json")),
        ("pipelineId", text("pipeline-1")),
        ("stepName", text("build")),
        ("data", Value { kind: Some(Kind::StructValue(data)) }),
    ];
    let payload = Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() };
    let meta = Meta { agent_id: agent.into(), seq, ..Meta::default() };
    let event = Event { event_id: format!("evt-{seq}"), meta: Some(meta), event_type: "outbox".into(), payload: Some(payload) };
    event.encode_to_vec().into()
}

fn agents() -> Vec<AgentId> {
    (0..AGENTS).filter_map(|n| Id::parse(&format!("agent-{n}")).ok()).collect()
}

/// One batch of each agent, with seqs from `first` on.
fn batches(agents: &[AgentId], first: u64) -> Vec<(AgentId, Vec<Incoming>)> {
    let batch = |agent: &AgentId| {
        (first..first + BATCH).map(|seq| decode_event(encoded(agent.as_str(), seq, "done"), agent, MAX_EVENT_BYTES)).collect()
    };
    agents.iter().map(|agent| (agent.clone(), batch(agent))).collect()
}

fn open(dir: &Path) -> EventLog {
    let index = FjallIndex::open(&dir.join("index"), 16 << 20).expect("an index in a fresh folder");
    let segments =
        SegmentOptions { kind: LogKind::Events, segment_bytes: 256 << 20, store_id: 1, incarnation: 1, clock: Clock::system() };
    let options = EventLogOptions { disk: Arc::new(RealDisk), dir: dir.join("events"), segments, index: Arc::new(index) };
    EventLog::open(options).expect("an event log in a fresh folder").0
}

/// Submits a batch of each agent and waits until all are answered.
async fn commit(log: &EventLog, batches: Vec<(AgentId, Vec<Incoming>)>) {
    let mut answers = Vec::with_capacity(batches.len());
    for (agent, events) in batches {
        let (reply, answer) = oneshot::channel();
        log.submit(Commit { agent, events, reply, positions: None, permit: None }).await.expect("the log is open");
        answers.push(answer);
    }
    for answer in answers {
        answer.await.expect("an answer").expect("a healthy disk");
    }
}

fn commits(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let agents = agents();
    let mut group = c.benchmark_group("commit");

    group.throughput(Throughput::Elements(AGENTS * BATCH));
    let mut first = 1;
    group.bench_function("new, 64 agents", |b| {
        let fresh = || {
            first += BATCH;
            batches(&agents, first)
        };
        b.iter_batched(fresh, |batches| runtime.block_on(commit(&log, batches)), BatchSize::PerIteration);
    });
    let again = batches(&agents, 1 + BATCH);
    group.bench_function("repeats, 64 agents", |b| {
        b.iter_batched(|| again.clone(), |batches| runtime.block_on(commit(&log, batches)), BatchSize::PerIteration);
    });

    group.throughput(Throughput::Elements(BATCH));
    let lone = [Id::parse("lone-agent").expect("an id")];
    let mut first = 1;
    group.bench_function("new, 1 agent", |b| {
        let fresh = || {
            first += BATCH;
            batches(&lone, first)
        };
        b.iter_batched(fresh, |batches| runtime.block_on(commit(&log, batches)), BatchSize::PerIteration);
    });
    group.finish();
    log.close();
}

fn decoding(c: &mut Criterion) {
    let agent = Id::parse("agent-1").expect("an id");
    let mut group = c.benchmark_group("decode event");
    for (name, size) in [("small", 10), ("1 MiB of output", 1 << 20)] {
        let raw = encoded("agent-1", 7, &"x".repeat(size));
        group.throughput(Throughput::Bytes(raw.len() as u64));
        group.bench_function(name, |b| b.iter(|| decode_event(black_box(raw.clone()), &agent, MAX_EVENT_BYTES)));
    }
    group.finish();
}

criterion_group!(benches, decoding, commits);
criterion_main!(benches);
