//! What is known of step runs. Secrets are in none of it, and texts are shown as the definition has them, not filled in.

use std::collections::HashMap;
use std::sync::Arc;

use arcgate_api::steprun::v1 as pb;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tonic::Status;

use super::environment;
use crate::db::row::Columns as _;
use crate::db::{Database, DbError};
use crate::engine::specs;
use crate::spec::Spec;

/// The most step runs on one page.
pub(super) const MAX_PAGE: i32 = 200;

/// Reads step runs.
#[derive(Debug, Clone)]
pub(super) struct StepRuns {
    database: Database,
}

/// What several rows of one answer share.
#[derive(Default)]
struct Shared {
    specs: HashMap<String, Arc<Spec>>,
    labels: HashMap<String, HashMap<String, String>>,
}

/// A column to sort by.
pub(super) fn order(sort_by: &str) -> Result<&'static str, Status> {
    let known =
        ["created_at", "started_at", "finished_at", "duration", "status", "job_name", "step_name", "step_index", "agent_id"];
    Ok(match sort_by {
        "" | "created_at" => "s.created_at",
        "started_at" | "start_time" => "s.start_time",
        "finished_at" | "end_time" => "s.end_time",
        "duration" => "s.duration",
        "status" => "s.status",
        "job_name" => "s.job_name",
        "step_name" | "name" => "s.name",
        "step_index" => "s.step_index",
        "agent_id" => "s.agent_id",
        other => {
            let hint = crate::text::hint(other, known);
            return Err(Status::invalid_argument(format!("sort_by: {} is nothing to sort by{hint}", crate::text::quoted(other))));
        }
    })
}

const OF: &str = " FROM t_step_run s JOIN t_pipeline_run r ON r.run_id = s.pipeline_run_id ";

impl StepRuns {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) async fn get(&self, step_run_id: &str) -> Result<Option<pb::StepRunDetail>, DbError> {
        let mut read = self.database.read().await?;
        let text = format!("SELECT s.*, r.definition_id{OF}WHERE s.step_run_id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(step_run_id).fetch_optional(&mut *read).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Shared::default().detail(&mut read, &row).await?))
    }

