//! The mark: up to which seq an agent is told that it need send nothing again (`last_accepted_seq`).
//!
//! Existing agents discard all that lies at or below it, sent or not, and send the same window again until it moves. So
//!
//! 1. it starts from what the agent says (the handshake), never from what the gateway remembers of it, and is never above the
//!    highest seq of the batch that is answered: an agent whose own log was reset counts from 1 again;
//! 2. it stops below a hole inside the batch, since what is missing may only be reordered. What lies above is stored
//!    all the same;
//! 3. a hole between the mark and the batch's first event is waited for, [`PATIENCE`] long, by answering the mark; then it is
//!    taken as real (records that the agent could not read) and passed, so that no agent stalls.
//!
//! Rejected events count like accepted ones: they are passed.

use std::collections::BTreeMap;

use crate::clock::Millis;
use crate::id::AgentId;
use crate::store::Position;
use crate::store::events::recent::Recent;

use super::ranges::Ranges;

/// How long a hole is waited for. Agents append in parallel, so a lower seq may come a little later; not a second.
pub(crate) const PATIENCE: Millis = 1_000;

/// How long a hole is remembered of which nothing is heard. Longer than any client pauses between two attempts; not for ever,
/// since the same numbers can become another hole after a reset.
pub(crate) const FORGET_AFTER: Millis = 600_000;

/// How many holes are remembered at least, over all agents; each takes about 100 bytes.
const HOLES: usize = 16_384;

/// How many seqs of a stream may wait to be delivered.
const MAX_LATE: usize = 65_536;

/// The holes that are waited for, of all agents.
#[derive(Debug)]
pub(crate) struct Holes(Recent<(AgentId, u64), Hole>);

#[derive(Debug, Clone, Copy)]
struct Hole {
    /// The first seq after it.
    first: u64,
    since: Millis,
    heard: Millis,
}

impl Default for Holes {
    fn default() -> Self {
        Self(Recent::new(HOLES))
    }
}

impl Holes {
    /// Whether the hole between `mark` and `first` has been waited for long enough. If not, it is waited for from now on.
    fn is_real(&mut self, agent: &AgentId, mark: u64, first: u64, now: Millis) -> bool {
        let key = (agent.clone(), mark);
        match self.0.get(&key) {
            // A clock that was set back must not make anyone wait longer. A first seq that has risen means another hole;
            // one that has fallen means that the hole is being filled: all that is still missing is older than the wait.
            Some(hole) if hole.first >= first && hole.heard <= now && now - hole.heard < FORGET_AFTER => {
                hole.first = first;
                hole.heard = now;
                let real = now - hole.since >= PATIENCE;
                if real {
                    self.0.remove(&key);
                }
                real
            }
            _ => {
                self.0.insert(key, Hole { first, since: now, heard: now });
                false
            }
        }
    }
}

/// What an agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `last_accepted_seq`.
    pub(crate) mark: u64,
    /// A hole lies between the sender's mark and the first event of what is answered, and is waited for.
    pub(crate) waits: bool,
}

/// The mark of one stream of batches.
#[derive(Debug, Default)]
pub(crate) struct StreamMark {
    /// What the agent said and was told; none before the first handshake or event.
    mark: Option<u64>,
    /// What has come above it in this stream.
    beyond: Ranges,
    /// Seqs that are stored and not delivered yet, where that matters, and all above them; each with its event's position.
    late: BTreeMap<u64, Position>,
}

impl StreamMark {
    /// Begins at what the agent says.
    pub(crate) fn handshake(&mut self, last_known_seq: u64) {
        self.mark = Some(last_known_seq);
        self.beyond.clear();
        self.late.clear();
    }

    /// What to answer where nothing was sent.
    pub(crate) fn unmoved(&self) -> Answer {
        Answer { mark: self.mark.unwrap_or(0).min(self.ceiling()), waits: false }
    }

    /// Takes note of events that are on disk now. A seq of 0 stands for none.
    pub(crate) fn bring(&mut self, seqs: impl Iterator<Item = u64> + Clone) {
        let seqs = seqs.filter(|seq| *seq > 0);
        let Some(lowest) = seqs.clone().min() else { return };
        // Without a handshake nothing is known of what lies before the first event.
        let mark = *self.mark.get_or_insert(lowest - 1);
        self.beyond.extend(seqs);
        self.beyond.forget_through(mark);
    }

    /// As [`StreamMark::bring`], of events that count only once they lie before `cursor`: those that do not, and all seqs above them,
    /// wait, and are brought with a later batch.
    ///
    /// # Errors
    /// How many wait: too many.
    pub(crate) fn bring_late(&mut self, events: impl Iterator<Item = (u64, Position)>, cursor: Position) -> Result<(), usize> {
        for (seq, position) in events.filter(|(seq, _)| *seq > 0) {
            let of = self.late.entry(seq).or_default();
            *of = position.max(*of);
        }
        // Without a handshake nothing is known of what lies before the first event.
        if let Some((&lowest, _)) = self.late.first_key_value() {
            self.mark.get_or_insert(lowest - 1);
        }
        let mut there = Vec::new();
        while let Some(first) = self.late.first_entry().filter(|first| *first.get() < cursor) {
            there.push(first.remove_entry().0);
        }
        self.bring(there.into_iter());
        if self.late.len() > MAX_LATE { Err(self.late.len()) } else { Ok(()) }
    }

    /// The mark that no answer may exceed.
    fn ceiling(&self) -> u64 {
        self.late.first_key_value().map_or(u64::MAX, |(lowest, _)| lowest.saturating_sub(1))
    }

    /// What to answer to events whose lowest and highest seqs are `span`, all of them brought; to none, if they have no seqs.
    pub(crate) fn answer(&mut self, agent: &AgentId, span: Option<(u64, u64)>, holes: &mut Holes, now: Millis) -> Answer {
        let Some((lowest, highest)) = span else { return self.unmoved() };
        let highest = highest.min(self.ceiling());
        let mark = self.mark.unwrap_or(0);
        match self.beyond.first() {
            Some((first, last)) if first == mark.saturating_add(1) || holes.is_real(agent, mark, first, now) => {
                self.mark = Some(last);
                self.beyond.forget_through(last);
                Answer { mark: last.min(highest), waits: false }
            }
            first => Answer { mark: mark.min(highest), waits: first.is_some() && mark < lowest },
        }
    }
}
