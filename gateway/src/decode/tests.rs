#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::Arc;

use arcgate_api::gateway::v1::{LogBatch, LogRecord, LogRecords, Meta};
use bytes::Bytes;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::block::format::MAX_RUNS;
use crate::block::lines::LineReader;
use crate::block::{Block, Codec, Content, MAX_RAW_BYTES, OutputStream, Run};
use crate::budget::Budget;
use crate::id::Id;

const MB: u64 = 1 << 20;

fn decoder(limits: DecodeLimits, budget: u64) -> Decoder {
    Decoder::new(limits, BufferPool::new(8 << 20), Budget::new(budget))
}

fn batch(compression: Compression, data: impl Into<Bytes>) -> BatchBytes {
    BatchBytes {
        compression,
        data: data.into(),
        raw_size: 0,
        format: Format::Text,
        stream: OutputStream::Stdout,
        level: "info".into(),
        plugin: "shell".into(),
        time: 1000,
        agent: Id::parse("agent-1").unwrap(),
        seq: 1,
    }
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(text, 1).unwrap()
}

/// As a streaming writer does: without content size.
fn zstd_stream(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(text).unwrap();
    encoder.flush().unwrap();
    let frame = encoder.finish().unwrap();
    assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).unwrap(), None);
    frame
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn decode(batch: &BatchBytes) -> Result<Decoded, DecodeError> {
    decode_with(DecodeLimits::default(), batch)
}

fn decode_with(limits: DecodeLimits, batch: &BatchBytes) -> Result<Decoded, DecodeError> {
    let budget = Budget::new(u64::MAX);
    Decoder::new(limits, BufferPool::new(8 << 20), budget.clone()).decode(batch, budget.try_take(0).unwrap())
}

/// What readers will see; checks what pieces promise.
fn lines(decoded: &Decoded) -> Vec<(Vec<u8>, Run)> {
    let mut seen = Vec::new();
    let mut reader = LineReader::default();
    for piece in &decoded.pieces {
        let block = Block {
            step_run: Id::parse("step-1").unwrap(),
            first_line: 1,
            lines: piece.lines,
            epoch: 0,
            agent_counted: false,
            origin: None,
            content: Content::Text {
                codec: piece.codec,
                raw_bytes: piece.raw_bytes,
                skip: 0,
                runs: piece.runs.clone(),
                bytes: piece.bytes.clone(),
            },
        };
        let [head, bytes] = crate::block::format::encode(&block).unwrap();
        let block = crate::block::format::decode(&[head, bytes].concat().into()).unwrap();
        assert_eq!(piece.runs.iter().map(|run| run.lines).sum::<u32>(), piece.lines);
        let mut lines = reader.lines(&block, 1).unwrap();
        // As a run of one line, so that runs compare by what they say of a line.
        seen.extend(lines.by_ref().map(|line| (line.text.to_vec(), Run { lines: 1, ..line.run.clone() })));
        assert_eq!(lines.next_number(), block.next_line());
    }
    assert_eq!(seen.len() as u64, decoded.lines);
    seen
}

fn texts(decoded: &Decoded) -> Vec<String> {
    lines(decoded).into_iter().map(|(text, _)| String::from_utf8(text).unwrap()).collect()
}

