//! A run's rows: what the world sees of the run, its jobs and its steps, beside the planner's states.

use std::collections::HashMap;
use std::sync::Arc;

use arcgate_api::pipeline::v1::{PipelineStatus, Spec};
use arcgate_api::steprun::v1::StepRunStatus;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::Millis;
use crate::db::DbError;
use crate::db::row::{Columns as _, json};
use crate::plan::{Cause, Job, Plan, Record, Run, Step, StepIndex, StepState};

mod save;

pub(super) use self::save::NewRun;

/// The priority of steps, as long as definitions give none.
pub(super) const PRIORITY: i64 = 5;

/// A run that is worked on: the planner's run, and its rows.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) run: Run,
    pub(super) spec: Arc<Spec>,
    pub(super) head: RunRow,
    pub(super) jobs: Vec<JobRow>,
    /// The current attempts, by job and step.
    pub(super) steps: Vec<Vec<StepRow>>,
}

/// What the world sees of a run.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// Its id.
    pub run_id: String,
    /// Its pipeline's id.
    pub pipeline_id: String,
    /// Its pipeline's project.
    pub project_id: String,
    /// Its status.
    pub status: PipelineStatus,
    /// How many jobs it has.
    pub total_jobs: i64,
    /// How many of them are over, in whatever way.
    pub completed_jobs: i64,
    /// How many failed or timed out.
    pub failed_jobs: i64,
    /// How many are running.
    pub running_jobs: i64,
    /// When it began.
    pub started: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
}

/// What the world sees of a job.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// The id of this job of this run.
    pub job_run_id: String,
    /// Its name.
    pub name: String,
    /// Its status, numbered as a step's.
    pub status: StepRunStatus,
    /// How many steps it has.
    pub total_steps: i64,
    /// How many of them are over, in whatever way.
    pub completed_steps: i64,
    /// How many failed or timed out.
    pub failed_steps: i64,
    /// Why it is what it is; may be empty.
    pub error: String,
    /// When its first step started.
    pub started: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
    /// The agent that its steps go to, since the files of the earlier ones are there; empty: none yet, or that one is lost.
    pub agent_id: String,
    pub(super) lock: Option<KeptLock>,
}

/// A key that a job has, or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptLock {
    pub(super) key: String,
    pub(super) order: i64,
    pub(super) held: bool,
}

/// What the world sees of an attempt of a step.
#[derive(Debug, Clone)]
pub struct StepRow {
    /// The attempt's id: the step run's.
    pub step_run_id: String,
    /// The step's name.
    pub name: String,
    /// Its number, from 1.
    pub number: u32,
    /// Its status.
    pub status: StepRunStatus,
    /// The agent that has it; empty: none yet.
    pub agent_id: String,
    /// Until when that agent must have started it.
    pub lease: Option<Millis>,
    /// The exit code that was reported.
    pub exit_code: Option<i64>,
    /// Why it is what it is; may be empty.
    pub error: String,
    /// When it could be handed out.
    pub queued: Option<Millis>,
    /// When it started.
    pub started: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
    /// Environment that was set for this attempt alone, over the definition's.
    pub(super) env: Option<HashMap<String, String>>,
    /// Its time limit; the definition's, unless it was changed.
    pub(super) timeout: String,
}

/// What of a step is the planner's alone.
#[derive(Debug, Serialize, Deserialize)]
struct KeptStep {
    state: StepState,
    tries: u32,
}

/// Whether a status is an end.
pub(crate) fn is_over(status: StepRunStatus) -> bool {
    use StepRunStatus as S;
    matches!(status, S::Success | S::Failed | S::Cancelled | S::Timeout | S::Skipped)
}

/// Whether a run's status is an end.
pub(crate) fn run_is_over(status: PipelineStatus) -> bool {
    matches!(status, PipelineStatus::Success | PipelineStatus::Failed | PipelineStatus::Cancelled)
}

impl Loaded {
    /// Rows for a run that has not begun.
    pub(super) fn new(run: Run, spec: Arc<Spec>, head: RunRow, ids: &mut dyn FnMut() -> String) -> Self {
        let plan = run.plan().clone();
        let jobs = plan.jobs.iter().map(|job| JobRow {
            job_run_id: ids(),
            name: job.name.clone(),
            status: StepRunStatus::Pending,
            total_steps: i64::try_from(job.steps.len()).unwrap_or(i64::MAX),
            completed_steps: 0,
            failed_steps: 0,
            error: String::new(),
            started: None,
            ended: None,
            agent_id: String::new(),
            lock: None,
        });
        let jobs = jobs.collect();
        let steps = run.record().jobs.iter().zip(&spec.jobs).map(|(job, of)| {
            job.steps.iter().zip(&of.steps).map(|(step, of)| StepRow::new(step, &of.name, &of.timeout)).collect()
        });
        let steps = steps.collect();
        Self { run, spec, head, jobs, steps }
    }

