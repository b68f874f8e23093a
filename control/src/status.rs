//! The status of one step run as those are told who watch it in a browser: how it is, then each change with its event, with no gap and
//! no repeat between them, until it is over.
//!
//! As in [`crate::engine::Watcher`], whoever follows takes its place in the channel of changes first and reads the snapshot after, which
//! says up to which change it goes. Secrets are in none of it, and environments are shown as the definition has them, not filled in.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::db::row::Columns as _;
use crate::db::{Database, DbError};
use crate::engine::rows::step_status;
use crate::engine::{Engine, Moved, Update, is_over, specs};

mod json;
#[cfg(test)]
mod tests;

/// How long is waited before a database that cannot be read is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// What a client writes for a pipeline or a job that it does not know.
const UNKNOWN: &str = "-";

/// A step run as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its pipeline's id, or `-`.
    pub pipeline_id: String,
    /// Its job's id, `<pipeline id>-<job name>`, or `-`.
    pub job_id: String,
    /// Its own id; or `<job id>-<step name>`, which is the newest step run of that name.
    pub step_run_id: String,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The step run as it is. First, and again if changes were missed.
    Snapshot(Value),
    /// A change after that.
    Change(Value),
}

struct Follower {
    database: Database,
    changes: broadcast::Receiver<Arc<Update>>,
    named: Named,
    step_run_id: String,
    /// What comes next, and up to which change it goes; absent: it is to be read.
    snapshot: Option<(i64, Value, bool)>,
    seen: i64,
    over: bool,
}

/// Follows a step run; nothing if there is none of that name.
///
/// # Errors
/// If the database cannot be read.
pub async fn follow(engine: &Engine, named: Named) -> Result<Option<BoxStream<'static, Told>>, DbError> {
    let (changes, database) = (engine.changes(), engine.database().clone());
    let Some(step_run_id) = find(&database, &named).await? else { return Ok(None) };
    let snapshot = read(&database, &step_run_id).await?;
    let follower = Follower { database, changes, named, step_run_id, snapshot, seen: 0, over: false };
    Ok(Some(Box::pin(futures_util::stream::unfold(follower, Follower::next))))
}

impl Follower {
    async fn next(mut self) -> Option<(Told, Self)> {
        if let Some((seq, snapshot, over)) = self.snapshot.take() {
            (self.seen, self.over) = (seq, over);
            return Some((Told::Snapshot(snapshot), self));
        }
        while !self.over {
            match self.changes.recv().await {
                Ok(update) => {
                    if let Some(change) = self.change(&update) {
                        return Some((Told::Change(change), self));
                    }
                }
                Err(RecvError::Lagged(_)) => self.snapshot = self.read_again().await,
                Err(RecvError::Closed) => return None,
            }
            if self.snapshot.is_some() {
                return Box::pin(self.next()).await;
            }
        }
        None
    }

    fn change(&mut self, update: &Update) -> Option<Value> {
        let Moved::Step { step, .. } = &update.what else { return None };
        if update.seq <= self.seen || step.step_run_id != self.step_run_id {
            return None;
        }
        self.over = is_over(step.status);
        let event = update.event.as_ref()?;
        let raw: Value = serde_json::from_str(&event.payload).unwrap_or_default();
        Some(json!({
            "pipelineId": &*update.pipeline_id,
            "jobId": raw["jobId"],
            "stepRunId": self.named.step_run_id,
            "eventType": event.event_type,
            "status": raw["data"]["status"],
            "subject": raw["subject"],
            "raw": raw,
        }))
    }

    async fn read_again(&self) -> Option<(i64, Value, bool)> {
        loop {
            match read(&self.database, &self.step_run_id).await {
                Ok(snapshot) => return snapshot,
                Err(why) => tracing::warn!(%why, step_run = self.step_run_id, "a status cannot be read for now; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The id of the step run that is named.
async fn find(database: &Database, named: &Named) -> Result<Option<String>, DbError> {
    let Named { pipeline_id, job_id, step_run_id } = named;
    let mut connection = database.read().await?;
    let text = "SELECT step_run_id, pipeline_id, job_id FROM t_step_run WHERE step_run_id = $1";
    let mut row = sqlx::query(text).bind(&**step_run_id).fetch_optional(&mut *connection).await?;
    if row.is_none()
        && let Some(name) = step_run_id.strip_prefix(&**job_id).and_then(|rest| rest.strip_prefix('-'))
    {
        let text = "SELECT step_run_id, pipeline_id, job_id FROM t_step_run WHERE job_id = $1 AND name = $2 \
                    ORDER BY created_at DESC, attempt DESC LIMIT 1";
        row = sqlx::query(text).bind(&**job_id).bind(name).fetch_optional(&mut *connection).await?;
    }
    let Some(row) = row else { return Ok(None) };
    let fits = |named: &str, column: &str| Ok::<_, DbError>(named == UNKNOWN || named == row.text(column)?);
    let fits = fits(pipeline_id, "pipeline_id")? && fits(job_id, "job_id")?;
    if fits { row.text("step_run_id").map(Some) } else { Ok(None) }
}

/// The step run at one moment, the number of the last change before it, and whether it is over; nothing if it is gone.
async fn read(database: &Database, step_run_id: &str) -> Result<Option<(i64, Value, bool)>, DbError> {
    let mut connection = database.read().await?;
    let seq = sqlx::query_scalar("SELECT value FROM t_counter WHERE name = 'changes'").fetch_optional(&mut *connection).await?;
    let text = "SELECT s.*, r.definition_id FROM t_step_run s JOIN t_pipeline_run r ON r.run_id = s.pipeline_run_id \
                WHERE s.step_run_id = $1";
    let row = sqlx::query(text).bind(step_run_id).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(None) };
    let over = is_over(step_status(row.number("status")?));
    Ok(Some((seq.unwrap_or(0), snapshot(&mut connection, &row).await?, over)))
}

async fn snapshot(connection: &mut AnyConnection, row: &AnyRow) -> Result<Value, DbError> {
    let definition = row.text("definition_id")?;
    let spec = specs::load(connection, &definition).await?;
    let (job, step) = (row.index("job_index")?, row.index("step_index")?);
    let of = spec.jobs.get(job).and_then(|job| job.steps.get(step));
    let of = of.ok_or_else(|| DbError::Corrupt(format!("definition {definition} has no step {step} in job {job}")))?;
    json::of(row, of)
}
