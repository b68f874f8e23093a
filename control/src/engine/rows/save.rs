//! Writing a run's rows.

use super::*;

impl Loaded {
    /// Writes a run for the first time, with its jobs and steps. False, and nothing is written: its pipeline has a run with this
    /// request's id already.
    pub(in crate::engine) async fn insert(
        &self,
        connection: &mut AnyConnection,
        about: &NewRun<'_>,
        now: Millis,
    ) -> Result<bool, DbError> {
        let head = &self.head;
        let text = "INSERT INTO t_pipeline_run (run_id, pipeline_id, request_id, pipeline_name, project_id, branch, commit_sha, \
                    definition_id, definition_commit_sha, definition_path, status, trigger_type, triggered_by, event, env, \
                    total_jobs, completed_jobs, failed_jobs, running_jobs, duration, state, created_at, updated_at) VALUES \
                    ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0, 0, 0, 0, $17, $18, $18) \
                    ON CONFLICT (pipeline_id, request_id) DO NOTHING";
        let done = sqlx::query(text)
            .bind(&*head.run_id)
            .bind(&*head.pipeline_id)
            .bind(about.request_id)
            .bind(about.pipeline_name)
            .bind(&*head.project_id)
            .bind(about.branch)
            .bind(about.commit)
            .bind(about.definition_id)
            .bind(about.definition_commit)
            .bind(about.definition_path)
            .bind(i64::from(i32::from(head.status)))
            .bind(about.trigger_type)
            .bind(about.triggered_by)
            .bind(about.event)
            .bind(json(about.variables)?)
            .bind(head.total_jobs)
            .bind(json(&self.run.record().state)?)
            .bind(now)
            .execute(&mut *connection)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        for job in 0..self.jobs.len() {
            self.insert_job(connection, job, now).await?;
            for step in 0..self.steps[job].len() {
                self.insert_step(connection, job, step, now).await?;
            }
        }
        Ok(true)
    }

