//! What changes pipelines. Each runs inside a turn of the engine: see its rule there.

use std::collections::HashMap;

use arcgate_api::pipeline::v1::{PipelineSaveMode, PipelineStatus};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use crate::db::DbError;
use crate::db::row::{Columns as _, json};
use crate::engine::turn::Turn;
use crate::engine::{Failure, MAX_REQUEST_ID_BYTES, Refusal, specs};
use crate::git::Place;
use crate::spec::{self, Format, Spec};

/// A change of pipelines.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Create(Box<Draft>),
    Update(Box<Changes>),
    Delete(String),
    Save(Box<Save>),
    /// The definition as it is in the repository: it becomes the newest revision, unless it is that already.
    Sync(Box<Save>),
    /// It could not be read there, for this reason.
    SyncFailed {
        pipeline_id: String,
        why: String,
    },
}

/// What was written.
#[derive(Debug)]
pub(crate) enum Written {
    Created(String),
    /// Whether there was anything to change.
    Updated(bool),
    Deleted,
    Synced,
    Saved {
        revision: String,
        branch: String,
        /// Whether an earlier request with the same id had saved it.
        repeated: bool,
    },
}

/// A pipeline to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub(crate) project_id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) repo_url: String,
    pub(crate) default_branch: String,
    pub(crate) path: String,
    pub(crate) save_mode: PipelineSaveMode,
    pub(crate) pr_target_branch: String,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) created_by: String,
}

/// What is to be different; what is absent stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) pipeline_id: String,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) repo_url: Option<String>,
    pub(crate) default_branch: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) save_mode: Option<PipelineSaveMode>,
    pub(crate) pr_target_branch: Option<String>,
    pub(crate) metadata: Option<HashMap<String, String>>,
    pub(crate) enabled: Option<bool>,
}

/// A definition to be saved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Save {
    pub(crate) pipeline_id: String,
    pub(crate) spec: Spec,
    pub(crate) format: i64,
    /// The head that the editor began with; empty: whatever it is.
    pub(crate) expected_head: String,
    pub(crate) message: String,
    pub(crate) request_id: String,
    pub(crate) editor: String,
    /// The commit in the repository; empty: it is kept here.
    pub(crate) commit: String,
}

pub(crate) async fn write(turn: &mut Turn<'_>, write: &Write) -> Result<Written, Failure> {
    match write {
        Write::Create(draft) => create(turn, draft).await,
        Write::Update(changes) => update(turn, changes).await,
        Write::Delete(pipeline_id) => delete(turn, pipeline_id).await,
        Write::Save(save) => self::save(turn, save).await,
        Write::Sync(save) => sync(turn, save).await,
        Write::SyncFailed { pipeline_id, why } => sync_failed(turn, pipeline_id, why).await,
    }
}

/// Where a definition lies, checked. What goes to a branch of its own goes by a pull request.
fn check_place(
    repo_url: &str,
    branch: &str,
    path: &str,
    mode: PipelineSaveMode,
    pr_target: &str,
) -> Result<PipelineSaveMode, Refusal> {
    let by_request = mode == PipelineSaveMode::Pr || !pr_target.is_empty();
    if repo_url.is_empty() && by_request {
        let why = "save_mode and pr_target_branch: only definitions in a git repository can be saved by a pull request";
        return Err(Refusal::Invalid(why.into()));
    }
    if !repo_url.is_empty() {
        let place = Place { url: repo_url.into(), branch: branch.into(), path: path.into() };
        let target = Place { branch: if pr_target.is_empty() { branch } else { pr_target }.into(), ..place.clone() };
        place.check().and_then(|()| target.check()).map_err(|why| Refusal::Invalid(why.to_string()))?;
    }
    Ok(if by_request { PipelineSaveMode::Pr } else { PipelineSaveMode::Direct })
}

async fn create(turn: &mut Turn<'_>, draft: &Draft) -> Result<Written, Failure> {
    let path = draft.path.trim_start_matches('/');
    if draft.project_id.is_empty() || draft.name.is_empty() || path.is_empty() {
        return Err(Refusal::Invalid("projectId, name and pipelineFilePath are required".into()).into());
    }
    let branch = if draft.default_branch.is_empty() { "main" } else { &draft.default_branch };
    let mode = check_place(&draft.repo_url, branch, path, draft.save_mode, &draft.pr_target_branch)?;
    let id = turn.id();
    let text = "INSERT INTO t_pipeline (pipeline_id, project_id, name, description, repo_url, default_branch, pipeline_file_path, status, \
                save_mode, pr_target_branch, metadata, last_sync_status, last_sync_message, last_editor, last_commit_sha, \
                last_save_request_id, total_runs, success_runs, failed_runs, created_by, is_enabled, is_deleted, created_at, updated_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, '', '', '', '', 0, 0, 0, $12, 1, 0, $13, $13)";
    sqlx::query(text)
        .bind(&*id)
        .bind(&*draft.project_id)
        .bind(&*draft.name)
        .bind(&*draft.description)
        .bind(&*draft.repo_url)
        .bind(branch)
        .bind(path)
        .bind(i64::from(i32::from(PipelineStatus::Pending)))
        .bind(i64::from(i32::from(mode)))
        .bind(&*draft.pr_target_branch)
        .bind(json(&draft.metadata)?)
        .bind(&*draft.created_by)
        .bind(turn.now)
        .execute(&mut *turn.connection)
        .await?;
    Ok(Written::Created(id))
}

