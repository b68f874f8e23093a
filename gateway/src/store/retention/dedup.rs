//! How long repeats of events are known, and whose are forgotten when that takes too much space. Decisions without deeds.
//!
//! When the dedup budget is exceeded, the oldest event segment goes as a whole: that is what frees space. Its events are appended
//! again as small marks, so that their repeats are still known: the least busy agents' first, as far as marks may take space. The
//! busiest agents' are forgotten. An agent counts as busy by its bytes in that segment.

use std::collections::{HashMap, HashSet};

use crate::clock::Millis;
use crate::id::AgentId;

/// What an agent has in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The size of its frames.
    pub bytes: u64,
    /// What marks of its events would take.
    pub mark_bytes: u64,
}

/// The share of a segment's bytes that its marks may take: 1/8.
pub const MARKS_SHARE: u64 = 8;

/// The agents whose events are remembered when a segment goes: the least busy ones, as many as marks may take space for.
#[must_use]
pub fn remembered(usage: &HashMap<AgentId, Usage>) -> HashSet<AgentId> {
    let mut agents: Vec<_> = usage.iter().collect();
    agents.sort_by_key(|(agent, usage)| (usage.bytes, *agent));
    let mut allowance = agents.iter().map(|(_, usage)| usage.bytes).sum::<u64>() / MARKS_SHARE;
    let fitting = agents.into_iter().take_while(|(_, usage)| {
        let fits = usage.mark_bytes <= allowance;
        allowance = allowance.saturating_sub(usage.mark_bytes);
        fits
    });
    fitting.map(|(agent, _)| agent.clone()).collect()
}

/// For how long repeats of every event are known, if no event that was received after `known_since` has been forgotten.
#[must_use]
pub fn covered(known_since: Millis, newest: Millis, window: Millis) -> Millis {
    // Of no events at all, all are known.
    if newest == Millis::MIN { window } else { newest.saturating_sub(known_since).clamp(0, window) }
}
