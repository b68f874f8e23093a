//! A run begins.

use std::collections::HashMap;
use std::sync::Arc;

use arcgate_api::pipeline::v1::{PipelineStatus, TriggerType};
use sqlx::any::AnyRow;

use super::error::{Failure, Refusal};
use super::rows::{Loaded, NewRun, RunRow};
use super::turn::Turn;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::pipelines::commit_of;
use crate::plan::{Cause, Input, Plan, Run};

/// The longest request id, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 256;

/// What begins a run.
#[derive(Debug, Clone, Default)]
pub struct Trigger {
    /// The pipeline.
    pub pipeline_id: String,
    /// Names this request: another one with the same id for the same pipeline begins no other run. Empty: it has none.
    pub request_id: String,
    /// Variables over the definition's.
    pub variables: HashMap<String, String>,
    /// By whom.
    pub triggered_by: String,
    /// Of which kind it is.
    pub kind: TriggerType,
    /// What happened, as `push`; empty: the name of `kind`.
    pub event: String,
    /// The branch; empty: the pipeline's default.
    pub branch: String,
    /// The commit, or empty.
    pub commit: String,
}

/// A run that was triggered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// Its id.
    pub run_id: String,
    /// Whether an earlier request with the same id had begun it.
    pub repeated: bool,
}

impl Turn<'_> {
    pub(super) async fn trigger(&mut self, trigger: &Trigger) -> Result<Triggered, Failure> {
        self.trigger_with(trigger, None).await
    }

    /// A run of another definition than the pipeline's, if one is given: it is [`crate::spec::write`]'s JSON.
    pub(super) async fn trigger_with(&mut self, trigger: &Trigger, other: Option<&str>) -> Result<Triggered, Failure> {
        let pipeline_id = &*trigger.pipeline_id;
        if trigger.request_id.len() > MAX_REQUEST_ID_BYTES {
            return Err(Refusal::Invalid(format!("request_id is longer than {MAX_REQUEST_ID_BYTES} bytes")).into());
        }
        let pipeline = sqlx::query("SELECT * FROM t_pipeline WHERE pipeline_id = $1 AND is_deleted = 0").bind(pipeline_id);
        let Some(pipeline) = pipeline.fetch_optional(&mut *self.connection).await? else {
            return Err(Refusal::Unknown(format!("there is no pipeline {pipeline_id}")).into());
        };
        if let Some(run_id) = self.earlier(trigger).await? {
            return Ok(Triggered { run_id, repeated: true });
        }
        if pipeline.number("is_enabled")? == 0 {
            return Err(Refusal::Conflict(format!("pipeline {pipeline_id} is disabled; enable it first")).into());
        }
        if let Some(text) = other {
            let definition_id = super::specs::keep(self.connection, text).await?;
            return self.begin(trigger, &pipeline, &definition_id, "").await.map_err(Failure::after_writing);
        }
        let head = "SELECT revision_id, commit_sha, definition_id FROM t_pipeline_revision WHERE pipeline_id = $1 ORDER BY number DESC LIMIT 1";
        let Some(head) = sqlx::query(head).bind(pipeline_id).fetch_optional(&mut *self.connection).await? else {
            return Err(Refusal::Conflict(format!("pipeline {pipeline_id} has no definition yet; save one first")).into());
        };
        self.begin(trigger, &pipeline, &head.text("definition_id")?, &commit_of(&head)?).await
    }

    async fn earlier(&mut self, trigger: &Trigger) -> Result<Option<String>, DbError> {
        if trigger.request_id.is_empty() {
            return Ok(None);
        }
        let earlier = sqlx::query_scalar("SELECT run_id FROM t_pipeline_run WHERE pipeline_id = $1 AND request_id = $2");
        Ok(earlier.bind(&*trigger.pipeline_id).bind(&*trigger.request_id).fetch_optional(&mut *self.connection).await?)
    }

    async fn begin(
        &mut self,
        trigger: &Trigger,
        pipeline: &AnyRow,
        definition_id: &str,
        revision: &str,
    ) -> Result<Triggered, Failure> {
        let spec = self.state.specs.get(self.connection, definition_id).await?;
        let branch = if trigger.branch.is_empty() { pipeline.text("default_branch")? } else { trigger.branch.clone() };
        let name = match trigger.kind {
            TriggerType::Cron => "cron",
            TriggerType::Event => "event",
            TriggerType::Manual | TriggerType::Unspecified => "manual",
        };
        let event = if trigger.event.is_empty() { name } else { &*trigger.event };
        let cause = Cause { variables: trigger.variables.clone(), branch: branch.clone(), event: event.to_owned() };
        let plan = Plan::new(&spec, &cause).map_err(|error| Refusal::Invalid(error.to_string()))?;
        let now = self.now;
        let mut ids = || super::id::ulid(now);
        let run = RunRow {
            run_id: ids(),
            pipeline_id: trigger.pipeline_id.clone(),
            project_id: pipeline.text("project_id")?,
            status: PipelineStatus::Pending,
            total_jobs: i64::try_from(plan.jobs.len()).unwrap_or(i64::MAX),
            completed_jobs: 0,
            failed_jobs: 0,
            running_jobs: 0,
            started: None,
            ended: None,
        };
        let run_id = run.run_id.clone();
        let loaded = Loaded::new(Run::new(Arc::new(plan), &mut ids), spec, run, &mut ids);
        let kind = if trigger.kind == TriggerType::Unspecified { TriggerType::Manual } else { trigger.kind };
        let about = NewRun {
            request_id: Some(&*trigger.request_id).filter(|id| !id.is_empty()),
            pipeline_name: &pipeline.text("name")?,
            branch: &branch,
            commit: &trigger.commit,
            definition_id,
            definition_commit: revision,
            definition_path: &pipeline.text("pipeline_file_path")?,
            trigger_type: i64::from(i32::from(kind)),
            triggered_by: &trigger.triggered_by,
            event,
            variables: &trigger.variables,
        };
        if !loaded.insert(self.connection, &about, now).await? {
            // Somebody wrote it since it was looked for.
            let run_id = self.earlier(trigger).await?.ok_or_else(|| DbError::Corrupt("a request's run vanished".into()))?;
            return Ok(Triggered { run_id, repeated: true });
        }
        let text = "UPDATE t_pipeline SET total_runs = total_runs + 1, updated_at = $2 WHERE pipeline_id = $1";
        sqlx::query(text).bind(&*trigger.pipeline_id).bind(now).execute(&mut *self.connection).await?;
        self.state.put(loaded);
        self.apply(&run_id, Input::Begin, None).await.map_err(Failure::after_writing)?;
        Ok(Triggered { run_id, repeated: false })
    }
}
