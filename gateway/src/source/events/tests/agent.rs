//! The stock agent against the mark: no stall, no event skipped, whatever happens on the way.
//!
//! Every event that the agent has is delivered, or named as rejected, within bounded time. The agent is modelled as its code
//! behaves: it appends in parallel (a seq may reach its log later than higher ones), cuts its
//! batches in file order, sends the same window again until the mark moves, skips records that it cannot read, discards
//! everything up to the mark, and forgets its count at a reset.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::super::ack::Tally;
use super::super::mark::{FORGET_AFTER, Holes, StreamMark};
use super::ack::sent;
use crate::id::Id;
use crate::store::events::EventFate;

/// One send cycle, in milliseconds.
const CYCLE: i64 = 50;
/// How many records a batch is cut from.
const WINDOW: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Content(u64);

#[derive(Clone, Copy)]
struct Record {
    seq: u64,
    content: Content,
    readable: bool,
    /// The gateway can never accept it.
    poison: bool,
}

#[derive(Default)]
struct StockAgent {
    next_seq: u64,
    acked: u64,
    /// Records on their way to the file, and when they get there.
    appending: Vec<(i64, Record)>,
    file: Vec<Record>,
}

impl StockAgent {
    fn append(&mut self, content: Content, readable: bool, poison: bool, arrives: i64) {
        self.next_seq += 1;
        self.appending.push((arrives, Record { seq: self.next_seq, content, readable, poison }));
    }

    fn flush(&mut self, now: i64) {
        let (arrived, appending) = self.appending.drain(..).partition(|(at, _)| *at <= now);
        self.appending = appending;
        let mut arrived: Vec<(i64, Record)> = arrived;
        arrived.sort_by_key(|(at, _)| *at);
        self.file.extend(arrived.into_iter().map(|(_, record)| record));
    }

    fn flushed(&self) -> u64 {
        self.file.iter().map(|record| record.seq).max().unwrap_or(0)
    }

    fn batch(&self) -> Vec<Record> {
        let window = self.file.iter().filter(|record| record.seq > self.acked).take(WINDOW);
        window.filter(|record| record.readable).copied().collect()
    }

    fn take_ack(&mut self, mark: u64) {
        let commit = mark.min(self.flushed());
        if commit > self.acked {
            self.acked = commit;
            self.file.retain(|record| record.seq > commit);
        }
    }

    /// Its log is gone; its count begins at 1 again. With `keep_mark` its note of what was acknowledged survives (then it
    /// never sends what it counts below that).
    fn reset(&mut self, keep_mark: bool) {
        let acked = if keep_mark { self.acked } else { 0 };
        *self = Self { acked, ..Self::default() };
    }
}

/// Runs one agent through `rng`'s misfortunes; returns what it had to send and what the gateway was sent.
fn run(rng: &mut impl Rng) -> (BTreeSet<Content>, BTreeSet<Content>) {
    let id = Id::parse("a1").unwrap();
    let mut holes = Holes::default();
    let mut agent = StockAgent::default();
    let (mut owed, mut taken) = (BTreeMap::new(), BTreeSet::new());
    let mut now = 0;
    let mut contents = 0;
    let mut unreadable_in_a_row = 0;
    // A hole costs a second and a lost answer a cycle or a second; 200 records make at most 200 holes.
    for cycle in 0..200 + 200 * 45 {
        now += CYCLE;
        if cycle < 200 {
            for _ in 0..rng.random_range(0..3) {
                contents += 1;
                // A window of nothing but unreadable records stalls the stock agent by itself.
                let readable = unreadable_in_a_row > 2 || rng.random_bool(0.9);
                unreadable_in_a_row = if readable { 0 } else { unreadable_in_a_row + 1 };
                let late = if rng.random_bool(0.2) { rng.random_range(0..900) } else { 0 };
                agent.append(Content(contents), readable, rng.random_bool(0.1), now + late);
                if readable && agent.next_seq > agent.acked {
                    owed.insert(Content(contents), agent.next_seq);
                }
            }
            if rng.random_bool(0.005) {
                agent.reset(rng.random_bool(0.5));
                // Only then is a hole of its former life not taken for one of its new life.
                now += FORGET_AFTER;
                owed.retain(|content, _| taken.contains(content));
            }
        }
        agent.flush(now);
        let batch = agent.batch();
        if batch.is_empty() {
            if cycle > 200 && agent.appending.is_empty() {
                return (owed.into_keys().collect(), taken);
            }
            continue;
        }
        // The request may be lost, or its answer, or the agent may die before it notes the answer.
        if rng.random_bool(0.05) {
            continue;
        }
        let fate = |record: &Record| if record.poison { EventFate::Dead } else { EventFate::Stored };
        let (sent, fates): (Vec<_>, Vec<_>) = batch.iter().map(|record| (sent(record.seq, fate(record)), fate(record))).unzip();
        let mut tally = Tally::default();
        tally.add(&sent, &fates);
        let mut mark = StreamMark::default();
        mark.handshake(agent.acked);
        mark.bring(sent.iter().map(|sent| sent.seq));
        let answer = mark.answer(&id, tally.span, &mut holes, now);
        let ack = tally.ack(answer);
        assert!(batch.iter().any(|record| record.seq >= ack.last_accepted_seq), "I4: {ack:?}");
        let told = |record: &&Record| !record.poison || ack.rejected_seqs.contains(&record.seq);
        taken.extend(batch.iter().filter(told).map(|record| record.content));
        if rng.random_bool(0.9) {
            agent.take_ack(ack.last_accepted_seq);
        }
    }
    panic!("the agent stalls at {}, with {} records left", agent.acked, agent.file.len());
}

#[test]
fn i4_no_agent_stalls_and_none_loses_an_event() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for round in 0..500 {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(round));
        let (owed, taken) = run(&mut rng);
        let skipped: Vec<_> = owed.difference(&taken).collect();
        assert!(skipped.is_empty(), "seed {}: skipped: {skipped:?}", seed.wrapping_add(round));
    }
}
