//! All agents, as the database has them: for whoever looks from outside, whether or not the control plane runs on it.

use std::collections::HashMap;

use arcgate_api::steprun::v1::StepRunStatus;

use super::AgentRow;
use crate::db::row::Columns as _;
use crate::db::{Database, DbError};

/// A step run that an agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its id.
    pub step_run_id: String,
    /// Its run.
    pub run_id: String,
    /// The name of its job.
    pub job: String,
    /// The name of its step.
    pub step: String,
    /// Running; or queued, if the agent has not said yet that it starts it.
    pub status: StepRunStatus,
}

/// An agent and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAgent {
    /// The agent. Its last sign of life is as old as half a minute; of agents that were there when the control plane ended, the status
    /// says so still.
    pub agent: AgentRow,
    /// What it executes, the oldest first.
    pub executes: Vec<Execution>,
}

impl Database {
    /// All agents, the oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn agents(&self) -> Result<Vec<ListedAgent>, DbError> {
        let mut read = self.read().await?;
        let mut executes: HashMap<String, Vec<Execution>> = HashMap::new();
        let text = "SELECT agent_id, step_run_id, pipeline_run_id, job_name, name, status FROM t_step_run \
                    WHERE agent_id <> '' AND status IN (2, 3) ORDER BY queued_at, step_run_id";
        for row in sqlx::query(text).fetch_all(&mut *read).await? {
            let running = row.number("status")? == i64::from(i32::from(StepRunStatus::Running));
            let execution = Execution {
                step_run_id: row.text("step_run_id")?,
                run_id: row.text("pipeline_run_id")?,
                job: row.text("job_name")?,
                step: row.text("name")?,
                status: if running { StepRunStatus::Running } else { StepRunStatus::Queued },
            };
            executes.entry(row.text("agent_id")?).or_default().push(execution);
        }
        let mut agents = Vec::new();
        for row in sqlx::query("SELECT * FROM t_agent ORDER BY created_at, agent_id").fetch_all(&mut *read).await? {
            let agent = AgentRow::read(&row)?;
            let executes = executes.remove(&agent.agent_id).unwrap_or_default();
            agents.push(ListedAgent { agent, executes });
        }
        Ok(agents)
    }
}
