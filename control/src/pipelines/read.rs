//! What is known of pipelines and their runs.

use arcgate_api::pipeline::v1 as pb;
use sqlx::any::AnyRow;

use super::write::commit_of;
use crate::Millis;
use crate::db::row::Columns as _;
use crate::db::{Database, DbError};
use crate::engine::rows::pipeline_status;
use crate::engine::specs;
use crate::spec::Spec;

/// The most entries on one page.
pub const MAX_PAGE: i32 = 100;

/// Reads pipelines and runs.
#[derive(Debug, Clone)]
pub struct Pipelines {
    database: Database,
}

/// Which entries of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paging {
    pub(crate) page: i32,
    pub(crate) size: i32,
}

impl Paging {
    /// Pages count from 1; a page has 20 entries if nobody says more, and at most [`MAX_PAGE`].
    pub(crate) fn new(page: i32, size: i32) -> Self {
        Self { page: page.max(1), size: if size <= 0 { 20 } else { size.min(MAX_PAGE) } }
    }

    fn offset(self) -> i64 {
        i64::from(self.page - 1) * i64::from(self.size)
    }
}

impl Pipelines {
    /// Of a database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// A pipeline.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn get(&self, pipeline_id: &str) -> Result<Option<pb::PipelineDetail>, DbError> {
        let mut read = self.database.read().await?;
        let row = sqlx::query("SELECT * FROM t_pipeline WHERE pipeline_id = $1 AND is_deleted = 0").bind(pipeline_id);
        row.fetch_optional(&mut *read).await?.as_ref().map(detail).transpose()
    }

    /// The enabled pipelines whose definitions lie in repositories; of one project, if one is named. At most `most`, by their ids,
    /// behind `after`.
    pub(crate) async fn in_repositories(
        &self,
        project_id: &str,
        after: &str,
        most: i64,
    ) -> Result<Vec<pb::PipelineDetail>, DbError> {
        let mut read = self.database.read().await?;
        let text = "SELECT * FROM t_pipeline WHERE repo_url <> '' AND is_enabled = 1 AND is_deleted = 0 AND ($1 = '' OR project_id = $1) \
                    AND pipeline_id > $2 ORDER BY pipeline_id LIMIT $3";
        let rows = sqlx::query(text).bind(project_id).bind(after).bind(most).fetch_all(&mut *read).await?;
        rows.iter().map(detail).collect()
    }

    /// The commit that a request has saved already, if it has.
    pub(crate) async fn has_saved(&self, pipeline_id: &str, request_id: &str) -> Result<Option<String>, DbError> {
        let mut read = self.database.read().await?;
        let found =
            sqlx::query("SELECT revision_id, commit_sha FROM t_pipeline_revision WHERE pipeline_id = $1 AND request_id = $2");
        let found = found.bind(pipeline_id).bind(request_id).fetch_optional(&mut *read).await?;
        found.as_ref().map(commit_of).transpose()
    }

    /// Whether a request has begun a run already.
    pub(crate) async fn has_begun(&self, pipeline_id: &str, request_id: &str) -> Result<bool, DbError> {
        let mut read = self.database.read().await?;
        let found = sqlx::query("SELECT run_id FROM t_pipeline_run WHERE pipeline_id = $1 AND request_id = $2");
        Ok(found.bind(pipeline_id).bind(request_id).fetch_optional(&mut *read).await?.is_some())
    }

    /// Pipelines, the newest first, and how many there are.
    pub(crate) async fn list(
        &self,
        project_id: &str,
        name: &str,
        status: i32,
        paging: Paging,
    ) -> Result<(Vec<pb::PipelineDetail>, i64), DbError> {
        // An empty filter lets all through. LOWER is the same on both databases only for ASCII.
        const WHERE: &str = "FROM t_pipeline WHERE is_deleted = 0 AND ($1 = '' OR project_id = $1) \
                             AND ($2 = '' OR LOWER(name) LIKE $2 ESCAPE '!') AND ($3 = 0 OR status = $3)";
        let escaped = name.to_ascii_lowercase().replace('!', "!!").replace('%', "!%").replace('_', "!_");
        let pattern = if name.is_empty() { String::new() } else { format!("%{escaped}%") };
        let status = i64::from(status.max(0));
        let mut read = self.database.read().await?;
        let count = sqlx::query_scalar(concat_sql(&["SELECT COUNT(*) ", WHERE]));
        let total: i64 = count.bind(project_id).bind(&*pattern).bind(status).fetch_one(&mut *read).await?;
        let rows =
            sqlx::query(concat_sql(&["SELECT * ", WHERE, " ORDER BY created_at DESC, pipeline_id DESC LIMIT $4 OFFSET $5"]));
        let rows = rows.bind(project_id).bind(&*pattern).bind(status).bind(i64::from(paging.size)).bind(paging.offset());
        let rows = rows.fetch_all(&mut *read).await?;
        Ok((rows.iter().map(detail).collect::<Result<_, _>>()?, total))
    }

    /// A run.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn get_run(&self, run_id: &str) -> Result<Option<pb::PipelineRunDetail>, DbError> {
        let mut read = self.database.read().await?;
        let row = sqlx::query("SELECT * FROM t_pipeline_run WHERE run_id = $1").bind(run_id);
        row.fetch_optional(&mut *read).await?.as_ref().map(run_detail).transpose()
    }

    /// Runs, the newest first, and how many there are.
    pub(crate) async fn list_runs(
        &self,
        pipeline_id: &str,
        status: i32,
        paging: Paging,
    ) -> Result<(Vec<pb::PipelineRunDetail>, i64), DbError> {
        const WHERE: &str = "FROM t_pipeline_run WHERE ($1 = '' OR pipeline_id = $1) AND ($2 = 0 OR status = $2)";
        let status = i64::from(status.max(0));
        let mut read = self.database.read().await?;
        let count = sqlx::query_scalar(concat_sql(&["SELECT COUNT(*) ", WHERE]));
        let total: i64 = count.bind(pipeline_id).bind(status).fetch_one(&mut *read).await?;
        let rows = sqlx::query(concat_sql(&["SELECT * ", WHERE, " ORDER BY created_at DESC, run_id DESC LIMIT $3 OFFSET $4"]));
        let rows = rows.bind(pipeline_id).bind(status).bind(i64::from(paging.size)).bind(paging.offset());
        let rows = rows.fetch_all(&mut *read).await?;
        Ok((rows.iter().map(run_detail).collect::<Result<_, _>>()?, total))
    }

    /// A pipeline's definition, its format (as the contract numbers them) and its revision; absent if none was saved.
    pub(crate) async fn head(&self, pipeline_id: &str) -> Result<Option<(Spec, i32, String)>, DbError> {
        let mut read = self.database.read().await?;
        let head = "SELECT revision_id, commit_sha, definition_id, format FROM t_pipeline_revision WHERE pipeline_id = $1 \
                    ORDER BY number DESC LIMIT 1";
        let Some(head) = sqlx::query(head).bind(pipeline_id).fetch_optional(&mut *read).await? else { return Ok(None) };
        let spec = specs::load(&mut read, &head.text("definition_id")?).await?;
        Ok(Some((spec, int(head.number("format")?), commit_of(&head)?)))
    }
}

