//! Which events the store has: the ones that are synced but not yet indexed, in memory, before the index.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::recent::Recent;
use crate::id::AgentId;
use crate::store::index::{EventEntry, EventUpdate, Index};
use crate::store::{Position, StoreError};

/// What is remembered of a dead letter: agent, seq, digest of its bytes.
pub(super) type DeadKey = (AgentId, u64, u64);

/// How many dead letters are remembered at least, so that an agent that sends one again and again fills no disk.
const DEAD_LETTERS: usize = 16_384;

/// When the entries in memory are handed to the index: as many events, or so much of the log. Large enough that the index
/// writes in bulk; small enough that they take few megabytes and that opening the store reads little.
const BATCH_EVENTS: usize = 4_096;
const BATCH_BYTES: u64 = 8 << 20;

/// Something for each of some events, found by agent and [name](super::identity::name).
#[derive(Debug)]
pub(super) struct ByEvent<V> {
    agents: HashMap<AgentId, HashMap<Box<str>, V>>,
    len: usize,
}

impl<V> Default for ByEvent<V> {
    fn default() -> Self {
        Self { agents: HashMap::new(), len: 0 }
    }
}

impl<V> ByEvent<V> {
    pub(super) fn get(&self, agent: &AgentId, name: &str) -> Option<&V> {
        self.agents.get(agent)?.get(name)
    }

    pub(super) fn insert(&mut self, agent: &AgentId, name: Box<str>, value: V) {
        let events = match self.agents.get_mut(agent) {
            Some(events) => events,
            None => self.agents.entry(agent.clone()).or_default(),
        };
        self.len += usize::from(events.insert(name, value).is_none());
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (AgentId, Box<str>, V)> {
        self.agents.into_iter().flat_map(|(agent, events)| events.into_iter().map(move |(id, value)| (agent.clone(), id, value)))
    }
}

/// Entries of frames that are synced, on their way to the index.
#[derive(Debug, Default)]
pub(crate) struct IndexBatch {
    entries: ByEvent<EventEntry>,
    /// Where the frames of the batch begin and end.
    from: Position,
    up_to: Position,
}

impl IndexBatch {
    /// The end of the frames whose entries these are.
    pub(crate) fn up_to(&self) -> Position {
        self.up_to
    }

    /// Gives the entries to the index.
    pub(crate) fn apply(&self, index: &dyn Index) -> Result<(), StoreError> {
        let mut updates: Vec<_> = (self.entries.agents.iter())
            .flat_map(|(agent, events)| {
                events.iter().map(|(id, entry)| EventUpdate { agent: agent.clone(), name: id.clone(), entry: *entry })
            })
            .collect();
        updates.sort_unstable_by(|a, b| (&a.agent, &a.name).cmp(&(&b.agent, &b.name)));
        index.apply_events(self.up_to, &updates)
    }
}

/// What the store has. Entries leave the memory only after the index has them, so an event is always found.
#[derive(Debug)]
pub(super) struct Known {
    open: IndexBatch,
    /// Oldest first.
    sealed: VecDeque<Arc<IndexBatch>>,
    dead: Recent<DeadKey, ()>,
}

impl Known {
    /// Nothing beside what the index has of all before `indexed`.
    pub(super) fn new(indexed: Position) -> Self {
        let open = IndexBatch { from: indexed, up_to: indexed, ..IndexBatch::default() };
        Self { open, sealed: VecDeque::new(), dead: Recent::new(DEAD_LETTERS) }
    }

    /// The event's entry, if the store has it.
    pub(super) fn find(&self, index: &dyn Index, agent: &AgentId, name: &str) -> Result<Option<EventEntry>, StoreError> {
        let young = std::iter::once(&self.open).chain(self.sealed.iter().rev().map(|batch| &**batch));
        match young.filter_map(|batch| batch.entries.get(agent, name)).next() {
            Some(entry) => Ok(Some(*entry)),
            None => index.event(agent, name),
        }
    }

    /// Whether the dead letter is remembered.
    pub(super) fn has_dead(&mut self, key: &DeadKey) -> bool {
        self.dead.get(key).is_some()
    }

    /// Adds an event that is synced; a mark in place of what it stands for.
    pub(super) fn add(&mut self, agent: &AgentId, name: Box<str>, entry: EventEntry) {
        self.open.entries.insert(agent, name, entry);
    }

    /// Remembers a dead letter that is synced.
    pub(super) fn add_dead(&mut self, key: DeadKey) {
        self.dead.insert(key, ());
    }

    /// Says that everything before `up_to` has been added.
    pub(super) fn advance(&mut self, up_to: Position) {
        self.open.up_to = up_to;
    }

    /// The entries that are to be given to the index next: once there are enough of them, or whatever there is.
    pub(super) fn seal(&mut self, all: bool) -> Option<Arc<IndexBatch>> {
        let IndexBatch { from, up_to, ref entries } = self.open;
        if up_to == from || !(all || entries.len >= BATCH_EVENTS || up_to - from >= BATCH_BYTES) {
            return None;
        }
        let sealed = std::mem::replace(&mut self.open, IndexBatch { from: up_to, up_to, ..IndexBatch::default() });
        let sealed = Arc::new(sealed);
        self.sealed.push_back(Arc::clone(&sealed));
        Some(sealed)
    }

    /// How many sealed batches the index does not have yet.
    pub(super) fn sealed(&self) -> usize {
        self.sealed.len()
    }

    /// Lets go of the entries before `up_to`: the index has them now.
    pub(super) fn indexed(&mut self, up_to: Position) {
        self.sealed.retain(|batch| batch.up_to > up_to);
    }
}
