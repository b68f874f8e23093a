//! Group commit: finds the repeats among all that waits, appends the rest with one write, syncs once, answers everyone.
//!
//! Deterministic and without threads; [`EventLog`](super::EventLog) gives it one. The order is what I1 to I3 rest on:
//! append, sync, remember, answer. Nothing is remembered that is not synced, so a repeat is answered only after the sync
//! that covers the event it repeats.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::known::{ByEvent, DeadKey, IndexBatch, Known};
use super::{Commit, DeadReason, EventFate, Incoming, IncomingEvent};
use super::{identity, record};
use crate::id::AgentId;
use crate::store::index::record::{KnownEvent, encode_known_event};
use crate::store::index::{self, EventEntry, Index};
use crate::store::segment::{FrameDraft, FrameKind, LogWriter, SegmentLog};
use crate::store::{Position, StoreError};

/// The kind of a frame that holds an event.
pub const EVENT: FrameKind = FrameKind(0x81);
/// The kind of a frame that holds a dead letter.
pub const DEAD_LETTER: FrameKind = FrameKind(0x82);
/// The kind of a frame that holds a mark: an event of which repeats are known though it is not stored any more.
pub const EVENT_MARK: FrameKind = FrameKind(index::record::EVENT_MARK);

/// A group is full at this many events or bytes: where a sync costs little beside the write, and nobody waits long behind
/// others' events. A single commit may be larger; then it is a group of its own.
pub const MAX_GROUP_EVENTS: usize = 4_096;
/// See [`MAX_GROUP_EVENTS`].
pub const MAX_GROUP_BYTES: usize = 4 << 20;

/// The one writer of the event log.
pub struct Committer {
    log: SegmentLog,
    writer: LogWriter,
    index: Arc<dyn Index>,
    known: Known,
    synced: watch::Sender<Position>,
    /// A defect that a test wants to see found: commits are answered before the sync.
    #[cfg(test)]
    pub(super) answers_early: bool,
}

/// Where an event is told of.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In a frame of the group that is being written.
    Frame(usize),
    /// In one that was there before.
    At(Position),
}

/// What becomes of the events of each commit.
type Judged = Vec<Vec<(EventFate, Place)>>;

/// What a group appends.
#[derive(Default)]
struct Plan {
    frames: Vec<(FrameKind, [Bytes; 2])>,
    heads: BytesMut,
    /// Of each new event its frame's number and its digest.
    events: ByEvent<(usize, u64)>,
    dead: HashSet<DeadKey>,
}

/// What a group has appended.
struct Appended {
    plan: Plan,
    /// Where each frame lies.
    positions: Vec<Position>,
}

impl Plan {
    fn push(&mut self, kind: FrameKind, dead: Option<DeadReason>, seq: u64, digest: u64, names: [&str; 2], raw: &Bytes) {
        let [agent, event_id] = names;
        record::put_head(&mut self.heads, dead, seq, digest, agent, event_id);
        self.frames.push((kind, [self.heads.split().freeze(), raw.clone()]));
    }
}

impl Committer {
    /// A committer for a log that has just been opened, with what is known of its events beside the index.
    pub(super) fn new(log: SegmentLog, writer: LogWriter, index: Arc<dyn Index>, known: Known) -> Self {
        let synced = watch::Sender::new(log.synced());
        Self {
            log,
            writer,
            index,
            known,
            synced,
            #[cfg(test)]
            answers_early: false,
        }
    }

    /// Stores a group of commits and answers each: all of them after one sync, or all with the same error.
    pub fn commit(&mut self, group: Vec<Commit>) {
        let appended = self.append(&group);
        #[cfg(test)]
        if self.answers_early {
            answer(group, appended.as_ref().map(|(judged, _)| (judged.clone(), Vec::new())).map_err(Clone::clone));
            let _ = appended.and_then(|(_, appended)| self.sync(appended));
            return;
        }
        let judged = appended.and_then(|(judged, appended)| Ok((judged, self.sync(appended)?)));
        answer(group, judged);
    }

    /// Appends marks of events whose segment is about to go, so that repeats of them are still known; syncs them.
    ///
    /// # Errors
    /// As for a commit.
    pub fn remember(&mut self, events: &[KnownEvent]) -> Result<(), StoreError> {
        let mut plan = Plan::default();
        for event in events {
            // One whose segment has gone meanwhile is not to come back.
            if self.find(&event.agent, &event.name)?.is_some_and(|entry| entry.digest == event.digest) {
                plan.events.insert(&event.agent, event.name.clone(), (plan.frames.len(), event.digest));
                plan.frames.push((EVENT_MARK, [encode_known_event(event), Bytes::new()]));
            }
        }
        let appended = self.write(plan)?;
        self.sync(appended).map(drop)
    }

    /// Finds the repeats and appends the rest. Returns what becomes of each event of each commit, once that is synced.
    fn append(&mut self, group: &[Commit]) -> Result<(Judged, Appended), StoreError> {
        let mut plan = Plan::default();
        let mut judged = Vec::with_capacity(group.len());
        for commit in group {
            let of_commit: Result<Vec<_>, _> =
                commit.events.iter().map(|event| self.judge(&commit.agent, event, &mut plan)).collect();
            judged.push(of_commit?);
        }
        Ok((judged, self.write(plan)?))
    }

