//! Group commit, case by case.

use std::sync::Arc;

use bytes::Bytes;

use super::super::EventFate::{self, Conflict, Dead, Repeated, Stored};
use super::super::{Committer, DeadReason, EventReader, Incoming};
use super::{agent, commit, event, open};
use crate::store::StoreError;
use crate::store::disk::sim::SimDisk;
use crate::store::index::Index;
use crate::store::index::memory::MemoryIndex;
use crate::store::segment::LogKind;

fn dead(seq: u64, raw: &'static str) -> Incoming {
    Incoming::Dead { seq, event_id: None, reason: DeadReason::NoId, raw: Bytes::from_static(raw.as_bytes()) }
}

fn store(committer: &mut Committer, name: &str, events: Vec<Incoming>) -> Result<Vec<EventFate>, StoreError> {
    let (commit, mut fates) = commit(agent(name), events);
    committer.commit(vec![commit]);
    fates.try_recv().unwrap()
}

/// The names of what is stored, oldest first.
fn names(committer: &Committer) -> Vec<String> {
    let mut reader = EventReader::new(committer.log().clone(), 0, committer.synced());
    reader.read(usize::MAX, usize::MAX).unwrap().into_iter().map(|event| event.event_id.into()).collect()
}

fn fresh() -> (SimDisk, Arc<MemoryIndex>, Committer) {
    let disk = SimDisk::new(1);
    let index = Arc::new(MemoryIndex::default());
    let committer = open(&disk, &index, 1);
    (disk, index, committer)
}

#[test]
fn i1_a_group_costs_one_write_and_one_sync() {
    let (disk, _, mut committer) = fresh();
    let (group, fates): (Vec<_>, Vec<_>) =
        (0..5).map(|n| commit(agent("a1"), vec![event(&format!("x{n}"), 1, 1), event("same", 1, 1)])).unzip();
    let before = disk.ops();
    committer.commit(group);
    assert_eq!(disk.ops() - before, 2, "a write and a sync");
    for (n, mut fates) in fates.into_iter().enumerate() {
        assert_eq!(fates.try_recv().unwrap().unwrap(), [Stored, if n == 0 { Stored } else { Repeated }]);
    }
    let before = disk.ops();
    assert_eq!(store(&mut committer, "a1", vec![event("same", 1, 1)]).unwrap(), [Repeated]);
    assert_eq!(disk.ops(), before, "a repeat of what is synced costs nothing");
}

#[test]
fn i3_repeats_are_found_wherever_their_entry_is() {
    let (disk, index, mut committer) = fresh();
    let all = || vec![event("build-1", 1, 10), event("evt-2", 2, 20)];
    assert_eq!(store(&mut committer, "a1", all()).unwrap(), [Stored, Stored]);
    assert_eq!(store(&mut committer, "a1", all()).unwrap(), [Repeated, Repeated], "in memory");
    let batch = committer.seal(true).unwrap();
    assert_eq!(store(&mut committer, "a1", all()).unwrap(), [Repeated, Repeated], "on the way to the index");
    batch.apply(&*index).unwrap();
    committer.indexed(batch.up_to());
    assert_eq!(committer.unindexed(), 0);
    assert_eq!(store(&mut committer, "a1", all()).unwrap(), [Repeated, Repeated], "in the index");
    assert_eq!(store(&mut committer, "a2", all()).unwrap(), [Stored, Stored], "another agent's are others");
    let mut committer = open(&disk, &index, 2);
    assert_eq!(store(&mut committer, "a2", all()).unwrap(), [Repeated, Repeated], "found at opening");
    assert_eq!(index.indexed(LogKind::Events).unwrap(), committer.log().synced(), "opening brings the index to the end");
    assert_eq!(names(&committer), ["build-1", "evt-2", "build-1", "evt-2"]);
}

#[test]
fn i3_only_names_of_the_own_seq_come_again_with_other_content() {
    let (_, _, mut committer) = fresh();
    let mut fate = |id, seq, content| store(&mut committer, "a1", vec![event(id, seq, content)]).unwrap()[0];
    assert_eq!([fate("evt-5", 5, 1), fate("evt-5", 5, 2), fate("evt-5", 5, 2)], [Stored, Stored, Repeated]);
    assert_eq!(fate("evt-5", 5, 1), Repeated, "the first one is still known");
    assert_eq!([fate("evt-6", 9, 1), fate("evt-6", 9, 2)], [Stored, Conflict], "the seq is not its own");
    assert_eq!([fate("evt-07", 7, 1), fate("evt-07", 7, 2)], [Stored, Conflict]);
    assert_eq!([fate("build-5", 5, 1), fate("build-5", 5, 2), fate("build-5", 5, 1)], [Stored, Conflict, Repeated]);
    assert_eq!(store(&mut committer, "a1", vec![event("evt-8", 8, 1), event("evt-8", 8, 2)]).unwrap(), [Stored, Stored]);
    assert_eq!(store(&mut committer, "a1", vec![event("evt-8", 8, 2)]).unwrap(), [Repeated]);
}

