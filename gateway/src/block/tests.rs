#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use proptest::prelude::*;

use super::format::{FormatError, MAX_RUNS, decode, encode};
use super::lines::LineReader;
use super::*;

const TEXT_V2: &[u8] = include_bytes!("golden/text-v2.bin");
const GAP_V2: &[u8] = include_bytes!("golden/gap-v2.bin");
const TEXT_V1: &[u8] = include_bytes!("golden/text-v1.bin");
const GAP_V1: &[u8] = include_bytes!("golden/gap-v1.bin");

fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn run(lines: u32, time: Millis) -> Run {
    Run {
        lines,
        time,
        stream: OutputStream::Stdout,
        truncated: false,
        level: "info".into(),
        plugin: "shell".into(),
        agent: id("agent-1"),
        seq: 42,
    }
}

fn block(lines: u32, content: Content) -> Block {
    Block { step_run: id("step-1"), first_line: 1, lines, epoch: 0, agent_counted: false, origin: None, content }
}

fn text(codec: Codec, raw: &str, skip: u32, runs: Vec<Run>) -> Content {
    let bytes = match codec {
        Codec::Plain => raw.as_bytes().to_vec(),
        Codec::Zstd => zstd::encode_all(raw.as_bytes(), 1).unwrap(),
        Codec::Lz4 => lz4_flex::block::compress(raw.as_bytes()),
    };
    Content::Text { codec, raw_bytes: u32::try_from(raw.len()).unwrap(), skip, runs, bytes: bytes.into() }
}

fn golden_text() -> Block {
    let mut cut = run(1, -1);
    (cut.stream, cut.truncated, cut.agent) = (OutputStream::Stderr, true, id("agent-2"));
    (cut.level, cut.plugin) = ("".into(), "".into());
    let mut last = run(1, 1_700_000_000_999);
    last.stream = OutputStream::Unspecified;
    let runs = vec![run(2, 1_700_000_000_123), cut, last];
    Block {
        first_line: 4096,
        epoch: 3,
        agent_counted: true,
        origin: Some(EventOrigin { position: 4104, lines_done: 7 }),
        ..block(3, text(Codec::Plain, "old\nCompiling arcgate\r\nwarning: unused\nlast", 1, runs))
    }
}

fn golden_gap() -> Block {
    block(1000, Content::Gap { reason: GapReason::QueueFull, time: 1_700_000_000_123 })
}

fn body(block: &Block) -> Bytes {
    encode(block).unwrap().concat().into()
}

#[test]
fn the_layout_is_the_documented_one() {
    // The golden files were written by another program from the tables in the module's head, so a wrong table fails here. The
    // strings stand in the table in the order of their first use.
    for (golden, block) in [(TEXT_V2, golden_text()), (GAP_V2, golden_gap())] {
        let read = decode(&Bytes::from_static(golden)).unwrap();
        assert_eq!(format!("{read:?}"), format!("{block:?}"));
        assert_eq!(body(&read), body(&block));
    }
    assert_eq!(body(&golden_gap()), GAP_V2);
    assert_eq!(body(&golden_text()).len(), TEXT_V2.len());
}

#[test]
fn what_an_earlier_release_wrote_is_read() {
    let mut text = golden_text();
    let Content::Text { runs, .. } = &mut text.content else { panic!("a text") };
    runs.iter_mut().for_each(|run| run.seq = 0);
    for (golden, block) in [(TEXT_V1, text), (GAP_V1, golden_gap())] {
        assert_eq!(format!("{:?}", decode(&Bytes::from_static(golden)).unwrap()), format!("{block:?}"));
    }
}

#[test]
fn the_bytes_are_not_copied() {
    let block = golden_text();
    let Content::Text { bytes, .. } = &block.content else { panic!("a text") };
    assert_eq!(encode(&block).unwrap()[1].as_ptr(), bytes.as_ptr());
    let body = body(&block);
    let Content::Text { bytes, .. } = decode(&body).unwrap().content else { panic!("a text") };
    assert_eq!(bytes.as_ptr_range().end, body.as_ptr_range().end);
}

#[test]
fn lines_are_read_from_any_number() {
    let block = golden_text();
    let mut reader = LineReader::default();
    let mut lines = reader.lines(&block, 0).unwrap();
    let seen: Vec<_> = lines.by_ref().map(|line| (line.number, line.text, line.run.time, line.run.truncated)).collect();
    let all: [(u64, &[u8], i64, bool); 3] = [
        (4096, b"Compiling arcgate", 1_700_000_000_123, false),
        (4097, b"warning: unused", -1, true),
        (4098, b"last", 1_700_000_000_999, false),
    ];
    assert_eq!(seen, all);
    assert_eq!(lines.next_number(), block.next_line());
    for from in 4096..4100 {
        let numbers: Vec<_> = reader.lines(&block, from).unwrap().map(|line| line.number).collect();
        assert_eq!(numbers, (from..4099).collect::<Vec<_>>());
    }
    assert_eq!(reader.lines(&golden_gap(), 1).unwrap().count(), 0);
}

