#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::rows::Gatherer;
use super::{ArchiveError, ArchivedStream, MOST_BYTES, MOST_LINES, Stretch, Wanted};
use crate::block::lines::LineReader;
use crate::block::{Block, Codec, Content, GapReason, OutputStream, Run};
use crate::clock::Clock;
use crate::replay::cursor::{LineCursor, Look};
use crate::replay::encode::{self, Template};
use crate::replay::fake::{Fake, id};
use crate::replay::page::{Entry, Page};
use crate::replay::source::LineSource as _;
use crate::sink::clickhouse::rowbinary::put_bytes;
use crate::store::lines::BlockRef;

const STEP: &str = "step-1";
const NOW: i64 = 1_800_000_000_000;

/// One write of a random history.
#[derive(Debug, Clone)]
enum Step {
    /// Lines with these texts, after leaving out so many numbers.
    Lines(u64, Vec<Vec<u8>>),
    Gap(u32, GapReason),
}

/// A history as blocks, and an archive that has them row by row.
struct History {
    blocks: Vec<(BlockRef, Block)>,
    next: u64,
}

impl History {
    fn of(steps: &[Step]) -> Self {
        let mut blocks = Vec::new();
        let (mut next, mut position) = (1, 8);
        for (at, step) in steps.iter().enumerate() {
            let (first_line, lines, content) = match step {
                Step::Lines(left_out, texts) => (next + left_out, texts.len() as u32, text(at as u64, texts)),
                Step::Gap(lines, reason) => (next, *lines, Content::Gap { reason: *reason, time: NOW - at as i64 }),
            };
            let place = BlockRef { first_line, lines, position };
            let block = Block { step_run: id(STEP), first_line, lines, epoch: 1, agent_counted: true, origin: None, content };
            blocks.push((place, block));
            next = place.next_line();
            position += 64;
        }
        Self { blocks, next }
    }

    /// A store with all of it, of which retention has removed the first `trimmed` blocks.
    fn store(&self, trimmed: usize) -> Arc<Fake> {
        let fake = Fake::new();
        for (place, block) in &self.blocks {
            fake.write(STEP, vec![(place.first_line, place.lines, block.content.clone())], false);
        }
        fake.index(STEP, usize::MAX);
        if trimmed > 0 {
            fake.trim(STEP, trimmed);
        }
        fake
    }

    fn stream(&self) -> Arc<ArchivedStream> {
        let first_line = self.blocks.first().unwrap().0.first_line;
        Arc::new(ArchivedStream {
            origin: 0,
            first_line,
            next_line: self.next,
            ended: true,
            pipeline_id: "".into(),
            received: None,
        })
    }

    /// As ClickHouse answers: at most `most` lines, those before `expired` removed.
    fn answer(&self, wanted: &Wanted, most: usize, expired: u64) -> Stretch {
        let mut gatherer = Gatherer::new(id(STEP), MOST_BYTES);
        let mut reader = LineReader::default();
        let mut rows = Vec::new();
        let mut count = 0;
        let mut last = 0;
        for (_, block) in &self.blocks {
            for line in reader.lines(block, block.first_line).unwrap() {
                if line.number >= wanted.from.max(expired) && line.number < wanted.until && count < most {
                    put_row(line.number, line.text, line.run, &mut rows);
                    (count, last) = (count + 1, line.number);
                }
            }
        }
        // In pieces, as it comes over the network.
        for piece in rows.chunks(7) {
            assert!(gatherer.take(&Bytes::copy_from_slice(piece)).unwrap());
        }
        let until = if count == most { (last + 1).clamp(wanted.from + 1, wanted.until) } else { wanted.until };
        let mut blocks = gatherer.finish().unwrap();
        for (place, block) in &self.blocks {
            let matches = match place.lines {
                0 => {
                    place.first_line >= wanted.from
                        && (place.first_line < until || (until == wanted.until && place.first_line == until))
                }
                _ => place.next_line() > wanted.from && place.first_line < until,
            };
            if matches && matches!(block.content, Content::Gap { .. }) && place.first_line >= expired {
                blocks.push((*place, Arc::new(block.clone())));
            }
        }
        blocks.sort_by_key(|(place, _)| (place.first_line, place.lines > 0, place.position));
        let older = wanted.from > expired.max(self.stream().first_line);
        Stretch { from: wanted.from, until, blocks, older, stream: Some(self.stream()) }
    }
}

