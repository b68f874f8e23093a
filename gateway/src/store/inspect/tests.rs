#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;

use super::*;
use crate::id::Id;
use crate::store::index::memory::MemoryIndex;
use crate::store::index::{Counting, EventEntry, EventUpdate, LineUpdate};
use crate::store::segment::FrameKind;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn record(next_line: u64) -> StreamRecord {
    StreamRecord {
        counting: Counting::Gateway,
        next_line,
        ended: false,
        newest: 0,
        origin: None,
        epochs: vec![],
        lines: 0,
        bytes: 0,
        pipeline_id: "".into(),
        last_time: 0,
    }
}

fn frame(position: Position, kind: u8) -> Result<Scanned, StoreError> {
    let kind = FrameKind(kind);
    Ok(Scanned::Frame(Frame { position, next: position + 8, kind, incarnation: 1, received: 0, body: Bytes::new() }))
}

fn block(number: u64) -> BlockRef {
    BlockRef { first_line: number, lines: 1, position: 64 + 8 * number }
}

/// An index of `count` blocks of one line each in stream `a`, all indexed.
fn index(count: u64) -> MemoryIndex {
    let index = MemoryIndex::default();
    let blocks = (1..=count).map(block).collect();
    let update = LineUpdate { step_run: id("a"), blocks, record: record(count + 1) };
    index.apply_lines(block(count).position + 8, &[update]).unwrap();
    index
}

fn lines(index: &MemoryIndex, items: Vec<Result<Scanned, StoreError>>) -> LogReport {
    let meaning = |frame: &Frame| match frame.kind.0 {
        0x81 => Meaning::Block(id("a"), block((frame.position - 64) / 8)),
        0x99 => Meaning::Unreadable("of another release".into()),
        _ => Meaning::Other,
    };
    verify(LogKind::Lines, 64, items, meaning, index).unwrap()
}

#[test]
fn streams_are_listed_over_pages() {
    let index = MemoryIndex::default();
    for count in [0, 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1] {
        let updates: Vec<_> =
            (0..count).map(|n| LineUpdate { step_run: id(&format!("{n:05}")), blocks: vec![], record: record(1) }).collect();
        index.apply_lines(0, &updates).unwrap();
        let names: Vec<_> = streams(&index).map(|stream| stream.unwrap().0).collect();
        assert_eq!(names.len(), count);
        assert!(names.is_sorted());
    }
}

#[test]
fn a_sound_log_has_no_findings() {
    let count = 3 * PAGE as u64 + 7;
    let mut items: Vec<_> = (1..=count).map(|number| frame(block(number).position, 0x81)).collect();
    // Not indexed yet, which is as it should be; and a frame that the index does not know.
    items.push(frame(block(count + 1).position, 0x81));
    items.push(frame(block(count + 2).position, 0x03));
    let report = lines(&index(count), items);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.frames, report.bytes), (count + 2, 8 * (count + 2)));
    assert_eq!(report.kinds, BTreeMap::from([(0x81, count + 1), (0x03, 1)]));
}

#[test]
fn what_is_wrong_is_found_and_named() {
    let damage = Ok(Scanned::Damage { from: 80, to: 96, why: "header CRC" });
    // Block 1 is there, 2 and 3 are damaged, 4 is not understood, 5 is there.
    let report = lines(&index(5), vec![frame(72, 0x81), damage, frame(96, 0x99), frame(104, 0x81)]);
    assert_eq!((report.damaged, report.damaged_bytes, report.unreadable, report.missing, report.surplus), (1, 16, 1, 0, 3));
    assert!(!report.is_sound() && report.needs_reindex());
    let named: Vec<_> = report.findings.iter().map(|finding| (finding.position, finding.what.as_str())).collect();
    let surplus = "the index has 3 blocks that the log lacks";
    assert_eq!(named, [(80, "16 bytes are damaged: header CRC"), (96, "of another release"), (64, surplus)]);

    let index = index(3);
    index.forget_blocks(&id("a"), &[block(2)]).unwrap();
    let report = lines(&index, (1..=3).map(|number| frame(block(number).position, 0x81)).collect());
    assert_eq!((report.missing, report.surplus), (1, 0));
    assert_eq!(report.findings, [Finding { position: 80, what: "the index lacks this frame".into() }]);
}

#[test]
fn events_are_looked_up_and_findings_are_bounded() {
    let index = MemoryIndex::default();
    let update =
        |name: &str, position| EventUpdate { agent: id("agent"), name: name.into(), entry: EventEntry { position, digest: 0 } };
    // 64 is known by the mark at 72.
    index.apply_events(10_000, &[update("72", 72)]).unwrap();
    let meaning = |frame: &Frame| {
        let name = if frame.position == 64 { 72 } else { frame.position };
        Meaning::Event(id("agent"), name.to_string().into())
    };
    let items = (8..1000).map(|number| frame(8 * number, 0x81));
    let report = verify(LogKind::Events, 64, items, meaning, &index).unwrap();
    assert_eq!((report.frames, report.missing, report.findings.len()), (992, 990, NAMED));
}
