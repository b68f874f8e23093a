//! Property: whatever was synced is there, once, in order and where it was; what was not synced may be lost; nothing else appears.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Frames of these sizes, in one append.
    Append(Vec<u16>),
    Sync,
    /// Trims up to this share of the log.
    Trim(u8),
    /// The process ends and is started again.
    Restart,
    /// Power fails.
    Crash,
    /// The operation after this many more fails.
    FailAfter(u8),
    Full(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(prop_oneof![4 => 0..600_u16, 1 => 0..5000_u16], 1..5).prop_map(Step::Append),
        4 => Just(Step::Sync),
        1 => any::<u8>().prop_map(Step::Trim),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        2 => (0..12_u8).prop_map(Step::FailAfter),
        1 => any::<bool>().prop_map(Step::Full),
    ]
}

/// What the log must and may hold.
#[derive(Default)]
struct Model {
    /// Appended successfully.
    frames: BTreeMap<Position, Vec<u8>>,
    /// All before it is durable.
    synced: Position,
    start: Position,
    /// An append that failed so that its traces could not be removed.
    maybe: Vec<Vec<u8>>,
}

/// A run of the log beside its model. Each body is different from all others.
struct Run {
    disk: SimDisk,
    opened: Opened,
    model: Model,
    incarnation: u64,
    bodies: u32,
}

impl Run {
    fn new(disk: SimDisk) -> Self {
        let opened = try_open(&disk, options(1), 0).unwrap();
        let model = Model { synced: opened.log.synced(), ..Model::default() };
        Self { disk, opened, model, incarnation: 1, bodies: 0 }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Append(sizes) => self.append(sizes),
            Step::Sync => {
                if let Ok(synced) = self.opened.log.sync() {
                    self.model.synced = synced;
                }
            }
            Step::Trim(share) => {
                let before = self.opened.log.synced() / 256 * u64::from(*share);
                let _ = self.opened.log.trim(before);
                self.model.start = self.opened.log.start();
            }
            Step::Restart => self.reopen(false)?,
            Step::Crash => self.reopen(true)?,
            Step::FailAfter(ops) => self.disk.fail_at(self.disk.ops() + u64::from(*ops)),
            Step::Full(full) => self.disk.enospc(*full),
        }
        self.check_live()
    }

    fn append(&mut self, sizes: &[u16]) {
        let bodies: Vec<Vec<u8>> = sizes
            .iter()
            .map(|&size| {
                self.bodies += 1;
                self.bodies.to_le_bytes().into_iter().cycle().take(4 + usize::from(size)).collect()
            })
            .collect();
        match append(&mut self.opened.writer, &bodies) {
            Ok(positions) => self.model.frames.extend(positions.into_iter().zip(bodies)),
            Err(_) if self.opened.log.poisoned().is_some() => self.model.maybe.extend(bodies),
            Err(_) => {}
        }
        self.model.synced = self.opened.log.synced();
    }

    /// What readers see is what was appended.
    fn check_live(&self) -> Result<(), String> {
        let log = &self.opened.log;
        if log.synced() > log.appended() || log.start() > log.synced() {
            return Err(format!("start {}, synced {}, appended {}", log.start(), log.synced(), log.appended()));
        }
        self.disk.fail_at(u64::MAX);
        let expected: Vec<_> = self.model.frames.range(log.start()..).map(|(at, body)| (*at, body.clone())).collect();
        if frames(&scan(log, log.start())) != expected {
            return Err("readers do not see what was appended".into());
        }
        Ok(())
    }

    /// Opens the log anew, and compares what is found.
    fn reopen(&mut self, crash: bool) -> Result<(), String> {
        self.disk.enospc(false);
        if crash {
            self.disk = self.disk.crash();
        }
        // The operation that is still to fail may make the opening fail; then it is tried again.
        self.incarnation += 1;
        // An index that is level with the log, or none at all.
        let scan_from = if self.bodies.is_multiple_of(2) { 0 } else { self.model.synced };
        let opened = match try_open(&self.disk, options(self.incarnation), scan_from) {
            Ok(opened) => opened,
            Err(_) => try_open(&self.disk, options(self.incarnation), scan_from).map_err(|error| error.to_string())?,
        };
        self.disk.fail_at(u64::MAX);
        let found = frames(&scan(&opened.log, opened.log.start()));
        if !found.is_sorted_by_key(|(at, _)| *at) || opened.recovery.index_ahead {
            return Err(format!("not in order, or ends before {scan_from}: {:?}", opened.recovery));
        }
        let told = found.iter().filter(|(at, _)| *at >= opened.recovery.scanned_from);
        if !told.eq(&frames(&opened.items)) {
            return Err("the opening has told of other frames than there are".into());
        }
        let found: BTreeMap<_, _> = found.into_iter().collect();
        let must = if crash { self.model.synced } else { Position::MAX };
        let start = self.model.start.max(opened.log.start());
        for (at, body) in self.model.frames.range(start..).filter(|(at, _)| **at < must) {
            if found.get(at) != Some(body) {
                return Err(format!("the frame at {at}, synced up to {must}, is lost"));
            }
        }
        for (at, body) in &found {
            if self.model.frames.get(at) != Some(body) && !self.model.maybe.contains(body) {
                return Err(format!("the frame at {at} was never appended there"));
            }
        }
        // An un-synced removal may come undone, not more.
        if opened.log.start() > self.model.start {
            return Err(format!("the log began at {}, now at {}", self.model.start, opened.log.start()));
        }
        let log = &opened.log;
        self.model = Model { frames: found, synced: log.synced(), start: log.start(), maybe: Vec::new() };
        self.opened = opened;
        Ok(())
    }
}