    /// Writes what is planned.
    fn write(&mut self, plan: Plan) -> Result<Appended, StoreError> {
        if let Some(why) = self.log.poisoned() {
            return Err(StoreError::Poisoned { why });
        }
        let drafts: Vec<_> = plan.frames.iter().map(|(kind, parts)| FrameDraft { kind: *kind, parts }).collect();
        let mut positions = Vec::with_capacity(drafts.len());
        let events = plan.frames.iter().filter(|(kind, _)| *kind == EVENT).count();
        if !drafts.is_empty() {
            self.writer.append(&drafts, &mut positions).inspect_err(|error| {
                // A full disk may be emptied; any other failure is a broken disk, on which nothing may be promised.
                if !error.is_retryable() {
                    self.log.poison("write to the event log");
                }
            })?;
        }
        self.log.count_records(events as u64);
        Ok(Appended { plan, positions })
    }

    /// What becomes of one event, once all that is planned is on disk.
    fn judge(&mut self, agent: &AgentId, event: &Incoming, plan: &mut Plan) -> Result<(EventFate, Place), StoreError> {
        match event {
            Incoming::Event(event) => self.judge_event(agent, event, plan),
            Incoming::Dead { seq, event_id, reason, raw } => {
                let digest = xxh3_64(raw);
                let key = (agent.clone(), *seq, digest);
                let mut place = Place::At(0);
                if !self.known.has_dead(&key) && plan.dead.insert(key) {
                    place = Place::Frame(plan.frames.len());
                    let names = [agent.as_str(), event_id.as_deref().unwrap_or("")];
                    plan.push(DEAD_LETTER, Some(*reason), *seq, digest, names, raw);
                }
                Ok((EventFate::Dead, place))
            }
        }
    }

    fn judge_event(&self, agent: &AgentId, event: &IncomingEvent, plan: &mut Plan) -> Result<(EventFate, Place), StoreError> {
        let IncomingEvent { event_id, seq, digest, raw } = event;
        let name = identity::name(event_id, *seq, *digest);
        let before = match plan.events.get(agent, &name) {
            Some((frame, digest)) => Some((*digest, Place::Frame(*frame))),
            None => self.find(agent, &name)?.map(|entry| (entry.digest, Place::At(entry.position))),
        };
        match before {
            Some((before, place)) if before == *digest => return Ok((EventFate::Repeated, place)),
            Some((_, place)) => return Ok((EventFate::Conflict, place)),
            None => {}
        }
        let place = Place::Frame(plan.frames.len());
        plan.events.insert(agent, name.into(), (plan.frames.len(), *digest));
        plan.push(EVENT, None, *seq, *digest, [agent.as_str(), event_id], raw);
        Ok((EventFate::Stored, place))
    }

    /// The entry of the event of that [`identity::name`], if the log has it: what retention has removed is forgotten.
    fn find(&self, agent: &AgentId, name: &str) -> Result<Option<EventEntry>, StoreError> {
        let entry = self.known.find(&*self.index, agent, name)?;
        Ok(entry.filter(|entry| entry.position >= self.log.start()))
    }

    /// Syncs what was appended, and then remembers it. Returns where each frame lies.
    fn sync(&mut self, Appended { plan, positions }: Appended) -> Result<Vec<Position>, StoreError> {
        if positions.is_empty() {
            return Ok(positions);
        }
        let started = Instant::now();
        let synced = self.log.sync()?;
        metrics::histogram!("arcgate_sync_seconds", "log" => "events").record(started.elapsed());
        metrics::histogram!("arcgate_commit_events").record(positions.len() as f64);
        let bytes: usize = plan.frames.iter().flat_map(|(_, parts)| parts).map(Bytes::len).sum();
        metrics::histogram!("arcgate_commit_bytes").record(bytes as f64);

        for (agent, event_id, (frame, digest)) in plan.events.into_iter() {
            if let Some(&position) = positions.get(frame) {
                self.known.add(&agent, event_id, EventEntry { position, digest });
            }
        }
        plan.dead.into_iter().for_each(|key| self.known.add_dead(key));
        self.known.advance(synced);
        self.synced.send_replace(synced);
        Ok(positions)
    }

    /// The log, to be read.
    #[must_use]
    pub fn log(&self) -> &SegmentLog {
        &self.log
    }

    /// Entries that are due for the index (or all there are), to be applied by whoever, in the order of the calls.
    pub(super) fn seal(&mut self, all: bool) -> Option<Arc<IndexBatch>> {
        self.known.seal(all)
    }

    /// How many batches have been taken for the index and not been acknowledged.
    pub(super) fn unindexed(&self) -> usize {
        self.known.sealed()
    }

    /// Lets go of what the index has.
    pub(super) fn indexed(&mut self, up_to: Position) {
        self.known.indexed(up_to);
    }

    /// The end of what is synced, for those who wait for it to move.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<Position> {
        self.synced.subscribe()
    }
}

fn answer(group: Vec<Commit>, judged: Result<(Judged, Vec<Position>), StoreError>) {
    let (judged, positions) = match judged {
        Ok(judged) => judged,
        // Who has gone away meanwhile needs no answer.
        Err(error) => return group.into_iter().for_each(|commit| drop(commit.reply.send(Err(error.clone())))),
    };
    let position = |place| match place {
        Place::Frame(frame) => positions.get(frame).copied().unwrap_or(Position::MAX),
        Place::At(position) => position,
    };
    for (commit, judged) in group.into_iter().zip(judged) {
        if let Some(reply) = commit.positions {
            let _ = reply.send(judged.iter().map(|(_, place)| position(*place)).collect());
        }
        let _ = commit.reply.send(Ok(judged.into_iter().map(|(fate, _)| fate).collect()));
    }
}
