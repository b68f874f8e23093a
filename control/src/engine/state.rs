//! What the engine keeps in memory: nothing that is not in the database too. After a failed transaction it is read anew.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::AnyConnection;

use super::locks::Locks;
use super::ready::{ReadyQueue, Waiting};
use super::rows::Loaded;
use super::schedules::Schedules;
use super::specs::Specs;
use crate::Millis;
use crate::agents::Live;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::plan::StepIndex;

#[cfg(test)]
mod check;

/// How many runs are kept in memory; others are read when something happens to them.
const RUNS_KEPT: usize = 2_000;

/// Times by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Times {
    order: BTreeSet<(Millis, String)>,
    of: HashMap<String, Millis>,
}

impl Times {
    pub(crate) fn set(&mut self, what: &str, at: Option<Millis>) {
        if let Some(old) = self.of.remove(what) {
            self.order.remove(&(old, what.to_owned()));
        }
        if let Some(at) = at {
            self.of.insert(what.to_owned(), at);
            self.order.insert((at, what.to_owned()));
        }
    }

    #[cfg(test)]
    pub(super) fn of(&self, what: &str) -> Option<Millis> {
        self.of.get(what).copied()
    }

    pub(crate) fn first(&self) -> Option<Millis> {
        self.order.first().map(|(at, _)| *at)
    }

    /// What has come by `now`, at most `most`.
    pub(crate) fn come(&self, now: Millis, most: usize) -> Vec<String> {
        self.order.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, what)| what.clone()).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// The number of the last change.
    pub(super) seq: i64,
    runs: HashMap<String, Loaded>,
    pub(crate) specs: Specs,
    pub(super) ready: ReadyQueue,
    /// When something is to happen by itself, by run.
    pub(super) due: Times,
    /// Until when an agent must have started what it was given, by step run.
    pub(super) leases: Times,
    /// What each agent has.
    pub(super) held: HashMap<String, HashSet<String>>,
    pub(super) locks: Locks,
    pub(crate) agents: Live,
    pub(crate) schedules: Schedules,
}

impl State {
    pub(super) async fn load(connection: &mut AnyConnection, now: Millis) -> Result<Self, DbError> {
        let mut state = Self::default();
        let seq = sqlx::query_scalar("SELECT value FROM t_counter WHERE name = 'changes'");
        state.seq = seq.fetch_optional(&mut *connection).await?.unwrap_or(0);
        state.agents = Live::load(connection, now).await?;
        let waiting = "SELECT s.step_run_id, s.pipeline_run_id, s.job_index, s.step_index, s.priority, s.queued_at, s.label_selector, \
                       j.agent_id AS home FROM t_step_run s JOIN t_pipeline_run r ON r.run_id = s.pipeline_run_id \
                       JOIN t_job_run j ON j.job_run_id = s.job_run_id \
                       WHERE s.status = 2 AND s.agent_id = '' AND s.is_current = 1 AND r.status = 2 ORDER BY s.queued_at, s.step_run_id";
        for row in sqlx::query(waiting).fetch_all(&mut *connection).await? {
            let step = StepIndex { job: row.index("job_index")?, step: row.index("step_index")? };
            let waiting = Waiting {
                step_run_id: row.text("step_run_id")?,
                run_id: row.text("pipeline_run_id")?,
                step,
                home: row.text("home")?,
            };
            let since = row.maybe_number("queued_at")?.unwrap_or(now);
            let labels = state.agents.labels(&waiting.home);
            state.ready.push(waiting, &row.text("label_selector")?, row.number("priority")?, since, labels);
        }
        let held = "SELECT step_run_id, agent_id, lease_until FROM t_step_run WHERE agent_id <> '' AND status IN (2, 3)";
        for row in sqlx::query(held).fetch_all(&mut *connection).await? {
            let step_run_id = row.text("step_run_id")?;
            state.leases.set(&step_run_id, row.maybe_number("lease_until")?);
            state.held.entry(row.text("agent_id")?).or_default().insert(step_run_id);
        }
        let due = "SELECT run_id, due_at FROM t_pipeline_run WHERE due_at IS NOT NULL";
        for row in sqlx::query(due).fetch_all(&mut *connection).await? {
            state.due.set(&row.text("run_id")?, row.maybe_number("due_at")?);
        }
        let locks =
            "SELECT pipeline_run_id, job_index, lock_key, lock_order, lock_held FROM t_job_run WHERE lock_key IS NOT NULL";
        for row in sqlx::query(locks).fetch_all(&mut *connection).await? {
            let job = (row.text("pipeline_run_id")?, row.index("job_index")?);
            state.locks.restore(row.text("lock_key")?, row.number("lock_order")?, row.number("lock_held")? != 0, job);
        }
        state.schedules = Schedules::load(connection, &mut state.specs, now).await?;
        Ok(state)
    }

    /// When something is to happen without anybody's asking.
    pub(super) fn first_time(&self) -> Option<Millis> {
        [self.due.first(), self.leases.first(), self.schedules.first(), self.agents.gone.first()].into_iter().flatten().min()
    }

    /// Takes a run out to work on it; [`Self::put`] gives it back.
    pub(super) async fn take(&mut self, connection: &mut AnyConnection, run_id: &str) -> Result<Option<Loaded>, DbError> {
        match self.runs.remove(run_id) {
            Some(loaded) => Ok(Some(loaded)),
            None => Loaded::load(connection, run_id, &mut self.specs).await,
        }
    }

    pub(super) fn put(&mut self, loaded: Loaded) {
        if super::rows::run_is_over(loaded.head.status) {
            return;
        }
        if self.runs.len() >= RUNS_KEPT
            && let Some(other) = self.runs.keys().next().cloned()
        {
            self.runs.remove(&other);
        }
        self.runs.insert(loaded.head.run_id.clone(), loaded);
    }

    /// An agent came or has other labels: what waits for it as its home is sorted anew.
    pub(crate) fn home_changed(&mut self, agent_id: &str) {
        self.ready.home_changed(agent_id, self.agents.labels(agent_id));
    }

    pub(super) fn no_longer_held(&mut self, agent_id: &str, step_run_id: &str) {
        self.leases.set(step_run_id, None);
        if let Some(held) = self.held.get_mut(agent_id) {
            held.remove(step_run_id);
            if held.is_empty() {
                self.held.remove(agent_id);
            }
        }
    }
}
