//! The event log with its threads.

use std::sync::Arc;

use super::super::EventFate::{Repeated, Stored};
use super::super::{EventLog, EventLogOptions};
use super::{agent, commit, dir, event, options};
use crate::store::StoreError;
use crate::store::disk::sim::SimDisk;
use crate::store::index::Index;
use crate::store::index::memory::MemoryIndex;
use crate::store::segment::LogKind;

fn open(disk: &SimDisk, index: &Arc<MemoryIndex>, incarnation: u64) -> EventLog {
    let mut segments = options(incarnation);
    segments.segment_bytes = 1 << 20;
    let options =
        EventLogOptions { disk: Arc::new(disk.clone()), dir: dir().to_owned(), segments, index: Arc::clone(index) as _ };
    EventLog::open(options).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_agents_commit_and_a_reader_follows() {
    let (disk, index) = (SimDisk::new(1), Arc::new(MemoryIndex::default()));
    let log = open(&disk, &index, 1);
    let mut reader = log.follow(0);
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 64 * 200 {
            reader.more().await.unwrap();
            seen.extend(reader.read(1000, 1 << 20).unwrap());
        }
        (seen, reader)
    });
    let agents: Vec<_> = (0..64)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move {
                for batch in 0..20 {
                    let events = (0..10).map(|n| event(&format!("x-{}", batch * 10 + n), 1, 1)).collect();
                    let (commit, fates) = commit(agent(&format!("a{n}")), events);
                    log.submit(commit).await.unwrap();
                    assert_eq!(fates.await.unwrap().unwrap(), [Stored; 10]);
                }
            })
        })
        .collect();
    for agent in agents {
        agent.await.unwrap();
    }
    let (seen, mut reader) = reading.await.unwrap();
    assert!(seen.is_sorted_by(|a, b| a.next <= b.position), "in order");
    let of_one: Vec<_> = seen.iter().filter(|event| event.agent == agent("a7")).map(|event| &*event.event_id).collect();
    assert_eq!(of_one, (0..200).map(|n| format!("x-{n}")).collect::<Vec<_>>(), "each agent's in its order");

    let end = reader.position();
    assert!(reader.read(1, 1).unwrap().is_empty());
    let closing = log.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    assert_eq!(index.indexed(LogKind::Events).unwrap(), end, "closing indexes all");
    assert!(matches!(reader.more().await, Err(StoreError::Closed)));
    assert!(matches!(log.submit(commit(agent("a1"), vec![event("x", 1, 1)]).0).await, Err(StoreError::Closed)));

    let log = open(&disk, &index, 2);
    let (again, fates) = commit(agent("a7"), vec![event("x-199", 1, 1), event("x-200", 1, 1)]);
    log.submit(again).await.unwrap();
    assert_eq!(fates.await.unwrap().unwrap(), [Repeated, Stored]);
    let mut reader = log.follow(end);
    reader.more().await.unwrap();
    assert_eq!(&*reader.read(10, 1).unwrap()[0].event_id, "x-200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_log_refuses_and_can_be_closed() {
    let (disk, index) = (SimDisk::new(1), Arc::new(MemoryIndex::default()));
    let log = open(&disk, &index, 1);
    disk.fail_at(disk.ops() + 1);
    for _ in 0..3 {
        let (commit, fates) = commit(agent("a1"), vec![event("x", 1, 1)]);
        log.submit(commit).await.unwrap();
        assert!(fates.await.unwrap().is_err());
    }
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
}