fn text(at: u64, lines: &[Vec<u8>]) -> Content {
    let runs = (0..lines.len()).map(|number| Run {
        lines: 1,
        time: NOW - 1000 * at as i64 - (number / 3) as i64,
        stream: [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Unspecified][number / 2 % 3],
        truncated: number % 5 == 4,
        level: ["info", "", "error"][number / 4 % 3].into(),
        plugin: "shell".into(),
        agent: id("agent-1"),
        seq: 0,
    });
    let bytes: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect();
    Content::Text { codec: Codec::Plain, raw_bytes: bytes.len() as u32, skip: 0, runs: runs.collect(), bytes: bytes.into() }
}

fn put_row(number: u64, text: &[u8], run: &Run, rows: &mut Vec<u8>) {
    rows.extend_from_slice(&number.to_le_bytes());
    rows.extend_from_slice(&run.time.to_le_bytes());
    let stream = ["", "stdout", "stderr"][run.stream as usize];
    [stream, &*run.level, &*run.plugin, run.agent.as_str()].iter().for_each(|text| put_bytes(rows, text.as_bytes()));
    rows.push(run.truncated.into());
    put_bytes(rows, text);
}

/// Everything that a reader sees from `first` on, as JSON. The page is thrown away and asked for again now and then, as it is for a
/// client that does not read.
fn replay(
    source: &Fake,
    mut cursor: LineCursor,
    end: u64,
    mut ask: impl FnMut(&Wanted) -> Result<Stretch, ArchiveError>,
) -> String {
    let mut out = Vec::new();
    let mut page = Page::default();
    let mut reader = LineReader::default();
    let mut mark = cursor.mark();
    for round in 0.. {
        assert!(round < 10_000, "it goes on for ever");
        page.clear();
        cursor.rewind(mark);
        let tail = source.tail(&id(STEP)).unwrap();
        if cursor.look(&tail, &mut reader, &mut page) == Look::AskStore
            && let Some(wanted) = cursor.load(source, &tail, &mut reader, &mut page).unwrap()
        {
            assert!(page.is_empty() && wanted.until > wanted.from);
            cursor.archived(ask(&wanted));
            assert_eq!(cursor.load(source, &tail, &mut reader, &mut page).unwrap(), None, "one question is enough for a page");
        }
        if page.is_empty() {
            assert!(mark.next_line >= end, "it stops at {}", mark.next_line);
            break;
        }
        let mut left = if round % 3 == 2 { 2 } else { usize::MAX };
        while let Some(entry) = page.peek().filter(|_| left > 0) {
            match entry {
                Entry::Line { number, text, run } => Template::new(&id(STEP), run).line(number, text, &mut out),
                Entry::Gap(gap) => encode::gap(&id(STEP), &gap, &mut out),
            }
            out.push(b'\n');
            page.advance(&mut mark);
            left -= 1;
        }
    }
    String::from_utf8(out).unwrap()
}

fn cursor(first: u64) -> LineCursor {
    LineCursor::new(id(STEP), first, Clock::manual(NOW))
}

fn never(_: &Wanted) -> Result<Stretch, ArchiveError> {
    panic!("the archive is not to be asked")
}

