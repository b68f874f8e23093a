//! I1, I2, I3: the real committer on the real segment log, acknowledgements included, against the model.
//!
//! The disk loses, tears and reorders what was not synced, forgets what a failed sync left dirty, runs full, and fails at any
//! operation; the index is lost or set back at a crash; the process restarts with and without a loss of power. Three defects
//! that are planted must be found.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::super::known::IndexBatch;
use super::super::open::open_with;
use super::super::{Committer, DeadReason, EventReader, Incoming};
use super::model::{Model, Sent};
use super::{agent, commit, dir, event, options};
use crate::store::disk::sim::SimDisk;
use crate::store::index::memory::{MemoryIndex, State};

/// The defects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The disk says that it has synced, and has not.
    SyncLies,
    /// Commits are answered before the sync.
    AckBeforeSync,
    /// What lies in the log beyond the index is not remembered at opening.
    NoDedupAfterOpen,
}

/// One agent's way of naming events.
#[derive(Default)]
struct Names {
    /// Raised at each reset of its log: other content under the same names.
    life: u64,
    seq: u64,
    /// What it sent, in all lives.
    sent: Vec<(Sent, u64)>,
}

struct World {
    rng: StdRng,
    mutant: Option<Mutant>,
    disk: SimDisk,
    index: Arc<MemoryIndex>,
    /// What the index was, at times.
    snapshots: Vec<State>,
    /// What was taken for the index and not yet applied.
    due: Vec<Arc<IndexBatch>>,
    committer: Committer,
    incarnation: u64,
    names: [Names; 3],
    model: Model,
}

fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let disk = SimDisk::new(seed);
    disk.lie_on_sync(mutant == Some(Mutant::SyncLies));
    let index = Arc::new(MemoryIndex::default());
    let committer = super::open(&disk, &index, 1);
    let mut world = World {
        rng: StdRng::seed_from_u64(seed),
        mutant,
        disk,
        index,
        snapshots: vec![State::default()],
        due: Vec::new(),
        committer,
        incarnation: 1,
        names: Default::default(),
        model: Model::default(),
    };
    world.committer.answers_early = mutant == Some(Mutant::AckBeforeSync);
    for _ in 0..world.rng.random_range(10..60) {
        world.step()?;
    }
    world.restart(true)
}

