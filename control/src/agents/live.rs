//! The agents that are there, in memory: what hand-outs and offline detection need at once. The rows say the same, except for the last
//! sign of life, which is written now and then.

use std::collections::HashMap;

use sqlx::AnyConnection;

use super::row::AgentRow;
use crate::Millis;
use crate::db::DbError;
use crate::engine::state::Times;

/// An agent that is there.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Its row, except for the last sign of life.
    pub(crate) row: AgentRow,
    /// Its last sign of life.
    pub(crate) seen: Millis,
}

/// All agents that are not offline.
#[derive(Debug, Default)]
pub(crate) struct Live {
    agents: HashMap<String, Known>,
    /// When each of them counts as gone, if nothing is heard of it.
    pub(crate) gone: Times,
}

impl Live {
    /// Those that were there at the last end. Each has all its patience anew: it could not reach anybody meanwhile.
    pub(crate) async fn load(connection: &mut AnyConnection, now: Millis) -> Result<Self, DbError> {
        let mut live = Self::default();
        let there = "SELECT * FROM t_agent WHERE status IN (1, 3, 4)";
        for row in sqlx::query(there).fetch_all(connection).await? {
            live.put(AgentRow::read(&row)?, now);
        }
        Ok(live)
    }

    /// An agent is there, and was heard of now.
    pub(crate) fn put(&mut self, row: AgentRow, now: Millis) {
        self.gone.set(&row.agent_id, Some(now.saturating_add(row.patience)));
        self.agents.insert(row.agent_id.clone(), Known { row, seen: now });
    }

    pub(crate) fn remove(&mut self, agent_id: &str) -> Option<Known> {
        self.gone.set(agent_id, None);
        self.agents.remove(agent_id)
    }

    pub(crate) fn get(&self, agent_id: &str) -> Option<&Known> {
        self.agents.get(agent_id)
    }

    /// An agent's labels, if it is there.
    pub(crate) fn labels(&self, agent_id: &str) -> Option<&HashMap<String, String>> {
        self.agents.get(agent_id).map(|known| &known.row.labels)
    }

    /// What a start would read too.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<String> {
        let one = |known: &Known| {
            let AgentRow { agent_id, labels, status, enabled, patience, .. } = &known.row;
            let labels: std::collections::BTreeMap<_, _> = labels.iter().collect();
            format!("{agent_id} {labels:?} {status:?} {enabled} {patience} {}", known.row.capacity())
        };
        self.agents.values().map(one).collect()
    }
}
