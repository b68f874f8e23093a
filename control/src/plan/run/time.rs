//! What is due, and what happens then.

use super::super::input::{Impossible, StepIndex};
use super::super::state::{JobEnd, JobState, StepEnd, StepState};
use super::{Run, Turn};
use crate::Millis;

impl Run {
    /// When the next [`super::super::Input::Tick`] is wanted: the end of a delay, a timeout, of an approval, or of the patience with
    /// an executor. Absent if only other inputs are waited for.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        let jobs = 0..self.record.jobs.len();
        jobs.flat_map(|job| [self.job_due(job), self.step_due(job).map(|(at, _)| at)]).flatten().min()
    }

    fn job_due(&self, job: usize) -> Option<Millis> {
        self.record.jobs[job].state.due(self.is_paused())
    }

    /// The current step of a job, if something is due for it, and when.
    fn step_due(&self, job: usize) -> Option<(Millis, StepIndex)> {
        let step = StepIndex { job, step: self.record.jobs[job].state.current()? };
        Some((self.step(step).state.due(self.is_paused())?, step))
    }

    /// The time at which a step's time is over, if it has begun: what an executor is given.
    #[must_use]
    pub fn deadline(&self, step: StepIndex) -> Option<Millis> {
        let job = self.record.jobs.get(step.job)?;
        let of_job = job.state.due(false).filter(|_| matches!(job.state, JobState::Running(_)));
        [job.steps.get(step.step)?.state.deadline(), of_job].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        if self.due().is_none_or(|at| at > turn.now) {
            return Err(Impossible::NothingDue);
        }
        // Of several times that are over, the job's decides; nothing new starts before all that is to end has ended.
        for job in 0..self.record.jobs.len() {
            if self.job_due(job).is_some_and(|at| at <= turn.now) {
                self.end_jobs_time(job, turn);
            }
            if let Some((_, step)) = self.step_due(job).filter(|(at, _)| *at <= turn.now) {
                self.end_steps_time(step, turn);
            }
        }
        Ok(())
    }

    fn end_jobs_time(&mut self, job: usize, turn: &mut Turn<'_>) {
        match &self.record.jobs[job].state {
            JobState::Approval(approval) => {
                let ended = JobState::Ended(approval.clone().end(JobEnd::TimedOut));
                self.end_job(job, ended, StepEnd::Skipped, "nobody approved in time".into(), turn);
            }
            _ => self.stop_job(job, JobEnd::TimedOut, "the job's time is over", turn),
        }
    }

    fn end_steps_time(&mut self, step: StepIndex, turn: &mut Turn<'_>) {
        match &self.step(step).state {
            StepState::Stopping(stopping) => {
                let (ended, reason) = stopping.clone().stopped();
                let reason = format!("{reason}; its executor did not say that it stopped");
                self.move_step(step, StepState::Ended(ended), reason, turn);
            }
            // The delay is over: `advance` queues it.
            StepState::Delayed(_) if self.step(step).state.deadline().is_none_or(|deadline| deadline > turn.now) => {}
            _ => {
                let end = StepEnd::TimedOut { forgiven: self.forgives(step) };
                self.stop_step(step, end, "the step's time is over".into(), turn);
            }
        }
    }
}