impl World {
    fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..20) {
            0..14 => self.commit()?,
            14..16 => self.feed_index(),
            16 => self.disk.fail_at(self.disk.ops() + self.rng.random_range(0..6)),
            17 => {
                let full = self.rng.random_bool(0.3);
                self.disk.enospc(full);
            }
            18 => {
                let names = &mut self.names[self.rng.random_range(0..3)];
                *names = Names { life: names.life + 1, seq: 0, sent: std::mem::take(&mut names.sent) };
            }
            _ => {
                let power_loss = self.rng.random_bool(0.7);
                self.restart(power_loss)?;
            }
        }
        if self.committer.log().poisoned().is_some() && self.rng.random_bool(0.7) {
            let power_loss = self.rng.random_bool(0.5);
            self.restart(power_loss)?;
        }
        Ok(())
    }

    /// Sends a group of batches and compares the answers with the model's.
    fn commit(&mut self) -> Result<(), String> {
        let mut group = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let who = self.rng.random_range(0..3);
            let (events, sent): (Vec<_>, Vec<_>) = (0..self.rng.random_range(1..6)).map(|_| self.event(who)).unzip();
            let (commit, fates) = commit(agent(&format!("a{who}")), events);
            group.push(commit);
            answers.push((fates, sent));
        }
        self.committer.commit(group);
        for (mut fates, sent) in answers {
            let fates = fates.try_recv().map_err(|_| "a commit was not answered".to_owned())?;
            for (at, sent) in sent.iter().enumerate() {
                match (&fates, sent) {
                    (Ok(fates), Some(sent)) => self.model.answered(sent, fates[at])?,
                    (Err(_), Some(sent)) => self.model.lost(sent),
                    (_, None) => {}
                }
            }
        }
        Ok(())
    }

    /// Something that agent `who` sends: new, again, the same name with other content, or a dead letter.
    fn event(&mut self, who: usize) -> (Incoming, Option<Sent>) {
        let names = &mut self.names[who];
        let (sent, seq) = match self.rng.random_range(0..10) {
            0..4 if !names.sent.is_empty() => {
                let (sent, seq) = names.sent.choose(&mut self.rng).unwrap();
                (sent.clone(), *seq)
            }
            4 => {
                let (seq, raw) = (self.rng.random_range(0..3), Bytes::from_static(b"?"));
                return (Incoming::Dead { seq, event_id: None, reason: DeadReason::NoId, raw }, None);
            }
            kind => {
                names.seq += 1;
                let reusable = kind < 8;
                let content = names.life * 1_000_000 + names.seq * 10 + self.rng.random_range(0..2) * u64::from(!reusable);
                // The others' names come again with other content too, but then they are the same event.
                let name = if reusable { format!("evt-{}", names.seq) } else { format!("build-{}", names.seq % 7) };
                names.sent.push((((format!("a{who}"), name), content, reusable), names.seq));
                names.sent.last().unwrap().clone()
            }
        };
        (event(&sent.0.1, seq, sent.1), Some(sent))
    }

    /// Gives the index something, at some time, in order.
    fn feed_index(&mut self) {
        let all = self.rng.random_bool(0.8);
        self.due.extend(self.committer.seal(all));
        for batch in self.due.drain(..self.rng.random_range(0..=self.due.len())) {
            batch.apply(&*self.index).unwrap();
            self.committer.indexed(batch.up_to());
        }
        self.snapshots.push(self.index.snapshot());
    }

    /// Starts anew, after a loss of power or without, with an index that may be set back, and looks at what is stored.
    fn restart(&mut self, power_loss: bool) -> Result<(), String> {
        self.due.clear();
        if power_loss {
            self.disk = self.disk.crash();
            let at = self.rng.random_range(0..self.snapshots.len());
            self.snapshots.truncate(at + 1);
            self.index.restore(self.snapshots[at].clone());
        }
        self.disk.enospc(false);
        if self.rng.random_bool(0.3) {
            self.disk.fail_at(self.disk.ops() + self.rng.random_range(0..20));
        }
        let remember = self.mutant != Some(Mutant::NoDedupAfterOpen);
        for attempt in 0.. {
            self.incarnation += 1;
            let (disk, index) = (Arc::new(self.disk.clone()), Arc::clone(&self.index));
            match open_with(disk, dir(), options(self.incarnation), index, remember) {
                Ok((committer, _)) => {
                    self.committer = committer;
                    break;
                }
                Err(error) if attempt > 2 => return Err(format!("cannot be opened: {error}")),
                Err(_) => {}
            }
        }
        self.committer.answers_early = self.mutant == Some(Mutant::AckBeforeSync);
        let mut reader = EventReader::new(self.committer.log().clone(), 0, self.committer.synced());
        let stored = loop {
            match reader.read(usize::MAX, usize::MAX) {
                Ok(events) if reader.position() >= self.committer.log().synced() => break events,
                _ => reader = EventReader::new(self.committer.log().clone(), 0, self.committer.synced()),
            }
        };
        let stored: Vec<Sent> = (stored.into_iter())
            .map(|event| {
                let content = event.raw.split(|byte| *byte == b':').next().unwrap();
                let content = std::str::from_utf8(content).unwrap().parse().unwrap();
                let reusable = event.event_id.starts_with("evt-");
                ((event.agent.to_string(), event.event_id.into()), content, reusable)
            })
            .collect();
        self.model.stored(&stored)
    }
}

#[test]
fn i1_i2_i3_acked_events_are_there_once_whatever_happens() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for round in 0..2_000 {
        let seed = seed.wrapping_add(round);
        run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn i1_i2_i3_each_planted_defect_is_found() {
    for mutant in [Mutant::SyncLies, Mutant::AckBeforeSync, Mutant::NoDedupAfterOpen] {
        let found = (0..2_000).find_map(|seed| run(seed, Some(mutant)).err().map(|error| (seed, error)));
        let (seed, error) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: found with seed {seed}: {error}");
    }
}
