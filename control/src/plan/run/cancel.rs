//! What is no longer wanted, or has taken too long.

use super::super::STOP_GRACE;
use super::super::input::{Change, Impossible, StepIndex};
use super::super::state::{JobEnd, JobState, RunState, StepEnd, StepState};
use super::{Run, Turn};

impl Run {
    pub(super) fn cancel_run(&mut self, reason: &str, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        if matches!(self.record.state, RunState::Cancelling { .. } | RunState::Ended { .. }) {
            return Err(self.refuse_run("cancelled"));
        }
        self.move_run(RunState::Cancelling { reason: reason.to_owned() }, reason.to_owned(), turn);
        for job in 0..self.record.jobs.len() {
            if !matches!(self.record.jobs[job].state, JobState::Stopping(_) | JobState::Ended(_)) {
                self.stop_job(job, JobEnd::Cancelled, reason, turn);
            }
        }
        Ok(())
    }

    pub(super) fn cancel_job(&mut self, job: usize, reason: &str, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.known_job(job)?;
        if matches!(self.record.jobs[job].state, JobState::Stopping(_) | JobState::Ended(_)) {
            return Err(self.refuse_job(job, "cancelled"));
        }
        self.stop_job(job, JobEnd::Cancelled, reason, turn);
        Ok(())
    }

    pub(super) fn cancel_step(&mut self, step: StepIndex, reason: String, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.known_step(step)?;
        if matches!(self.step(step).state, StepState::Stopping(_) | StepState::Ended(_)) {
            return Err(self.refuse_step(step, "cancelled"));
        }
        self.stop_step(step, StepEnd::Cancelled, reason, turn);
        Ok(())
    }

    /// Ends a job that has not ended and is not being stopped, or begins to.
    pub(super) fn stop_job(&mut self, job: usize, end: JobEnd, reason: &str, turn: &mut Turn<'_>) {
        let ended = match self.record.jobs[job].state.clone() {
            JobState::Waiting(waiting) => waiting.end(end),
            JobState::Approval(approval) => approval.end(end),
            JobState::Cleared(cleared) => cleared.end(end),
            JobState::Key(key) => key.end(end),
            JobState::Running(running) => {
                let step = StepIndex { job, step: running.at() };
                // What waits is cancelled now; the job ends when its current step has, which may be now too.
                let stopping = JobState::Stopping(running.stop(end, reason.to_owned()));
                self.move_job(job, stopping, reason.to_owned(), turn);
                for step in (step.step..self.record.jobs[job].steps.len()).map(|step| StepIndex { job, step }) {
                    if !matches!(self.step(step).state, StepState::Stopping(_) | StepState::Ended(_)) {
                        self.stop_step(step, StepEnd::Cancelled, reason.to_owned(), turn);
                    }
                }
                return;
            }
            JobState::Stopping(_) | JobState::Ended(_) => return,
        };
        self.end_job(job, JobState::Ended(ended), StepEnd::Cancelled, reason.to_owned(), turn);
    }

    /// Ends a step that has not ended and is not being stopped, or tells its executor to.
    pub(super) fn stop_step(&mut self, step: StepIndex, end: StepEnd, reason: String, turn: &mut Turn<'_>) {
        let state = match self.step(step).state.clone() {
            StepState::Waiting(waiting) => StepState::Ended(waiting.end(end)),
            StepState::Queued(queued) => StepState::Ended(queued.end(end)),
            StepState::Delayed(delayed) => StepState::Ended(delayed.end(end)),
            StepState::Running(running) => {
                let attempt = self.step(step).attempt.clone();
                turn.changes.push(Change::Stop { step, attempt, reason: reason.clone() });
                StepState::Stopping(running.stop(end, reason.clone(), turn.now.saturating_add(STOP_GRACE)))
            }
            StepState::Stopping(_) | StepState::Ended(_) => return,
        };
        self.move_step(step, state, reason, turn);
    }
}
