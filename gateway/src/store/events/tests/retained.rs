//! Retention of the event log: what goes, and what is known of it afterwards.

use std::sync::Arc;

use super::super::EventFate::{self, Repeated, Stored};
use super::super::{EventLog, EventLogOptions, RetainedEvents};
use super::{agent, commit, dir, event, options};
use crate::clock::Millis;
use crate::store::disk::sim::SimDisk;
use crate::store::index::Index;
use crate::store::index::memory::MemoryIndex;
use crate::store::retention::events::{EventSegments, remove};

fn open(disk: &SimDisk, index: &Arc<MemoryIndex>, incarnation: u64) -> EventLog {
    let segments = options(incarnation);
    let options =
        EventLogOptions { disk: Arc::new(disk.clone()), dir: dir().to_owned(), segments, index: Arc::clone(index) as _ };
    EventLog::open(options).unwrap().0
}

fn store(log: &EventLog, name: &str, event_id: &str, content: u64) -> EventFate {
    let (commit, fates) = commit(agent(name), vec![event(event_id, 5, content)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.submit(commit)).unwrap();
    fates.blocking_recv().unwrap().unwrap()[0]
}

/// A log of three segments: one event of a quiet agent and one that is used again later, then many of a busy agent.
fn filled(disk: &SimDisk, index: &Arc<MemoryIndex>) -> EventLog {
    let log = open(disk, index, 1);
    assert_eq!(store(&log, "quiet", "build-1", 1), Stored);
    assert_eq!(store(&log, "quiet", "evt-5", 1), Stored);
    let mut n = 0;
    while log.segments().segments().len() < 3 {
        assert_eq!(store(&log, "busy", &format!("fill-{n}"), 1), Stored);
        n += 1;
    }
    // Whatever was in memory only is in the index now.
    log.close();
    let log = open(disk, index, 2);
    assert_eq!(store(&log, "quiet", "evt-5", 2), Stored, "the name comes again");
    log
}

fn retained(log: &EventLog, index: &Arc<MemoryIndex>) -> RetainedEvents {
    RetainedEvents::new(log.clone(), Arc::clone(index) as _, Box::new(|| u64::MAX))
}

#[test]
fn i3_marks_outlive_their_segment() {
    let (disk, index) = (SimDisk::new(1), Arc::new(MemoryIndex::default()));
    let mut log = filled(&disk, &index);
    let second = log.segments().segments()[1].start;
    let mut known_since = 0;
    let removed = remove(&retained(&log, &index), &*index, second, Some(Millis::MAX), &mut known_since, &|_| ()).unwrap();
    assert_eq!((removed.segments, log.segments().start()), (1, second));
    for incarnation in 3..5 {
        assert_eq!(store(&log, "quiet", "build-1", 1), Repeated, "known by its mark");
        assert_eq!(store(&log, "quiet", "evt-5", 2), Repeated, "the younger one stays");
        assert_eq!(store(&log, "quiet", "evt-5", 1), Repeated, "and the one before it is another");
        log.close();
        log = open(&disk, &index, incarnation);
    }
    assert_eq!(
        log.follow(0).read(usize::MAX, usize::MAX).unwrap().last().unwrap().event_id,
        "evt-5".into(),
        "marks are not read"
    );
    index.clear().unwrap();
    log.close();
    let log = open(&disk, &index, 9);
    assert_eq!(store(&log, "quiet", "build-1", 1), Repeated, "an index made anew knows the marks");
    assert_eq!(store(&log, "quiet", "evt-5", 2), Repeated);
}

#[test]
fn what_is_removed_without_a_mark_is_new_again() {
    let (disk, index) = (SimDisk::new(1), Arc::new(MemoryIndex::default()));
    let log = filled(&disk, &index);
    let retained = retained(&log, &index);
    assert!(retained.keep_from() > retained.segments()[1].start, "what was stored is indexed");
    let second = log.segments().segments()[1].start;
    remove(&retained, &*index, second, None, &mut 0, &|_| ()).unwrap();
    assert_eq!(index.event(&agent("quiet"), "build-1").unwrap(), None);
    assert_eq!(store(&log, "quiet", "build-1", 1), Stored);
}