#[test]
fn all_compressions_give_the_same_lines() {
    let text = b"one\ntwo\r\n\nlast";
    let (head, tail) = text.split_at(5);
    let skippable = [&[0x53, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for (compression, data) in [
        (Compression::None, text.to_vec()),
        (Compression::Gzip, gzip(text)),
        (Compression::Gzip, [gzip(head), gzip(tail)].concat()),
        (Compression::Zstd, zstd(text)),
        (Compression::Zstd, zstd_stream(text)),
        (Compression::Zstd, [zstd(head), skippable, zstd_stream(b""), zstd_stream(tail)].concat()),
    ] {
        for raw_size in [0, u32::try_from(text.len()).unwrap()] {
            let decoded = decode(&BatchBytes { raw_size, ..batch(compression, data.clone()) }).unwrap();
            assert_eq!(texts(&decoded), ["one", "two", "", "last"]);
            assert_eq!((decoded.lines, decoded.raw_bytes, decoded.truncated), (4, 14, 0));
            assert!(!decoded.pieces[0].ends_with_newline && decoded.pieces[0].codec == Codec::Plain);
            assert_eq!(*decoded.pieces[0].runs[0].level, *"info");
        }
    }
}

#[test]
fn nothing_is_no_piece() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let decoded = decode(&batch(compression, "")).unwrap();
        assert_eq!((decoded.pieces.len(), decoded.lines, decoded.memory.bytes()), (0, 0, 0));
    }
    assert!(decode(&batch(Compression::Zstd, zstd(b""))).unwrap().pieces.is_empty());
}

#[test]
fn one_large_enough_frame_is_kept_as_it_came() {
    let text = "Compiling arcgate-gateway v0.1.0\n".repeat(1000);
    for data in [zstd(text.as_bytes()), zstd_stream(text.as_bytes())] {
        let sent = batch(Compression::Zstd, data);
        let decoded = decode(&sent).unwrap();
        let piece = &decoded.pieces[0];
        assert_eq!((piece.codec, piece.bytes.as_ptr(), piece.lines), (Codec::Zstd, sent.data.as_ptr(), 1000));
        assert_eq!(decoded.memory.bytes(), sent.data.len() as u64);
        assert_eq!(lines(&decoded).len(), 1000);
    }
}

#[test]
fn what_is_not_one_frame_or_too_small_or_cut_is_not_kept_as_it_came() {
    let text = "x\n".repeat(20_000);
    let two = [zstd(text.as_bytes()), zstd(b"y\n")].concat();
    let mut long = text.clone();
    long.push_str(&"z".repeat(2000));
    let limits = DecodeLimits { line_bytes: 1000, ..DecodeLimits::default() };
    // Empty blocks: more bytes than text, so compressing it again is better.
    let padded =
        [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58][..], &[0, 0, 0].repeat(30_000), &zstd_stream(text.as_bytes())[6..]].concat();
    for data in [two, zstd(b"small\n"), zstd(long.as_bytes()), padded] {
        let decoded = decode_with(limits, &batch(Compression::Zstd, data)).unwrap();
        assert_eq!(decoded.pieces[0].codec, Codec::Plain);
    }
}

#[test]
fn large_batches_are_cut_at_line_ends() {
    let text: String = (0..300_000).map(|n| format!("{n:>40}\n")).collect();
    for (compression, data) in [(Compression::None, text.clone().into_bytes()), (Compression::Zstd, zstd(text.as_bytes()))] {
        let decoded = decode(&batch(compression, data)).unwrap();
        assert_eq!((decoded.pieces.len(), decoded.lines, decoded.raw_bytes), (3, 300_000, text.len() as u64));
        for piece in &decoded.pieces {
            assert!(piece.raw_bytes as usize <= MAX_RAW_BYTES && piece.ends_with_newline && piece.codec == Codec::Plain);
        }
        assert!(lines(&decoded).iter().enumerate().all(|(n, (text, _))| *text == format!("{n:>40}").into_bytes()));
    }
}

#[test]
fn long_lines_are_cut_and_say_so() {
    let limits = DecodeLimits { line_bytes: 10, ..DecodeLimits::default() };
    let text = b"exactly 10\nexactly 10\r\nmore than 10\n\nmuch more than ten\r\nshort\nat last 11.\nlonger still";
    let decoded = decode_with(limits, &batch(Compression::None, &text[..])).unwrap();
    let seen: Vec<_> = lines(&decoded).into_iter().map(|(text, run)| (String::from_utf8(text).unwrap(), run.truncated)).collect();
    let expected = [
        ("exactly 10", false),
        ("exactly 10", false),
        ("more than ", true),
        ("", false),
        ("much more ", true),
        ("short", false),
        ("at last 11", true),
        ("longer sti", true),
    ];
    assert_eq!(seen, expected.map(|(text, truncated)| (text.to_owned(), truncated)));
    assert_eq!((decoded.truncated, decoded.lines), (4, 8));
    assert!(decoded.pieces[0].runs.iter().all(|run| !run.truncated || run.lines == 1));
}

