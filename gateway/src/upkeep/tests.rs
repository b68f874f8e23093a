//! The upkeep over real logs with small segments, on a simulated disk, by a clock that the tests move.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod events;
mod lines;
mod undelivered;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};

use super::{Charge, Keeper, Pace, Upkeep};
use crate::clock::{Clock, Millis};
use crate::sink::Undelivered;
use crate::store::disk::sim::SimDisk;
use crate::store::disk::{Disk, Space};
use crate::store::events::{EventLog, EventLogOptions};
use crate::store::index::memory::MemoryIndex;
use crate::store::lines::{LineAppender, LineStore, LineThreads};
use crate::store::meta::StoreMeta;
use crate::store::retention::plan::{MaxSize, RetentionSettings};
use crate::store::segment::{LogKind, SegmentOptions};
use crate::store::{Position, SpaceGate};
use crate::tasklog;

const MINUTE: Millis = 60_000;
const NOW: Millis = 1_700_000_000_000;
const PLENTY: Space = Space { free: 1 << 40, total: 1 << 41 };

/// Lines go after 30 minutes, events after 40: less than the hour by which a clock may jump.
const SETTINGS: RetentionSettings = RetentionSettings {
    max_age: 30 * MINUTE,
    max_size: MaxSize::Bytes(1 << 40),
    dedup_window: 40 * MINUTE,
    dedup_bytes: 1 << 40,
};

/// What outlives a run of the gateway.
struct World {
    disk: SimDisk,
    index: Arc<MemoryIndex>,
    clock: Clock,
    undelivered: Undelivered,
}

/// A store that is open.
struct Open {
    meta: Arc<StoreMeta>,
    lines: Arc<LineStore>,
    appender: LineAppender,
    threads: LineThreads,
    events: EventLog,
    gate: SpaceGate,
    keeper: Keeper,
    stop: Sender<()>,
}

impl World {
    fn new() -> Self {
        Self { disk: SimDisk::new(1), index: Arc::default(), clock: Clock::manual(NOW), undelivered: Undelivered::default() }
    }

    fn pass_time(&self, minutes: Millis) {
        self.clock.set(self.clock.now() + minutes * MINUTE);
    }

    /// Deletes the index, as an operator may.
    fn lose_index(&mut self) {
        self.index = Arc::default();
    }

    fn charge(&self) -> (Charge, Arc<LineStore>, LineThreads) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let meta = Arc::new(StoreMeta::open(&disk, Path::new("/store"), "boot").unwrap());
        let options = |kind| SegmentOptions {
            kind,
            segment_bytes: 4096,
            store_id: meta.store_id(),
            incarnation: meta.incarnation(),
            clock: self.clock.clone(),
        };
        let dir = Path::new("/store/lines");
        let index: Arc<MemoryIndex> = Arc::clone(&self.index);
        let events = EventLogOptions {
            disk: Arc::clone(&disk),
            dir: "/store/events".into(),
            segments: options(LogKind::Events),
            index: index.clone(),
        };
        let events = EventLog::open(events).unwrap().0;
        let (lines, appender, threads) =
            LineStore::open(Arc::clone(&disk), dir, options(LogKind::Lines), index.clone(), 1, Duration::from_millis(1)).unwrap();
        let charge = Charge {
            disk,
            path: "/store".into(),
            meta,
            index,
            lines: appender,
            events,
            gate: SpaceGate::new(Path::new("/store")),
            undelivered: self.undelivered.clone(),
            budgets: Vec::new(),
            clock: self.clock.clone(),
        };
        (charge, lines, threads)
    }

    fn open(&self, settings: RetentionSettings) -> Open {
        let (charge, lines, threads) = self.charge();
        let (stop, stopped) = bounded(0);
        let (meta, appender, events, gate) =
            (Arc::clone(&charge.meta), charge.lines.clone(), charge.events.clone(), charge.gate.clone());
        // As if lines had been made of all events.
        meta.save_cursor(tasklog::CURSOR, Position::MAX).unwrap();
        let keeper = Keeper::new(charge, settings, stopped);
        Open { meta, lines, appender, threads, events, gate, keeper, stop }
    }
}

impl Open {
    fn close(self) {
        drop((self.stop, self.keeper, self.appender));
        self.threads.join();
        self.events.close();
    }
}

fn soon(mut what: impl FnMut() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not happen");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_full_disk_closes_the_gate_and_space_opens_it() {
    let world = World::new();
    let (charge, _, threads) = world.charge();
    let (gate, events) = (charge.gate.clone(), charge.events.clone());
    let upkeep = Upkeep::start(charge, SETTINGS, Pace { look: Duration::from_millis(2), ..Pace::default() }).unwrap();
    world.disk.enospc(true);
    soon(|| gate.check().is_err());
    world.disk.enospc(false);
    soon(|| gate.check().is_ok());
    upkeep.stop();
    threads.join();
    events.close();
}

#[test]
fn a_poisoned_run_is_noted_and_the_next_one_has_another_epoch() {
    let world = World::new();
    let mut open = world.open(SETTINGS);
    open.keeper.look();
    assert!(open.gate.check().is_ok());
    let before = open.meta.epoch();
    open.lines.log().poison("sync lines");
    open.keeper.look();
    open.keeper.pass(PLENTY);
    open.close();
    let open = world.open(SETTINGS);
    assert_eq!(open.meta.epoch(), before + 1);
    open.close();
    let open = world.open(SETTINGS);
    assert_eq!(open.meta.epoch(), before + 1, "once");
    open.close();
}
