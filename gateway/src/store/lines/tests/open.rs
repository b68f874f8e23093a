//! What is found when the log is opened again.

use bytes::Bytes;

use super::super::by_hand::{dir, options};
use super::super::{BLOCK, MARK};
use super::*;
use crate::store::StoreError;
use crate::store::index::Index;
use crate::store::segment::{FrameDraft, FrameKind, LogKind, SegmentLog};

/// Appends a frame behind the line log's back, then opens that again.
fn reopened_with(kind: FrameKind, body: Bytes) -> Result<ByHand, StoreError> {
    let mut log = ByHand::new(1);
    log.append(&mut Source::new("s"), &[2]);
    log.sync();
    let ByHand { disk, index, .. } = log;
    let (_, mut writer, _) = SegmentLog::open(Arc::new(disk.clone()), dir(), options(2, 1 << 20), 0, &mut |_| Ok(())).unwrap();
    writer.append(&[FrameDraft { kind, parts: &[body] }], &mut Vec::new()).unwrap();
    ByHand::open(disk, index, 1, 3)
}

#[test]
fn what_was_written_is_there_indexed_or_not() {
    for synced in [false, true] {
        let mut log = ByHand::new(1);
        let mut source = Source::new("s");
        log.append(&mut source, &[2, 0, 3]);
        if synced {
            log.sync();
        }
        let shown = log.shown("s");
        log.reopen();
        assert_eq!(log.shown("s"), shown);
        let tail = arc_tail(&log);
        assert_eq!((tail.next_written(), tail.next_durable()), (6, 6), "opening syncs what it finds");
        assert_eq!(tail.record().unwrap().lines, 5);
        log.append(&mut source, &[1]);
        assert_eq!(log.texts("s").len(), 7);
    }
}

#[test]
fn an_index_that_is_lost_or_ahead_is_built_anew() {
    let mut log = ByHand::new(1);
    let mut sources = [Source::new("s"), Source::new("t")];
    for round in 1..40 {
        log.append(&mut sources[0], &[round, 1]);
        log.append(&mut sources[1], &[300]);
    }
    log.sync();
    assert!(log.store.log().segments().len() > 2, "over several segments");
    let (before, shown) = (log.index.snapshot(), log.shown("s"));
    log.index.restore(Default::default());
    log.reopen();
    assert_eq!((log.index.snapshot(), log.shown("s")), (before.clone(), shown.clone()));
    log.index.apply_lines(log.store.log().appended() + 8, &[]).unwrap();
    log.reopen();
    assert_eq!((log.index.snapshot(), log.shown("s")), (before, shown));
    assert_eq!(log.index.indexed(LogKind::Lines).unwrap(), log.store.log().synced());
}

#[test]
fn a_damaged_block_is_a_gap_and_the_rest_is_there() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[2]);
    log.append(&mut source, &[3]);
    log.append(&mut source, &[1]);
    log.sync();
    let damaged = places(&log, 3, 1)[0].position;
    log.disk.corrupt(&dir().join(format!("{:020}.seg", 0)), damaged + 100);
    for index in [log.index.snapshot(), Default::default()] {
        log.index.restore(index);
        log.reopen();
        assert_eq!(log.texts("s"), ["line 1", "line 2", "(3)", "line 6"]);
    }
}

#[test]
fn a_frame_of_a_later_release_is_passed_over_or_refused() {
    let log = reopened_with(FrameKind(0x10), Bytes::from_static(b"later")).unwrap();
    assert_eq!(log.texts("s"), ["line 1", "line 2"]);
    assert!(matches!(reopened_with(FrameKind(0x90), Bytes::new()), Err(StoreError::Version { found: 0x90, .. })));
    assert!(matches!(reopened_with(BLOCK, Bytes::from_static(&[9; 80])), Err(StoreError::Version { found: 9, .. })));
    let log = reopened_with(MARK, Bytes::from_static(b"?")).unwrap();
    assert_eq!(log.texts("s"), ["line 1", "line 2"], "what cannot be read hides nothing else");
}

#[test]
fn a_mark_keeps_the_numbers_when_the_blocks_are_gone() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    for _ in 0..20 {
        log.append(&mut source, &[500]);
    }
    let mut mark = source.write(&log.store, &[]);
    mark[0].mark = true;
    log.appender.append(mark).unwrap();
    log.write();
    log.sync();
    let record = log.store.stream(&id("s")).unwrap().unwrap();
    log.append(&mut Source::new("other"), &[8_000]);
    log.sync();
    let start = log.store.log().trim(log.store.log().appended()).unwrap();
    assert!(start > 0);
    for index in [log.index.snapshot(), Default::default()] {
        log.index.restore(index);
        log.reopen();
        if start > record.newest {
            break;
        }
        assert_eq!(log.store.stream(&id("s")).unwrap().unwrap(), record);
        assert_eq!(arc_tail(&log).next_written(), 10_001);
    }
}

#[test]
fn a_failed_write_shows_nothing_and_ends_acceptance() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[1]);
    log.disk.fail_at(log.disk.ops());
    log.append(&mut source, &[2]);
    assert!(log.store.accepts().is_err());
    assert_eq!(log.texts("s"), ["line 1"]);
    let write = source.write(&log.store, &[1]);
    assert!(log.appender.append(write).is_err());
    log.reopen();
    assert_eq!(log.texts("s"), ["line 1"]);
}

#[test]
fn a_failed_sync_ends_acceptance_and_readers_keep_what_they_have() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[1]);
    log.disk.fail_at(log.disk.ops());
    log.sync();
    assert!(log.store.accepts().is_err());
    assert_eq!((log.texts("s"), arc_tail(&log).next_durable()), (vec!["line 1".into()], 1));
    assert!(log.index.streams(None, 9).unwrap().is_empty(), "nothing is indexed that is not synced");
}
