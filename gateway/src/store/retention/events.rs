//! Removing event segments.

use std::collections::{HashMap, HashSet};

use super::Removed;
use super::dedup::{self, Usage};
use crate::clock::Millis;
use crate::id::AgentId;
use crate::store::index::Index;
use crate::store::index::record::{KnownEvent, known_event_bytes};
use crate::store::segment::SegmentInfo;
use crate::store::{Position, StoreError};

/// How many events are gathered before they leave the index, or are appended again.
const AT_ONCE: usize = 4096;

/// What a frame of the event log says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEvent {
    /// Where the frame lies.
    pub position: Position,
    /// Its size.
    pub bytes: u64,
    /// The event, with the time of its own arrival: that of the frame, or what the mark says.
    pub event: KnownEvent,
}

/// What retention needs of the event log.
pub trait EventSegments {
    /// The segments, oldest first.
    fn segments(&self) -> Vec<SegmentInfo>;

    /// Segments that end after this position stay: at most what is indexed and what this gateway has made lines of.
    fn keep_from(&self) -> Position;

    /// Calls `each` for every event and mark of an event in a segment; dead letters, damage and other frames are passed over.
    ///
    /// # Errors
    /// The segment cannot be read, or what `each` said.
    fn entries(&self, segment: &SegmentInfo, each: &mut dyn FnMut(SeenEvent) -> Result<(), StoreError>)
    -> Result<(), StoreError>;

    /// Appends marks of events and returns once they are synced and indexed.
    ///
    /// # Errors
    /// The log cannot be written.
    fn append_marks(&self, events: Vec<KnownEvent>) -> Result<(), StoreError>;

    /// Makes the index forget events, but for those whose entry lies at or after `before` by then.
    ///
    /// # Errors
    /// The index's.
    fn forget(&self, keys: Vec<(AgentId, Box<str>)>, before: Position) -> Result<(), StoreError>;

    /// Unlinks the segments that end at or before a position.
    ///
    /// # Errors
    /// The system refuses it.
    fn trim(&self, before: Position) -> Result<Position, StoreError>;
}

/// Removes the segments that end at or before `before`, one after the other. With a `window`, the least busy agents' events that
/// are not older than it stay known; without, all are forgotten. `known_since` is raised to the time of the newest event that is. `leaving` is told of each segment just before it goes.
///
/// # Errors
/// What log or index say; segments before the failing one are gone, it and those after it are there.
pub fn remove(
    log: &impl EventSegments,
    index: &dyn Index,
    before: Position,
    window: Option<Millis>,
    known_since: &mut Millis,
    leaving: &dyn Fn(&SegmentInfo),
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    let segments = log.segments();
    let since = window.map(|window| super::plan::newest(&segments).saturating_sub(window));
    for segment in segments.iter().filter(|segment| segment.end <= before) {
        removed.kept += forget(log, index, segment, since, known_since)?;
        leaving(segment);
        log.trim(segment.end)?;
        removed.segments += 1;
        removed.bytes += segment.end - segment.start;
        removed.before = segment.end;
    }
    Ok(removed)
}

/// Makes the rest of the store independent of a segment. Returns how many marks that took.
fn forget(
    log: &impl EventSegments,
    index: &dyn Index,
    segment: &SegmentInfo,
    since: Option<Millis>,
    known_since: &mut Millis,
) -> Result<u64, StoreError> {
    let (since, remembered) = match since {
        Some(since) => (since, remembered(log, segment)?),
        None => (Millis::MAX, HashSet::new()),
    };
    let (mut keys, mut marks, mut kept) = (Vec::new(), Vec::new(), 0);
    log.entries(segment, &mut |seen| {
        let KnownEvent { agent, name, received, .. } = &seen.event;
        // A mark that a crash of retention has left twice counts once.
        let known = index.event(agent, name)?.is_some_and(|entry| entry.position == seen.position);
        match () {
            () if !known => {}
            () if *received >= since && remembered.contains(agent) => marks.push(seen.event),
            () => {
                *known_since = (*known_since).max(*received);
                keys.push((agent.clone(), name.clone()));
            }
        }
        if keys.len() >= AT_ONCE {
            log.forget(std::mem::take(&mut keys), segment.end)?;
        }
        if marks.len() >= AT_ONCE {
            kept += marks.len() as u64;
            log.append_marks(std::mem::take(&mut marks))?;
        }
        Ok(())
    })?;
    log.forget(keys, segment.end)?;
    if !marks.is_empty() {
        kept += marks.len() as u64;
        log.append_marks(marks)?;
    }
    Ok(kept)
}

fn remembered(log: &impl EventSegments, segment: &SegmentInfo) -> Result<HashSet<AgentId>, StoreError> {
    let mut usage: HashMap<AgentId, Usage> = HashMap::new();
    log.entries(segment, &mut |seen| {
        let mark_bytes = known_event_bytes(&seen.event);
        let usage = usage.entry(seen.event.agent).or_default();
        usage.bytes += seen.bytes;
        usage.mark_bytes += mark_bytes;
        Ok(())
    })?;
    Ok(dedup::remembered(&usage))
}
