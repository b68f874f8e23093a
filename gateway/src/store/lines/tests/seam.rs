//! The seam between the tail and the index: each block is found once, in order, whenever somebody looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::super::LineStore;
use super::super::by_hand::{Shown, dir, options, take_all};
use super::*;
use crate::block::lines::LineReader;
use crate::clock::Clock;
use crate::replay::cursor::{LineCursor, Look};
use crate::replay::page::Page;
use crate::store::disk::sim::SimDisk;
use crate::store::index::memory::MemoryIndex;

#[test]
fn blocks_are_found_before_and_after_they_are_indexed() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[3, 2]);
    log.append(&mut source, &[4]);
    let look = |log: &ByHand| {
        let from = |line, limit| firsts(&places(log, line, limit));
        assert_eq!(from(1, 9), [(1, 3), (4, 2), (6, 4)]);
        assert_eq!(from(3, 9), [(1, 3), (4, 2), (6, 4)], "the block that holds the line");
        assert_eq!(from(4, 1), [(4, 2)]);
        assert_eq!(from(6, 9), [(6, 4)]);
        assert_eq!(from(10, 9), []);
        assert_eq!(log.shown("s").len(), 9);
    };
    look(&log);
    log.sync();
    assert_eq!(arc_tail(&log).snapshot().blocks().count(), 0);
    look(&log);
    log.append(&mut source, &[1]);
    assert_eq!(firsts(&places(&log, 9, 9)), [(6, 4), (10, 1)], "half here, half there");
    assert_eq!(firsts(&places(&log, 10, 9)), [(10, 1)]);
    assert_eq!(firsts(&places(&log, 1, 2)), [(1, 3), (4, 2)]);
}

#[test]
fn a_gap_of_unknown_size_is_found_at_the_seam() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[1, 0]);
    log.sync();
    log.append(&mut source, &[1, 0]);
    log.append(&mut source, &[0, 1]);
    assert_eq!(firsts(&places(&log, 2, 9)), [(2, 0), (2, 1), (3, 0), (3, 0), (3, 1)]);
    assert_eq!(firsts(&places(&log, 3, 9)), [(3, 0), (3, 0), (3, 1)]);
    assert_eq!(log.texts("s"), ["line 1", "(0)", "line 2", "(0)", "(0)", "line 3"]);
}

#[test]
fn what_is_indexed_while_a_reader_looks_is_not_given_twice() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[2]);
    let tail = arc_tail(&log);
    let before = tail.snapshot();
    log.append(&mut source, &[3]);
    log.sync();
    log.append(&mut source, &[1]);
    assert_eq!(before.blocks().count(), 1, "what a reader holds does not change");
    assert_eq!(firsts(&places(&log, 1, 9)), [(1, 2), (3, 3), (6, 1)]);
    assert_eq!((tail.next_written(), tail.next_durable()), (7, 6));
}

#[test]
fn readers_are_woken_by_writes_syncs_and_the_last_feeder() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    let tail = arc_tail(&log);
    let feeder = tail.enter_feeder();
    let mut woken_by = |act: &mut dyn FnMut(&mut ByHand)| {
        let mut changed = std::pin::pin!(tail.changed());
        assert!(changed.as_mut().now_or_never().is_none());
        act(&mut log);
        assert!(changed.now_or_never().is_some());
    };
    woken_by(&mut |log| log.append(&mut source, &[1]));
    woken_by(&mut |log| log.sync());
    let mut feeder = Some(feeder);
    woken_by(&mut |_| drop(feeder.take()));
    assert_eq!(tail.feeders(), 0);
}

#[test]
fn only_what_a_reader_waited_for_stays_in_memory() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    let kept = |log: &ByHand| arc_tail(log).snapshot().blocks().map(|block| block.block.is_some()).collect::<Vec<_>>();
    log.append(&mut source, &[1]);
    let reader = arc_tail(&log).enter_reader();
    log.append(&mut source, &[1, 20_000]);
    drop(reader);
    log.append(&mut source, &[1]);
    assert_eq!(kept(&log), [false, true, false, false], "and nothing large");
    assert_eq!(log.shown("s").len(), 20_003);
}