#[test]
fn only_the_lines_that_count_are_read() {
    let mut reader = LineReader::default();
    for codec in [Codec::Plain, Codec::Zstd, Codec::Lz4] {
        let block = block(2, text(codec, "a\nb\n\n\r\nc\n", 1, vec![run(5, 0)]));
        let seen: Vec<_> = reader.lines(&block, 1).unwrap().map(|line| (line.number, line.text)).collect();
        assert_eq!(seen, [(1, &b"b"[..]), (2, b"")]);
    }
}

#[test]
fn bytes_that_are_not_what_the_header_says_are_an_error() {
    let mut reader = LineReader::default();
    for codec in [Codec::Zstd, Codec::Lz4] {
        for wrong in [3, 5] {
            let mut content = text(codec, "a\nb\n", 0, vec![run(2, 0)]);
            if let Content::Text { raw_bytes, .. } = &mut content {
                *raw_bytes = wrong;
            }
            assert_eq!(reader.lines(&block(2, content), 1).unwrap_err(), FormatError::Bytes);
        }
    }
}

#[test]
fn a_block_that_could_not_be_read_again_is_not_written() {
    let many = text(Codec::Plain, &"\n".repeat(MAX_RUNS + 1), 0, vec![run(1, 0); MAX_RUNS + 1]);
    assert_eq!(encode(&block(1, many)).unwrap_err(), FormatError::Size("table of runs"));
    let short = text(Codec::Plain, "a\nb\n", 1, vec![run(2, 0)]);
    assert_eq!(encode(&block(2, short)).unwrap_err(), FormatError::Field("count of lines"));
    let mut newer = TEXT_V2.to_vec();
    newer[0] = 3;
    assert_eq!(decode(&newer.into()).unwrap_err(), FormatError::Version(3));
}

#[test]
fn every_shortened_or_lengthened_body_is_refused() {
    for golden in [TEXT_V1, GAP_V1, TEXT_V2, GAP_V2] {
        for length in 0..golden.len() {
            decode(&Bytes::copy_from_slice(&golden[..length])).unwrap_err();
        }
        decode(&[golden, b"x"].concat().into()).unwrap_err();
    }
}

fn any_run() -> impl Strategy<Value = Run> {
    (1..5_u32, any::<i64>(), 0..3_usize, any::<bool>(), "[a-z]{0,5}", "[a-c]{1,2}", any::<u64>()).prop_map(
        |(lines, time, stream, truncated, level, agent, seq)| Run {
            lines,
            time,
            stream: [OutputStream::Unspecified, OutputStream::Stdout, OutputStream::Stderr][stream],
            truncated,
            level: level.as_str().into(),
            plugin: "".into(),
            agent: id(&agent),
            seq,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(runs in prop::collection::vec(any_run(), 1..40), codec in 0..3_usize, skip in 0..3_u32) {
        let total: u32 = runs.iter().map(|run| run.lines).sum();
        let skip = skip.min(total);
        let raw: String = (0..total).map(|n| format!("line {n}\r\n")).collect();
        let codec = [Codec::Plain, Codec::Zstd, Codec::Lz4][codec];
        let expected: Vec<_> = runs.iter().flat_map(|run| std::iter::repeat_n(run.clone(), run.lines as usize)).enumerate()
            .map(|(n, run)| (format!("line {n}").into_bytes(), run)).skip(skip as usize).collect();
        let block = decode(&body(&block(total - skip, text(codec, &raw, skip, runs)))).unwrap();
        let mut reader = LineReader::default();
        for from in [1, 2, u64::from(total / 2), block.next_line()] {
            let seen: Vec<_> = reader.lines(&block, from).unwrap().map(|line| (line.text.to_vec(), line.run.clone())).collect();
            prop_assert_eq!(&seen[..], &expected[(from.max(1) as usize - 1).min(expected.len())..]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(golden in prop::bool::ANY, spoil in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = if golden { TEXT_V1 } else { GAP_V1 }.to_vec();
        for (at, value) in spoil {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(block) = decode(&bytes.into()) {
            let mut reader = LineReader::default();
            if let Ok(lines) = reader.lines(&block, 2) {
                lines.for_each(drop);
            }
            encode(&block).unwrap();
        }
    }

    #[test]
    fn no_random_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&[&[1, 0, 0][..], &bytes].concat().into());
    }
}
