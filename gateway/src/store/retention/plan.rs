//! Which segments go: decisions without deeds.

use crate::clock::Millis;
use crate::store::Position;
use crate::store::disk::Space;
use crate::store::segment::SegmentInfo;

const HOUR: Millis = 3_600_000;
const WEEK: Millis = 7 * 24 * HOUR;

/// What a store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxSize {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of what the file system holds of it and has free for it, which is that much of the file system where
    /// nothing else is on it.
    Percent(u8),
}

/// What the operator wants kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Segments go once their newest frame is this much older than their log's newest frame, in milliseconds.
    pub max_age: Millis,
    /// What both logs and the index may take together.
    pub max_size: MaxSize,
    /// Repeats of events are known for this long, in milliseconds; event segments stay at least as long.
    pub dedup_window: Millis,
    /// Unless that takes more bytes of index and event log than this; then the busiest agents' oldest events go first.
    pub dedup_bytes: u64,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { max_age: WEEK, max_size: MaxSize::Percent(80), dedup_window: WEEK, dedup_bytes: 4 << 30 }
    }
}

/// What is stored.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The line log's segments, oldest first.
    pub lines: &'a [SegmentInfo],
    /// Line segments that end after this position stay: this gateway still needs them itself.
    pub lines_read: Position,
    /// The event log's segments, oldest first.
    pub events: &'a [SegmentInfo],
    /// Event segments that end after this position stay: this gateway still needs them itself.
    pub events_read: Position,
    /// The index's size.
    pub index_bytes: u64,
}

/// What goes: segments that end at or before these positions. 0: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Of the line log.
    pub lines_before: Position,
    /// Of the event log: past age, repeats of what is there need not be known any more.
    pub events_before: Position,
    /// Of the event log: past the dedup budget, so that the least busy agents' events are to be remembered all the same.
    pub events_over_budget: Position,
}

impl Plan {
    /// Decides. With `paused` nothing goes by age.
    #[must_use]
    pub fn make(stored: &Stored<'_>, settings: &RetentionSettings, space: Space, paused: bool) -> Self {
        let by_age = |segments, age| if paused { 0 } else { expired(segments, age) };
        let line_age = by_age(stored.lines, settings.max_age);
        let event_age = by_age(stored.events, settings.max_age.max(settings.dedup_window));
        let over_budget = past_budget(stored.events, stored.index_bytes, settings.dedup_bytes);

        // What goes by age or budget anyway counts as gone; lines give way to what still lacks, then events whose repeats need
        // not be known any more.
        let own = size(stored.lines) + size(stored.events) + stored.index_bytes;
        let gone = size(&stored.lines[..line_age]) + size(&stored.events[..event_age.max(over_budget)]);
        let over = own.saturating_sub(gone).saturating_sub(limit(settings, space, own));
        let line_count = line_age + oldest_of(&stored.lines[line_age..], over);
        let over = over.saturating_sub(size(&stored.lines[line_age..line_count]));
        let forgotten = by_age(stored.events, settings.dedup_window).max(event_age);
        let event_count = event_age + oldest_of(&stored.events[event_age..], over).min(forgotten - event_age);

        Self {
            lines_before: end(stored.lines, line_count, stored.lines_read),
            events_before: end(stored.events, event_count, stored.events_read),
            events_over_budget: end(stored.events, over_budget, stored.events_read),
        }
    }
}

/// When a log's newest frame was received; `Millis::MIN` if it has none.
#[must_use]
pub fn newest(segments: &[SegmentInfo]) -> Millis {
    segments.last().map_or(Millis::MIN, |segment| segment.newest)
}

/// How many of the oldest segments are past `max_age`, measured against the log's newest frame: an idle log does not age.
#[must_use]
pub fn expired(segments: &[SegmentInfo], max_age: Millis) -> usize {
    let newest = newest(segments);
    let older = segments.iter().take_while(|segment| newest.saturating_sub(segment.newest) > max_age);
    older.count().min(removable(segments))
}

/// How many of the oldest segments make up at least `bytes`, as far as they may go.
#[must_use]
pub fn oldest_of(segments: &[SegmentInfo], bytes: u64) -> usize {
    let mut freed = 0;
    let needed = segments.iter().take_while(|segment| {
        let lacking = freed < bytes;
        freed += segment.end - segment.start;
        lacking
    });
    needed.count().min(removable(segments))
}

/// How many of the oldest event segments go so that event log and index fit the dedup budget. The index shrinks with the events
/// that leave it, if only later: each segment answers for its share.
#[must_use]
pub fn past_budget(segments: &[SegmentInfo], index_bytes: u64, budget: u64) -> usize {
    let log = size(segments);
    let over = (log + index_bytes).saturating_sub(budget);
    if over == 0 {
        return 0;
    }
    let share = (u128::from(over) * u128::from(log)).div_ceil(u128::from(log + index_bytes));
    oldest_of(segments, u64::try_from(share).unwrap_or(u64::MAX))
}

/// What logs and index may take together.
#[must_use]
pub fn limit(settings: &RetentionSettings, space: Space, own: u64) -> u64 {
    match settings.max_size {
        MaxSize::Bytes(bytes) => bytes,
        MaxSize::Percent(percent) => space.total.min(space.free.saturating_add(own)) / 100 * u64::from(percent),
    }
}

fn size(segments: &[SegmentInfo]) -> u64 {
    segments.iter().map(|segment| segment.end - segment.start).sum()
}

/// All but the newest.
fn removable(segments: &[SegmentInfo]) -> usize {
    segments.len().saturating_sub(1)
}

/// Where the first `count` segments end, leaving out those that end after `read`.
fn end(segments: &[SegmentInfo], count: usize, read: Position) -> Position {
    segments[..count].iter().map(|segment| segment.end).take_while(|end| *end <= read).last().unwrap_or(0)
}