fn run(disk: SimDisk, steps: &[Step]) -> Result<(), String> {
    let mut run = Run::new(disk);
    for step in steps {
        run.step(step)?;
    }
    run.reopen(true)?;
    run.reopen(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_synced_is_there_once_and_in_order(seed: u64, steps in prop::collection::vec(step(), 1..40)) {
        run(SimDisk::new(seed), &steps).map_err(TestCaseError::fail)?;
    }
}

/// A run that rolls, trims, syncs and reopens.
fn script() -> Vec<Step> {
    let append = || Step::Append(vec![700, 0, 1300]);
    let round = || [append(), append(), Step::Sync, append()];
    [round().as_slice(), &round(), &[Step::Trim(128)], &round(), &[Step::Restart], &round(), &[Step::Sync]].concat()
}

#[test]
fn each_operation_may_fail() {
    let disk = SimDisk::new(0);
    let mut whole = Run::new(disk.clone());
    script().iter().for_each(|step| whole.step(step).unwrap());
    let ops = disk.ops();
    assert!(ops > 50, "{ops}");
    for k in 0..ops {
        for seed in 0..3 {
            let disk = SimDisk::new(seed);
            let mut run = Run::new(disk.clone());
            let first = disk.ops();
            // `check_live` reads without failures, so the failure is set anew before each step.
            let result = script().iter().try_for_each(|step| {
                disk.fail_at(first + k);
                run.step(step)
            });
            result.and_then(|()| run.reopen(true)).unwrap_or_else(|why| panic!("operation {k}, seed {seed}: {why}"));
        }
    }
}

#[test]
fn each_operation_of_the_first_opening_may_fail() {
    for k in 0..20 {
        for seed in 0..5 {
            let disk = SimDisk::new(seed);
            disk.fail_at(k);
            let _ = try_open(&disk, options(1), 0);
            disk.fail_at(u64::MAX);
            let disk = if seed % 2 == 0 { disk.crash() } else { disk };
            assert_eq!(open(&disk, 0).recovery.end, 64);
        }
    }
}

/// A disk whose syncs return without syncing must be found out: else the property shows nothing.
#[test]
fn a_lying_disk_is_found_out() {
    let lies = |seed| {
        let disk = SimDisk::new(seed);
        let mut run = Run::new(disk.clone());
        disk.lie_on_sync(true);
        script().iter().try_for_each(|step| run.step(step)).and_then(|()| run.reopen(true))
    };
    let found = (0..20).filter(|&seed| std::panic::catch_unwind(|| lies(seed)).map_or(true, |result| result.is_err())).count();
    assert!(found > 5, "{found} of 20");
}