/// Whether a pipeline is there and not deleted.
async fn must_exist(turn: &mut Turn<'_>, pipeline_id: &str) -> Result<AnyRow, Failure> {
    if pipeline_id.is_empty() {
        return Err(Refusal::Invalid("pipelineId is required".into()).into());
    }
    let row = sqlx::query("SELECT * FROM t_pipeline WHERE pipeline_id = $1 AND is_deleted = 0").bind(pipeline_id);
    let row = row.fetch_optional(&mut *turn.connection).await?;
    row.ok_or_else(|| Refusal::Unknown(format!("pipeline not found: {pipeline_id}")).into())
}

async fn update(turn: &mut Turn<'_>, changes: &Changes) -> Result<Written, Failure> {
    let row = must_exist(turn, &changes.pipeline_id).await?;
    let texts = [
        ("name", changes.name.clone()),
        ("description", changes.description.clone()),
        ("repo_url", changes.repo_url.clone()),
        ("pr_target_branch", changes.pr_target_branch.clone()),
        ("default_branch", changes.default_branch.clone()),
        ("pipeline_file_path", changes.path.as_ref().map(|path| path.trim_start_matches('/').to_owned())),
        ("metadata", changes.metadata.as_ref().map(json).transpose()?),
    ];
    let nothing = changes.enabled.is_none() && changes.save_mode.is_none() && texts.iter().all(|(_, text)| text.is_none());
    if nothing {
        return Ok(Written::Updated(false));
    }
    let mut values = Vec::new();
    for (column, text) in texts {
        values.push(match text {
            Some(text) => text,
            None => row.text(column)?,
        });
    }
    let old_mode = i32::try_from(row.number("save_mode")?).ok().and_then(|mode| PipelineSaveMode::try_from(mode).ok());
    let wanted_mode = changes.save_mode.or(old_mode).unwrap_or_default();
    let pr_target = if changes.save_mode == Some(PipelineSaveMode::Direct) { String::new() } else { values[3].clone() };
    let mode = check_place(&values[2], &values[4], &values[5], wanted_mode, &pr_target)?;
    values[3] = pr_target;
    let was_enabled = row.number("is_enabled")? != 0;
    let enabled = changes.enabled.unwrap_or(was_enabled);
    let text = "UPDATE t_pipeline SET name = $2, description = $3, repo_url = $4, pr_target_branch = $5, default_branch = $6, \
                pipeline_file_path = $7, metadata = $8, save_mode = $9, is_enabled = $10, updated_at = $11 WHERE pipeline_id = $1";
    let mut query = sqlx::query(text).bind(&*changes.pipeline_id);
    for value in &values {
        query = query.bind(&**value);
    }
    query.bind(i64::from(i32::from(mode))).bind(i64::from(enabled)).bind(turn.now).execute(&mut *turn.connection).await?;
    if row.text("repo_url")? != values[2]
        || row.text("default_branch")? != values[4]
        || row.text("pipeline_file_path")? != values[5]
    {
        // What lies elsewhere has not been read yet, whatever its commit.
        let text = "UPDATE t_pipeline SET last_commit_sha = '' WHERE pipeline_id = $1";
        sqlx::query(text).bind(&*changes.pipeline_id).execute(&mut *turn.connection).await?;
    }
    if enabled != was_enabled {
        turn.triggers_changed(&changes.pipeline_id).await?;
    }
    Ok(Written::Updated(true))
}

/// Deletes softly: its runs stay, and go on.
async fn delete(turn: &mut Turn<'_>, pipeline_id: &str) -> Result<Written, Failure> {
    must_exist(turn, pipeline_id).await?;
    let text = "UPDATE t_pipeline SET is_enabled = 0, is_deleted = 1, status = $2, updated_at = $3 WHERE pipeline_id = $1";
    sqlx::query(text)
        .bind(pipeline_id)
        .bind(i64::from(i32::from(PipelineStatus::Cancelled)))
        .bind(turn.now)
        .execute(&mut *turn.connection)
        .await?;
    turn.triggers_changed(pipeline_id).await?;
    Ok(Written::Deleted)
}

/// A definition as it is kept; what is kept can always be read again.
pub(crate) fn kept_text(spec: &Spec) -> Result<String, Refusal> {
    let text = spec::write(spec, Format::Json);
    match spec::read(&text, Format::Json) {
        Ok(_) => Ok(text),
        Err(problems) => {
            let why: Vec<String> = problems.iter().map(|problem| problem.message.clone()).collect();
            Err(Refusal::Invalid(format!("the definition cannot be kept: {}", why.join("; "))))
        }
    }
}

