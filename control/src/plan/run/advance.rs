//! What follows by itself: jobs whose dependencies have ended, the next step of a job, the end of a job and of the run.

use super::super::input::{Change, StepIndex};
use super::super::state::{JobEnd, JobState, RunEnd, RunState, StepEnd, StepState};
use super::super::{APPROVAL_EXPIRY, StepIndex as Index};
use super::{Run, Turn};

impl Run {
    /// Does all that can be done now.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.record.state, RunState::Pending | RunState::Ended { .. }) {
            return;
        }
        let plan = self.plan.clone();
        // In this order one pass suffices: a job comes after all that it depends on.
        for job in &plan.order {
            if self.is_running() {
                self.begin_job(*job, turn);
            }
            self.drive(*job, turn);
        }
        self.end_run(turn);
    }

    /// Takes a job from waiting to running, as far as it goes.
    fn begin_job(&mut self, job: usize, turn: &mut Turn<'_>) {
        let planned = &self.plan.jobs[job];
        if let JobState::Waiting(waiting) = &self.record.jobs[job].state {
            let ends: Option<Vec<JobEnd>> = planned.before.iter().map(|before| self.record.jobs[*before].state.end()).collect();
            let Some(ends) = ends else { return };
            let failed = ends.into_iter().any(JobEnd::is_bad);
            let waiting = waiting.clone();
            match self.plan.holds(job, None, failed) {
                Ok(true) if planned.approval => {
                    let expires = turn.now.saturating_add(APPROVAL_EXPIRY);
                    self.move_job(job, JobState::Approval(waiting.ask(expires)), "waits for approval".into(), turn);
                    turn.changes.push(Change::ApprovalWanted { job, expires });
                }
                Ok(true) => self.move_job(job, JobState::Cleared(waiting.clear()), String::new(), turn),
                Ok(false) => {
                    let (end, reason) = match failed {
                        true => (JobEnd::Blocked, "a job that it depends on did not succeed"),
                        false => (JobEnd::Skipped, "its condition does not hold"),
                    };
                    self.end_job(job, JobState::Ended(waiting.end(end)), StepEnd::Skipped, reason.into(), turn);
                }
                Err(error) => {
                    self.end_job(
                        job,
                        JobState::Ended(waiting.end(JobEnd::Failed)),
                        StepEnd::Skipped,
                        format!("when: {error}"),
                        turn,
                    );
                }
            }
        }
        let JobState::Cleared(cleared) = &self.record.jobs[job].state else { return };
        let cleared = cleared.clone();
        match self.plan.jobs[job].key.clone() {
            Some(key) => {
                self.move_job(job, JobState::Key(cleared.want_key()), format!("waits for the key '{key}'"), turn);
                turn.changes.push(Change::KeyWanted { job, key });
            }
            None => self.move_job(job, JobState::Running(cleared.run()), String::new(), turn),
        }
    }

    /// Takes a job's steps as far as they go: ends what is over, and makes the next step ready.
    fn drive(&mut self, job: usize, turn: &mut Turn<'_>) {
        loop {
            let steps = &self.record.jobs[job].steps;
            let running = match &self.record.jobs[job].state {
                JobState::Running(running) => running.clone(),
                JobState::Stopping(stopping) if steps[stopping.at()].state.end().is_some() => {
                    let (ended, reason) = stopping.clone().stopped();
                    self.end_job(job, JobState::Ended(ended), StepEnd::Cancelled, reason, turn);
                    return;
                }
                _ => return,
            };
            if let Some(end) = steps[running.at()].state.end() {
                let next = running.next(end);
                // After the last step comes the job's end, which is told anyway.
                if next.at() < steps.len() {
                    self.move_job(job, JobState::Running(next), String::new(), turn);
                } else {
                    self.end_job(job, JobState::Ended(next.finish()), StepEnd::Skipped, String::new(), turn);
                    return;
                }
            } else if !self.begin_step(Index { job, step: running.at() }, running.has_failed(), turn) {
                return;
            }
        }
    }

    /// Queues the current step of a job, or ends it at once. Whether it moved to its end.
    fn begin_step(&mut self, step: StepIndex, failed: bool, turn: &mut Turn<'_>) -> bool {
        if !self.is_running() {
            return false;
        }
        let next = match &self.step(step).state {
            StepState::Delayed(delayed) if delayed.until() <= turn.now => {
                let queued = delayed.clone().queue();
                self.move_step(step, StepState::Queued(queued), String::new(), turn);
                return false;
            }
            StepState::Waiting(waiting) => waiting.clone(),
            _ => return false,
        };
        match self.plan.holds(step.job, Some(step.step), failed) {
            Ok(true) => {
                self.move_step(step, StepState::Queued(next.queue()), String::new(), turn);
                return false;
            }
            Ok(false) => {
                let reason = if failed { "an earlier step did not succeed" } else { "its condition does not hold" };
                self.move_step(step, StepState::Ended(next.end(StepEnd::Skipped)), reason.into(), turn);
            }
            Err(error) => {
                let end = StepEnd::Failed { forgiven: self.forgives(step) };
                self.move_step(step, StepState::Ended(next.end(end)), format!("when: {error}"), turn);
            }
        }
        true
    }

    /// Whether the job goes on after a bad end of the step.
    pub(super) fn forgives(&self, step: StepIndex) -> bool {
        self.plan.jobs[step.job].steps[step.step].continue_on_error
    }

    /// Ends a job; steps that still wait end as `rest`. What else the job held is given back.
    pub(super) fn end_job(&mut self, job: usize, ended: JobState, rest: StepEnd, reason: String, turn: &mut Turn<'_>) {
        for step in (0..self.record.jobs[job].steps.len()).map(|step| Index { job, step }) {
            if let StepState::Waiting(waiting) = &self.step(step).state {
                let ended = waiting.clone().end(rest);
                self.move_step(step, StepState::Ended(ended), reason.clone(), turn);
            }
        }
        let held = matches!(self.record.jobs[job].state, JobState::Key(_) | JobState::Running(_) | JobState::Stopping(_));
        let end = ended.end();
        self.move_job(job, ended, reason, turn);
        let planned = &self.plan.jobs[job];
        if let Some(key) = planned.key.clone().filter(|_| held) {
            turn.changes.push(Change::KeyReleased { job, key });
        }
        match end {
            Some(JobEnd::Succeeded) if planned.notify.0 => turn.changes.push(Change::Notify { job, succeeded: true }),
            Some(JobEnd::Failed | JobEnd::TimedOut) if planned.notify.1 => {
                turn.changes.push(Change::Notify { job, succeeded: false });
            }
            _ => {}
        }
    }

    fn end_run(&mut self, turn: &mut Turn<'_>) {
        let ends: Option<Vec<JobEnd>> = self.record.jobs.iter().map(|job| job.state.end()).collect();
        let Some(ends) = ends else { return };
        let (how, reason) = match &self.record.state {
            RunState::Cancelling { reason } => (RunEnd::Cancelled, reason.clone()),
            _ if ends.iter().any(|end| matches!(end, JobEnd::Failed | JobEnd::TimedOut)) => (RunEnd::Failed, String::new()),
            _ if ends.contains(&JobEnd::Cancelled) => (RunEnd::Cancelled, String::new()),
            _ => (RunEnd::Succeeded, String::new()),
        };
        self.move_run(RunState::Ended { how }, reason, turn);
    }
}