fn step() -> impl Strategy<Value = Step> {
    let line = prop_oneof![
        Just(Vec::new()),
        Just(b"\xff not UTF-8".to_vec()),
        Just(b"ends oddly\r\r".to_vec()),
        "[a-z \"]{0,20}".prop_map(String::into_bytes)
    ];
    let lines = prop::collection::vec(line, 1..12);
    let reason = prop::sample::select(vec![GapReason::QueueFull, GapReason::Unreadable, GapReason::DroppedBySender]);
    prop_oneof![
        4 => (prop_oneof![3 => Just(0u64), 1 => 1..5u64], lines).prop_map(|(left_out, lines)| Step::Lines(left_out, lines)),
        1 => (0..4u32, reason).prop_map(|(lines, reason)| Step::Gap(lines, reason)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever retention has removed, and however small the archive's answers are.
    #[test]
    fn a_history_from_store_and_archive_is_the_same_json_as_from_the_store(
        steps in prop::collection::vec(step(), 1..12), trimmed in 0..12usize, most in 1..20usize, from in 1..30u64,
    ) {
        let history = History::of(&steps);
        let first = from.min(history.next);
        // Who begins exactly at the seam is not told of a gap of unknown size that stood before it and is no longer here.
        let seam = history.blocks.get(trimmed.min(steps.len())).map_or(history.next, |(place, _)| place.first_line);
        prop_assume!(first != seam);
        let expected = replay(&history.store(0), cursor(first), history.next, never);
        let both = history.store(trimmed.min(steps.len()));
        let shown = replay(&both, cursor(first).with_archive(history.next, None), history.next, |wanted| {
            Ok(history.answer(wanted, most.min(wanted.most), 0))
        });
        prop_assert_eq!(&shown, &expected);
    }

    #[test]
    fn an_empty_store_replays_what_another_gateway_has_delivered(steps in prop::collection::vec(step(), 1..12), most in 1..20usize) {
        let history = History::of(&steps);
        prop_assume!(history.next > 1);
        let expected = replay(&history.store(0), cursor(1), history.next, never);
        let shown = replay(&Fake::new(), cursor(1).with_archive(history.next, Some(history.stream())), history.next, |wanted| {
            Ok(history.answer(wanted, most.min(wanted.most), 0))
        });
        prop_assert_eq!(&shown, &expected);
    }
}

fn numbered(count: usize, blocks: usize) -> History {
    let lines = |_| Step::Lines(0, (0..count).map(|number| format!("line {number}").into_bytes()).collect());
    History::of(&(0..blocks).map(lines).collect::<Vec<_>>())
}

#[test]
fn with_the_archive_away_a_reader_gets_what_is_local_and_knows_what_is_missing() {
    let history = numbered(10, 3);
    let store = history.store(1);
    let mut asked = 0;
    let whole = replay(&history.store(0), cursor(11), history.next, never);
    let shown = replay(&store, cursor(1).with_archive(history.next, None), history.next, |_| {
        asked += 1;
        Err(ArchiveError("away".into()))
    });
    let (gap, rest) = shown.split_once('\n').unwrap();
    assert!(
        gap.contains(r#""line_number":1,"level":"gap""#) && gap.contains(r#""gap":{"count":10,"reason":"unreachable"}"#),
        "{gap}"
    );
    assert_eq!((rest, asked), (&*whole, 1));
}

#[test]
fn trouble_is_kept_until_somebody_says_it() {
    let history = numbered(10, 2);
    let mut cursor = cursor(1).with_archive(history.next, None);
    assert_eq!(cursor.trouble(), None);
    cursor.archived(Err(ArchiveError("away".into())));
    assert_eq!(cursor.clone().trouble().map(ToString::to_string), Some("away".into()));
}

#[test]
fn a_block_that_is_damaged_here_comes_from_the_archive() {
    let history = numbered(10, 3);
    let store = history.store(0);
    store.damage(STEP, 1);
    let expected = replay(&history.store(0), cursor(1), history.next, never);
    let shown =
        replay(&store, cursor(1).with_archive(history.next, None), history.next, |wanted| Ok(history.answer(wanted, 7, 0)));
    assert_eq!(shown, expected);
}

#[test]
fn what_the_archive_has_expired_is_a_gap_that_says_so() {
    let history = numbered(10, 3);
    let shown = replay(&history.store(2), cursor(1).with_archive(history.next, None), history.next, |wanted| {
        Ok(history.answer(wanted, wanted.most, 11))
    });
    assert!(shown.lines().next().unwrap().ends_with(r#""gap":{"count":10,"reason":"expired"}}"#), "{shown}");
    assert_eq!(shown.lines().count(), 1 + 20);
}

#[test]
fn a_stream_that_the_archive_does_not_know_is_asked_for_once() {
    let history = History::of(&[
        Step::Lines(0, vec![b"a".to_vec()]),
        Step::Lines(2, vec![b"b".to_vec()]),
        Step::Lines(3, vec![b"c".to_vec()]),
    ]);
    let expected = replay(&history.store(0), cursor(1), history.next, never);
    let mut asked = 0;
    let shown = replay(&history.store(0), cursor(1).with_archive(history.next, None), history.next, |wanted| {
        asked += 1;
        Ok(Stretch { from: wanted.from, until: wanted.until, blocks: Vec::new(), older: false, stream: None })
    });
    assert_eq!((shown, asked), (expected, 1));
}

#[test]
fn rows_of_a_line_that_came_twice_are_one_line() {
    let Content::Text { runs, .. } = text(0, &[b"x".to_vec()]) else { panic!() };
    let mut rows = Vec::new();
    for number in [3, 3, 4, 6, 6] {
        put_row(number, b"x", &runs[0], &mut rows);
    }
    let mut gatherer = Gatherer::new(id(STEP), MOST_BYTES);
    gatherer.take(&rows.into()).unwrap();
    assert_eq!((gatherer.rows(), gatherer.next()), (5, 7));
    let places: Vec<_> = gatherer.finish().unwrap().iter().map(|(place, _)| (place.first_line, place.lines)).collect();
    assert_eq!(places, [(3, 2), (6, 1)]);
}

#[test]
fn what_is_drained_and_what_is_left_are_all_lines_in_small_blocks() {
    let Content::Text { runs, .. } = text(0, &[b"x".to_vec()]) else { panic!() };
    let mut gatherer = Gatherer::new(id(STEP), 1000);
    let mut places = Vec::new();
    for first in (1..=5000u64).step_by(500) {
        let mut rows = Vec::new();
        (first..first + 500).for_each(|number| put_row(number, &[b'x'; 98], &runs[0], &mut rows));
        assert!(gatherer.take(&rows.into()).unwrap(), "what has been drained takes no room");
        places.extend(gatherer.drain());
    }
    places.extend(gatherer.finish().unwrap());
    let places: Vec<_> = places.iter().map(|(place, _)| (place.first_line, place.lines)).collect();
    assert_eq!(places, (1..=5000).step_by(10).map(|first| (first, 10)).collect::<Vec<_>>());
}

#[test]
fn lines_without_text_fill_a_block_too() {
    let Content::Text { runs, .. } = text(0, &[b"x".to_vec()]) else { panic!() };
    let mut rows = Vec::new();
    (1..=2 * MOST_LINES as u64).for_each(|number| put_row(number, b"", &runs[0], &mut rows));
    let mut gatherer = Gatherer::new(id(STEP), MOST_BYTES);
    gatherer.take(&rows.into()).unwrap();
    let sizes: Vec<_> = gatherer.finish().unwrap().iter().map(|(place, _)| place.lines as usize).collect();
    assert_eq!(sizes, [MOST_LINES; 2]);
}

#[test]
fn half_a_row_at_the_end_is_an_error_and_not_the_end() {
    let mut rows = Vec::new();
    let Content::Text { runs, .. } = text(0, &[b"x".to_vec()]) else { panic!() };
    put_row(1, b"x", &runs[0], &mut rows);
    rows.pop();
    let mut gatherer = Gatherer::new(id(STEP), MOST_BYTES);
    gatherer.take(&rows.into()).unwrap();
    assert!(gatherer.finish().is_err());
}

#[test]
fn a_gap_at_the_seam_is_told_also_to_who_comes_back_to_it() {
    let lines = |count| Step::Lines(0, vec![Vec::new(); count]);
    let history = History::of(&[lines(8), Step::Gap(0, GapReason::QueueFull), lines(1)]);
    let expected = replay(&history.store(0), cursor(1), history.next, never);
    // Pages of 2, 4 and 2 lines; of the third, which has the gap behind them, only the lines are taken.
    let mut answers = [2, 4, 2].into_iter();
    let shown = replay(&history.store(2), cursor(1).with_archive(history.next, None), history.next, |wanted| {
        Ok(history.answer(wanted, answers.next().unwrap(), 0))
    });
    assert_eq!(shown, expected);
}