/// Texts of this program put together.
fn concat_sql(parts: &[&'static str]) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(parts.concat())
}

fn int(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn seconds(at: Option<Millis>) -> i64 {
    at.map_or(0, |at| at.div_euclid(1000))
}

fn detail(row: &AnyRow) -> Result<pb::PipelineDetail, DbError> {
    Ok(pb::PipelineDetail {
        pipeline_id: row.text("pipeline_id")?,
        project_id: row.text("project_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        repo_url: row.text("repo_url")?,
        default_branch: row.text("default_branch")?,
        pipeline_file_path: row.text("pipeline_file_path")?,
        status: pipeline_status(row.number("status")?).into(),
        save_mode: int(row.number("save_mode")?),
        pr_target_branch: row.text("pr_target_branch")?,
        metadata: row.object("metadata")?,
        last_sync_message: row.text("last_sync_message")?,
        last_synced_at: seconds(row.maybe_number("last_synced_at")?),
        last_editor: row.text("last_editor")?,
        last_commit_sha: row.text("last_commit_sha")?,
        total_runs: int(row.number("total_runs")?),
        success_runs: int(row.number("success_runs")?),
        failed_runs: int(row.number("failed_runs")?),
        created_by: row.text("created_by")?,
        is_enabled: int(row.number("is_enabled")?),
        created_at: seconds(Some(row.number("created_at")?)),
        updated_at: seconds(Some(row.number("updated_at")?)),
    })
}

fn run_detail(row: &AnyRow) -> Result<pb::PipelineRunDetail, DbError> {
    Ok(pb::PipelineRunDetail {
        run_id: row.text("run_id")?,
        pipeline_id: row.text("pipeline_id")?,
        pipeline_name: row.text("pipeline_name")?,
        branch: row.text("branch")?,
        commit_sha: row.text("commit_sha")?,
        definition_commit_sha: row.text("definition_commit_sha")?,
        definition_path: row.text("definition_path")?,
        status: pipeline_status(row.number("status")?).into(),
        trigger_type: int(row.number("trigger_type")?),
        triggered_by: row.text("triggered_by")?,
        variables: row.object("env")?,
        total_jobs: int(row.number("total_jobs")?),
        completed_jobs: int(row.number("completed_jobs")?),
        failed_jobs: int(row.number("failed_jobs")?),
        running_jobs: int(row.number("running_jobs")?),
        start_time: seconds(row.maybe_number("start_time")?),
        end_time: seconds(row.maybe_number("end_time")?),
        duration: row.number("duration")?,
    })
}
