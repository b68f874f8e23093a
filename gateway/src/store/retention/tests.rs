#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::HashMap;

use super::dedup::Usage;
use super::events::SeenEvent;
use super::lines::LineEntry;
use super::plan::*;
use super::*;
use crate::id::{AgentId, Id, StepRunId};
use crate::store::index::memory::MemoryIndex;
use crate::store::index::record::KnownEvent;
use crate::store::index::{Counting, EventEntry, EventUpdate, LineUpdate, StreamRecord};
use crate::store::lines::BlockRef;
use crate::store::segment::{LogKind, SegmentInfo};

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;
const NOW: Millis = 1_700_000_000_000;
const PLENTY: Space = Space { free: 1 << 50, total: 1 << 51 };

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

/// Segments of 100 bytes whose newest frames are this old, in hours.
fn segments(ages: &[Millis]) -> Vec<SegmentInfo> {
    let of = |(n, age): (usize, &Millis)| {
        let start = 100 * n as u64;
        SegmentInfo { start, end: start + 100, newest: NOW - age * HOUR }
    };
    ages.iter().enumerate().map(of).collect()
}

#[test]
fn age_is_measured_against_the_newest_frame_and_the_newest_segment_stays() {
    let cases: &[(&[Millis], usize)] = &[
        (&[], 0),
        (&[1000], 0),
        (&[1000, 1000], 0),
        (&[170, 169, 168, 0], 2),
        (&[170, 169, 168, 100], 0),
        (&[500, 10, 400, 0], 1),
        (&[500, 400, 300, 0], 3),
    ];
    for (ages, expected) in cases {
        assert_eq!(expired(&segments(ages), 7 * DAY), *expected, "{ages:?}");
    }
    let empty = [SegmentInfo { start: 0, end: 64, newest: Millis::MIN }];
    assert_eq!(expired(&empty, 0), 0);
}

#[test]
fn size_takes_the_oldest_segments_that_make_it_up() {
    let four = segments(&[3, 2, 1, 0]);
    for (bytes, expected) in [(0, 0), (1, 1), (100, 1), (101, 2), (300, 3), (10_000, 3)] {
        assert_eq!(oldest_of(&four, bytes), expected, "{bytes}");
    }
    // Index bytes are spread over the segments: 400 + 400 of 800, so each segment answers for 200.
    for (budget, expected) in [(1000, 0), (800, 0), (799, 1), (600, 1), (599, 2), (0, 3)] {
        assert_eq!(past_budget(&four, 400, budget), expected, "{budget}");
    }
    assert_eq!(past_budget(&[], 400, 0), 0);
}

#[test]
fn the_limit_is_four_fifths_of_what_the_store_could_have() {
    let settings = RetentionSettings::default();
    let space = |free, total| Space { free, total };
    assert_eq!(limit(&settings, space(600, 1000), 400), 800);
    // Half of the file system is someone else's.
    assert_eq!(limit(&settings, space(300, 1000), 200), 400);
    assert_eq!(limit(&RetentionSettings { max_size: MaxSize::Bytes(7), ..settings }, space(600, 1000), 400), 7);
}

