//! Whose step run something is: for whoever takes its log, and fills in what a log needs.

use arcgate_api::steprun::v1::StepRunStatus;

use super::Agents;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::engine::rows::step_status;

/// Where a step run belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRunPlace {
    /// Its pipeline.
    pub pipeline_id: String,
    /// Its pipeline's run.
    pub run_id: String,
    /// Its job: `<pipeline_id>-<job name>`.
    pub job_id: String,
    /// Its job's name.
    pub job_name: String,
    /// Its job in this run.
    pub job_run_id: String,
    /// Its step's name.
    pub step_name: String,
    /// The agent that it is handed to, who alone may write about it; empty: none yet.
    pub agent_id: String,
    /// How it stands.
    pub status: StepRunStatus,
}

impl Agents {
    /// Where a step run belongs; absent: there is none. What it says about the agent never changes once it is there.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn step_run(&self, step_run_id: &str) -> Result<Option<StepRunPlace>, DbError> {
        let mut read = self.engine().database().read().await?;
        let text = "SELECT pipeline_id, pipeline_run_id, job_id, job_name, job_run_id, name, agent_id, status FROM t_step_run \
                    WHERE step_run_id = $1";
        let Some(row) = sqlx::query(text).bind(step_run_id).fetch_optional(&mut *read).await? else { return Ok(None) };
        Ok(Some(StepRunPlace {
            pipeline_id: row.text("pipeline_id")?,
            run_id: row.text("pipeline_run_id")?,
            job_id: row.text("job_id")?,
            job_name: row.text("job_name")?,
            job_run_id: row.text("job_run_id")?,
            step_name: row.text("name")?,
            agent_id: row.text("agent_id")?,
            status: step_status(row.number("status")?),
        }))
    }

    /// The newest step run of an agent with this step's name; absent: there is none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn step_run_named(&self, agent_id: &str, step_name: &str) -> Result<Option<String>, DbError> {
        let mut read = self.engine().database().read().await?;
        let text = "SELECT step_run_id FROM t_step_run WHERE agent_id = $1 AND name = $2 ORDER BY created_at DESC LIMIT 1";
        let found = sqlx::query_scalar(text).bind(agent_id).bind(step_name);
        Ok(found.fetch_optional(&mut *read).await?)
    }

    /// The run and the name of a job run; absent: there is none.
    pub(crate) async fn job_run(&self, job_run_id: &str) -> Result<Option<(String, String)>, DbError> {
        let mut read = self.engine().database().read().await?;
        let row = sqlx::query("SELECT pipeline_run_id, job_name FROM t_job_run WHERE job_run_id = $1").bind(job_run_id);
        let Some(row) = row.fetch_optional(&mut *read).await? else { return Ok(None) };
        Ok(Some((row.text("pipeline_run_id")?, row.text("job_name")?)))
    }
}
