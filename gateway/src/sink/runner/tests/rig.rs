//! A gateway as far as a sink sees it: an event log that grows, a cursor, a runner.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::property::Mutant;
use crate::clock::{Clock, Millis};
use crate::sink::cursor::{End, Saved, SinkCursor};
use crate::sink::deadletters::DeadLetters;
use crate::sink::feed::EventFeed;
use crate::sink::lag::Progress;
use crate::sink::runner::{Pace, Runner, RunnerParts};
use crate::stop::Stopper;
use crate::store::disk::sim::SimDisk;
use crate::store::events::{DEAD_LETTER, EVENT, record};
use crate::store::segment::{FrameDraft, FrameKind, LogKind, LogWriter, Scanned, SegmentLog, SegmentOptions};
use crate::store::{Position, StoreError};

pub(super) const PACE: Pace = Pace {
    pauses: (Duration::from_micros(50), Duration::from_millis(1)),
    tick: Duration::from_millis(2),
    stop_within: Duration::from_millis(200),
};
const STORE_ID: u128 = 7;

pub(super) fn store() -> &'static Path {
    Path::new("/store")
}

/// One run of the gateway.
pub(super) struct Rig {
    pub(super) disk: SimDisk,
    pub(super) log: SegmentLog,
    writer: LogWriter,
    synced: watch::Sender<Position>,
    pub(super) progress: Arc<Progress>,
    stopper: Stopper,
    pub(super) task: JoinHandle<()>,
}

impl Rig {
    /// Opens the log and starts the sink.
    pub(super) fn open(disk: &SimDisk, clock: &Clock, run: u32, fake: &Fake) -> Result<Self, StoreError> {
        Self::open_with(disk, clock, run, fake, None)
    }

    /// The same, with a defect.
    pub(super) fn open_with(
        disk: &SimDisk,
        clock: &Clock,
        run: u32,
        fake: &Fake,
        mutant: Option<Mutant>,
    ) -> Result<Self, StoreError> {
        let over: Arc<SimDisk> = Arc::new(disk.clone());
        let options = SegmentOptions {
            kind: LogKind::Events,
            segment_bytes: 2048,
            store_id: STORE_ID,
            incarnation: u64::from(run),
            clock: clock.clone(),
        };
        let (log, writer, _) = SegmentLog::open(over.clone(), &store().join("events"), options, 0, &mut |_| Ok(()))?;
        let mut cursor = SinkCursor::open(disk, store(), "s", STORE_ID)?;
        if cursor.saved().is_none() {
            cursor.save(Saved { cursor: log.start(), ends: Vec::new() })?;
        }
        let Saved { cursor: at, ends } = cursor.saved().cloned().unwrap_or_default();
        let mut epoch = run;
        match mutant {
            Some(Mutant::CutsAnew) => {
                // Another epoch would give it away.
                epoch = 1;
                cursor.save(Saved { cursor: at, ends: Vec::new() })?;
            }
            Some(Mutant::EpochForgotten) => {
                let ends = ends.into_iter().map(|end| End { epoch: run, ..end }).collect();
                cursor.save(Saved { cursor: at, ends })?;
            }
            _ => {}
        }
        let synced = watch::Sender::new(log.synced());
        let feed = EventFeed::over(log.clone(), synced.subscribe(), STORE_ID);
        let progress = Arc::new(Progress::new("s", LogKind::Events, at));
        progress.count_waiting(&feed, at, log.synced(), &false.into());
        let parts = RunnerParts {
            name: "s",
            feed,
            delivery: fake.clone(),
            cursor,
            progress: Arc::clone(&progress),
            epoch,
            disk: over,
            clock: clock.clone(),
            pace: PACE,
        };
        let stopper = Stopper::default();
        let mut runner = Runner::new(parts, store());
        let desk = runner.desk.as_mut().expect("nobody has it yet");
        desk.saves_early = mutant == Some(Mutant::SavesEarly);
        if mutant == Some(Mutant::LettersForgotten) {
            desk.letters = DeadLetters::new(Arc::new(disk.clone()), store(), "s").bounded(0, 0);
        }
        let task = tokio::spawn(runner.run(stopper.wish()));
        Ok(Self { disk: disk.clone(), log, writer, synced, progress, stopper, task })
    }

    /// Appends events with these numbers, and syncs.
    pub(super) fn append(&mut self, numbers: std::ops::Range<u64>) -> Result<(), StoreError> {
        self.append_as(EVENT, numbers)
    }

    pub(super) fn append_dead(&mut self, numbers: std::ops::Range<u64>) -> Result<(), StoreError> {
        self.append_as(DEAD_LETTER, numbers)
    }

    fn append_as(&mut self, kind: FrameKind, numbers: std::ops::Range<u64>) -> Result<(), StoreError> {
        let count = numbers.end - numbers.start;
        for number in numbers {
            let mut head = BytesMut::new();
            record::put_head(&mut head, None, number, number, "agent", &format!("e{number}"));
            let parts = [head.freeze(), Bytes::copy_from_slice(&number.to_le_bytes())];
            self.writer.append(&[FrameDraft { kind, parts: &parts }], &mut Vec::new())?;
        }
        let synced = self.log.sync()?;
        self.log.count_records(if kind == EVENT { count } else { 0 });
        self.synced.send_replace(synced);
        Ok(())
    }

    /// The events of the log, by position.
    pub(super) fn events(&self) -> Vec<(Position, u64)> {
        let frames = self.log.scan(self.log.start(), self.log.synced()).map(Result::unwrap);
        frames
            .filter_map(|item| match item {
                Scanned::Frame(frame) if frame.kind == EVENT => {
                    let raw = record::decode(frame.body).unwrap().raw;
                    Some((frame.position, u64::from_le_bytes(raw[..8].try_into().unwrap())))
                }
                _ => None,
            })
            .collect()
    }

    /// Waits until the cursor is at the log's end.
    pub(super) async fn caught_up(&self) {
        let end = self.log.synced();
        let mut cursor = self.progress.follow();
        let wait = async { cursor.wait_for(|cursor| *cursor >= end).await.map(|_| ()) };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the sink does not catch up").unwrap();
    }

    /// Ends it in order.
    pub(super) async fn stop(self) -> SimDisk {
        self.stopper.stop();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("it does not stop").unwrap();
        self.disk
    }

    /// The power fails.
    pub(super) async fn crash(self) -> SimDisk {
        self.task.abort();
        let _ = self.task.await;
        self.disk.crash()
    }

    /// The positions of the dead letters.
    pub(super) fn letters(&self) -> Vec<Position> {
        letters(&self.disk)
    }
}

pub(super) fn letters(disk: &SimDisk) -> Vec<Position> {
    let letters = DeadLetters::new(Arc::new(disk.clone()), store(), "s");
    letters.list().unwrap().into_iter().map(|letter| letter.id.position).collect()
}

pub(super) fn saved(disk: &SimDisk) -> Saved {
    SinkCursor::open(disk, store(), "s", STORE_ID).unwrap().saved().cloned().unwrap_or_default()
}

pub(super) const NOON: Millis = 1_700_000_000_000;

/// Runs a test on a runtime of its own: disk threads beside one that runs tasks.
pub(super) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}
