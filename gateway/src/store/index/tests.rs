#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! What any index must do, run against both; then what only the one on disk can do.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::memory::MemoryIndex;
use super::record::{
    KnownEvent, RecordError, decode_known_event, decode_mark, encode_known_event, encode_mark, known_event_bytes,
};
use super::*;
use crate::id::Id;

const CACHE: u64 = 1 << 20;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn record(next_line: u64, newest: Position) -> StreamRecord {
    StreamRecord {
        counting: Counting::Gateway,
        next_line,
        ended: false,
        newest,
        origin: None,
        epochs: vec![(1, 1)],
        lines: next_line - 1,
        bytes: 10 * (next_line - 1),
        pipeline_id: "".into(),
        last_time: 1_700_000_000_000,
    }
}

fn block(first_line: u64, lines: u32, position: Position) -> BlockRef {
    BlockRef { first_line, lines, position }
}

fn update(step_run: &str, blocks: &[BlockRef]) -> LineUpdate {
    let last = blocks.last().unwrap();
    LineUpdate { step_run: id(step_run), blocks: blocks.to_vec(), record: record(last.next_line(), last.position) }
}

fn event(agent: &str, name: &str, position: Position) -> EventUpdate {
    EventUpdate { agent: id(agent), name: name.into(), entry: EventEntry { position, digest: position ^ 0xabcd } }
}

/// What any index must do.
fn suite(index: &dyn Index) {
    assert_eq!(index.indexed(LogKind::Lines).unwrap(), 0);
    assert_eq!(index.stream(&id("a")).unwrap(), None);
    assert_eq!(index.blocks_from(&id("a"), 1, 10).unwrap(), []);

    // Blocks 1..=10, a gap of unknown size before 11, 11..=12, a hole, 20..=20, a gap of unknown size at the end.
    let blocks = [block(1, 10, 64), block(11, 0, 128), block(11, 2, 192), block(20, 1, 256), block(21, 0, 320)];
    index.apply_lines(400, &[update("a", &blocks), update("a1", &[block(1, 1, 336)])]).unwrap();
    assert_eq!(index.indexed(LogKind::Lines).unwrap(), 400);
    assert_eq!(index.indexed(LogKind::Events).unwrap(), 0);
    let from = |line, limit| index.blocks_from(&id("a"), line, limit).unwrap();
    for (line, first) in [(0, 0), (1, 0), (10, 0), (11, 1), (12, 2), (13, 3), (19, 3), (20, 3), (21, 4), (22, 5), (u64::MAX, 5)] {
        assert_eq!(from(line, 10), blocks[first..], "from line {line}");
    }
    assert_eq!(from(5, 2), blocks[..2]);
    assert_eq!(from(5, 0), []);

    // Pages of streams, in the order of their ids.
    index.apply_lines(500, &[update("b", &[block(1, 1, 408)]), update("a ", &[block(1, 1, 416)])]).unwrap();
    let names = |after: Option<&str>, limit| {
        let after = after.map(id);
        index.streams(after.as_ref(), limit).unwrap().iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 9), ["a", "a ", "a1", "b"]);
    assert_eq!(names(Some("a"), 2), ["a ", "a1"]);
    assert_eq!(names(Some("b"), 2), [""; 0]);
    assert_eq!(index.stream(&id("b")).unwrap(), Some(record(2, 408)));

    // A mark: a record without blocks.
    let marked = LineUpdate { step_run: id("b"), blocks: vec![], record: record(2, 504) };
    index.apply_lines(512, &[marked]).unwrap();
    assert_eq!(index.stream(&id("b")).unwrap(), Some(record(2, 504)));

    index.forget_blocks(&id("a"), &[blocks[0], blocks[1], block(99, 1, 8)]).unwrap();
    assert_eq!(from(1, 10), blocks[2..]);
    index.forget_stream(&id("a")).unwrap();
    assert_eq!((from(1, 10), index.stream(&id("a")).unwrap()), (vec![], None));
    assert_eq!(names(None, 9), ["a ", "a1", "b"]);
    assert_eq!(index.blocks_from(&id("a1"), 1, 9).unwrap(), [block(1, 1, 336)]);

    // Neither the split between agent and id nor their order confuses events; the last of one key wins.
    let events = [event("ag", "ent", 80), event("a", "gent", 72), event("agent", "e", 64), event("ag", "ent", 88)];
    index.apply_events(96, &events).unwrap();
    for known in &events[1..] {
        assert_eq!(index.event(&known.agent, &known.name).unwrap(), Some(known.entry));
    }
    assert_eq!(index.event(&id("agen"), "te").unwrap(), None);
    index.forget_events(&[(id("a"), "gent".into()), (id("a"), "none".into())]).unwrap();
    assert_eq!(index.event(&id("a"), "gent").unwrap(), None);
    assert_eq!(index.event(&id("ag"), "ent").unwrap(), Some(events[3].entry));

    index.clear().unwrap();
    assert_eq!((index.indexed(LogKind::Lines).unwrap(), index.indexed(LogKind::Events).unwrap()), (0, 0));
    assert_eq!((names(None, 9).len(), index.event(&id("ag"), "ent").unwrap()), (0, None));
    index.apply_lines(8, &[]).unwrap();
    assert_eq!(index.indexed(LogKind::Lines).unwrap(), 8);
}