async fn save(turn: &mut Turn<'_>, save: &Save) -> Result<Written, Failure> {
    let pipeline = must_exist(turn, &save.pipeline_id).await?;
    if save.request_id.len() > MAX_REQUEST_ID_BYTES {
        return Err(Refusal::Invalid(format!("request_id is longer than {MAX_REQUEST_ID_BYTES} bytes")).into());
    }
    let branch = pipeline.text("default_branch")?;
    if !save.request_id.is_empty() {
        let earlier = "SELECT revision_id, commit_sha FROM t_pipeline_revision WHERE pipeline_id = $1 AND request_id = $2";
        let earlier = sqlx::query(earlier).bind(&*save.pipeline_id).bind(&*save.request_id);
        if let Some(row) = earlier.fetch_optional(&mut *turn.connection).await? {
            return Ok(Written::Saved { revision: commit_of(&row)?, branch, repeated: true });
        }
    }
    let revision = add_revision(turn, save).await?;
    Ok(Written::Saved { revision, branch, repeated: false })
}

/// The commit of a revision's row: that in the repository, else the revision itself.
pub(crate) fn commit_of(row: &AnyRow) -> Result<String, DbError> {
    let commit = row.text("commit_sha")?;
    if commit.is_empty() { row.text("revision_id") } else { Ok(commit) }
}

/// Adds a revision; its commit.
async fn add_revision(turn: &mut Turn<'_>, save: &Save) -> Result<String, Failure> {
    let head = "SELECT revision_id, number FROM t_pipeline_revision WHERE pipeline_id = $1 ORDER BY number DESC LIMIT 1";
    let head = sqlx::query(head).bind(&*save.pipeline_id).fetch_optional(&mut *turn.connection).await?;
    let (parent, number) = match &head {
        Some(head) => (head.text("revision_id")?, head.number("number")? + 1),
        None => (String::new(), 1),
    };
    // Of a repository's file, the push has found that out.
    if save.commit.is_empty() && !save.expected_head.is_empty() && save.expected_head != parent {
        return Err(Refusal::Stale { current: parent }.into());
    }
    let text = kept_text(&save.spec)?;
    let definition = specs::keep(turn.connection, &text).await?;
    let mut made_of = Sha256::new();
    for part in [&*save.pipeline_id, &number.to_string(), &definition, &parent] {
        made_of.update(part.as_bytes());
        made_of.update([0]);
    }
    let revision = specs::hex(&made_of.finalize()[..20]);
    insert_revision(turn, save, &revision, number, &definition).await?;
    turn.triggers_changed(&save.pipeline_id).await?;
    Ok(if save.commit.is_empty() { revision } else { save.commit.clone() })
}

async fn sync(turn: &mut Turn<'_>, save: &Save) -> Result<Written, Failure> {
    let pipeline = must_exist(turn, &save.pipeline_id).await?;
    // Empty after the pipeline was told to look elsewhere, where the same commit has another file.
    if pipeline.text("last_commit_sha")? != save.commit {
        add_revision(turn, save).await?;
    }
    note_sync(turn, &save.pipeline_id, 1, "synced").await?;
    Ok(Written::Synced)
}

async fn sync_failed(turn: &mut Turn<'_>, pipeline_id: &str, why: &str) -> Result<Written, Failure> {
    note_sync(turn, pipeline_id, 2, why).await?;
    Ok(Written::Synced)
}

async fn note_sync(turn: &mut Turn<'_>, pipeline_id: &str, status: i64, message: &str) -> Result<(), DbError> {
    let text = "UPDATE t_pipeline SET last_sync_status = $2, last_sync_message = $3, last_synced_at = $4 WHERE pipeline_id = $1";
    let query = sqlx::query(text).bind(pipeline_id).bind(status).bind(message).bind(turn.now);
    query.execute(&mut *turn.connection).await?;
    Ok(())
}

async fn insert_revision(turn: &mut Turn<'_>, save: &Save, revision: &str, number: i64, definition: &str) -> Result<(), DbError> {
    let text = "INSERT INTO t_pipeline_revision (revision_id, pipeline_id, number, definition_id, format, editor, message, request_id, \
                created_at, commit_sha) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    sqlx::query(text)
        .bind(revision)
        .bind(&*save.pipeline_id)
        .bind(number)
        .bind(definition)
        .bind(save.format)
        .bind(&*save.editor)
        .bind(&*save.message)
        .bind(Some(&*save.request_id).filter(|id| !id.is_empty()))
        .bind(turn.now)
        .bind(&*save.commit)
        .execute(&mut *turn.connection)
        .await?;
    let text = "UPDATE t_pipeline SET last_commit_sha = $2, last_editor = $3, last_save_request_id = $4, last_sync_status = 1, \
                last_sync_message = 'saved', last_synced_at = $5, updated_at = $5 WHERE pipeline_id = $1";
    sqlx::query(text)
        .bind(&*save.pipeline_id)
        .bind(if save.commit.is_empty() { revision } else { &save.commit })
        .bind(&*save.editor)
        .bind(&*save.request_id)
        .bind(turn.now)
        .execute(&mut *turn.connection)
        .await?;
    Ok(())
}