#[test]
fn i1_a_failed_sync_poisons() {
    let (disk, index, mut committer) = fresh();
    disk.fail_at(disk.ops() + 1);
    let (group, fates): (Vec<_>, Vec<_>) = (1..4).map(|n| commit(agent("a1"), vec![event("x", n, n)])).unzip();
    committer.commit(group);
    for mut fates in fates {
        assert!(fates.try_recv().unwrap().is_err(), "nobody is acknowledged");
    }
    for _ in 0..2 {
        assert!(matches!(store(&mut committer, "a1", vec![event("y", 1, 1)]), Err(StoreError::Poisoned { .. })));
    }
    assert!(committer.seal(true).is_none(), "what is not synced is not indexed");
    let mut committer = open(&disk, &index, 2);
    assert_eq!(store(&mut committer, "a1", vec![event("y", 1, 1)]).unwrap(), [Stored], "a restart helps");
}

#[test]
fn a_failed_write_poisons_but_a_full_disk_does_not() {
    let (disk, _, mut committer) = fresh();
    disk.enospc(true);
    assert!(matches!(store(&mut committer, "a1", vec![event("x", 1, 1), dead(2, "?")]), Err(StoreError::Full { .. })));
    disk.enospc(false);
    assert_eq!(store(&mut committer, "a1", vec![event("x", 1, 1), dead(2, "?")]).unwrap(), [Stored, Dead]);
    disk.fail_at(disk.ops());
    assert!(matches!(store(&mut committer, "a1", vec![event("y", 1, 1)]), Err(StoreError::Io { .. })));
    assert!(matches!(store(&mut committer, "a1", vec![event("x", 1, 1)]), Err(StoreError::Poisoned { .. })));
    assert_eq!(names(&committer), ["x"], "reads go on");
}

#[test]
fn i5_a_dead_letter_is_kept_once() {
    let (disk, index, mut committer) = fresh();
    assert_eq!(store(&mut committer, "a1", vec![dead(1, "?"), event("x", 2, 2), dead(0, "!")]).unwrap(), [Dead, Stored, Dead]);
    let end = committer.log().appended();
    for _ in 0..3 {
        assert_eq!(store(&mut committer, "a1", vec![dead(1, "?"), dead(0, "!")]).unwrap(), [Dead, Dead]);
    }
    assert_eq!(committer.log().appended(), end);
    assert_eq!(names(&committer), ["x"], "readers do not see dead letters");
    let mut committer = open(&disk, &index, 2);
    store(&mut committer, "a1", vec![dead(7, "other")]).unwrap();
    assert!(committer.log().appended() > end);
}

#[test]
fn what_retention_has_removed_is_new_again() {
    let (_, index, mut committer) = fresh();
    assert_eq!(store(&mut committer, "a1", vec![event("x", 1, 1)]).unwrap(), [Stored]);
    while committer.log().segments().len() < 3 {
        let n = committer.log().appended();
        store(&mut committer, "a1", vec![event(&format!("fill-{n}"), 1, 1)]).unwrap();
    }
    let batch = committer.seal(true).unwrap();
    batch.apply(&*index).unwrap();
    committer.indexed(batch.up_to());
    committer.log().trim(committer.log().segments()[1].start).unwrap();
    assert_eq!(store(&mut committer, "a1", vec![event("x", 1, 1)]).unwrap(), [Stored]);
    let mut reader = EventReader::new(committer.log().clone(), 0, committer.synced());
    assert!(reader.read(1, usize::MAX).unwrap()[0].position >= committer.log().start(), "a reader goes on behind the hole");
}

#[test]
fn an_index_that_is_ahead_is_made_anew() {
    let (_, index, mut committer) = fresh();
    store(&mut committer, "a1", vec![event("x", 1, 1)]).unwrap();
    committer.seal(true).unwrap().apply(&*index).unwrap();
    let mut committer = open(&SimDisk::new(2), &index, 1);
    assert_eq!(store(&mut committer, "a1", vec![event("x", 1, 1)]).unwrap(), [Stored]);
    assert_eq!(index.indexed(LogKind::Events).unwrap(), 0);
}
