//! Artifacts, as agents tell of them in events `arcentra.task.artifact` and `arcentra.artifact.*`: kept with the step run that made them, if
//! the agent that tells was handed it.

use serde_json::Value;

use super::error::Failure;
use super::feed::{Accepted, levels};
use super::turn::Turn;
use crate::db::row::Columns as _;

/// How many artifacts of a step run are kept.
const MOST: i64 = 1_000;
/// The longest text of one, in bytes; a longer one is no artifact.
const LONGEST: usize = 4_096;
/// Events of this type, and of those that begin so.
const TYPES: [&str; 2] = ["arcentra.task.artifact", "arcentra.artifact."];
/// In milliseconds.
const DAY: i64 = 86_400_000;

/// An artifact that was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    event_id: String,
    sender: String,
    step_run_id: String,
    name: String,
    path: String,
    destination: String,
    storage_type: String,
    uri: String,
    size: i64,
    expire_days: Option<i64>,
}

/// Whether events of this type tell of artifacts.
pub(super) fn tells(event_type: &str) -> bool {
    TYPES.iter().any(|start| event_type.starts_with(start))
}

/// The artifact that an event tells of, if it names it and its step run.
pub(super) fn of(accepted: &Accepted) -> Option<Artifact> {
    let payload: Value = serde_json::from_slice(&accepted.payload).ok()?;
    let text = |names: &[&str]| {
        let found = levels(&payload).into_iter().find_map(|level| names.iter().find_map(|name| level[*name].as_str()));
        found.unwrap_or_default().to_owned()
    };
    // Numbers of a protobuf `Struct` are doubles.
    let number = |name: &str| {
        let found = levels(&payload).into_iter().find_map(|level| level[name].as_f64());
        found.filter(|number| (0.0..9e15).contains(number)).map(|number| number as i64)
    };
    let artifact = Artifact {
        event_id: accepted.event_id.clone(),
        sender: accepted.agent_id.clone(),
        step_run_id: Some(accepted.step_run_id.clone()).filter(|id| !id.is_empty()).unwrap_or_else(|| text(&["stepRunId"])),
        name: text(&["name"]),
        path: text(&["path"]),
        destination: text(&["destination"]),
        storage_type: text(&["storageType"]),
        uri: text(&["uri", "url", "storagePath"]),
        size: number("size").unwrap_or(0),
        expire_days: number("expireDays").filter(|days| (1..=36_500).contains(days)),
    };
    let texts = [&artifact.name, &artifact.path, &artifact.destination, &artifact.storage_type, &artifact.uri];
    let fits = !artifact.step_run_id.is_empty() && !artifact.name.is_empty() && texts.iter().all(|text| text.len() <= LONGEST);
    if !fits {
        tracing::warn!(
            agent = artifact.sender,
            event = artifact.event_id,
            "an event about an artifact names none, or no step run"
        );
    }
    fits.then_some(artifact)
}

impl Turn<'_> {
    /// Keeps an artifact. One that is told of again, or by another agent than has the step run, adds nothing.
    pub(super) async fn keep_artifact(&mut self, artifact: &Artifact) -> Result<(), Failure> {
        let Artifact { event_id, sender, step_run_id, .. } = artifact;
        let of = "SELECT s.agent_id, s.job_run_id, s.pipeline_run_id, \
                  (SELECT COUNT(*) FROM t_step_run_artifact a WHERE a.step_run_id = s.step_run_id) AS kept \
                  FROM t_step_run s WHERE s.step_run_id = $1";
        let Some(row) = sqlx::query(of).bind(&**step_run_id).fetch_optional(&mut *self.connection).await? else {
            return Ok(());
        };
        if row.text("agent_id")? != *sender || row.number("kept")? >= MOST {
            tracing::warn!(
                agent = sender,
                event = event_id,
                step_run = step_run_id,
                most = MOST,
                "an artifact is not kept: the step run is another agent's, or has too many"
            );
            return Ok(());
        }
        let text = "INSERT INTO t_step_run_artifact (artifact_id, step_run_id, job_run_id, pipeline_run_id, name, path, destination, size, \
                    storage_type, storage_path, expire, expire_days, expired_at, created_at, updated_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14) ON CONFLICT (artifact_id) DO NOTHING";
        sqlx::query(text)
            .bind(format!("{sender}:{event_id}"))
            .bind(&**step_run_id)
            .bind(row.text("job_run_id")?)
            .bind(row.text("pipeline_run_id")?)
            .bind(&*artifact.name)
            .bind(&*artifact.path)
            .bind(&*artifact.destination)
            .bind(artifact.size)
            .bind(&*artifact.storage_type)
            .bind(&*artifact.uri)
            .bind(i64::from(artifact.expire_days.is_some()))
            .bind(artifact.expire_days)
            .bind(artifact.expire_days.map(|days| self.now.saturating_add(days * DAY)))
            .bind(self.now)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}
