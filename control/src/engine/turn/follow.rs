//! The planner's changes, one after the other, into rows, events and the engine's memory.

use std::collections::{BTreeSet, VecDeque};

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::super::ready::{self, Waiting};
use super::super::rows::{KeptLock, Loaded, PRIORITY, StepRow, is_over, run_is_over};
use super::super::update::Moved;
use super::Turn;
use crate::db::DbError;
use crate::plan::{Change, StepIndex, StepState};

/// What has to be written at the end.
#[derive(Debug, Default)]
struct Dirty {
    head: bool,
    jobs: BTreeSet<usize>,
    steps: BTreeSet<StepIndex>,
    new: BTreeSet<StepIndex>,
    /// The run was paused or goes on: all its steps come into the queue or leave it.
    all_steps: bool,
}

impl Turn<'_> {
    pub(super) async fn follow(
        &mut self,
        loaded: &mut Loaded,
        changes: Vec<Change>,
        freed: &mut VecDeque<(String, usize)>,
    ) -> Result<(), DbError> {
        let mut dirty = Dirty::default();
        for change in changes {
            match change {
                Change::Run { from, to, .. } => self.run_moved(loaded, from, to, &mut dirty).await?,
                Change::Job { job, from, to, reason } => self.job_moved(loaded, job, (from, to), reason, &mut dirty).await?,
                Change::Step { step, from, to, reason, .. } => {
                    self.step_moved(loaded, step, (from, to), reason, &mut dirty).await?;
                }
                Change::NewAttempt { step, attempt, number } => {
                    self.new_attempt(loaded, step, attempt, number, &mut dirty).await?;
                }
                Change::Stop { step, attempt, reason } => {
                    let agent_id = loaded.steps[step.job][step.step].agent_id.clone();
                    self.tell(loaded, Moved::Stop { agent_id, step_run_id: attempt, reason }).await?;
                }
                Change::ApprovalWanted { job, expires } => self.open_approval(loaded, job, expires).await?,
                Change::KeyWanted { job, key } => {
                    let order = self.next_seq();
                    let holder = (loaded.head.run_id.clone(), job);
                    let held = self.state.locks.want(&key, order, holder.clone());
                    loaded.jobs[job].lock = Some(KeptLock { key, order, held });
                    dirty.jobs.insert(job);
                    if held {
                        freed.push_back(holder);
                    }
                }
                Change::KeyReleased { job, key } => {
                    loaded.jobs[job].lock = None;
                    dirty.jobs.insert(job);
                    freed.extend(self.state.locks.release(&key, &(loaded.head.run_id.clone(), job)));
                }
                Change::Notify { job, succeeded } => self.want_notification(loaded, job, succeeded).await?,
                Change::Due { at } => {
                    self.state.due.set(&loaded.head.run_id, at);
                    dirty.head = true;
                }
            }
        }
        self.write(loaded, &dirty).await
    }

    async fn run_moved(
        &mut self,
        loaded: &mut Loaded,
        from: PipelineStatus,
        to: PipelineStatus,
        dirty: &mut Dirty,
    ) -> Result<(), DbError> {
        dirty.head = true;
        if from == to {
            return Ok(());
        }
        let head = &mut loaded.head;
        head.status = to;
        head.started = head.started.or(Some(self.now));
        head.ended = run_is_over(to).then_some(self.now);
        dirty.all_steps |= [from, to].contains(&PipelineStatus::Paused);
        let count = |status: PipelineStatus| i64::from(to == status) - i64::from(from == status);
        let (succeeded, failed) = (count(PipelineStatus::Success), count(PipelineStatus::Failed));
        let text = "UPDATE t_pipeline SET status = $2, success_runs = success_runs + $3, failed_runs = failed_runs + $4 \
                    WHERE pipeline_id = $1";
        sqlx::query(text)
            .bind(&*head.pipeline_id)
            .bind(i64::from(i32::from(to)))
            .bind(succeeded)
            .bind(failed)
            .execute(&mut *self.connection)
            .await?;
        let run = loaded.head.clone();
        self.tell(loaded, Moved::Run { from, run }).await
    }

    async fn job_moved(
        &mut self,
        loaded: &mut Loaded,
        job: usize,
        (from, to): (StepRunStatus, StepRunStatus),
        reason: String,
        dirty: &mut Dirty,
    ) -> Result<(), DbError> {
        dirty.jobs.insert(job);
        if from == to {
            return Ok(());
        }
        let error = match to {
            StepRunStatus::Success => String::new(),
            to if !is_over(to) => String::new(),
            _ if reason.is_empty() => first_error(&loaded.steps[job]),
            _ => reason,
        };
        let row = &mut loaded.jobs[job];
        row.status = to;
        row.error = error;
        if is_over(from) {
            row.started = None;
        }
        if to == StepRunStatus::Running {
            row.started = row.started.or(Some(self.now));
        }
        row.ended = is_over(to).then_some(self.now);
        let count = |is: &dyn Fn(StepRunStatus) -> bool| i64::from(is(to)) - i64::from(is(from));
        let head = &mut loaded.head;
        head.running_jobs += count(&|status| status == StepRunStatus::Running);
        head.completed_jobs += count(&is_over);
        head.failed_jobs += count(&has_failed);
        dirty.head = true;
        let job = loaded.jobs[job].clone();
        self.tell(loaded, Moved::Job { from, job }).await
    }

    async fn step_moved(
        &mut self,
        loaded: &mut Loaded,
        step: StepIndex,
        (from, to): (StepRunStatus, StepRunStatus),
        reason: String,
        dirty: &mut Dirty,
    ) -> Result<(), DbError> {
        dirty.steps.insert(step);
        let now = self.now;
        let row = &mut loaded.steps[step.job][step.step];
        if from == to {
            return Ok(());
        }
        row.status = to;
        let mut stop = None;
        match to {
            StepRunStatus::Queued => row.queued = Some(now),
            StepRunStatus::Running => {
                row.started = Some(now);
                row.lease = None;
                self.state.leases.set(&row.step_run_id, None);
            }
            _ if is_over(to) => {
                row.ended = Some(now);
                row.lease = None;
                if to != StepRunStatus::Success {
                    row.error = reason;
                }
                if !row.agent_id.is_empty() {
                    self.state.no_longer_held(&row.agent_id, &row.step_run_id);
                    // It was handed out and may be about to start.
                    if from == StepRunStatus::Queued {
                        stop = Some((row.agent_id.clone(), row.step_run_id.clone(), row.error.clone()));
                    }
                }
                let job = &mut loaded.jobs[step.job];
                job.completed_steps += 1;
                job.failed_steps += i64::from(has_failed(to));
                dirty.jobs.insert(step.job);
            }
            _ => {}
        }
        let job = std::sync::Arc::from(&*loaded.jobs[step.job].name);
        let row = loaded.steps[step.job][step.step].clone();
        self.tell(loaded, Moved::Step { from, job, index: step.step, step: row }).await?;
        if let Some((agent_id, step_run_id, reason)) = stop {
            self.tell(loaded, Moved::Stop { agent_id, step_run_id, reason }).await?;
        }
        Ok(())
    }

    async fn new_attempt(
        &mut self,
        loaded: &mut Loaded,
        step: StepIndex,
        attempt: String,
        number: u32,
        dirty: &mut Dirty,
    ) -> Result<(), DbError> {
        let place = &mut loaded.steps[step.job][step.step];
        let fresh = StepRow { env: place.env.clone(), ..StepRow::of_attempt(attempt, number, &place.name, &place.timeout) };
        let old = std::mem::replace(place, fresh);
        if is_over(old.status) {
            let job = &mut loaded.jobs[step.job];
            job.completed_steps -= 1;
            job.failed_steps -= i64::from(has_failed(old.status));
            dirty.jobs.insert(step.job);
        }
        dirty.new.insert(step);
        self.state.ready.remove(&old.step_run_id);
        old.save(self.connection, None, self.now).await
    }

    async fn write(&mut self, loaded: &Loaded, dirty: &Dirty) -> Result<(), DbError> {
        let now = self.now;
        for step in dirty.new.iter().copied() {
            loaded.insert_step(self.connection, step.job, step.step, now).await?;
        }
        for step in dirty.steps.iter().copied() {
            let row = &loaded.steps[step.job][step.step];
            if !dirty.new.contains(&step) || !matches!(row.status, StepRunStatus::Pending | StepRunStatus::Queued) {
                loaded.save_step(self.connection, step.job, step.step, now).await?;
            }
        }
        for job in dirty.jobs.iter().copied() {
            loaded.save_job(self.connection, job, now).await?;
        }
        if dirty.head {
            loaded.save_head(self.connection, now).await?;
        }
        let all =
            || (0..loaded.steps.len()).flat_map(|job| (0..loaded.steps[job].len()).map(move |step| StepIndex { job, step }));
        let touched: Vec<StepIndex> = if dirty.all_steps { all().collect() } else { dirty.steps.iter().copied().collect() };
        let mut more = false;
        for step in touched {
            more |= self.queue_or_not(loaded, step);
        }
        if more {
            let update = self.update(loaded, Moved::Ready);
            self.updates.push(update);
        }
        Ok(())
    }

    /// Puts a step into the queue, or takes it out. Whether it came in.
    pub(in crate::engine) fn queue_or_not(&mut self, loaded: &Loaded, step: StepIndex) -> bool {
        let row = &loaded.steps[step.job][step.step];
        let queued = matches!(loaded.run.record().jobs[step.job].steps[step.step].state, StepState::Queued(_));
        if !queued || !row.agent_id.is_empty() || loaded.head.status != PipelineStatus::Running {
            self.state.ready.remove(&row.step_run_id);
            return false;
        }
        let selector = loaded.spec.jobs[step.job].steps[step.step].agent_selector.as_ref();
        let home = loaded.jobs[step.job].agent_id.clone();
        let labels = self.state.agents.labels(&home);
        let waiting = Waiting { step_run_id: row.step_run_id.clone(), run_id: loaded.head.run_id.clone(), step, home };
        self.state.ready.push(waiting, &ready::text(selector), PRIORITY, row.queued.unwrap_or(self.now), labels);
        true
    }
}

fn has_failed(status: StepRunStatus) -> bool {
    matches!(status, StepRunStatus::Failed | StepRunStatus::Timeout)
}

/// Why a job ended badly: its first step that did.
fn first_error(steps: &[StepRow]) -> String {
    let bad = |step: &&StepRow| has_failed(step.status) || step.status == StepRunStatus::Cancelled;
    let Some(step) = steps.iter().find(bad) else { return String::new() };
    let how = match step.status {
        StepRunStatus::Timeout => "timed out",
        StepRunStatus::Cancelled => "was cancelled",
        _ => "failed",
    };
    let why = if step.error.is_empty() { String::new() } else { format!(": {}", step.error) };
    format!("step '{}' {how}{why}", step.name)
}
