//! One command inside a transaction: what it reads, changes and tells.

use std::collections::VecDeque;
use std::sync::Arc;

use arcgate_api::agent::v1::AgentStatus;
use sqlx::AnyConnection;

use super::error::{Failure, Refusal};
use super::event::{self, Event};
use super::id;
use super::rows::Loaded;
use super::state::State;
use super::update::{AgentMoved, Moved, Update};
use crate::Millis;
use crate::agents::AgentRow;
use crate::db::DbError;
use crate::plan::Input;

mod approvals;
mod follow;

/// **The rule of a turn:** it refuses before it has written anything, or it does all it should. Whatever else happens ends the
/// transaction, and the state is read anew.
pub(crate) struct Turn<'t> {
    pub(crate) connection: &'t mut AnyConnection,
    pub(crate) now: Millis,
    pub(crate) state: &'t mut State,
    /// What is told once the transaction is durable.
    pub(super) updates: &'t mut Vec<Update>,
}

impl Turn<'_> {
    pub(super) fn next_seq(&mut self) -> i64 {
        self.state.seq += 1;
        self.state.seq
    }

    /// A new id.
    pub(crate) fn id(&self) -> String {
        id::ulid(self.now)
    }

    /// Works on a run, which must be there.
    pub(super) async fn load(&mut self, run_id: &str) -> Result<Loaded, Failure> {
        let loaded = self.state.take(self.connection, run_id).await?;
        loaded.ok_or_else(|| Refusal::Unknown(format!("there is no run {run_id}")).into())
    }

    /// Gives an input to a run, writes what follows, and gives keys that became free to those who wait for them.
    pub(super) async fn apply(&mut self, run_id: &str, input: Input, exit_code: Option<i64>) -> Result<(), Failure> {
        let mut freed = VecDeque::new();
        self.apply_one(run_id, input, exit_code, &mut freed).await?;
        self.grant(freed).await
    }

    /// Gives keys to jobs, and those that they give back to the next ones.
    pub(super) async fn grant(&mut self, mut freed: VecDeque<(String, usize)>) -> Result<(), Failure> {
        while let Some((run_id, job)) = freed.pop_front() {
            let granted = self.apply_one(&run_id, Input::KeyGranted { job }, None, &mut freed).await;
            granted.map_err(Failure::after_writing)?;
        }
        Ok(())
    }

    async fn apply_one(
        &mut self,
        run_id: &str,
        input: Input,
        exit_code: Option<i64>,
        freed: &mut VecDeque<(String, usize)>,
    ) -> Result<(), Failure> {
        let mut loaded = self.load(run_id).await?;
        let now = self.now;
        let changes = match loaded.run.apply(input.clone(), now, &mut || id::ulid(now)) {
            Ok(changes) => changes,
            Err(why) => {
                self.state.put(loaded);
                return Err(Refusal::from(why).into());
            }
        };
        match &input {
            Input::StepEnded { step, .. } => loaded.steps[step.job][step.step].exit_code = exit_code,
            Input::KeyGranted { job } => {
                if let Some(lock) = &mut loaded.jobs[*job].lock {
                    lock.held = true;
                }
            }
            _ => {}
        }
        self.follow(&mut loaded, changes, freed).await?;
        self.close_approvals(&loaded, &input).await?;
        self.state.put(loaded);
        Ok(())
    }

    pub(super) fn update(&mut self, loaded: &Loaded, what: Moved) -> Update {
        Update {
            seq: self.next_seq(),
            at: self.now,
            run_id: Arc::from(&*loaded.head.run_id),
            pipeline_id: Arc::from(&*loaded.head.pipeline_id),
            namespace: Arc::from(&*loaded.spec.namespace),
            event: None,
            what,
        }
    }

    /// Notes a change, with its event.
    pub(super) async fn tell(&mut self, loaded: &Loaded, what: Moved) -> Result<(), DbError> {
        let mut update = self.update(loaded, what);
        if let Some(event) = event::of(&update, &loaded.spec) {
            self.send(&event).await?;
            update.event = Some(Arc::new(event));
        }
        self.updates.push(update);
        Ok(())
    }

    /// Notes a change of an agent, with its event.
    pub(crate) async fn tell_agent(
        &mut self,
        what: AgentMoved,
        from: AgentStatus,
        agent: &AgentRow,
        reason: &str,
    ) -> Result<(), DbError> {
        let none: Arc<str> = Arc::from("");
        let moved = Moved::Agent { what, from, agent: Arc::new(agent.clone()), reason: Arc::from(reason) };
        let (seq, at) = (self.next_seq(), self.now);
        let (run_id, pipeline_id) = (none.clone(), none.clone());
        let mut update = Update { seq, at, run_id, pipeline_id, namespace: none, event: None, what: moved };
        if let Some(event) = event::of_agent(&update, what, agent, reason) {
            self.send(&event).await?;
            update.event = Some(Arc::new(event));
        }
        self.updates.push(update);
        Ok(())
    }

    /// Puts an event into the outbox.
    pub(super) async fn send(&mut self, event: &Event) -> Result<(), DbError> {
        let text = "INSERT INTO t_outbox (seq, event_id, event_type, payload, created_at) VALUES ($1, $2, $3, $4, $5)";
        sqlx::query(text)
            .bind(event.seq)
            .bind(&*event.event_id)
            .bind(&*event.event_type)
            .bind(&*event.payload)
            .bind(self.now)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}
