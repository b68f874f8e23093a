//! I9: what retention does about what a sink has not taken.

use std::sync::Arc;

use super::events::fill;
use super::{PLENTY, SETTINGS, World};
use crate::sink::feed::EventFeed;
use crate::sink::lag::Progress;
use crate::sink::{Policy, Undelivered};
use crate::store::retention::plan::{MaxSize, RetentionSettings};
use crate::store::segment::LogKind;
use crate::store::{Position, StoreError};

/// Room for a few segments of 4 KiB. Repeats need not be known, so that events may go.
const LITTLE: RetentionSettings = RetentionSettings { max_size: MaxSize::Bytes(16_000), dedup_window: 0, ..SETTINGS };

fn sink(kind: LogKind, cursor: Position) -> Arc<Progress> {
    Arc::new(Progress::new("s", kind, cursor))
}

fn world(sinks: &[&Arc<Progress>], policy: Policy) -> World {
    let sinks = sinks.iter().map(|sink| Arc::clone(sink)).collect();
    World { undelivered: Undelivered::new(sinks, policy), ..World::new() }
}

#[test]
fn i9_what_goes_before_a_sink_has_it_is_counted() {
    let (behind, done) = (sink(LogKind::Events, 0), sink(LogKind::Events, Position::MAX));
    let world = world(&[&behind, &done, &sink(LogKind::Lines, 0)], Policy::Remove);
    let mut open = world.open(LITTLE);
    fill(&open, "a", 5);
    world.pass_time(1);
    fill(&open, "b", 1);
    // What is stored is indexed at the next start.
    open.close();
    open = world.open(LITTLE);
    let log = open.events.segments().clone();
    let stored = || open.events.follow(0).read(usize::MAX, usize::MAX).unwrap().len() as u64;
    behind.count_waiting(&EventFeed::new(&open.events, 7), 0, log.synced(), &false.into());
    let before = stored();
    assert_eq!(behind.lag_records(&log), Some(before));
    open.keeper.pass(PLENTY);
    let (start, left) = (log.start(), stored());
    assert!(start > 0 && left < before);
    assert_eq!((behind.accounted(), behind.lag_records(&log)), (start, Some(left)), "the rest is lost");
    assert_eq!(done.accounted(), Position::MAX);
    open.keeper.pass(PLENTY);
    assert_eq!(behind.lag_records(&log), Some(left), "it is counted once");
    assert!(open.gate.check().is_ok());
    open.close();
}

#[test]
fn i9_the_operator_may_refuse_new_input_instead() {
    let behind = sink(LogKind::Events, 0);
    let world = world(&[&behind], Policy::Refuse);
    let mut open = world.open(LITTLE);
    fill(&open, "a", 1);
    open.keeper.note(PLENTY);
    assert!(open.gate.check().is_ok(), "there is room");
    fill(&open, "b", 5);
    world.pass_time(1);
    fill(&open, "c", 1);
    open.close();
    open = world.open(LITTLE);
    let log = open.events.segments().clone();
    open.keeper.pass(PLENTY);
    open.keeper.note(PLENTY);
    assert_eq!(log.start(), 0, "all of it waits for the sink");
    assert!(matches!(open.gate.check(), Err(StoreError::Undelivered { sink: "s", .. })));

    behind.moved(log.synced());
    open.keeper.pass(PLENTY);
    open.keeper.note(PLENTY);
    assert!(log.start() > 0);
    assert!(open.gate.check().is_ok());
    open.close();
}
