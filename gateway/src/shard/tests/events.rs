//! Lines made of events: neither lost nor doubled, wherever a crash comes between.

use super::*;
use crate::block::GapReason;

const PIECES: [&str; 3] = ["1\n2\n", "3\n", "4\n5\n6\n"];

#[test]
fn an_event_that_is_dealt_with_again_adds_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.counts(from_event("s", 8, &PIECES)), [6, 0, 0, 7]);
    assert_eq!(rig.counts(from_event("s", 16, &["7\n"])), [1, 0, 0, 8]);
    for _ in 0..2 {
        assert_eq!(rig.counts(from_event("s", 8, &PIECES)), [0, 6, 0, 8]);
        assert_eq!(rig.counts(from_event("s", 16, &["7\n"])), [0, 1, 0, 8]);
        rig = assert_rebuilt_alike(rig);
    }
    assert_eq!(rig.texts("s"), ["1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_crash_between_blocks_of_one_event_neither_loses_nor_doubles() {
    for crash_at in 0..1_500 {
        let mut rig = Rig::new();
        rig.send(from_event("s", 8, &["0\n"])).unwrap();
        rig.flush();
        rig.log.sync();
        rig.send(from_event("s", 16, &PIECES)).unwrap();
        rig.flush();
        // The frames of one write: cut somewhere, as if the machine had stopped while it was on its way to the disk.
        let end = rig.log.store.log().appended();
        let (start, path) = (rig.log.store.log().synced(), crate::store::lines::by_hand::dir().join(format!("{:020}.seg", 0)));
        if start + crash_at >= end {
            break;
        }
        crate::store::disk::Disk::open(&rig.log.disk, &path).unwrap().truncate(start + crash_at).unwrap();
        let mut rig = rig.restart();
        assert_eq!(rig.counts(from_event("s", 8, &["0\n"])), [0, 1, 0, rig.worker_next("s")]);
        rig.send(from_event("s", 16, &PIECES)).unwrap();
        assert_eq!(rig.texts("s"), ["0", "1", "2", "3", "4", "5", "6"], "cut after {crash_at} bytes");
    }
}

#[test]
fn an_event_whose_text_cannot_be_read_leaves_one_gap() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.send(Submission { payload: Payload::Unreadable, ..from_event("s", 8, &[]) }).unwrap();
        rig.send(from_event("s", 16, &["a\n"])).unwrap();
        rig = assert_rebuilt_alike(rig);
    }
    let gap = Shown::Gap { first: 1, count: 0, reason: GapReason::Unreadable };
    assert_eq!((rig.shown("s")[0].clone(), rig.texts("s")), (gap, vec!["(0)".into(), "a".into()]));
}

#[test]
fn events_and_batches_may_feed_one_stream() {
    let mut rig = Rig::new();
    rig.send(counted_here("s", 1, "a\n")).unwrap();
    rig.send(from_event("s", 8, &["b\n"])).unwrap();
    rig.send(counted_here("s", 2, "c\n")).unwrap();
    let mut rig = assert_rebuilt_alike(rig);
    assert_eq!(rig.counts(from_event("s", 8, &["b\n"])), [0, 1, 0, 4]);
    assert_eq!(rig.texts("s"), ["a", "b", "c"]);
}

impl Rig {
    fn worker_next(&mut self, step_run: &str) -> u64 {
        self.send(batch(step_run, Numbering::Gateway { fingerprint: 0 })).unwrap().next_line
    }
}
