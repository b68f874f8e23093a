//! Records that will never be taken.

use std::sync::Arc;
use std::time::Duration;

use super::fake::{Fake, Mood, is_bad};
use super::rig::{NOON, Rig, block_on, saved, store};
use crate::clock::Clock;
use crate::sink::BatchLimits;
use crate::sink::deadletters::DeadLetters;
use crate::store::Position;
use crate::store::disk::sim::SimDisk;

const LIMITS: BatchLimits = BatchLimits { records: 64, bytes: 1 << 20, age: Duration::from_millis(1), under_way: 2 };

fn open(fake: &Fake) -> Rig {
    Rig::open(&SimDisk::new(1), &Clock::manual(NOON), 1, fake).unwrap()
}

fn folder(rig: &Rig) -> DeadLetters {
    DeadLetters::new(Arc::new(rig.disk.clone()), store(), "s")
}

fn bad(rig: &Rig) -> Vec<Position> {
    rig.events().into_iter().filter(|(_, number)| is_bad(*number)).map(|(position, _)| position).collect()
}

#[test]
fn a_refused_batch_is_halved_down_to_the_records_to_blame() {
    block_on(async {
        let fake = Fake::new(1, Mood::Well).limited(LIMITS);
        fake.with(|state| state.refuses_batches = true);
        let mut rig = open(&fake);
        rig.append(0..60).unwrap();
        rig.caught_up().await;
        assert_eq!(rig.letters(), bad(&rig));
        let (taken, wrong) = fake.with(|state| (state.taken.clone(), state.wrong.clone()));
        assert_eq!((taken.len(), wrong), (54, Vec::new()));
        assert!(taken.values().all(|times| *times == 1));
        let letters = folder(&rig);
        let letter = letters.read(letters.list().unwrap()[0].id).unwrap();
        assert_eq!((&*letter.reason, &*letter.record, letter.at_ms), ("one of them is bad", "{\"number\":7}", NOON));
        rig.stop().await;
    });
}

#[test]
fn the_cursor_waits_for_dead_letters_that_cannot_be_written() {
    block_on(async {
        let fake = Fake::new(1, Mood::Well).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..5).unwrap();
        rig.caught_up().await;
        let before = saved(&rig.disk).cursor;
        rig.append(5..9).unwrap();
        rig.disk.enospc(true);
        fake.until(|state| state.confirmed.contains(&8)).await;
        // Several tries.
        tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((saved(&rig.disk).cursor, rig.letters()), (before, Vec::new()));
        rig.disk.enospc(false);
        rig.caught_up().await;
        assert_eq!(rig.letters(), bad(&rig));
        rig.stop().await;
    });
}

#[test]
fn a_letter_is_sent_again_when_asked_and_stays_if_refused_again() {
    block_on(async {
        let fake = Fake::new(1, Mood::Well).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..30).unwrap();
        rig.caught_up().await;
        let letters = folder(&rig);
        let [first, second, _] = letters.list().unwrap()[..] else { panic!() };
        fake.with(|state| state.refuses_batches = true);
        letters.ask_retry(first.id).unwrap();
        let calls = fake.with(|state| state.calls);
        fake.until(|state| state.calls > calls).await;
        soon(|| letters.read(first.id).is_ok_and(|letter| letter.attempts == 2 && letter.reason == "it is still bad")).await;
        soon(|| letters.list().unwrap().iter().all(|letter| !letter.retry)).await;
        fake.with(|state| state.refuses_batches = false);
        letters.ask_retry(second.id).unwrap();
        soon(|| letters.list().unwrap().len() == 2).await;
        assert!(fake.with(|state| state.confirmed.contains(&second.id.position)));
        rig.stop().await;
    });
}

#[test]
fn what_a_letter_finds_missing_is_prepared_again_though_nothing_else_is_sent() {
    block_on(async {
        let fake = Fake::new(1, Mood::Well).limited(LIMITS);
        let mut rig = open(&fake);
        rig.append(0..10).unwrap();
        rig.caught_up().await;
        let letters = folder(&rig);
        let prepared = fake.with(|state| {
            state.mood = Mood::Missing;
            state.prepared
        });
        letters.ask_retry(letters.list().unwrap()[0].id).unwrap();
        fake.until(|state| state.prepared > prepared).await;
        fake.with(|state| state.mood = Mood::Well);
        soon(|| letters.list().unwrap().is_empty()).await;
        rig.stop().await;
    });
}

async fn soon(mut what: impl FnMut() -> bool) {
    let wait = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it does not happen");
}
