#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::cursor::{LineCursor, Look};
use super::encode::{self, Template};
use super::escape::{self, cut, escape_bytes};
use super::fake::{Fake, id, run, text};
use super::page::{Entry, Gap, Mark, Page};
use super::source::LineSource as _;
use crate::block::lines::LineReader;
use crate::block::{Codec, Content, GapReason, OutputStream, Run};
use crate::clock::Clock;

const STEP: &str = "step-1";
const NOW: i64 = 1_800_000_000_000;

/// What a reader sees: a line as its number and text, a gap as number, count and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Line(u64, String),
    Gap(u64, u64, GapReason),
}

use Shown::{Gap as G, Line as L};

struct Reader {
    source: Arc<Fake>,
    cursor: LineCursor,
    mark: Mark,
    page: Page,
    lines: LineReader,
    shown: Vec<Shown>,
}

impl Reader {
    fn new(source: &Arc<Fake>, first: u64) -> Self {
        let cursor = LineCursor::new(id(STEP), first, Clock::manual(NOW));
        let mark = cursor.mark();
        Self { source: Arc::clone(source), cursor, mark, page: Page::default(), lines: LineReader::default(), shown: Vec::new() }
    }

    /// Looks once, into the tail, and into the store if need be or if `ask`. Returns whether something was found.
    fn look(&mut self, ask: bool) -> bool {
        if !self.page.is_empty() {
            return true;
        }
        self.page.clear();
        let tail = self.source.tail(&id(STEP)).unwrap();
        let look = if ask { Look::AskStore } else { self.cursor.look(&tail, &mut self.lines, &mut self.page) };
        if look == Look::AskStore {
            self.cursor.load(&*self.source, &tail, &mut self.lines, &mut self.page).unwrap();
        }
        let next = tail.next_written();
        assert!(self.cursor.next_line() <= next.max(self.mark.next_line), "only what is written is shown");
        !self.page.is_empty()
    }

    /// Shows at most `most` entries of the page.
    fn show(&mut self, most: usize) {
        for _ in 0..most {
            let shown = match self.page.peek() {
                None => return,
                Some(Entry::Line { number, text, .. }) => L(number, String::from_utf8(text.to_vec()).unwrap()),
                Some(Entry::Gap(gap)) => G(gap.first_line, gap.count, gap.reason),
            };
            self.shown.push(shown);
            self.page.advance(&mut self.mark);
        }
    }

    fn drop_page(&mut self) {
        self.page.clear();
        self.cursor.rewind(self.mark);
    }

    fn all(&mut self) -> Vec<Shown> {
        while self.look(false) {
            self.show(usize::MAX);
        }
        std::mem::take(&mut self.shown)
    }
}

fn lines(numbers: std::ops::RangeInclusive<u64>) -> Vec<Shown> {
    numbers.map(|number| L(number, format!("line {number}"))).collect()
}

#[test]
fn history_the_seam_and_live_are_one() {
    let source = Fake::new();
    source.numbered(STEP, 10);
    source.index(STEP, 1);
    source.numbered(STEP, 20);
    let mut reader = Reader::new(&source, 1);
    assert_eq!(reader.all(), lines(1..=20));
    source.numbered(STEP, 25);
    source.index(STEP, usize::MAX);
    source.numbered(STEP, 30);
    assert_eq!(reader.all(), lines(21..=30));
    assert_eq!(reader.all(), []);
}

#[test]
fn a_live_reader_does_not_ask_the_store() {
    let source = Fake::new();
    source.numbered(STEP, 10);
    let mut reader = Reader::new(&source, 1);
    assert_eq!(reader.all(), lines(1..=10));
    let tail = source.tail(&id(STEP)).unwrap();
    for last in [11, 15, 40] {
        source.numbered(STEP, last);
        assert_eq!(reader.cursor.look(&tail, &mut reader.lines, &mut reader.page), Look::Found);
        reader.all();
    }
    assert_eq!(reader.cursor.look(&tail, &mut reader.lines, &mut reader.page), Look::Nothing);
}

#[test]
fn a_reader_may_begin_anywhere() {
    let source = Fake::new();
    source.numbered(STEP, 10);
    source.index(STEP, 1);
    assert_eq!(Reader::new(&source, 7).all(), lines(7..=10));
    let mut early = Reader::new(&source, 13);
    assert_eq!(early.all(), []);
    source.numbered(STEP, 15);
    assert_eq!(early.all(), lines(13..=15));
}

