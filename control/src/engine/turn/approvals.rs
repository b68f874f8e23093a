//! Approvals that are waited for, and notifications to be sent.

use super::super::event;
use super::super::rows::Loaded;
use super::super::update::Moved;
use super::Turn;
use crate::Millis;
use crate::db::DbError;
use crate::db::row::Columns as _;
use crate::plan::{Input, JobState};

impl Turn<'_> {
    pub(super) async fn open_approval(&mut self, loaded: &Loaded, job: usize, expires: Millis) -> Result<(), DbError> {
        let (id, name) = (self.id(), &loaded.jobs[job].name);
        let plugin = loaded.spec.jobs[job].approval.as_ref().map_or("", |approval| &approval.plugin);
        let text = "INSERT INTO t_approval_request (approval_id, pipeline_run_id, job_index, job_name, plugin, status, requested_by, \
                    approved_by, reason, expires_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, 0, 'system', '', '', $6, $7, $7)";
        sqlx::query(text)
            .bind(&*id)
            .bind(&*loaded.head.run_id)
            .bind(index(job))
            .bind(&**name)
            .bind(plugin)
            .bind(expires)
            .bind(self.now)
            .execute(&mut *self.connection)
            .await?;
        self.tell_approval(loaded, &id, job, "requested").await
    }

    /// Marks approvals that are no longer waited for.
    pub(super) async fn close_approvals(&mut self, loaded: &Loaded, input: &Input) -> Result<(), DbError> {
        let (status, what, by, reason) = match input {
            Input::Approve { by, .. } => (1, "approved", &**by, ""),
            Input::Reject { reason, .. } => (2, "rejected", "", &**reason),
            Input::Tick | Input::Cancel { .. } => (3, "expired", "", ""),
            _ => return Ok(()),
        };
        let states = loaded.run.record().jobs.iter().zip(&loaded.spec.jobs).enumerate();
        let asked = states.filter(|(_, (_, of))| of.approval.as_ref().is_some_and(|approval| approval.required));
        let closed = asked.filter(|(_, (job, _))| !matches!(job.state, JobState::Approval(_) | JobState::Waiting(_)));
        for job in closed.map(|(job, _)| job).collect::<Vec<_>>() {
            let open = "SELECT approval_id FROM t_approval_request WHERE pipeline_run_id = $1 AND job_index = $2 AND status = 0";
            let open =
                sqlx::query(open).bind(&*loaded.head.run_id).bind(index(job)).fetch_optional(&mut *self.connection).await?;
            let Some(id) = open.map(|row| row.text("approval_id")).transpose()? else { continue };
            let text = "UPDATE t_approval_request SET status = $2, approved_by = $3, reason = $4, updated_at = $5 WHERE approval_id = $1";
            sqlx::query(text).bind(&*id).bind(status).bind(by).bind(reason).bind(self.now).execute(&mut *self.connection).await?;
            self.tell_approval(loaded, &id, job, what).await?;
        }
        Ok(())
    }

    async fn tell_approval(&mut self, loaded: &Loaded, id: &str, job: usize, what: &str) -> Result<(), DbError> {
        let update = self.update(loaded, Moved::Ready);
        let event = event::of_approval(&update, id, &loaded.jobs[job].name, what);
        self.send(&event).await
    }

    /// Keeps that somebody is to be told how a job ended, until they were.
    pub(super) async fn want_notification(&mut self, loaded: &Loaded, job: usize, succeeded: bool) -> Result<(), DbError> {
        let text = "INSERT INTO t_notification (notification_id, pipeline_run_id, job_index, succeeded, tries, next_at, created_at) \
                    VALUES ($1, $2, $3, $4, 0, $5, $5)";
        sqlx::query(text)
            .bind(self.id())
            .bind(&*loaded.head.run_id)
            .bind(index(job))
            .bind(i64::from(succeeded))
            .bind(self.now)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}

fn index(job: usize) -> i64 {
    i64::try_from(job).unwrap_or(i64::MAX)
}