#[test]
fn a_stream_stays_in_memory_as_long_as_somebody_holds_it() {
    let mut log = ByHand::new(1);
    let mut source = Source::new("s");
    log.append(&mut source, &[1]);
    let (ours, reader) = (arc_tail(&log), arc_tail(&log));
    log.sync();
    assert!(!log.store.release(&id("s"), &ours));
    drop(reader);
    assert!(log.store.release(&id("s"), &ours));
    drop(ours);
    assert_eq!(log.store.open_streams(), 0);
    log.append(&mut source, &[2]);
    assert_eq!(log.shown("s").len(), 3);
    assert_eq!(log.store.open_streams(), 1);
    log.store.release_unused();
    assert_eq!(log.store.open_streams(), 1, "not before it is indexed");
    log.sync();
    log.store.release_unused();
    assert_eq!(log.store.open_streams(), 0);
}

/// Readers of three kinds poll as fast as they can while blocks are written, synced and indexed beneath them.
#[test]
fn i7_readers_see_each_line_once_in_order_while_blocks_move() {
    const BLOCKS: u64 = 3_000;
    let disk = Arc::new(SimDisk::new(1));
    let index = Arc::new(MemoryIndex::default());
    let (store, appender, threads) =
        LineStore::open(disk, dir(), options(1, 64 << 10), index, 1, Duration::from_micros(300)).unwrap();
    let by = Instant::now() + Duration::from_secs(60);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for limit in [1, 3, 64] {
            scope.spawn({
                let (store, done) = (&store, &done);
                move || poll(store, limit, by, done)
            });
        }
        for waits in [false, true] {
            scope.spawn({
                let (store, done) = (&store, &done);
                move || follow(store, waits, by, done)
            });
        }
        let mut source = Source::new("s");
        for block in 0..BLOCKS {
            let write = source.write(&store, &[1 + (block % 3) as u32]);
            appender.append(write).unwrap();
            if block % 50 == 0 {
                // Readers see other moments if the writer stands still now and then.
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        drop(appender);
        threads.join();
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(store.tail(&id("s")).unwrap().next_durable(), 2 * BLOCKS + 1);
}

/// Asks for blocks.
fn poll(store: &LineStore, limit: usize, by: Instant, done: &AtomicBool) {
    let mut next = 1;
    loop {
        let at_end = done.load(Ordering::SeqCst);
        assert!(Instant::now() < by, "stuck at {next}");
        let found = store.blocks_from(&id("s"), next, limit).unwrap();
        for block in &found {
            assert_eq!(block.place.first_line, next);
            next = block.place.next_line();
        }
        if let Some(last) = found.last() {
            assert_eq!(store.read(&last.place).unwrap().next_line(), next);
        } else if at_end {
            assert_eq!(next, store.tail(&id("s")).unwrap().next_written());
            return;
        }
    }
}

/// Reads lines, as a subscriber does.
fn follow(store: &LineStore, waits: bool, by: Instant, done: &AtomicBool) {
    let tail = store.tail(&id("s")).unwrap();
    let _reader = waits.then(|| tail.enter_reader());
    let mut cursor = LineCursor::new(id("s"), 1, Clock::manual(0));
    let (mut reader, mut page, mut next) = (LineReader::default(), Page::default(), 1);
    loop {
        let at_end = done.load(Ordering::SeqCst);
        assert!(Instant::now() < by, "stuck at {next}");
        if cursor.look(&tail, &mut reader, &mut page) == Look::AskStore {
            cursor.load(store, &tail, &mut reader, &mut page).unwrap();
        }
        let mut shown = Vec::new();
        take_all(&mut page, &mut shown);
        for entry in &shown {
            let Shown::Line { number, text, .. } = entry else { panic!("{entry:?}") };
            assert_eq!((*number, text), (next, &format!("line {next}")));
            next += 1;
        }
        page.clear();
        if shown.is_empty() && at_end {
            assert_eq!(next, tail.next_written());
            return;
        }
    }
}