#[test]
fn holes_are_gaps_of_lines_that_were_never_sent() {
    let source = Fake::new();
    source.numbered(STEP, 3);
    source.write(STEP, vec![(6, 1, text(&["line 6".into()])), (9, 1, text(&["line 9".into()]))], true);
    let hole = |from, count| G(from, count, GapReason::NeverSent);
    let all = [lines(1..=3), vec![hole(4, 2)], lines(6..=6), vec![hole(7, 2)], lines(9..=9)].concat();
    let mut reader = Reader::new(&source, 1);
    assert_eq!(reader.all(), all);
    source.write(STEP, vec![(12, 1, text(&["line 12".into()]))], true);
    assert_eq!(reader.all(), [vec![hole(10, 2)], lines(12..=12)].concat());
    source.index(STEP, usize::MAX);
    assert_eq!(Reader::new(&source, 1).all()[..all.len()], all);
}

#[test]
fn what_retention_took_has_expired_and_what_was_before_the_first_was_never_sent() {
    let source = Fake::new();
    source.write(STEP, vec![(5, 2, text(&["line 5".into(), "line 6".into()]))], true);
    for last in [10, 20, 30] {
        source.numbered(STEP, last);
    }
    source.index(STEP, usize::MAX);
    assert_eq!(Reader::new(&source, 1).all(), [vec![G(1, 4, GapReason::NeverSent)], lines(5..=30)].concat());
    source.trim(STEP, 3);
    let lost = vec![G(1, 4, GapReason::NeverSent), G(5, 16, GapReason::Expired)];
    assert_eq!(Reader::new(&source, 1).all(), [lost.clone(), lines(21..=30)].concat());
    assert_eq!(Reader::new(&source, 15).all(), [vec![G(15, 6, GapReason::Expired)], lines(21..=30)].concat());
    source.trim(STEP, 4);
    assert_eq!(Reader::new(&source, 1).all(), [lost[0].clone(), G(5, 26, GapReason::Expired)]);
    source.numbered(STEP, 31);
    assert_eq!(Reader::new(&source, 31).all(), lines(31..=31));
}

#[test]
fn a_block_that_vanishes_while_it_is_read_has_expired() {
    let source = Fake::new();
    for last in [10, 20] {
        source.numbered(STEP, last);
    }
    source.index(STEP, usize::MAX);
    let mut reader = Reader::new(&source, 1);
    reader.look(true);
    reader.show(4);
    reader.drop_page();
    source.trim(STEP, 1);
    assert_eq!(reader.all(), [lines(1..=4), vec![G(5, 6, GapReason::Expired)], lines(11..=20)].concat());
}

#[test]
fn damage_is_a_gap() {
    let source = Fake::new();
    for last in [10, 20, 30] {
        source.numbered(STEP, last);
    }
    // Says three lines, has two.
    source.write(STEP, vec![(31, 3, text(&["line 31".into(), "line 32".into()]))], true);
    // Does not decompress.
    let broken = Content::Text { codec: Codec::Zstd, raw_bytes: 5, skip: 0, runs: vec![run(1)], bytes: "x".into() };
    source.write(STEP, vec![(34, 1, broken)], true);
    source.index(STEP, usize::MAX);
    source.damage(STEP, 1);
    let damaged = |from, count| vec![G(from, count, GapReason::Damaged)];
    let all = [lines(1..=10), damaged(11, 10), lines(21..=32), damaged(33, 1), damaged(34, 1)].concat();
    assert_eq!(Reader::new(&source, 1).all(), all);
}

#[test]
fn stored_gaps_are_shown_and_those_of_unknown_size_once() {
    let source = Fake::new();
    source.numbered(STEP, 2);
    source.gap(STEP, 3, GapReason::QueueFull);
    source.gap(STEP, 0, GapReason::Unreadable);
    source.gap(STEP, 0, GapReason::Unreadable);
    source.numbered(STEP, 7);
    let mut reader = Reader::new(&source, 1);
    let unknown = |at| G(at, 0, GapReason::Unreadable);
    assert_eq!(reader.all(), [lines(1..=2), vec![G(3, 3, GapReason::QueueFull), unknown(6), unknown(6)], lines(6..=7)].concat());
    source.gap(STEP, 0, GapReason::Unreadable);
    assert_eq!(reader.all(), [unknown(8)]);
    assert_eq!(reader.all(), []);
    source.index(STEP, usize::MAX);
    assert_eq!(reader.all(), []);
    // One that the index has taken over before the reader looked again.
    source.gap(STEP, 0, GapReason::Unreadable);
    source.index(STEP, usize::MAX);
    source.numbered(STEP, 8);
    assert_eq!(reader.all(), [vec![unknown(8)], lines(8..=8)].concat());
    // More of them than are asked for at once.
    for _ in 0..500 {
        source.gap(STEP, 0, GapReason::Unreadable);
    }
    source.numbered(STEP, 9);
    assert_eq!(reader.all().len(), 501);
}

