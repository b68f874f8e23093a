//! What a store needs done while it is served: one thread looks at the free space every second and runs retention every minute.
//!
//! Below 5% free space it closes the [`SpaceGate`], at which streams of new input ask. `lines` gives [`crate::store::retention`] the
//! line log of a running gateway, [`RetainedEvents`] the event log; `gauges` shows what it finds. It also notes in the store's
//! record that a log is poisoned, and lets go of streams that readers have left behind.

mod gauges;
mod lines;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::gauges::Gauges;
use self::lines::RunningLines;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::sink::Undelivered;
use crate::store::disk::{Disk, Space};
use crate::store::events::{EventLog, RetainedEvents};
use crate::store::index::Index;
use crate::store::lines::LineAppender;
use crate::store::meta::StoreMeta;
use crate::store::retention::clock::ClockWatch;
use crate::store::retention::plan::{self, RetentionSettings};
use crate::store::retention::{Report, Retention};
use crate::store::segment::{LogKind, SegmentInfo};
use crate::store::{Position, SpaceGate, StoreError};
use crate::tasklog;

/// How often the thread does what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// It looks at space, poison and queues.
    pub look: Duration,
    /// It runs retention.
    pub pass: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), pass: Duration::from_mins(1) }
    }
}

/// Cursors that retention does not wait for for ever: what it removes before they have read it is counted.
const CURSORS: &[(&str, LogKind)] = &[(tasklog::CURSOR, LogKind::Events)];

/// What the thread looks after.
pub struct Charge {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The store's folder.
    pub path: PathBuf,
    /// The store's record.
    pub meta: Arc<StoreMeta>,
    /// The index.
    pub index: Arc<dyn Index>,
    /// The line log. Kept until the thread ends, so that one ends before the line log's own.
    pub lines: LineAppender,
    /// The event log.
    pub events: EventLog,
    /// Where streams of new input ask.
    pub gate: SpaceGate,
    /// The sinks, which may have taken less than retention is about to remove.
    pub undelivered: Undelivered,
    /// Memory whose use is shown, by the name of its queue.
    pub budgets: Vec<(&'static str, Budget)>,
    /// The time of day.
    pub clock: Clock,
}

/// The thread. Stop it before the logs are closed.
pub struct Upkeep {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Upkeep {
    /// Starts the thread; both its duties are done once at once.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(charge: Charge, settings: RetentionSettings, pace: Pace) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let keeper = Keeper::new(charge, settings, stopped);
        let thread = std::thread::Builder::new().name("upkeep".into()).spawn(move || keeper.run(pace))?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread and waits for it; a pass that is under way stops at the next segment it would have to wait for.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the upkeep's thread has panicked; nothing was removed by retention since");
        }
    }
}

struct Keeper {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    meta: Arc<StoreMeta>,
    lines: LineAppender,
    events: EventLog,
    gate: SpaceGate,
    clock: Clock,
    started: Instant,
    retention: Retention<RunningLines, RetainedEvents>,
    gauges: Gauges,
    undelivered: Undelivered,
    stopped: Receiver<()>,
    poison_noted: bool,
    paused: bool,
}

impl Keeper {
    fn new(charge: Charge, settings: RetentionSettings, stopped: Receiver<()>) -> Self {
        let Charge { disk, path, meta, index, lines, events, gate, undelivered, budgets, clock } = charge;
        let newest = plan::newest(&lines.store().log().segments()).max(plan::newest(&events.segments().segments()));
        let cursors = Arc::clone(&meta);
        let sinks = undelivered.clone();
        let done_with = Box::new(move || cursors.cursor(tasklog::CURSOR).min(sinks.keep_from(LogKind::Events)));
        let (sinks, line_log, event_log) = (undelivered.clone(), lines.store().log().clone(), events.segments().clone());
        let leaving = Box::new(move |kind, segment: &SegmentInfo| {
            let log = if kind == LogKind::Lines { &line_log } else { &event_log };
            if let Err(error) = sinks.leaving(kind, log, segment) {
                tracing::error!(%error, "what sinks have not taken of a segment that retention removes could not be counted");
            }
        });
        let retention = Retention {
            settings,
            lines: RunningLines { appender: lines.clone(), stopped: stopped.clone(), undelivered: undelivered.clone() },
            events: RetainedEvents::new(events.clone(), Arc::clone(&index), done_with),
            index,
            clock: ClockWatch::new(newest, Duration::ZERO),
            known_since: meta.known_since(),
            leaving,
        };
        let started = Instant::now();
        let gauges = Gauges::new(budgets);
        Self {
            disk,
            path,
            meta,
            lines,
            events,
            gate,
            clock,
            started,
            retention,
            gauges,
            undelivered,
            stopped,
            poison_noted: false,
            paused: false,
        }
    }

