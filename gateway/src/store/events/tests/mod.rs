#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commit;
mod log;
mod model;
mod property;
mod retained;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Commit, Committer, EventFate, Incoming, IncomingEvent};
use crate::clock::Clock;
use crate::id::{AgentId, Id};
use crate::store::StoreError;
use crate::store::disk::sim::SimDisk;
use crate::store::index::memory::MemoryIndex;
use crate::store::segment::{LogKind, SegmentOptions};

type Fates = oneshot::Receiver<Result<Vec<EventFate>, StoreError>>;

fn dir() -> &'static Path {
    Path::new("/store/events")
}

fn options(incarnation: u64) -> SegmentOptions {
    SegmentOptions { kind: LogKind::Events, segment_bytes: 4096, store_id: 7, incarnation, clock: Clock::manual(1_000) }
}

fn agent(name: &str) -> AgentId {
    Id::parse(name).unwrap()
}

fn event(event_id: &str, seq: u64, content: u64) -> Incoming {
    let raw = Bytes::from(format!("{content}:{event_id}"));
    Incoming::Event(IncomingEvent { event_id: event_id.into(), seq, digest: content, raw })
}

fn commit(agent: AgentId, events: Vec<Incoming>) -> (Commit, Fates) {
    let (reply, fates) = oneshot::channel();
    (Commit { agent, events, reply, positions: None, permit: None }, fates)
}

/// A committer over a disk and an index in memory.
fn open(disk: &SimDisk, index: &Arc<MemoryIndex>, incarnation: u64) -> Committer {
    let disk = Arc::new(disk.clone());
    super::open(disk, dir(), options(incarnation), Arc::clone(index) as _).unwrap().0
}
