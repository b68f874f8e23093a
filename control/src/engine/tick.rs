//! What happens because a time has come.

use super::error::Failure;
use super::handout::LEASE;
use super::turn::Turn;
use crate::db::DbError;
use crate::plan::Input;

/// So much of what is due is done in one transaction.
const MOST_AT_ONCE: usize = 100;

impl Turn<'_> {
    /// Does what is due, or the first part of it: then the next tick is due at once.
    pub(super) async fn tick(&mut self) -> Result<(), Failure> {
        for run_id in self.state.due.come(self.now, MOST_AT_ONCE) {
            let due = match self.state.take(self.connection, &run_id).await {
                Ok(Some(loaded)) => {
                    let due = loaded.run.due();
                    self.state.put(loaded);
                    due
                }
                Ok(None) => None,
                // It must not hold up the others.
                Err(DbError::Corrupt(why)) => {
                    tracing::error!(run = run_id, %why, "a run is damaged and left alone");
                    None
                }
                Err(error) => return Err(error.into()),
            };
            self.state.due.set(&run_id, due);
            if due.is_some_and(|at| at <= self.now) {
                self.apply(&run_id, Input::Tick, None).await?;
            }
        }
        for step_run_id in self.state.leases.come(self.now, MOST_AT_ONCE) {
            self.state.leases.set(&step_run_id, None);
            let reason = format!("the agent that was given it did not start it within {} seconds", LEASE / 1000);
            self.step_lost(&step_run_id, &reason).await?;
        }
        for agent_id in self.state.agents.gone.come(self.now, MOST_AT_ONCE) {
            self.agent_silent(&agent_id).await?;
        }
        self.fire_crons(MOST_AT_ONCE).await
    }
}