#[test]
fn lines_that_were_there_already_are_skipped() {
    let source = Fake::new();
    source.numbered(STEP, 4);
    // A half-repeated batch, stored as it came.
    let batch: Vec<String> = (3..=6).map(|number| format!("line {number}")).collect();
    let Content::Text { codec, raw_bytes, runs, bytes, .. } = text(&batch) else { panic!() };
    source.write(STEP, vec![(5, 2, Content::Text { codec, raw_bytes, skip: 2, runs, bytes })], true);
    // An overlap in the numbers.
    source.write(STEP, vec![(5, 4, text(&(5..=8).map(|number| format!("line {number}")).collect::<Vec<_>>()))], true);
    assert_eq!(Reader::new(&source, 1).all(), lines(1..=8));
    source.index(STEP, usize::MAX);
    assert_eq!(Reader::new(&source, 6).all(), lines(6..=8));
}

#[test]
fn a_block_of_many_empty_lines_takes_several_pages() {
    let source = Fake::new();
    let empty = vec![String::new(); 100_000];
    source.lines(STEP, &empty);
    source.numbered(STEP, 100_003);
    let mut reader = Reader::new(&source, 1);
    let all = reader.all();
    assert_eq!(all.len(), 100_003);
    assert!(all.iter().enumerate().all(|(at, line)| matches!(line, L(number, _) if *number == at as u64 + 1)));
    source.index(STEP, usize::MAX);
    assert_eq!(Reader::new(&source, 1).all(), all);
}

#[derive(Debug, Clone)]
enum Step {
    Write { blocks: Vec<(u8, u8)>, kept: bool },
    Index(u8),
    Forget,
    Look { ask: bool, show: u8 },
    DropPage,
}

fn step() -> impl Strategy<Value = Step> {
    let blocks = prop::collection::vec((0..6u8, 0..8u8), 1..4);
    prop_oneof![
        3 => (blocks, any::<bool>()).prop_map(|(blocks, kept)| Step::Write { blocks, kept }),
        2 => (0..4u8).prop_map(Step::Index),
        2 => Just(Step::Forget),
        4 => (any::<bool>(), 0..20u8).prop_map(|(ask, show)| Step::Look { ask, show }),
        1 => Just(Step::DropPage),
    ]
}