    fn run(mut self, pace: Pace) {
        let mut next_pass = Instant::now();
        loop {
            let space = self.look();
            if Instant::now() >= next_pass {
                if let Some(space) = space {
                    self.pass(space);
                }
                next_pass = Instant::now() + pace.pass;
            }
            if self.stopped.recv_timeout(pace.look) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Looks at space, poison and queues.
    fn look(&mut self) -> Option<Space> {
        let poisoned = self.lines.store().log().poisoned().or_else(|| self.events.segments().poisoned());
        if poisoned.is_some() && !self.poison_noted {
            // Only one try: the disk may hang.
            self.poison_noted = true;
            if let Err(error) = self.meta.note_poisoned() {
                tracing::error!(%error, "that the store is poisoned could not be noted; readers that resume may miss lines that were lost");
            }
        }
        let space = match self.disk.space(&self.path) {
            Ok(space) => {
                self.note(space);
                Some(space)
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot see how much space is left");
                None
            }
        };
        self.gauges.show(self.lines.store(), self.events.segments(), &*self.retention.index, space, poisoned.is_some());
        space
    }

    fn note(&self, space: Space) {
        self.hold(space);
        if self.gate.observe(space) {
            let (free, path) = (space.free, self.path.display());
            match self.gate.check() {
                Err(_) => tracing::error!(free, %path, "under 5% free space: new input is refused until there is more"),
                Ok(()) => tracing::info!(free, %path, "there is space again: input is taken"),
            }
        }
    }

    /// Holds input back while the store has its largest size and a sink keeps retention from making room.
    fn hold(&self, space: Space) {
        let logs = [(LogKind::Lines, self.lines.store().log().segments()), (LogKind::Events, self.events.segments().segments())];
        let size = |segments: &[SegmentInfo]| segments.iter().map(|segment| segment.end - segment.start).sum::<u64>();
        let own = logs.iter().map(|(_, segments)| size(segments)).sum::<u64>() + self.retention.index.bytes();
        let over = own >= plan::limit(&self.retention.settings, space, own);
        let sink = logs.iter().filter(|_| over).find_map(|(kind, segments)| self.undelivered.holds_back(*kind, segments));
        if self.gate.hold(sink) {
            match sink {
                Some(sink) => tracing::error!(
                    sink,
                    own,
                    "the store is full of what the sink has not taken: new input is refused until it does"
                ),
                None => tracing::info!("what is stored is delivered, or fits again: input is taken"),
            }
        }
    }

    /// Runs retention.
    fn pass(&mut self, space: Space) {
        self.lines.store().release_unused();
        if self.lines.store().accepts().is_err() || self.events.segments().poisoned().is_some() {
            // Nothing can be appended, so nothing that must outlive a segment could.
            return;
        }
        let known_since = self.retention.known_since;
        let began_at = [self.lines.store().log().start(), self.events.segments().start()];
        let now = self.clock.now();
        let passed = self.retention.pass(space, now, self.started.elapsed());
        if self.retention.known_since != known_since
            && let Err(error) = self.meta.save_known_since(self.retention.known_since)
        {
            tracing::warn!(%error, "which events' repeats are known could not be saved; arcgate_dedup_window_seconds may say too much after a restart");
        }
        match passed {
            Ok(report) => self.tell(&report, began_at),
            Err(StoreError::Closed) => {}
            Err(error @ StoreError::Index(_)) => {
                tracing::error!(%error, "retention could not write the index; no more input is taken until a restart");
                self.lines.store().log().poison("write to the index");
                self.events.segments().poison("write to the index");
            }
            Err(error) => tracing::warn!(%error, "retention could not remove all that is due; it tries again in a minute"),
        }
    }

    fn tell(&mut self, report: &Report, began_at: [Position; 2]) {
        self.gauges.report(report);
        if report.paused.is_some() != self.paused {
            self.paused = !self.paused;
            match report.paused {
                Some(why) => tracing::error!(
                    ?why,
                    "the clock cannot be trusted: nothing is removed by age until it is back, or stands for a day"
                ),
                None => tracing::info!("the clock is trusted again: retention goes by age"),
            }
        }
        for (log, removed, began_at) in
            [(LogKind::Lines, report.lines, began_at[0]), (LogKind::Events, report.events, began_at[1])]
        {
            if removed.segments == 0 {
                continue;
            }
            tracing::info!(
                ?log,
                segments = removed.segments,
                bytes = removed.bytes,
                kept = removed.kept,
                "retention has removed segments"
            );
            for (cursor, of) in CURSORS {
                let missed = removed.before.saturating_sub(self.meta.cursor(cursor).max(began_at));
                if *of == log && missed > 0 {
                    tracing::error!(cursor, bytes = missed, "retention has removed what this cursor had not read");
                    gauges::count_undelivered(cursor, missed);
                }
            }
        }
    }
}

/// Waits until something has happened that another thread does; looks for it every few milliseconds.
fn wait_until(stopped: &Receiver<()>, mut happened: impl FnMut() -> Result<bool, StoreError>) -> Result<(), StoreError> {
    while !happened()? {
        if stopped.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Disconnected) {
            return Err(StoreError::Closed);
        }
    }
    Ok(())
}
