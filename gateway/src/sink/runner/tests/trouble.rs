//! The other end is away, not ready, or silent.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::fake::{Fake, Mood};
use super::rig::{NOON, PACE, Rig, block_on, saved};
use crate::clock::Clock;
use crate::sink::BatchLimits;
use crate::store::disk::sim::SimDisk;

const LIMITS: BatchLimits = BatchLimits { records: 4, bytes: 1 << 20, age: Duration::from_millis(1), under_way: 3 };

fn open(fake: &Fake) -> Rig {
    Rig::open(&SimDisk::new(1), &Clock::manual(NOON), 1, fake).unwrap()
}

#[test]
fn a_sink_that_is_down_is_tried_again_until_it_is_back() {
    block_on(async {
        let fake = Fake::new(1, Mood::Down).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..7).unwrap();
        rig.append(8..17).unwrap();
        fake.until(|state| state.calls > 20).await;
        assert_eq!(saved(&rig.disk).cursor, 0);
        assert_eq!(rig.progress.lag_records(&rig.log), Some(16));
        fake.with(|state| state.mood = Mood::Well);
        rig.caught_up().await;
        assert_eq!(fake.with(|state| state.taken.values().sum::<u64>()), 16, "each once");
        assert_eq!(rig.progress.lag_records(&rig.log), Some(0));
        rig.stop().await;
    });
}

#[test]
fn while_it_is_down_only_the_oldest_batch_is_tried() {
    block_on(async {
        let fake = Fake::new(1, Mood::Down).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..4).unwrap();
        fake.until(|state| state.calls > 3).await;
        rig.append(10..16).unwrap();
        fake.until(|state| state.calls > 12).await;
        assert_eq!(fake.most_under_way.load(SeqCst), 1);
        assert_eq!(fake.with(|state| state.sent.len()), 1);
        rig.stop().await;
    });
}

#[test]
fn batches_are_under_way_at_the_same_time_as_many_as_allowed() {
    block_on(async {
        let fake = Fake::new(1, Mood::Silent).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..7).unwrap();
        rig.append(10..17).unwrap();
        rig.append(20..27).unwrap();
        fake.until(|state| state.calls == 3).await;
        assert_eq!(saved(&rig.disk).ends.len(), 3, "saved before they are sent");
        let began = Instant::now();
        rig.stop().await;
        assert!(began.elapsed() < PACE.stop_within + Duration::from_secs(5));
        assert_eq!(fake.most_under_way.load(SeqCst), 3);
    });
}

#[test]
fn what_is_missing_is_prepared_again() {
    block_on(async {
        let fake = Fake::new(1, Mood::Missing).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..3).unwrap();
        fake.until(|state| state.prepared > 5).await;
        assert_eq!(fake.with(|state| state.calls), 0, "nothing is sent before");
        fake.with(|state| state.mood = Mood::Well);
        rig.caught_up().await;
        fake.with(|state| state.mood = Mood::Missing);
        let prepared = fake.with(|state| state.prepared);
        rig.append(10..12).unwrap();
        fake.until(|state| state.prepared > prepared).await;
        fake.with(|state| state.mood = Mood::Well);
        rig.caught_up().await;
        rig.stop().await;
    });
}

#[test]
fn a_stop_in_order_leaves_nothing_to_be_delivered_twice() {
    block_on(async {
        let fake = Fake::new(1, Mood::Well).limited(LIMITS);
        let clock = Clock::manual(NOON);
        let mut disk = SimDisk::new(1);
        for run in 1..4 {
            let mut rig = Rig::open(&disk, &clock, run, &fake).unwrap();
            rig.append(u64::from(run) * 10..u64::from(run) * 10 + 6).unwrap();
            rig.caught_up().await;
            disk = rig.stop().await;
        }
        assert!(fake.with(|state| state.taken.len() == 18 && state.taken.values().all(|times| *times == 1)));
    });
}

#[test]
fn no_batch_holds_records_of_two_days() {
    block_on(async {
        let fake = Fake::new(1, Mood::Well).limited(BatchLimits { records: 1000, ..LIMITS });
        let clock = Clock::manual(NOON);
        let mut rig = Rig::open(&SimDisk::new(1), &clock, 1, &fake).unwrap();
        fake.with(|state| state.mood = Mood::Down);
        rig.append(0..3).unwrap();
        clock.set(NOON + 86_400_000);
        rig.append(3..6).unwrap();
        clock.set(NOON + 2 * 86_400_000);
        rig.append(8..9).unwrap();
        fake.with(|state| state.mood = Mood::Well);
        rig.caught_up().await;
        assert!(fake.with(|state| state.sent.len() >= 3 && state.wrong.is_empty()));
        rig.stop().await;
    });
}

#[test]
fn what_retention_takes_is_passed_and_the_rest_is_delivered() {
    block_on(async {
        let fake = Fake::new(1, Mood::Down).limited(LIMITS);
        let mut rig = open(&fake);
        // Several segments, more than the batches that are under way.
        for ten in 0..20 {
            rig.append(ten * 10..ten * 10 + 6).unwrap();
        }
        fake.until(|state| state.calls > 3).await;
        let segments = rig.log.segments();
        let removed = segments[segments.len() - 2].end;
        rig.progress.lose(removed, 0, 0);
        rig.log.trim(removed).unwrap();
        fake.with(|state| state.mood = Mood::Well);
        rig.caught_up().await;
        let left: Vec<_> = rig.events().into_iter().map(|(_, number)| number).collect();
        assert!(!left.is_empty() && left.len() < 120);
        assert_eq!(fake.with(|state| state.taken.keys().copied().collect::<Vec<_>>()), left);
        rig.stop().await;
    });
}