    /// Reads a run. `spec_of` gives the definition of an id.
    pub(super) async fn load(
        connection: &mut AnyConnection,
        run_id: &str,
        specs: &mut super::specs::Specs,
    ) -> Result<Option<Self>, DbError> {
        let head = sqlx::query("SELECT * FROM t_pipeline_run WHERE run_id = $1").bind(run_id);
        let Some(head) = head.fetch_optional(&mut *connection).await? else { return Ok(None) };
        let spec = specs.get(connection, &head.text("definition_id")?).await?;
        let cause = Cause { variables: head.object("env")?, branch: head.text("branch")?, event: head.text("event")? };
        let mut plan = Plan::new(&spec, &cause).map_err(|error| DbError::Corrupt(format!("run {run_id}: {error}")))?;
        let job_rows = sqlx::query("SELECT * FROM t_job_run WHERE pipeline_run_id = $1 ORDER BY job_index").bind(run_id);
        let job_rows = job_rows.fetch_all(&mut *connection).await?;
        let step_rows = "SELECT * FROM t_step_run WHERE pipeline_run_id = $1 AND is_current = 1 ORDER BY job_index, step_index";
        let step_rows = sqlx::query(step_rows).bind(run_id).fetch_all(&mut *connection).await?;
        let mut record = Record { state: head.object("state")?, jobs: Vec::new() };
        let mut jobs = Vec::new();
        for row in &job_rows {
            record.jobs.push(Job { state: row.object("state")?, steps: Vec::new() });
            jobs.push(JobRow::read(row)?);
        }
        let mut steps: Vec<Vec<StepRow>> = vec![Vec::new(); jobs.len()];
        for row in &step_rows {
            let job_index = row.index("job_index")?;
            let place = record.jobs.get_mut(job_index).zip(steps.get_mut(job_index));
            let Some((job, rows)) = place else {
                return Err(DbError::Corrupt(format!("run {run_id} has no job {job_index}")));
            };
            let kept: KeptStep = row.object("state")?;
            let read = StepRow::read(row)?;
            job.steps.push(Step { state: kept.state, attempt: read.step_run_id.clone(), number: read.number, tries: kept.tries });
            // Somebody gave it another limit than the definition's.
            let place = StepIndex { job: job_index, step: rows.len() };
            if spec.jobs.get(place.job).and_then(|job| job.steps.get(place.step)).is_some_and(|of| of.timeout != read.timeout) {
                plan.limit(place, &read.timeout);
            }
            rows.push(read);
        }
        let run = Run::restore(Arc::new(plan), record).map_err(|error| DbError::Corrupt(format!("run {run_id}: {error}")))?;
        Ok(Some(Self { run, spec, head: RunRow::read(&head)?, jobs, steps }))
    }
}

impl RunRow {
    /// Reads a row of `t_pipeline_run`.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, DbError> {
        Ok(Self {
            run_id: row.text("run_id")?,
            pipeline_id: row.text("pipeline_id")?,
            project_id: row.text("project_id")?,
            status: pipeline_status(row.number("status")?),
            total_jobs: row.number("total_jobs")?,
            completed_jobs: row.number("completed_jobs")?,
            failed_jobs: row.number("failed_jobs")?,
            running_jobs: row.number("running_jobs")?,
            started: row.maybe_number("start_time")?,
            ended: row.maybe_number("end_time")?,
        })
    }
}

impl JobRow {
    /// Reads a row of `t_job_run`.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, DbError> {
        let lock = row.maybe_text("lock_key")?;
        let (order, held) = (row.number("lock_order")?, row.number("lock_held")? != 0);
        Ok(Self {
            job_run_id: row.text("job_run_id")?,
            name: row.text("job_name")?,
            status: step_status(row.number("status")?),
            total_steps: row.number("total_steps")?,
            completed_steps: row.number("completed_steps")?,
            failed_steps: row.number("failed_steps")?,
            error: row.text("error_message")?,
            started: row.maybe_number("start_time")?,
            ended: row.maybe_number("end_time")?,
            agent_id: row.text("agent_id")?,
            lock: lock.map(|key| KeptLock { key, order, held }),
        })
    }
}

impl StepRow {
    pub(super) fn new(step: &Step, name: &str, timeout: &str) -> Self {
        Self::of_attempt(step.attempt.clone(), step.number, name, timeout)
    }

    /// An attempt that nobody has yet.
    pub(super) fn of_attempt(step_run_id: String, number: u32, name: &str, timeout: &str) -> Self {
        Self {
            step_run_id,
            name: name.to_owned(),
            number,
            status: StepRunStatus::Pending,
            agent_id: String::new(),
            lease: None,
            exit_code: None,
            error: String::new(),
            queued: None,
            started: None,
            ended: None,
            env: None,
            timeout: timeout.to_owned(),
        }
    }

    /// Reads a row of `t_step_run`.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, DbError> {
        let env = row.maybe_text("env")?.map(|env| serde_json::from_str(&env)).transpose();
        Ok(Self {
            step_run_id: row.text("step_run_id")?,
            name: row.text("name")?,
            number: u32::try_from(row.number("attempt")?).unwrap_or(1),
            status: step_status(row.number("status")?),
            agent_id: row.text("agent_id")?,
            lease: row.maybe_number("lease_until")?,
            exit_code: row.maybe_number("exit_code")?,
            error: row.text("error_message")?,
            queued: row.maybe_number("queued_at")?,
            started: row.maybe_number("start_time")?,
            ended: row.maybe_number("end_time")?,
            env: env.map_err(|error| DbError::Corrupt(format!("column env: {error}")))?,
            timeout: row.text("timeout")?,
        })
    }
}

pub(crate) fn pipeline_status(number: i64) -> PipelineStatus {
    i32::try_from(number).ok().and_then(|number| PipelineStatus::try_from(number).ok()).unwrap_or_default()
}

pub(crate) fn step_status(number: i64) -> StepRunStatus {
    i32::try_from(number).ok().and_then(|number| StepRunStatus::try_from(number).ok()).unwrap_or_default()
}

/// The time between two times, if both have come.
pub(crate) fn between(begin: Option<Millis>, end: Option<Millis>) -> Millis {
    begin.zip(end).map_or(0, |(begin, end)| end.saturating_sub(begin).max(0))
}
