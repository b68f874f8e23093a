//! Events are forgotten after the window, and known within it, whatever becomes of their segment.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Open, PLENTY, SETTINGS, World};
use crate::id::Id;
use crate::store::events::EventFate::{self, Repeated, Stored};
use crate::store::events::{Commit, Incoming, IncomingEvent};
use crate::store::retention::plan::RetentionSettings;

fn store(open: &Open, agent: &str, event_id: &str) -> EventFate {
    let event = IncomingEvent { event_id: event_id.into(), seq: 1, digest: 7, raw: Bytes::from(vec![b'x'; 100]) };
    let (reply, fates) = oneshot::channel();
    let commit =
        Commit { agent: Id::parse(agent).unwrap(), events: vec![Incoming::Event(event)], reply, positions: None, permit: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        open.events.submit(commit).await.unwrap();
        fates.await.unwrap().unwrap()[0]
    })
}

/// Stores events of `busy` until the log has `count` more segments.
pub(super) fn fill(open: &Open, name: &str, count: usize) {
    let before = open.events.segments().segments().last().unwrap().start;
    let newer = || open.events.segments().segments().iter().filter(|segment| segment.start > before).count();
    let mut n = 0;
    while newer() < count {
        store(open, "busy", &format!("{name}-{n}"));
        n += 1;
    }
}

#[test]
fn i3_repeats_are_known_within_the_window_and_forgotten_after_it() {
    let mut world = World::new();
    let mut open = world.open(SETTINGS);
    assert_eq!(store(&open, "agent", "old"), Stored);
    fill(&open, "a", 2);
    world.pass_time(35);
    assert_eq!(store(&open, "agent", "young"), Stored);
    fill(&open, "b", 2);
    open.close();

    open = world.open(SETTINGS);
    open.keeper.pass(PLENTY);
    assert_eq!(open.events.segments().start(), 0, "all is within the window");
    world.pass_time(10);
    fill(&open, "c", 2);
    open.close();

    open = world.open(SETTINGS);
    open.keeper.pass(PLENTY);
    assert!(open.events.segments().start() > 0);
    assert!(open.meta.known_since() > 0);
    assert_eq!(store(&open, "agent", "young"), Repeated);
    assert_eq!(store(&open, "agent", "old"), Stored, "it is older than the window");
    open.close();

    world.lose_index();
    open = world.open(SETTINGS);
    assert_eq!((store(&open, "agent", "young"), store(&open, "agent", "old")), (Repeated, Repeated));
    open.close();
}

#[test]
fn i3_past_the_budget_marks_keep_quiet_agents_known() {
    let mut world = World::new();
    let mut open = world.open(SETTINGS);
    assert_eq!(store(&open, "quiet", "one"), Stored);
    fill(&open, "a", 3);
    open.close();

    let little = RetentionSettings { dedup_bytes: 8192, ..SETTINGS };
    open = world.open(little);
    open.keeper.pass(PLENTY);
    assert!(open.events.segments().start() > 0);
    assert_eq!(store(&open, "quiet", "one"), Repeated, "its mark says so");
    assert_eq!(store(&open, "busy", "a-0"), Stored, "the busiest agent's oldest go first");
    open.close();

    world.lose_index();
    open = world.open(little);
    assert_eq!(store(&open, "quiet", "one"), Repeated, "also to an index made anew");
    let since = open.meta.known_since();
    assert_eq!(open.keeper.retention.known_since, since, "kept over restarts");
    assert!(since > 0);
    open.close();
}

#[test]
fn what_no_line_was_made_of_stays() {
    let world = World::new();
    let open = world.open(SETTINGS);
    fill(&open, "a", 2);
    let (charge_meta, end) = (open.meta.clone(), open.events.segments().appended());
    assert!(charge_meta.cursor(crate::tasklog::CURSOR) > end, "the tests' cursor is past all");
    open.close();
    let (charge, _, threads) = world.charge();
    let events = charge.events.clone();
    let segments = crate::store::events::RetainedEvents::new(events.clone(), charge.index.clone(), Box::new(|| 100));
    assert_eq!(crate::store::retention::events::EventSegments::keep_from(&segments), 100);
    drop((segments, charge));
    threads.join();
    events.close();
}