/// How a plan is asked for, and what it says: hours of age for lines, for events, and settings; the three positions.
type Case = (&'static str, &'static [Millis], &'static [Millis], fn(&mut RetentionSettings), bool, [Position; 3]);

#[test]
fn a_plan_weighs_age_size_budget_and_what_must_stay() {
    let old: &[Millis] = &[300, 200, 100, 0];
    let cases: &[Case] = &[
        ("by age", old, old, |_| (), false, [200, 200, 0]),
        ("nothing by age while paused", old, old, |_| (), true, [0, 0, 0]),
        ("by size while paused, lines only", old, old, |s| s.max_size = MaxSize::Bytes(650), true, [200, 0, 0]),
        ("events outlive the age for their window", old, old, |s| s.max_age = DAY, false, [300, 200, 0]),
        ("a short window changes nothing without need", old, old, |s| s.dedup_window = DAY, false, [200, 200, 0]),
        ("lines give way first", &[3, 2, 1, 0], old, |s| s.max_size = MaxSize::Bytes(400), false, [200, 200, 0]),
        (
            "then events past their window",
            &[3, 2, 1, 0],
            &[100, 50, 20, 0],
            |s| (s.max_size, s.dedup_window) = (MaxSize::Bytes(350), DAY),
            false,
            [300, 200, 0],
        ),
        ("not events within it", &[3, 2, 1, 0], &[3, 2, 1, 0], |s| s.max_size = MaxSize::Bytes(1), false, [300, 0, 0]),
        ("the budget takes events within it", &[0], &[3, 2, 1, 0], |s| s.dedup_bytes = 250, false, [0, 0, 200]),
        (
            "what the budget frees is not taken twice",
            &[3, 2, 1, 0],
            &[3, 2, 1, 0],
            |s| (s.dedup_bytes, s.max_size) = (200, MaxSize::Bytes(600)),
            false,
            [0, 0, 200],
        ),
    ];
    for (name, lines, events, change, paused, expected) in cases {
        let (lines, events) = (segments(lines), segments(events));
        let mut settings = RetentionSettings { max_size: MaxSize::Bytes(1 << 40), ..RetentionSettings::default() };
        change(&mut settings);
        let stored = Stored { lines: &lines, lines_read: 1000, events: &events, events_read: 1000, index_bytes: 0 };
        let plan = Plan::make(&stored, &settings, PLENTY, *paused);
        assert_eq!([plan.lines_before, plan.events_before, plan.events_over_budget], *expected, "{name}");
        // What is still needed stays, whatever else holds.
        let stored = Stored { lines_read: 199, events_read: 100, ..stored };
        let plan = Plan::make(&stored, &settings, PLENTY, *paused);
        let capped = [expected[0].min(100), expected[1].min(100), expected[2].min(100)];
        assert_eq!([plan.lines_before, plan.events_before, plan.events_over_budget], capped, "{name}, needed");
    }
}

#[test]
fn a_jump_of_the_clock_pauses_expiry_until_it_is_back_or_believed() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let mut watch = ClockWatch::new(NOW, hours(0));
    let mut at = |monotonic: u64, hours_on: Millis, newest: Millis| {
        watch.observe(NOW + hours_on * HOUR, hours(monotonic), NOW + newest * HOUR)
    };
    assert_eq!(at(1, 1, 1), None);
    assert_eq!(at(2, 3, 3), None, "an hour is tolerated");
    assert_eq!(at(3, 100, 100), Some(Pause::Jumped(96 * HOUR)));
    assert_eq!(at(4, 101, 101), Some(Pause::Jumped(96 * HOUR)));
    assert_eq!(at(5, 6, 101), Some(Pause::Behind(95 * HOUR)), "the clock is back, the frames are not");
    assert_eq!(at(100, 101, 101), None);
    assert_eq!(at(101, 202, 202), Some(Pause::Jumped(100 * HOUR)));
    assert_eq!(at(124, 225, 225), Some(Pause::Jumped(100 * HOUR)));
    assert_eq!(at(125, 226, 226), None, "believed after a day");
    assert_eq!(at(126, 200, 226), Some(Pause::Behind(26 * HOUR)));
}

#[test]
fn a_long_stop_and_a_wrong_clock_look_alike() {
    let mut watch = ClockWatch::new(NOW, Duration::ZERO);
    assert_eq!(watch.observe(NOW + 50 * HOUR, Duration::ZERO, NOW), Some(Pause::Stopped(50 * HOUR)));
    assert_eq!(watch.observe(NOW + 74 * HOUR, Duration::from_hours(24), NOW + 74 * HOUR), None);
    let mut watch = ClockWatch::new(NOW, Duration::ZERO);
    assert_eq!(watch.observe(NOW + HOUR, Duration::ZERO, NOW), None);
    let mut watch = ClockWatch::new(Millis::MIN, Duration::ZERO);
    assert_eq!(watch.observe(NOW, Duration::ZERO, Millis::MIN), None);
}

