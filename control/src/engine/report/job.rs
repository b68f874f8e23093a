//! What agents say about job runs. How a job stands follows from its steps; what its agent says of the whole job counts by this rule:
//!
//! 1. It counts only from an agent that was given a step of the job run.
//! 2. That the job failed, was cancelled or timed out ends those steps of it which that agent has, in this way: it will not report them.
//!    Whether they are tried again is decided as for any step.
//! 3. Anything else changes nothing: that it runs, that it succeeded, that it ended when none of its steps is there any more. So repeats
//!    and late reports change nothing, as for steps.
//! 4. Artifacts that it names are added to those that are known; a later address of the same name takes the earlier one's place.

use std::collections::BTreeMap;

use arcgate_api::steprun::v1::StepRunStatus;

use super::{outcome, shortened};
use crate::db::row::{Columns as _, json};
use crate::engine::error::{Failure, Refusal};
use crate::engine::turn::Turn;
use crate::plan::{Input, Outcome, StepIndex, StepState};

/// How many artifacts of a job are kept.
const MOST_ARTIFACTS: usize = 1_000;

/// A report about a job run.
#[derive(Debug, Clone, Default)]
pub struct JobReport {
    /// The job run.
    pub job_run_id: String,
    /// Who reports.
    pub agent_id: String,
    /// What it says, numbered as a step's.
    pub status: StepRunStatus,
    /// Why, in words; may be empty.
    pub message: String,
    /// Where its artifacts are, by name.
    pub artifacts: BTreeMap<String, String>,
}

impl Turn<'_> {
    /// Whether the report changed something.
    pub(crate) async fn job_report(&mut self, report: &JobReport) -> Result<bool, Failure> {
        let JobReport { job_run_id, agent_id, .. } = report;
        let job = sqlx::query("SELECT pipeline_run_id, job_index, agent_id, artifact_uris FROM t_job_run WHERE job_run_id = $1");
        let Some(row) = job.bind(&**job_run_id).fetch_optional(&mut *self.connection).await? else {
            return Err(Refusal::Unknown(format!("there is no job run {job_run_id}")).into());
        };
        let (run_id, job) = (row.text("pipeline_run_id")?, row.index("job_index")?);
        let given =
            sqlx::query_scalar("SELECT COUNT(*) FROM t_step_run WHERE pipeline_run_id = $1 AND job_index = $2 AND agent_id = $3");
        let given = given.bind(&*run_id).bind(row.number("job_index")?).bind(&**agent_id);
        let given: i64 = given.fetch_one(&mut *self.connection).await?;
        if given == 0 || agent_id.is_empty() {
            let why = format!(
                "no step of job run {job_run_id} was handed to agent {agent_id}, so that its reports about it do not count"
            );
            return Err(Refusal::Forbidden(why).into());
        }
        let mut changed = false;
        if !report.artifacts.is_empty() {
            // What was never written is the empty list.
            let kept: BTreeMap<String, String> = serde_json::from_str(&row.text("artifact_uris")?).unwrap_or_default();
            let mut all = kept.clone();
            all.extend(report.artifacts.clone());
            if all.len() > MOST_ARTIFACTS {
                let why = format!("job run {job_run_id} would have {} artifacts; at most {MOST_ARTIFACTS} are kept", all.len());
                return Err(Refusal::Invalid(why).into());
            }
            if all != kept {
                let text = "UPDATE t_job_run SET artifact_uris = $2 WHERE job_run_id = $1";
                sqlx::query(text).bind(&**job_run_id).bind(json(&all)?).execute(&mut *self.connection).await?;
                changed = true;
            }
        }
        let Some(outcome) = outcome(report.status).filter(|outcome| *outcome != Outcome::Succeeded) else { return Ok(changed) };
        let loaded = self.load(&run_id).await.map_err(Failure::after_writing)?;
        let has = |step: usize| {
            let current = &loaded.run.record().jobs[job].steps[step];
            let open = matches!(current.state, StepState::Queued(_) | StepState::Running(_) | StepState::Stopping(_));
            (open && loaded.steps[job][step].agent_id == *agent_id).then(|| (StepIndex { job, step }, current.attempt.clone()))
        };
        let ends: Vec<_> = (0..loaded.steps[job].len()).filter_map(has).collect();
        self.state.put(loaded);
        for (step, attempt) in ends {
            let end = Input::StepEnded { step, attempt, outcome, reason: shortened(&report.message) };
            self.apply(&run_id, end, None).await.map_err(Failure::after_writing)?;
            changed = true;
        }
        Ok(changed)
    }
}