    /// Step runs, and how many there are.
    pub(super) async fn list(
        &self,
        asked: &pb::ListStepRunsRequest,
        order: &'static str,
        offset: i64,
        most: i64,
    ) -> Result<(Vec<pb::StepRunDetail>, i64), DbError> {
        // An empty filter lets all through.
        const WHERE: &str = "WHERE ($1 = '' OR s.pipeline_id = $1) AND ($2 = '' OR s.pipeline_run_id = $2) AND ($3 = '' OR s.job_id = $3) \
                             AND ($4 = '' OR s.job_name = $4) AND ($5 = '' OR s.name = $5) AND ($6 = '' OR s.agent_id = $6) \
                             AND ($7 = 0 OR s.status = $7)";
        let mut read = self.database.read().await?;
        let count = format!("SELECT COUNT(*){OF}{WHERE}");
        let status = i64::from(asked.status.max(0));
        let total: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .bind(&*asked.pipeline_id)
            .bind(&*asked.pipeline_run_id)
            .bind(&*asked.job_id)
            .bind(&*asked.job_name)
            .bind(&*asked.step_name)
            .bind(&*asked.agent_id)
            .bind(status)
            .fetch_one(&mut *read)
            .await?;
        let way = if asked.sort_desc { "DESC" } else { "ASC" };
        // What has no time yet comes last, on both databases.
        let text = format!(
            "SELECT s.*, r.definition_id{OF}{WHERE} ORDER BY CASE WHEN {order} IS NULL THEN 1 ELSE 0 END, {order} {way}, \
             s.step_run_id {way} LIMIT $8 OFFSET $9"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(&*asked.pipeline_id)
            .bind(&*asked.pipeline_run_id)
            .bind(&*asked.job_id)
            .bind(&*asked.job_name)
            .bind(&*asked.step_name)
            .bind(&*asked.agent_id)
            .bind(status)
            .bind(most)
            .bind(offset)
            .fetch_all(&mut *read)
            .await?;
        let (mut shared, mut found) = (Shared::default(), Vec::new());
        for row in &rows {
            found.push(shared.detail(&mut read, row).await?);
        }
        Ok((found, total))
    }

    pub(super) async fn artifacts(&self, step_run_id: &str) -> Result<Vec<pb::Artifact>, DbError> {
        let mut read = self.database.read().await?;
        let text = "SELECT * FROM t_step_run_artifact WHERE step_run_id = $1 ORDER BY created_at, artifact_id";
        let rows = sqlx::query(text).bind(step_run_id).fetch_all(&mut *read).await?;
        let one = |row: &AnyRow| -> Result<_, DbError> {
            Ok(pb::Artifact {
                artifact_id: row.text("artifact_id")?,
                name: row.text("name")?,
                path: row.text("path")?,
                size: row.number("size")?,
                download_url: row.text("storage_path")?,
                created_at: row.number("created_at")? / 1000,
                expire_at: row.maybe_number("expired_at")?.unwrap_or(0) / 1000,
            })
        };
        rows.iter().map(one).collect()
    }
}

impl Shared {
    async fn detail(&mut self, read: &mut AnyConnection, row: &AnyRow) -> Result<pb::StepRunDetail, DbError> {
        let definition = row.text("definition_id")?;
        if !self.specs.contains_key(&definition) {
            let spec = Arc::new(specs::load(read, &definition).await?);
            self.specs.insert(definition.clone(), spec);
        }
        let spec = self.specs[&definition].clone();
        let (job, step) = (row.index("job_index")?, row.index("step_index")?);
        let of = spec.jobs.get(job).and_then(|job| job.steps.get(step));
        let of = of.ok_or_else(|| DbError::Corrupt(format!("definition {definition} has no step {step} in job {job}")))?;
        let agent_id = row.text("agent_id")?;
        if !agent_id.is_empty() && !self.labels.contains_key(&agent_id) {
            let labels = sqlx::query("SELECT labels FROM t_agent WHERE agent_id = $1").bind(&*agent_id);
            let labels = labels.fetch_optional(&mut *read).await?.map(|row| row.object("labels")).transpose()?;
            self.labels.insert(agent_id.clone(), labels.unwrap_or_default());
        }
        let own = row.maybe_text("env")?.map(|env| serde_json::from_str(&env)).transpose();
        let own = own.map_err(|error| DbError::Corrupt(format!("column env: {error}")))?;
        let int = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
        let seconds = |column: &str| Ok::<_, DbError>(row.maybe_number(column)?.unwrap_or(0) / 1000);
        Ok(pb::StepRunDetail {
            step_run_id: row.text("step_run_id")?,
            pipeline_id: row.text("pipeline_id")?,
            pipeline_run_id: row.text("pipeline_run_id")?,
            job_id: row.text("job_id")?,
            job_name: row.text("job_name")?,
            step_name: row.text("name")?,
            step_index: int(row.number("step_index")?),
            uses: row.text("uses")?,
            action: row.text("action")?,
            args: of.args.clone(),
            status: int(row.number("status")?),
            env: environment(of, own),
            workspace: row.text("job_run_id")?,
            timeout: row.text("timeout")?,
            image: spec.runtime.as_ref().map(|runtime| runtime.image.clone()).unwrap_or_default(),
            artifacts: Vec::new(),
            continue_on_error: of.continue_on_error,
            when: of.when.clone(),
            agent_selector: of.agent_selector.as_ref().map(|selector| pb::AgentSelector {
                match_labels: selector.match_labels.clone(),
                match_expressions: selector
                    .match_expressions
                    .iter()
                    .map(|one| pb::LabelExpression {
                        key: one.key.clone(),
                        operator: one.operator.clone(),
                        values: one.values.clone(),
                    })
                    .collect(),
            }),
            run_on_agent: of.run_on_agent,
            agent_labels: self.labels.get(&agent_id).cloned().unwrap_or_default(),
            agent_id,
            exit_code: row.maybe_number("exit_code")?.map_or(-1, int),
            error_message: row.text("error_message")?,
            created_at: seconds("created_at")?,
            started_at: seconds("start_time")?,
            finished_at: seconds("end_time")?,
            duration: row.number("duration")?,
            created_by: row.text("created_by")?,
            metrics: row.object("metrics")?,
            plugins: Vec::new(),
        })
    }
}
