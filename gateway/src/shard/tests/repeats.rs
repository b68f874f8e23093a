//! Batches without numbers of their own that come again.

use super::*;

#[test]
fn a_batch_that_comes_again_adds_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(counted_here("s", 7, "a\nb\n")), [2, 0, 0, 3]);
    assert_eq!(rig.counts(counted_here("s", 7, "a\nb\n")), [0, 2, 0, 3]);
    assert_eq!(rig.counts(counted_here("t", 7, "a\nb\n")), [2, 0, 0, 3], "of another stream");
    let later = Submission { arrived: 1000 + 601_000, ..counted_here("s", 7, "a\nb\n") };
    assert_eq!(rig.counts(later), [2, 0, 0, 5], "after ten minutes");
    assert_eq!(rig.texts("s"), ["a", "b", "a", "b"]);
}

#[test]
fn what_rides_on_a_repeat_is_kept() {
    let mut rig = Rig::new();
    rig.send(counted_here("s", 7, "a\n")).unwrap();
    let lost = Lost { lines: 2, more: false };
    let again = Submission { lost, end_of_log: true, pipeline_id: arc("p"), ..counted_here("s", 7, "a\n") };
    assert_eq!(rig.counts(again), [0, 1, 0, 4]);
    assert_eq!(rig.texts("s"), ["a", "(2)"]);
    let record = rig.log.store.stream(&id("s")).unwrap().unwrap();
    assert!(record.ended && &*record.pipeline_id == "p");
}

#[test]
fn an_unreadable_batch_that_comes_again_leaves_one_gap() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.send(Submission { payload: Payload::Unreadable, ..counted_here("s", 7, "") }).unwrap();
    }
    assert_eq!(rig.texts("s"), ["(0)"]);
}
