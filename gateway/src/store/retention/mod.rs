//! Retention: whole segments go, by age and by size, oldest first, never a log's newest.
//!
//! [`plan`] decides, as functions of numbers; [`clock`] says when the clock cannot be trusted with that; [`dedup`] bounds what it
//! costs to know repeats. [`lines`] and [`events`] do it for one log each, [`Retention`] for both.
//!
//! The order that makes a crash harmless: what must outlive a segment is appended again and durable, then its entries leave the
//! index, then it is unlinked. What a crash leaves undone is found and done again by the next pass.

pub mod clock;
pub mod dedup;
pub mod events;
pub mod lines;
pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use self::clock::{ClockWatch, Pause};
use self::events::EventSegments;
use self::lines::LineSegments;
use self::plan::{Plan, RetentionSettings, Stored};
use super::disk::Space;
use super::index::Index;
use super::segment::{LogKind, SegmentInfo};
use super::{Position, StoreError};
use crate::clock::Millis;

/// Told of a segment of a log that is about to go.
pub type Leaving = Box<dyn Fn(LogKind, &SegmentInfo) + Send>;

/// What a pass removed from one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// How many segments.
    pub segments: u64,
    /// Their size.
    pub bytes: u64,
    /// What was appended again because it must outlive them: marks of streams, or events of which repeats are to be known.
    pub kept: u64,
    /// Everything before this position is gone; 0 if nothing was removed. What a cursor had not delivered by then is lost to it.
    pub before: Position,
}

/// What a pass did and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Removed from the line log.
    pub lines: Removed,
    /// Removed from the event log.
    pub events: Removed,
    /// Why nothing goes by age, if so; to be alerted.
    pub paused: Option<Pause>,
    /// Repeats are known of every event that is at most this many milliseconds old.
    pub dedup_window: Millis,
}

/// Both logs' retention. One thread calls [`Retention::pass`] now and then.
pub struct Retention<L, E> {
    /// The settings.
    pub settings: RetentionSettings,
    /// The line log.
    pub lines: L,
    /// The event log.
    pub events: E,
    /// The index of both.
    pub index: Arc<dyn Index>,
    /// Whether the clock can be trusted.
    pub clock: ClockWatch,
    /// No event that was received after this moment has been forgotten. Only grows; the caller keeps it over restarts.
    pub known_since: Millis,
    /// Is told of each segment just before it goes: whoever has not read it yet never will.
    pub leaving: Leaving,
}

impl<L: LineSegments, E: EventSegments> Retention<L, E> {
    /// Removes what has to go. `space` is that of the store's file system, `now` the time of day, `monotonic` the time since
    /// some fixed moment, of a clock that nobody sets.
    ///
    /// # Errors
    /// What the logs or the index say; the next pass goes on where this one stopped.
    pub fn pass(&mut self, space: Space, now: Millis, monotonic: Duration) -> Result<Report, StoreError> {
        let (line_segments, event_segments) = (self.lines.segments(), self.events.segments());
        let newest = plan::newest(&line_segments).max(plan::newest(&event_segments));
        let paused = self.clock.observe(now, monotonic, newest);
        let index_bytes = self.index.bytes();
        let stored = Stored {
            lines: &line_segments,
            lines_read: self.lines.keep_from(),
            events: &event_segments,
            events_read: self.events.keep_from(),
            index_bytes,
        };
        let plan = Plan::make(&stored, &self.settings, space, paused.is_some());
        let lines_leave = |segment: &SegmentInfo| (self.leaving)(LogKind::Lines, segment);
        let events_leave = |segment: &SegmentInfo| (self.leaving)(LogKind::Events, segment);
        let known_since = &mut self.known_since;
        let lines = lines::remove(&self.lines, &*self.index, plan.lines_before, &lines_leave)?;
        let mut events = events::remove(&self.events, &*self.index, plan.events_before, None, known_since, &events_leave)?;
        if plan.events_over_budget > plan.events_before {
            let window = self.settings.dedup_window;
            let before = plan.events_over_budget;
            let more = events::remove(&self.events, &*self.index, before, Some(window), known_since, &events_leave)?;
            events = Removed {
                segments: events.segments + more.segments,
                bytes: events.bytes + more.bytes,
                kept: events.kept + more.kept,
                before: events.before.max(more.before),
            };
        }
        let dedup_window = dedup::covered(self.known_since, plan::newest(&event_segments), self.settings.dedup_window);
        Ok(Report { lines, events, paused, dedup_window })
    }
}