proptest! {
    /// I7: whatever is written, indexed and forgotten while a reader reads or is slow, it sees all once, in order.
    #[test]
    fn i7_each_line_once_in_order(steps in prop::collection::vec(step(), 1..80), first in 1..12u64) {
        let source = Fake::new();
        let mut reader = Reader::new(&source, first);
        let mut model = Vec::new();
        for step in steps {
            match step {
                Step::Write { blocks, kept } => {
                    let mut next = source.next_line(STEP);
                    let mut group = Vec::new();
                    for (kind, lines) in blocks {
                        let lines = u32::from(lines);
                        match kind {
                            // A gap; of unknown size if `lines` is 0.
                            0 => {
                                model.push(G(next, lines.into(), GapReason::QueueFull));
                                group.push((next, lines, Content::Gap { reason: GapReason::QueueFull, time: 0 }));
                            }
                            // A hole before the lines.
                            1 => {
                                model.push(G(next, 2, GapReason::NeverSent));
                                next += 2;
                                let numbers = next..=next + u64::from(lines);
                                let texts: Vec<String> = numbers.clone().map(|number| format!("line {number}")).collect();
                                model.extend(self::lines(numbers));
                                group.push((next, lines + 1, text(&texts)));
                                next += 1;
                            }
                            _ => {
                                let numbers = next..=next + u64::from(lines);
                                let texts: Vec<String> = numbers.clone().map(|number| format!("line {number}")).collect();
                                model.extend(self::lines(numbers));
                                group.push((next, lines + 1, text(&texts)));
                                next += 1;
                            }
                        }
                        next += u64::from(lines);
                    }
                    source.write(STEP, group, kept);
                }
                Step::Index(count) => source.index_only(STEP, count.into()),
                Step::Forget => source.forget(STEP),
                Step::Look { ask, show } => {
                    reader.look(ask);
                    reader.show(show.into());
                }
                Step::DropPage => reader.drop_page(),
            }
        }
        let mut shown = std::mem::take(&mut reader.shown);
        reader.drop_page();
        reader.look(true);
        shown.extend(reader.all());
        // Gaps are cut where the reader began.
        let expected: Vec<Shown> = model.into_iter().filter_map(|entry| match entry {
            L(number, _) if number < first => None,
            G(from, 0, _) if from < first => None,
            G(from, count, reason) if from < first => {
                let left = (from + count).saturating_sub(first);
                (left > 0).then_some(G(first, left, reason))
            }
            other => Some(other),
        }).collect();
        prop_assert_eq!(shown, expected);
    }

    #[test]
    fn text_becomes_json(text in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        "[ -~\"\\\\\u{1}\u{1f}\n\t\r\u{7f}é☃𝄞]{0,80}".prop_map(String::into_bytes),
    ]) {
        let mut out = vec![b'"'];
        escape_bytes(&text, &mut out);
        out.push(b'"');
        prop_assert!(out.len() <= 2 + text.len() * escape::MAX_GROWTH);
        let read: String = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(read, String::from_utf8_lossy(&text));
    }

    #[test]
    fn text_in_pieces_is_the_same(text in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(prop::sample::select(&[0x41, 0xE2, 0x82, 0xAC, 0xF0, 0x9D, 0x84, 0x9E, 0x80][..]), 0..60),
        any::<String>().prop_map(String::into_bytes),
    ], most in 4..40usize) {
        let mut whole = Vec::new();
        escape_bytes(&text, &mut whole);
        let (mut pieces, mut rest) = (Vec::new(), &text[..]);
        while !rest.is_empty() {
            let count = cut(rest, most);
            prop_assert!(count > 0 && count <= most);
            escape_bytes(&rest[..count], &mut pieces);
            rest = &rest[count..];
        }
        prop_assert_eq!(String::from_utf8(pieces).unwrap(), String::from_utf8(whole).unwrap());
    }
}

#[test]
fn every_byte_is_escaped_right_wherever_it_stands() {
    for byte in 0..=255u8 {
        for at in 0..20 {
            let mut text = vec![b'a'; 20];
            text[at] = byte;
            let mut out = vec![b'"'];
            escape_bytes(&text, &mut out);
            out.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn an_entry_has_the_fields_that_clients_know() {
    let plain = run(1);
    let mut out = Vec::new();
    Template::new(&id("s\"1"), &plain).line(7, b"say \"hi\"\xff", &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"step_run_id\":\"s\\\"1\",\"timestamp\":1700000000,\"timestamp_ms\":1700000000123,\"line_number\":7,\
         \"level\":\"info\",\"content\":\"say \\\"hi\\\"\u{FFFD}\",\"stream\":\"stdout\",\"plugin_name\":\"shell\",\
         \"agent_id\":\"agent-1\"}"
    );
    let cut = Run { truncated: true, time: -1, stream: OutputStream::Unspecified, level: "".into(), plugin: "".into(), ..plain };
    let mut out = Vec::new();
    let template = Template::new(&id("s"), &cut);
    template.line(u64::MAX, b"", &mut out);
    assert!(out.len() <= template.overhead());
    let entry: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(entry["truncated"], true);
    assert_eq!(entry["timestamp"], -1);
    assert_eq!(entry["timestamp_ms"], -1);
    assert_eq!(entry["stream"], "");
    assert_eq!(entry["line_number"], u64::MAX);
}

#[test]
fn a_gap_is_an_entry() {
    for (count, content) in [
        (0, "an unknown number of lines is missing: a batch could not be read"),
        (1, "1 line is missing: a batch could not be read"),
        (12, "12 lines are missing: a batch could not be read"),
    ] {
        let mut out = Vec::new();
        let gap = Gap { first_line: 4, count, reason: GapReason::Unreadable, time: 1500 };
        encode::gap(&id("s"), &gap, &mut out);
        let entry: Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "step_run_id": "s", "timestamp": 1, "timestamp_ms": 1500, "line_number": 4, "level": "gap", "content": content,
            "gap": { "count": count, "reason": "unreadable" },
        });
        assert_eq!(entry, expected);
    }
}