#[test]
fn the_longest_line_fits_a_block() {
    let limits = DecodeLimits { line_bytes: usize::MAX, ..DecodeLimits::default() };
    let text = format!("{}\r\nb\n", "a".repeat(3 * MAX_RAW_BYTES));
    let decoded = decode_with(limits, &batch(Compression::Gzip, gzip(text.as_bytes()))).unwrap();
    let seen = lines(&decoded);
    assert_eq!((seen[0].0.len(), &*seen[1].0, decoded.truncated), (DecodeLimits::MAX_LINE_BYTES, &b"b"[..], 1));
}

#[test]
fn a_wrong_raw_size_is_refused() {
    let text = b"one\ntwo\n";
    for (compression, data) in [
        (Compression::None, text.to_vec()),
        (Compression::Gzip, gzip(text)),
        (Compression::Zstd, zstd(text)),
        (Compression::Zstd, zstd_stream(text)),
    ] {
        for raw_size in [1, 7, 9, 70_000] {
            let error = decode(&BatchBytes { raw_size, ..batch(compression, data.clone()) }).unwrap_err();
            let DecodeError::RawSize { said, found } = error else { panic!("{error}") };
            assert!(said == raw_size && (found == Found::Exactly(8) || (found == Found::More && raw_size < 8)));
        }
        let error = decode(&BatchBytes { raw_size: u32::MAX, ..batch(compression, data) }).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. } | DecodeError::RawSize { .. }));
    }
}

/// 1 GiB of zeros: in one frame, and in frames of 128 KiB whose sizes are known.
fn bombs() -> Vec<BatchBytes> {
    let zeros = vec![0; 1 << 20];
    let mut streamed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut zipped = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1024 {
        streamed.write_all(&zeros).unwrap();
        zipped.write_all(&zeros).unwrap();
    }
    let sized = zstd(&zeros[..128 << 10]).repeat(8192);
    let [streamed, sized] = [streamed.finish().unwrap(), sized].map(|data| batch(Compression::Zstd, data));
    vec![streamed, sized, batch(Compression::Gzip, zipped.finish().unwrap())]
}