#[test]
fn the_index_in_memory_does_what_an_index_must() {
    let index = MemoryIndex::default();
    suite(&index);
    let then = index.snapshot();
    index.apply_lines(16, &[update("z", &[block(1, 1, 8)])]).unwrap();
    index.restore(then.clone());
    assert_eq!(index.snapshot(), then);
}

#[test]
fn the_index_on_disk_does_what_an_index_must() {
    let dir = tempfile::tempdir().unwrap();
    let (index, opened) = FjallIndex::open_or_rebuild(&dir.path().join("index"), CACHE).unwrap();
    assert_eq!(opened, Opened::Fresh);
    suite(&index);
    assert!(index.bytes() > 0);
    assert_eq!(index.check().unwrap(), 3);
}

/// A stream's next block: how many numbers lie between, how many lines it has.
type Step = (usize, u64, u32);

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let hole = prop_oneof![3 => Just(0_u64), 1 => 1..5_u64];
    let lines = prop_oneof![1 => Just(0_u32), 3 => 1..6_u32];
    vec(vec((0..5_usize, hole, lines), 0..12), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Any blocks of streams whose ids are prefixes of each other, over several applies and a reopening, are found as a list of
    /// all blocks says.
    #[test]
    fn blocks_are_found_as_in_a_list(applies in steps(), reopen in 0..6_usize, forget in 0..3_usize) {
        let names = ["a", "ab", "abc", "b", "a-very-long-name-of-a-step-run-that-no-key-holds-inline"];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut on_disk = FjallIndex::open(&path, CACHE).unwrap();
        let in_memory = MemoryIndex::default();
        let mut model: BTreeMap<&str, Vec<BlockRef>> = BTreeMap::new();
        let mut position = 64;
        for (round, apply) in applies.iter().enumerate() {
            let mut new: BTreeMap<&str, Vec<BlockRef>> = BTreeMap::new();
            for &(stream, hole, lines) in apply {
                let known = model.entry(names[stream]).or_default();
                let first_line = known.last().map_or(1, BlockRef::next_line) + hole;
                known.push(block(first_line, lines, position));
                new.entry(names[stream]).or_default().push(block(first_line, lines, position));
                position += 8;
            }
            let updates: Vec<_> = new.iter().map(|(name, blocks)| update(name, blocks)).collect();
            on_disk.apply_lines(position, &updates).unwrap();
            in_memory.apply_lines(position, &updates).unwrap();
            if round == reopen {
                drop(on_disk);
                on_disk = FjallIndex::open(&path, CACHE).unwrap();
            }
        }
        for (name, blocks) in &mut model {
            let forgotten: Vec<_> = blocks.drain(..forget.min(blocks.len())).collect();
            on_disk.forget_blocks(&id(name), &forgotten).unwrap();
            in_memory.forget_blocks(&id(name), &forgotten).unwrap();
        }
        for index in [&on_disk as &dyn Index, &in_memory] {
            prop_assert_eq!(index.indexed(LogKind::Lines).unwrap(), position);
            for name in names {
                let blocks = model.get(name).cloned().unwrap_or_default();
                let end = blocks.last().map_or(1, BlockRef::next_line);
                for line in 0..=end + 2 {
                    let mut expected = blocks.clone();
                    expected.retain(|block| block.next_line() > line || block.first_line >= line);
                    for limit in [1, 3, 100] {
                        let found = index.blocks_from(&id(name), line, limit).unwrap();
                        prop_assert_eq!(&found[..], &expected[..limit.min(expected.len())], "{} from {}", name, line);
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_applied_is_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let index = FjallIndex::open(dir.path(), CACHE).unwrap();
    index.apply_lines(100, &[update("a", &[block(1, 3, 64)])]).unwrap();
    index.apply_events(200, &[event("agent", "evt-1", 64)]).unwrap();
    drop(index);
    let (index, opened) = FjallIndex::open_or_rebuild(dir.path(), CACHE).unwrap();
    assert_eq!(opened, Opened::Existing);
    assert_eq!((index.indexed(LogKind::Lines).unwrap(), index.indexed(LogKind::Events).unwrap()), (100, 200));
    assert_eq!(index.blocks_from(&id("a"), 2, 9).unwrap(), [block(1, 3, 64)]);
    assert_eq!(index.event(&id("agent"), "evt-1").unwrap(), Some(event("agent", "evt-1", 64).entry));
}

/// The files of an index, largest first.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).unwrap().len()));
    found
}

#[test]
fn an_index_of_which_any_file_is_torn_is_begun_anew_or_whole() {
    let dir = tempfile::tempdir().unwrap();
    let count = {
        let path = dir.path().join("model");
        let index = FjallIndex::open(&path, CACHE).unwrap();
        index.apply_lines(100, &[update("a", &[block(1, 3, 64)])]).unwrap();
        drop(index);
        files(&path).len()
    };
    for number in 0..count {
        for tear in 0..3 {
            let path = dir.path().join(format!("{number}-{tear}"));
            let index = FjallIndex::open(&path, CACHE).unwrap();
            index.apply_lines(100, &[update("a", &[block(1, 3, 64)])]).unwrap();
            index.apply_lines(200, &[update("b", &[block(1, 3, 104)])]).unwrap();
            drop(index);
            let file = &files(&path)[number];
            let bytes = std::fs::read(file).unwrap();
            match tear {
                0 => std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap(),
                1 => std::fs::write(file, vec![0; bytes.len()]).unwrap(),
                _ => std::fs::remove_file(file).unwrap(),
            }
            let (index, opened) = FjallIndex::open_or_rebuild(&path, CACHE).unwrap();
            let indexed = index.indexed(LogKind::Lines).unwrap();
            // Whatever was lost, it never claims to cover a stream that it does not have.
            let known = |name| index.stream(&id(name)).unwrap().is_some();
            assert_eq!((known("a"), known("b")), (indexed >= 100, indexed >= 200), "{file:?}, tear {tear}, {opened:?}");
            assert!(opened == Opened::Existing || indexed == 0, "{file:?}, tear {tear}, {opened:?}");
            index.apply_lines(300, &[update("c", &[block(1, 3, 204)])]).unwrap();
        }
    }
}

#[test]
fn an_index_of_another_format_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let db = ::fjall::Database::builder(&path).open().unwrap();
    let keys = db.keyspace("index", Default::default).unwrap();
    keys.insert(keys::FORMAT_KEY, [1, 9, 0, 0, 0]).unwrap();
    drop((keys, db));
    assert!(FjallIndex::open(&path, CACHE).is_err());
    let (index, opened) = FjallIndex::open_or_rebuild(&path, CACHE).unwrap();
    assert!(matches!(opened, Opened::Rebuilt { .. }), "{opened:?}");
    // In use: an error, and nothing is deleted.
    index.apply_lines(8, &[]).unwrap();
    assert!(matches!(FjallIndex::open_or_rebuild(&path, CACHE), Err(StoreError::Locked { .. })));
    assert_eq!(index.indexed(LogKind::Lines).unwrap(), 8);
}

fn golden_record() -> StreamRecord {
    StreamRecord {
        counting: Counting::Agent(id("agent-7")),
        next_line: 0x0102,
        ended: true,
        newest: 0x10_0000_0040,
        origin: Some(EventOrigin { position: 0x48, lines_done: 3 }),
        epochs: vec![(1, 1), (2, 0x90)],
        lines: 0x0100,
        bytes: 0x2000,
        pipeline_id: "pipe".into(),
        last_time: 1_700_000_000_123,
    }
}

/// Marks are kept in logs for days: these bytes never change; a new layout gets a new version.
#[test]
fn marks_look_as_their_table_says() {
    let golden = [
        "01070200",
        "0400",
        "0700",
        "0400",
        "0000",
        "0201000000000000",
        "4000000010000000",
        "0001000000000000",
        "0020000000000000",
        "7b68e5cf8b010000",
        "4800000000000000",
        "0300000000000000",
        "010000000100000000000000",
        "020000009000000000000000",
        "73746570",
        "6167656e742d37",
        "70697065",
    ];
    let encoded = encode_mark(&id("step"), &golden_record());
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.concat());
    assert_eq!(decode_mark(&encoded), Ok((id("step"), golden_record())));
}

#[test]
fn marks_of_events_look_as_their_table_says() {
    let event =
        KnownEvent { agent: id("agent"), name: "evt-7".into(), digest: 0x0102_0304_0506_0708, received: 1_700_000_000_123 };
    let golden = b"\x01\x00\x05\x00\x05\x00\x00\x00\x08\x07\x06\x05\x04\x03\x02\x01\x7b\x68\xe5\xcf\x8b\x01\x00\x00agentevt-7";
    assert_eq!(encode_known_event(&event), golden[..]);
    assert_eq!(decode_known_event(golden), Ok(event.clone()));
    // 40 of header, 34 of body, padded.
    assert_eq!(known_event_bytes(&event), 80);
    for end in 0..golden.len() {
        assert_eq!(decode_known_event(&golden[..end]), Err(RecordError::Malformed), "cut at {end}");
    }
}

#[test]
fn a_mark_that_is_cut_or_longer_or_newer_is_refused() {
    let whole = encode_mark(&id("step"), &golden_record());
    for end in 0..whole.len() {
        assert_eq!(decode_mark(&whole[..end]), Err(RecordError::Malformed), "cut at {end}");
    }
    assert_eq!(decode_mark(&[&whole[..], &[0]].concat()), Err(RecordError::Malformed));
    let mut newer = whole.to_vec();
    newer[0] = 2;
    assert_eq!(decode_mark(&newer), Err(RecordError::Version(2)));
}

proptest! {
    #[test]
    fn marks_come_back_as_they_went(
        agent in proptest::option::of("[a-z]{1,256}"), origin in any::<Option<(u64, u64)>>(), ended: bool,
        numbers in any::<[u64; 4]>(), last_time: i64, epochs in vec(any::<(u32, u64)>(), 0..=8), pipeline in "\\PC{0,40}",
    ) {
        let record = StreamRecord {
            counting: agent.map_or(Counting::Gateway, |agent| Counting::Agent(id(&agent))),
            next_line: numbers[0], ended, newest: numbers[1], lines: numbers[2], bytes: numbers[3], epochs, last_time,
            origin: origin.map(|(position, lines_done)| EventOrigin { position, lines_done }),
            pipeline_id: pipeline.as_str().into(),
        };
        prop_assert_eq!(decode_mark(&encode_mark(&id("step"), &record)), Ok((id("step"), record)));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in vec(any::<u8>(), 0..200), flags in 0..8_u8) {
        if let [version, flag, ..] = &mut bytes[..] {
            (*version, *flag) = (1, flags);
        }
        let _ = decode_mark(&bytes);
    }
}