/// An agent, its bytes in a segment, what marks of its events would take.
type Busy = (&'static str, u64, u64);

#[test]
fn the_busiest_agents_are_forgotten_first() {
    let usage = |agents: &[Busy]| -> HashMap<AgentId, Usage> {
        let usage = |&(agent, bytes, mark_bytes): &Busy| (id(agent), Usage { bytes, mark_bytes });
        agents.iter().map(usage).collect()
    };
    let cases: &[(&[Busy], &[&str])] = &[
        (&[], &[]),
        // One agent alone: nothing is remembered, or nothing would be freed.
        (&[("a", 800, 200)], &[]),
        (&[("a", 7000, 2000), ("b", 400, 100), ("c", 600, 150)], &["b", "c"]),
        (&[("a", 700, 200), ("b", 40, 10), ("c", 60, 150)], &["b"]),
        // All alike: as many as fit, in the order of their ids.
        (&[("d", 400, 40), ("a", 400, 40), ("b", 400, 40), ("c", 400, 40)], &["a", "b", "c", "d"]),
        (&[("d", 400, 99), ("a", 400, 99), ("b", 400, 99), ("c", 400, 99)], &["a", "b"]),
    ];
    for (agents, expected) in cases {
        let mut names: Vec<_> = dedup::remembered(&usage(agents)).iter().map(AgentId::to_string).collect();
        names.sort();
        assert_eq!(&names, expected, "{agents:?}");
    }
    assert_eq!(dedup::covered(0, NOW, DAY), DAY);
    assert_eq!(dedup::covered(NOW - HOUR, NOW, DAY), HOUR);
    assert_eq!(dedup::covered(NOW - 5 * DAY, NOW, DAY), DAY);
}

/// A line log of which each entry takes 10 bytes; marks go to its end and into the index.
struct FakeLines {
    index: Arc<MemoryIndex>,
    entries: RefCell<Vec<(Position, LineEntry)>>,
    segments: RefCell<Vec<SegmentInfo>>,
}

impl LineSegments for FakeLines {
    fn segments(&self) -> Vec<SegmentInfo> {
        self.segments.borrow().clone()
    }

    fn keep_from(&self) -> Position {
        Position::MAX
    }

    fn entries(
        &self,
        segment: &SegmentInfo,
        each: &mut dyn FnMut(LineEntry) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let entries = self.entries.borrow().clone();
        let inside = entries.into_iter().filter(|(at, _)| (segment.start..segment.end).contains(at));
        inside.map(|(_, entry)| entry).try_for_each(each)
    }

    fn forget(&self, step_run: &StepRunId) -> Result<bool, StoreError> {
        self.index.forget_stream(step_run).map(|()| true)
    }

    fn append_marks(&self, marks: Vec<(StepRunId, StreamRecord)>) -> Result<(), StoreError> {
        for (step_run, mut record) in marks {
            let mut segments = self.segments.borrow_mut();
            let end = &mut segments.last_mut().unwrap().end;
            record.newest = *end;
            self.entries.borrow_mut().push((*end, LineEntry { step_run: step_run.clone(), block: None }));
            *end += 10;
            self.index.apply_lines(*end, &[LineUpdate { step_run, blocks: vec![], record }])?;
        }
        Ok(())
    }

    fn trim(&self, before: Position) -> Result<Position, StoreError> {
        self.segments.borrow_mut().retain(|segment| segment.end > before);
        Ok(self.segments.borrow()[0].start)
    }
}

/// One line a block, one block an entry; three segments of two entries each.
fn line_log(index: &Arc<MemoryIndex>, streams: &[(&str, bool)]) -> FakeLines {
    let entries: Vec<_> = streams
        .iter()
        .enumerate()
        .map(|(n, (name, ended))| {
            let position = 10 * n as u64;
            let step_run = id(name);
            let first_line = index.stream(&step_run).unwrap().map_or(1, |known| known.next_line);
            let block = BlockRef { first_line, lines: 1, position };
            let record = StreamRecord {
                counting: Counting::Gateway,
                next_line: first_line + 1,
                ended: *ended,
                newest: position,
                origin: None,
                epochs: vec![],
                lines: first_line,
                bytes: 0,
                pipeline_id: "".into(),
                last_time: 0,
            };
            let update = LineUpdate { step_run: step_run.clone(), blocks: vec![block], record };
            index.apply_lines(position + 10, &[update]).unwrap();
            (position, LineEntry { step_run, block: Some(block) })
        })
        .collect();
    let segments = (0..3).map(|n| SegmentInfo { start: 20 * n, end: 20 * n + 20, newest: NOW }).collect();
    FakeLines { index: Arc::clone(index), entries: RefCell::new(entries), segments: RefCell::new(segments) }
}

#[test]
fn a_stream_that_has_not_ended_keeps_its_numbers_when_its_newest_block_goes() {
    let index = Arc::<MemoryIndex>::default();
    let names =
        [("quiet", false), ("ended", true), ("busy", false), ("ended later", false), ("busy", false), ("ended later", true)];
    let log = line_log(&index, &names);
    let removed = lines::remove(&log, &*index, 20, &|_| ()).unwrap();
    assert_eq!(removed, Removed { segments: 1, bytes: 20, kept: 1, before: 20 });
    assert_eq!(index.stream(&id("ended")).unwrap(), None);
    let quiet = index.stream(&id("quiet")).unwrap().unwrap();
    assert_eq!((quiet.next_line, quiet.newest), (2, 60));
    assert_eq!(index.blocks_from(&id("quiet"), 1, 9).unwrap(), []);

    let removed = lines::remove(&log, &*index, 40, &|_| ()).unwrap();
    assert_eq!((removed.segments, removed.kept), (1, 0), "both streams have newer blocks");
    assert_eq!(index.blocks_from(&id("busy"), 1, 9).unwrap().len(), 1);
    assert_eq!(lines::remove(&log, &*index, 40, &|_| ()).unwrap(), Removed::default());

    // A mark is carried on as often as it takes.
    log.segments.borrow_mut().push(SegmentInfo { start: 70, end: 80, newest: NOW });
    let removed = lines::remove(&log, &*index, 70, &|_| ()).unwrap();
    assert_eq!((removed.segments, removed.kept), (1, 2));
    let numbers: Vec<_> =
        index.streams(None, 9).unwrap().into_iter().map(|(id, known)| (id.to_string(), known.next_line)).collect();
    assert_eq!(numbers, [("busy".into(), 3), ("quiet".into(), 2)]);
}

/// An event log whose entries are as large as they say.
struct FakeEvents {
    index: Arc<MemoryIndex>,
    entries: RefCell<Vec<SeenEvent>>,
    segments: RefCell<Vec<SegmentInfo>>,
}

impl EventSegments for FakeEvents {
    fn segments(&self) -> Vec<SegmentInfo> {
        self.segments.borrow().clone()
    }

    fn keep_from(&self) -> Position {
        Position::MAX
    }

    fn entries(
        &self,
        segment: &SegmentInfo,
        each: &mut dyn FnMut(SeenEvent) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let entries = self.entries.borrow().clone();
        entries.into_iter().filter(|seen| (segment.start..segment.end).contains(&seen.position)).try_for_each(each)
    }

    fn append_marks(&self, events: Vec<KnownEvent>) -> Result<(), StoreError> {
        for event in events {
            let mut segments = self.segments.borrow_mut();
            let end = &mut segments.last_mut().unwrap().end;
            let entry = EventEntry { position: *end, digest: event.digest };
            let update = EventUpdate { agent: event.agent.clone(), name: event.name.clone(), entry };
            self.entries.borrow_mut().push(SeenEvent { position: *end, bytes: 80, event });
            *end += 80;
            self.index.apply_events(*end, &[update])?;
        }
        Ok(())
    }

    fn forget(&self, keys: Vec<(AgentId, Box<str>)>, _: Position) -> Result<(), StoreError> {
        self.index.forget_events(&keys)
    }

    fn trim(&self, before: Position) -> Result<Position, StoreError> {
        self.segments.borrow_mut().retain(|segment| segment.end > before);
        Ok(self.segments.borrow()[0].start)
    }
}

/// Events of 100 bytes, ten a segment, a minute apart; the last segment is the newest.
fn event_log(index: &Arc<MemoryIndex>, events: &[(&str, &str)]) -> FakeEvents {
    let mut entries = Vec::new();
    let mut segments: Vec<SegmentInfo> = Vec::new();
    for (n, (agent, name)) in events.iter().enumerate() {
        let position = 100 * n as u64;
        let received = NOW + 60_000 * n as Millis;
        let event = KnownEvent { agent: id(agent), name: (*name).into(), digest: n as u64, received };
        entries.push(SeenEvent { position, bytes: 100, event: event.clone() });
        let entry = EventEntry { position, digest: event.digest };
        let update = EventUpdate { agent: event.agent, name: event.name, entry };
        index.apply_events(position + 100, &[update]).unwrap();
        if n % 10 == 0 {
            segments.push(SegmentInfo { start: position, end: position, newest: received });
        }
        let segment = segments.last_mut().unwrap();
        (segment.end, segment.newest) = (position + 100, received);
    }
    FakeEvents { index: Arc::clone(index), entries: RefCell::new(entries), segments: RefCell::new(segments) }
}

#[test]
fn past_the_budget_the_busy_agents_oldest_events_go_and_the_quiet_ones_stay_known() {
    let index = Arc::<MemoryIndex>::default();
    let names: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let agent = |n: usize| if n % 10 == 3 { "quiet" } else { "busy" };
    let events: Vec<_> = names.iter().enumerate().map(|(n, name)| (agent(n), name.as_str())).collect();
    let log = event_log(&index, &events);
    let known = |n: usize| index.event(&id(agent(n)), &n.to_string()).unwrap().is_some();

    let mut known_since = 0;
    let removed = events::remove(&log, &*index, 1000, Some(DAY), &mut known_since, &|_| ()).unwrap();
    assert_eq!(removed, Removed { segments: 1, bytes: 1000, kept: 1, before: 1000 });
    for n in 0..30 {
        assert_eq!(known(n), n >= 10 || n == 3, "{n}");
    }
    let entry = index.event(&id("quiet"), "3").unwrap().unwrap();
    assert_eq!(entry, EventEntry { position: 3000, digest: 3 });

    // Since then each event is known: the tenth was the last to be forgotten.
    assert_eq!(known_since, NOW + 9 * 60_000);

    // A quiet agent's event that is older than the window is forgotten as well.
    let removed = events::remove(&log, &*index, 2000, Some(10 * 60_000), &mut known_since, &|_| ()).unwrap();
    assert_eq!(removed.kept, 0);
    assert!(!known(13) && known(3) && known(23));
}

#[test]
fn a_pass_removes_reports_and_does_so_once() {
    let index = Arc::<MemoryIndex>::default();
    let lines = line_log(&index, &[("a", false); 6]);
    lines.segments.borrow_mut()[0].newest = NOW - 8 * DAY;
    let names: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let events = event_log(&index, &names.iter().map(|name| ("agent", name.as_str())).collect::<Vec<_>>());
    let settings = RetentionSettings { dedup_bytes: 2000, ..RetentionSettings::default() };
    let clock = ClockWatch::new(NOW, Duration::ZERO);
    let mut retention =
        Retention { settings, lines, events, index: index.clone(), clock, known_since: 0, leaving: Box::new(|_, _| ()) };
    let little = Space { free: 10_000, total: 1_000_000 };
    let report = retention.pass(Space { total: 1 << 20, ..PLENTY }, NOW + 29 * 60_000, Duration::from_mins(29)).unwrap();
    assert_eq!((report.lines.before, report.events.before, report.paused), (20, 1000, None));
    assert_eq!(report.dedup_window, 20 * 60_000);
    let report = retention.pass(little, NOW + 30 * 60_000, Duration::from_mins(30)).unwrap();
    assert_eq!(report.events, Removed::default());

    // The clock jumps, and the frame that follows makes all else look old.
    retention.lines.segments.borrow_mut().push(SegmentInfo { start: 60, end: 70, newest: NOW + 30 * DAY });
    let report = retention.pass(PLENTY, NOW + 30 * DAY, Duration::from_mins(31)).unwrap();
    assert_eq!(report.lines, Removed::default());
    assert!(matches!(report.paused, Some(Pause::Jumped(_))));
    assert_eq!(index.indexed(LogKind::Lines).unwrap(), 60);
}