    async fn insert_job(&self, connection: &mut AnyConnection, job: usize, now: Millis) -> Result<(), DbError> {
        let text = "INSERT INTO t_job_run (job_run_id, pipeline_id, pipeline_run_id, job_index, job_name, status, priority, timeout, \
                    total_steps, completed_steps, failed_steps, error_message, duration, state, lock_order, lock_held, created_at, \
                    updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, '', 0, $10, 0, 0, $11, $11)";
        let row = &self.jobs[job];
        sqlx::query(text)
            .bind(&*row.job_run_id)
            .bind(&*self.head.pipeline_id)
            .bind(&*self.head.run_id)
            .bind(number(job))
            .bind(&*row.name)
            .bind(i64::from(i32::from(row.status)))
            .bind(PRIORITY)
            .bind(&*self.spec.jobs[job].timeout)
            .bind(row.total_steps)
            .bind(json(&self.run.record().jobs[job].state)?)
            .bind(now)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Writes a new attempt of a step.
    pub(in crate::engine) async fn insert_step(
        &self,
        connection: &mut AnyConnection,
        job: usize,
        step: usize,
        now: Millis,
    ) -> Result<(), DbError> {
        let text = "INSERT INTO t_step_run (step_run_id, name, pipeline_id, pipeline_run_id, job_id, job_run_id, job_index, job_name, \
                    step_index, attempt, is_current, agent_id, status, priority, uses, action, timeout, retry_count, current_retry, \
                    allow_failure, continue_on_error, \"when\", label_selector, error_message, queued_at, duration, created_by, state, \
                    created_at, updated_at, env) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, '', $11, $12, $13, $14, $15, \
                    $16, $17, $18, $18, $19, $20, '', $21, 0, 'system', $22, $23, $23, $24)";
        let (row, of) = (&self.steps[job][step], &self.spec.jobs[job]);
        let defined = &of.steps[step];
        let tries = of.retry.as_ref().map_or(1, |retry| i64::from(retry.max_attempts).max(1));
        sqlx::query(text)
            .bind(&*row.step_run_id)
            .bind(&*row.name)
            .bind(&*self.head.pipeline_id)
            .bind(&*self.head.run_id)
            .bind(format!("{}-{}", self.head.pipeline_id, of.name))
            .bind(&*self.jobs[job].job_run_id)
            .bind(number(job))
            .bind(&*of.name)
            .bind(number(step))
            .bind(i64::from(row.number))
            .bind(i64::from(i32::from(row.status)))
            .bind(PRIORITY)
            .bind(&*defined.uses)
            .bind(&*defined.action)
            .bind(&*row.timeout)
            .bind(tries - 1)
            .bind(i64::from(row.number) - 1)
            .bind(i64::from(defined.continue_on_error))
            .bind(&*defined.when)
            .bind(super::super::ready::text(defined.agent_selector.as_ref()))
            .bind(row.queued)
            .bind(self.kept(job, step)?)
            .bind(now)
            .bind(row.env.as_ref().map(json).transpose()?)
            .execute(connection)
            .await?;
        Ok(())
    }

    fn kept(&self, job: usize, step: usize) -> Result<String, DbError> {
        let step = &self.run.record().jobs[job].steps[step];
        json(&KeptStep { state: step.state.clone(), tries: step.tries })
    }

    pub(in crate::engine) async fn save_head(&self, connection: &mut AnyConnection, now: Millis) -> Result<(), DbError> {
        let text = "UPDATE t_pipeline_run SET status = $2, completed_jobs = $3, failed_jobs = $4, running_jobs = $5, start_time = $6, \
                    end_time = $7, duration = $8, state = $9, due_at = $10, updated_at = $11 WHERE run_id = $1";
        let row = &self.head;
        sqlx::query(text)
            .bind(&*row.run_id)
            .bind(i64::from(i32::from(row.status)))
            .bind(row.completed_jobs)
            .bind(row.failed_jobs)
            .bind(row.running_jobs)
            .bind(row.started)
            .bind(row.ended)
            .bind(between(row.started, row.ended))
            .bind(json(&self.run.record().state)?)
            .bind(self.run.due())
            .bind(now)
            .execute(connection)
            .await?;
        Ok(())
    }

    pub(in crate::engine) async fn save_job(
        &self,
        connection: &mut AnyConnection,
        job: usize,
        now: Millis,
    ) -> Result<(), DbError> {
        let text = "UPDATE t_job_run SET status = $2, completed_steps = $3, failed_steps = $4, error_message = $5, start_time = $6, \
                    end_time = $7, duration = $8, state = $9, lock_key = $10, lock_order = $11, lock_held = $12, agent_id = $13, \
                    updated_at = $14 WHERE job_run_id = $1";
        let row = &self.jobs[job];
        let lock = row.lock.as_ref();
        sqlx::query(text)
            .bind(&*row.job_run_id)
            .bind(i64::from(i32::from(row.status)))
            .bind(row.completed_steps)
            .bind(row.failed_steps)
            .bind(&*row.error)
            .bind(row.started)
            .bind(row.ended)
            .bind(between(row.started, row.ended))
            .bind(json(&self.run.record().jobs[job].state)?)
            .bind(lock.map(|lock| &*lock.key))
            .bind(lock.map_or(0, |lock| lock.order))
            .bind(lock.map_or(0, |lock| i64::from(lock.held)))
            .bind(&*row.agent_id)
            .bind(now)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Writes the current attempt of a step.
    pub(in crate::engine) async fn save_step(
        &self,
        connection: &mut AnyConnection,
        job: usize,
        step: usize,
        now: Millis,
    ) -> Result<(), DbError> {
        self.steps[job][step].save(connection, Some(self.kept(job, step)?), now).await
    }
}

impl StepRow {
    /// Writes an attempt; without a state it is no longer the step's current one.
    pub(in crate::engine) async fn save(
        &self,
        connection: &mut AnyConnection,
        state: Option<String>,
        now: Millis,
    ) -> Result<(), DbError> {
        let text = "UPDATE t_step_run SET agent_id = $2, lease_until = $3, status = $4, exit_code = $5, error_message = $6, \
                    queued_at = $7, start_time = $8, end_time = $9, duration = $10, state = COALESCE($11, state), is_current = $12, \
                    env = $13, timeout = $14, updated_at = $15 WHERE step_run_id = $1";
        sqlx::query(text)
            .bind(&*self.step_run_id)
            .bind(&*self.agent_id)
            .bind(self.lease)
            .bind(i64::from(i32::from(self.status)))
            .bind(self.exit_code)
            .bind(&*self.error)
            .bind(self.queued)
            .bind(self.started)
            .bind(self.ended)
            .bind(between(self.started, self.ended))
            .bind(state.as_deref())
            .bind(i64::from(state.is_some()))
            .bind(self.env.as_ref().map(json).transpose()?)
            .bind(&*self.timeout)
            .bind(now)
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// What a run's row says beside the run.
#[derive(Debug)]
pub(in crate::engine) struct NewRun<'n> {
    pub(in crate::engine) request_id: Option<&'n str>,
    pub(in crate::engine) pipeline_name: &'n str,
    pub(in crate::engine) branch: &'n str,
    pub(in crate::engine) commit: &'n str,
    pub(in crate::engine) definition_id: &'n str,
    pub(in crate::engine) definition_commit: &'n str,
    pub(in crate::engine) definition_path: &'n str,
    pub(in crate::engine) trigger_type: i64,
    pub(in crate::engine) triggered_by: &'n str,
    pub(in crate::engine) event: &'n str,
    pub(in crate::engine) variables: &'n HashMap<String, String>,
}

fn number(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
