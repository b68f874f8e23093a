//! Watching runs: a snapshot, then each change, with no gap and no repeat between them.
//!
//! Changes are told in this process through one bounded channel. A watcher takes its place in it first and reads the snapshot after; the
//! snapshot says up to which change it goes ([`super::Update::seq`]), and changes up to that one are passed over. Who is too slow for
//! the channel is given a new snapshot in the place of what it missed.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::Row as _;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Engine;
use super::rows::{JobRow, RunRow, StepRow, run_is_over};
use super::update::{Moved, Update};
use crate::db::row::Columns as _;
use crate::db::{Database, DbError};

/// How many changes a watcher may be behind.
pub(super) const CHANNEL: usize = 4_096;

/// A run with its jobs and the current attempts of its steps.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The run.
    pub run: RunRow,
    /// Its jobs with their steps, in the definition's order.
    pub jobs: Vec<(JobRow, Vec<StepRow>)>,
}

/// What a watcher sees.
#[derive(Debug)]
pub enum Seen {
    /// How the runs are. First, and again if changes were missed.
    Snapshots(Vec<Snapshot>),
    /// What changed after that.
    Change(Arc<Update>),
}

/// Somebody who watches runs.
#[derive(Debug)]
pub struct Watcher {
    database: Database,
    changes: broadcast::Receiver<Arc<Update>>,
    runs: HashSet<String>,
    /// The runs that are not over.
    open: HashSet<String>,
    /// Absent: a snapshot comes next.
    seen: Option<i64>,
}

impl Engine {
    /// Watches runs.
    #[must_use]
    pub fn watch(&self, runs: impl IntoIterator<Item = String>) -> Watcher {
        let runs: HashSet<String> = runs.into_iter().collect();
        let (database, changes) = (self.database().clone(), self.changes());
        Watcher { database, changes, open: runs.clone(), runs, seen: None }
    }
}

impl Watcher {
    /// What comes next; nothing once all the runs are over, or the engine has ended.
    ///
    /// # Errors
    /// If the database cannot be read; the next call tries again.
    pub async fn next(&mut self) -> Result<Option<Seen>, DbError> {
        let Some(mut seen) = self.seen else {
            let (seq, snapshots) = read(&self.database, &self.runs).await?;
            self.seen = Some(seq);
            let open = snapshots.iter().filter(|snapshot| !run_is_over(snapshot.run.status));
            self.open = open.map(|snapshot| snapshot.run.run_id.clone()).collect();
            return Ok(Some(Seen::Snapshots(snapshots)));
        };
        while !self.open.is_empty() {
            match self.changes.recv().await {
                Ok(update) if update.seq <= seen => {}
                Ok(update) => {
                    seen = update.seq;
                    self.seen = Some(seen);
                    if !self.runs.contains(&*update.run_id) {
                        continue;
                    }
                    if let Moved::Run { run, .. } = &update.what {
                        if run_is_over(run.status) {
                            self.open.remove(&run.run_id)
                        } else {
                            self.open.insert(run.run_id.clone())
                        };
                    }
                    return Ok(Some(Seen::Change(update)));
                }
                Err(RecvError::Lagged(_)) => {
                    self.seen = None;
                    return Box::pin(self.next()).await;
                }
                Err(RecvError::Closed) => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// Runs as they are at one moment, and the number of the last change before it. Runs that do not exist are left out.
async fn read(database: &Database, runs: &HashSet<String>) -> Result<(i64, Vec<Snapshot>), DbError> {
    let mut read = database.read().await?;
    let seq = sqlx::query("SELECT value FROM t_counter WHERE name = 'changes'").fetch_optional(&mut *read).await?;
    let seq = seq.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let mut snapshots = Vec::new();
    for run_id in runs {
        let run = sqlx::query("SELECT * FROM t_pipeline_run WHERE run_id = $1").bind(&**run_id);
        let Some(run) = run.fetch_optional(&mut *read).await? else { continue };
        let mut jobs = Vec::new();
        let of_jobs = sqlx::query("SELECT * FROM t_job_run WHERE pipeline_run_id = $1 ORDER BY job_index").bind(&**run_id);
        for row in of_jobs.fetch_all(&mut *read).await? {
            jobs.push((JobRow::read(&row)?, Vec::new()));
        }
        let steps = "SELECT * FROM t_step_run WHERE pipeline_run_id = $1 AND is_current = 1 ORDER BY job_index, step_index";
        for row in sqlx::query(steps).bind(&**run_id).fetch_all(&mut *read).await? {
            if let Some((_, steps)) = jobs.get_mut(row.index("job_index")?) {
                steps.push(StepRow::read(&row)?);
            }
        }
        snapshots.push(Snapshot { run: RunRow::read(&run)?, jobs });
    }
    Ok((seq, snapshots))
}
