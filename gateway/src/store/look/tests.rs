//! Looking shows all that is written and changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::*;
use crate::block::{Block, Content, GapReason};
use crate::store::disk::RealDisk;
use crate::store::events::{Commit, Incoming, IncomingEvent};
use crate::store::index::Counting;
use crate::store::lines::{StreamWrite, fold};
use crate::store::{Logs, Parts};

/// A store with one stream of three gaps of a line each, two events and a dead letter.
fn fill(path: &Path) {
    let parts = Parts::open(Arc::new(RealDisk), path).unwrap();
    let Logs { lines, appender, line_threads, events, .. } =
        parts.open_logs(1 << 20, Duration::from_millis(1), &Clock::system()).unwrap();
    let step_run = Id::parse("step").unwrap();
    let blocks: Vec<Block> = (1..=3)
        .map(|first_line| Block {
            step_run: step_run.clone(),
            first_line,
            lines: 1,
            epoch: 1,
            agent_counted: false,
            origin: None,
            content: Content::Gap { reason: GapReason::QueueFull, time: 1 },
        })
        .collect();
    let mut record = fold::new_record(Counting::Gateway);
    blocks.iter().for_each(|block| fold::add_block(&mut record, block, 0));
    let tail = lines.tail(&step_run).unwrap();
    appender.append(vec![StreamWrite { step_run, tail, blocks, record, mark: false, arrived: 0, memory: Vec::new() }]).unwrap();
    drop((appender, lines));
    line_threads.join();

    let event = |id: &str| Incoming::Event(IncomingEvent { event_id: id.into(), seq: 1, digest: 7, raw: Bytes::new() });
    let dead = Incoming::Dead { seq: 3, event_id: None, reason: DeadReason::NoId, raw: Bytes::new() };
    let (reply, fates) = oneshot::channel();
    let agent = Id::parse("agent").unwrap();
    let commit = Commit { agent, events: vec![event("a"), dead, event("b")], reply, positions: None, permit: None };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(events.submit(commit)).unwrap();
    fates.blocking_recv().unwrap().unwrap();
    events.close();
    parts.meta.close_clean().unwrap();
}

fn look(path: &Path) -> Result<Look, StoreError> {
    Look::open(&(Arc::new(RealDisk) as Arc<dyn Disk>), path)
}

fn streams(path: &Path) -> Vec<(String, u64)> {
    let look = look(path).unwrap();
    look.streams().unwrap().map(|stream| stream.map(|(id, record)| (id.to_string(), record.next_line)).unwrap()).collect()
}

fn newest_segment(path: &Path) -> PathBuf {
    let files = std::fs::read_dir(path.join("lines")).unwrap();
    files.map(|file| file.unwrap().path()).max().unwrap()
}

#[test]
fn it_shows_what_is_there_with_and_without_an_index() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let meta = std::fs::read(folder.path().join("META")).unwrap();
    for _ in 0..2 {
        assert_eq!(streams(folder.path()), [("step".to_owned(), 4)]);
        let look = look(folder.path()).unwrap();
        let events: Vec<_> = look.events().map(Result::unwrap).collect();
        let names: Vec<_> = events.iter().map(|event| (&*event.record.event_id, event.dead())).collect();
        assert_eq!(names, [("a", None), ("", Some(DeadReason::NoId)), ("b", None)]);
        for (log, frames) in [(LogKind::Lines, 3), (LogKind::Events, 3)] {
            let report = look.verify(log).unwrap();
            assert!(report.is_sound(), "{report:?}");
            assert_eq!(report.frames, frames);
        }
        drop(look);
        std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    }
    assert_eq!(std::fs::read(folder.path().join("META")).unwrap(), meta, "neither incarnation nor epoch has risen");
}

#[test]
fn what_a_crash_left_behind_the_last_frame_stays() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let segment = newest_segment(folder.path());
    OpenOptions::new().append(true).open(&segment).unwrap().write_all(&[7; 100]).unwrap();
    let before = std::fs::read(&segment).unwrap();
    let store = look(folder.path()).unwrap();
    assert_eq!(store.log(LogKind::Lines).unwrap().1.cut_bytes, 100);
    assert!(store.verify(LogKind::Lines).unwrap().is_sound());
    drop(store);
    assert_eq!(streams(folder.path()), [("step".to_owned(), 4)]);
    assert_eq!(std::fs::read(&segment).unwrap(), before);
}

#[test]
fn damage_and_an_index_that_is_ahead_are_found() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let segment = newest_segment(folder.path());
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the body of the second frame.
    let at = 64 + (bytes.len() - 64) / 2;
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let report = look(folder.path()).unwrap().verify(LogKind::Lines).unwrap();
    assert_eq!((report.damaged, report.frames), (1, 2), "{report:?}");
    bytes.truncate(64);
    std::fs::write(&segment, &bytes).unwrap();
    let store = look(folder.path()).unwrap();
    assert!(store.verify(LogKind::Lines).unwrap().needs_reindex());
    assert!(store.streams().is_err());
}

#[test]
fn no_store_is_made_and_none_that_is_in_use_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing");
    assert!(matches!(look(&nothing), Err(StoreError::Missing(_))));
    assert!(!nothing.exists());
    let _parts = Parts::open(Arc::new(RealDisk), folder.path()).unwrap();
    assert!(matches!(look(folder.path()), Err(StoreError::Locked { .. })));
}