#[test]
fn a_bomb_stops_at_the_bound_and_costs_no_more() {
    for bomb in bombs() {
        let budget = Budget::new(64 * MB);
        let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(MB as usize), budget.clone());
        assert_eq!(decoder.decode(&bomb, budget.try_take(0).unwrap()).unwrap_err(), DecodeError::TooLarge { limit: 64 * MB });
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn a_bomb_stops_at_the_budget_too() {
    for bomb in bombs() {
        let error = decoder(DecodeLimits::default(), 8 * MB).run(&bomb).await.unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }) && !error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn batches_wait_for_memory_and_hold_what_they_keep() {
    let budget = Budget::new(8 * MB);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(0), budget.clone());
    let text = "a line of text\n".repeat(200_000);
    let sent = batch(Compression::Zstd, [zstd_stream(text.as_bytes()), zstd_stream(b"x")].concat());
    let first = decoder.run(&sent).await.unwrap();
    assert!(budget.used() >= text.len() as u64);
    let second = tokio::spawn({
        let (decoder, sent) = (decoder.clone(), sent.clone());
        async move { decoder.run(&sent).await.map(|decoded| decoded.lines) }
    });
    let held = budget.take(8 * MB - budget.used()).await;
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    let error = decoder.decode(&batch(Compression::Gzip, gzip(b"x")), Budget::new(0).try_take(0).unwrap()).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    drop((first, held));
    assert_eq!(second.await.unwrap().unwrap(), 200_001);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_turns_out_to_be_large_moves_to_a_blocking_thread() {
    let text = "0".repeat(3 << 20);
    let sent = batch(Compression::Zstd, zstd_stream(text.as_bytes()));
    let decoder = decoder(DecodeLimits::default(), 64 * MB);
    assert!(!decoder.is_large(&sent));
    assert_eq!(decoder.run(&sent).await.unwrap().raw_bytes, 1 << 20);
    let sized = batch(Compression::Zstd, zstd(text.as_bytes()));
    assert!(decoder.is_large(&sized) && decoder.is_large(&batch(Compression::Gzip, vec![0; 300 << 10])));
}

#[test]
fn a_small_batch_that_claims_to_be_large_takes_no_large_buffer() {
    let mut lying = gzip(b"small\n");
    let end = lying.len();
    lying[end - 4..].copy_from_slice(&(60 * MB as u32).to_le_bytes());
    let decoder = decoder(DecodeLimits::default(), 64 * MB);
    assert!(!decoder.is_large(&batch(Compression::Gzip, lying.clone())));
    let budget = Budget::new(MB);
    let raw_size = 60 * MB as u32;
    for raw_size in [0, raw_size] {
        let sent = BatchBytes { raw_size, ..batch(Compression::Gzip, lying.clone()) };
        let error = decoder.decode(&sent, budget.try_take(0).unwrap()).unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
}

#[test]
fn broken_bytes_are_refused_with_where_and_why() {
    let text = "some text that is compressed\n".repeat(100);
    for (compression, whole) in [(Compression::Zstd, zstd(text.as_bytes())), (Compression::Gzip, gzip(text.as_bytes()))] {
        let cut = whole[..whole.len() - 3].to_vec();
        let garbage_after = [&whole[..], b"garbage"].concat();
        for data in [cut, garbage_after, text.clone().into_bytes()] {
            let error = decode(&batch(compression, data)).unwrap_err();
            assert!(matches!(error, DecodeError::Corrupt { .. }) && !error.is_retryable(), "{error}");
        }
    }
    let error = decode(&batch(Compression::Zstd, [zstd(b"a"), b"b".to_vec()].concat())).unwrap_err().to_string();
    assert_eq!(error, "data is not whole zstd: no frame begins here (from byte 10 of 11 on); compress it again");
}

#[test]
fn unknown_numbers_and_names_are_refused() {
    let agent = Id::parse("agent-1").unwrap();
    let of = |batch: LogBatch| BatchBytes::of(batch, agent.clone(), 7);
    assert_eq!(of(LogBatch { compression: 9, ..LogBatch::default() }).unwrap_err(), DecodeError::UnknownCompression(9));
    assert_eq!(of(LogBatch { format: -1, ..LogBatch::default() }).unwrap_err(), DecodeError::UnknownFormat(-1));
    assert_eq!(of(LogBatch { stream: "std".into(), ..LogBatch::default() }).unwrap_err(), DecodeError::UnknownStream);
    let level = "x".repeat(33);
    let error = decode(&of(LogBatch { level, ..LogBatch::default() }).unwrap()).unwrap_err();
    assert_eq!(error, DecodeError::FieldTooLong { field: "level", bytes: 33, limit: 32 });
    assert_eq!(of(LogBatch::default()).unwrap().time, 7);
    let timestamp = Some(prost_types::Timestamp { seconds: 2, nanos: 345_999_999 });
    let meta = Some(Meta { timestamp, ..Meta::default() });
    assert_eq!(of(LogBatch { meta, ..LogBatch::default() }).unwrap().time, 2345);
}

fn record(time: i64, stream: &str, content: &str) -> LogRecord {
    LogRecord {
        timestamp_ms: time,
        level: "warn".into(),
        stream: stream.into(),
        plugin_name: String::new(),
        content: content.to_owned().into(),
    }
}

fn records(records: Vec<LogRecord>) -> BatchBytes {
    BatchBytes { format: Format::Records, ..batch(Compression::None, LogRecords { records }.encode_to_vec()) }
}

#[test]
fn records_become_lines_and_runs() {
    let sent = records(vec![
        record(5, "stdout", "a"),
        record(5, "stdout", "b\nc\n"),
        record(5, "stderr", ""),
        record(6, "stderr", "d\r\n\n"),
        record(0, "", "last"),
    ]);
    let decoded = decode(&sent).unwrap();
    let seen: Vec<_> =
        lines(&decoded).into_iter().map(|(text, run)| (String::from_utf8(text).unwrap(), run.time, run.stream)).collect();
    use OutputStream::{Stderr, Stdout, Unspecified};
    let expected = [
        ("a", 5, Stdout),
        ("b", 5, Stdout),
        ("c", 5, Stdout),
        ("", 5, Stderr),
        ("d", 6, Stderr),
        ("", 6, Stderr),
        ("last", 1000, Unspecified),
    ];
    assert_eq!(seen, expected.map(|(text, time, stream)| (text.to_owned(), time, stream)));
    let runs = &decoded.pieces[0].runs;
    assert_eq!(runs.iter().map(|run| run.lines).collect::<Vec<_>>(), [3, 1, 2, 1]);
    assert!(runs.iter().all(|run| &*run.level == "warn" && run.plugin.is_empty()));
}

#[test]
fn records_are_cut_by_size_and_by_runs() {
    let sent = records((0..40_000).map(|n| record(n + 1, "", &format!("line {n}"))).collect());
    let compressed = BatchBytes { compression: Compression::Zstd, data: zstd(&sent.data).into(), ..sent.clone() };
    for sent in [sent, compressed] {
        let decoded = decode(&sent).unwrap();
        assert!(decoded.pieces.len() == 3 && decoded.pieces.iter().all(|piece| piece.runs.len() <= MAX_RUNS));
        assert!(
            lines(&decoded)
                .into_iter()
                .zip(0..)
                .all(|((text, run), n)| text == format!("line {n}").into_bytes() && run.time == n + 1)
        );
    }
    let decoded = decode(&records(vec![record(1, "", &"a\nb\n".repeat(MAX_RAW_BYTES / 3)); 2])).unwrap();
    assert_eq!((decoded.lines, lines(&decoded).len()), (MAX_RAW_BYTES as u64 / 3 * 4, MAX_RAW_BYTES / 3 * 4));
}

#[test]
fn long_lines_of_records_are_cut() {
    let limits = DecodeLimits { line_bytes: 4, ..DecodeLimits::default() };
    let decoded = decode_with(limits, &records(vec![record(1, "", "abcde"), record(1, "", "abcd\nabcdef\nx")])).unwrap();
    let seen: Vec<_> = lines(&decoded).into_iter().map(|(text, run)| (String::from_utf8(text).unwrap(), run.truncated)).collect();
    let expected = [("abcd", true), ("abcd", false), ("abcd", true), ("x", false)];
    assert_eq!(seen, expected.map(|(text, truncated)| (text.to_owned(), truncated)));
}

#[test]
fn bad_records_are_named() {
    let mut long = record(1, "", "x");
    long.plugin_name = "p".repeat(257);
    for (bad, why) in [
        (record(1, "console", "x"), "record 2 stream is unknown; use \"stdout\", \"stderr\" or leave it empty"),
        (long, "record 2 plugin_name has 257 bytes; at most 256 are allowed"),
    ] {
        let error = decode(&records(vec![record(1, "", "x"), bad])).unwrap_err();
        assert_eq!(error.to_string(), why);
    }
    let sent = BatchBytes { format: Format::Records, ..batch(Compression::None, "just some text\n") };
    assert!(matches!(decode(&sent).unwrap_err(), DecodeError::NotRecords(_)));
}

#[test]
fn records_that_all_differ_do_not_pass_the_bound() {
    // Two bytes of content a record, but a run each: the table would be many times the batch.
    let limits = DecodeLimits { raw_bytes: 100_000, ..DecodeLimits::default() };
    let sent = records((0..10_000).map(|n| LogRecord { timestamp_ms: n, ..LogRecord::default() }).collect());
    assert!(matches!(decode_with(limits, &sent).unwrap_err(), DecodeError::TooManyRuns { .. }));
}

#[test]
fn buffers_come_back_and_are_used_again() {
    let budget = Budget::new(64 * MB);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(4 << 20), budget.clone());
    let sent = batch(Compression::Gzip, gzip("line\n".repeat(10_000).as_bytes()));
    let at = |decoded: &Decoded| decoded.pieces[0].bytes.as_ptr();
    let first = decoder.decode(&sent, budget.try_take(0).unwrap()).unwrap();
    let second = decoder.decode(&sent, budget.try_take(0).unwrap()).unwrap();
    let place = at(&first);
    assert_ne!(place, at(&second));
    drop(first);
    assert_eq!(place, at(&decoder.decode(&sent, budget.try_take(0).unwrap()).unwrap()));
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![Just(b"\n".to_vec()), Just(b"\r\n".to_vec()), prop::collection::vec(any::<u8>(), 0..30)];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The rules, said the slow way.
fn model(text: &[u8], limit: usize) -> Vec<(Vec<u8>, bool)> {
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let line = |line: &[u8]| {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let cut = &line[..text.len().min(limit)];
        // A carriage return that is the cut text's last byte is not shown: it could be the line's own.
        (if text.len() > limit { cut.strip_suffix(b"\r").unwrap_or(cut) } else { text }.to_vec(), text.len() > limit)
    };
    lines.into_iter().map(line).collect()
}

proptest! {
    #[test]
    fn lines_are_those_of_the_model(text in any_text(), limit in 1..40_usize, how in 0..4) {
        let limits = DecodeLimits { line_bytes: limit, ..DecodeLimits::default() };
        let sent = match how {
            0 => batch(Compression::None, text.clone()),
            1 => batch(Compression::Gzip, gzip(&text)),
            2 => batch(Compression::Zstd, zstd(&text)),
            _ => batch(Compression::Zstd, zstd_stream(&text)),
        };
        let seen: Vec<_> = lines(&decode_with(limits, &sent).unwrap()).into_iter().map(|(text, run)| (text, run.truncated)).collect();
        prop_assert_eq!(seen, model(&text, limit));
    }

    #[test]
    fn no_bytes_make_it_panic(text in any_text(), spoil in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), how in 0..5) {
        let content = |text: &[u8]| LogRecord { content: text.to_vec().into(), ..record(1, "stdout", "") };
        let (compression, mut data) = match how {
            0 => (Compression::Gzip, gzip(&text)),
            1 => (Compression::Zstd, zstd(&text)),
            2 => (Compression::Zstd, zstd_stream(&text)),
            3 => (Compression::None, LogRecords { records: vec![content(&text), content(b"x")] }.encode_to_vec()),
            _ => (Compression::None, text),
        };
        for (at, value) in spoil {
            if !data.is_empty() {
                let at = at.index(data.len());
                data[at] = value;
            }
        }
        for format in [Format::Text, Format::Records] {
            if let Ok(decoded) = decode(&BatchBytes { format, ..batch(compression, data.clone()) }) {
                lines(&decoded);
            }
        }
    }
}

#[test]
fn a_decoder_is_shared_by_threads() {
    let decoder = Arc::new(decoder(DecodeLimits::default(), 64 * MB));
    let text: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for data in [zstd(text.as_bytes()), zstd_stream(&text.as_bytes()[..100])] {
                    let decoded = decoder.decode(&batch(Compression::Zstd, data), Budget::new(MB).try_take(MB).unwrap()).unwrap();
                    assert!(
                        lines(&decoded).iter().zip(0..).take(10).all(|((text, _), n)| *text == format!("line {n}").into_bytes())
                    );
                }
            });
        }
    });
}
