//! What is due, and what happens then.

use super::super::input::{Impossible, StepIndex};
use super::super::state::{JobEnd, JobState, StepEnd, StepState};
use super::{Run, Turn};
use crate::Millis;

/// What a time is due for.
enum Due {
    Job(usize),
    Step(StepIndex),
}

impl Run {
    /// When the next [`super::super::Input::Tick`] is wanted: the end of a delay, a timeout, of an approval, or of the patience with
    /// an executor. Absent if only other inputs are waited for.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        self.next_due().map(|(at, _)| at)
    }

    fn next_due(&self) -> Option<(Millis, Due)> {
        let paused = self.is_paused();
        let jobs = self.record.jobs.iter().enumerate();
        let dues = jobs.flat_map(|(index, job)| {
            let step = job.state.current().map(|step| StepIndex { job: index, step });
            // An ended job is not looked at: its steps have ended.
            let step = step.and_then(|step| Some((job.steps.get(step.step)?.state.due(paused)?, Due::Step(step))));
            [job.state.due(paused).map(|at| (at, Due::Job(index))), step]
        });
        dues.flatten().min_by_key(|(at, _)| *at)
    }

    /// The time at which a step's time is over, if it has begun: what an executor is given.
    #[must_use]
    pub fn deadline(&self, step: StepIndex) -> Option<Millis> {
        let job = self.record.jobs.get(step.job)?;
        let of_job = job.state.due(false).filter(|_| matches!(job.state, JobState::Running(_)));
        [job.steps.get(step.step)?.state.deadline(), of_job].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        let mut ticked = false;
        // Each round ends something or moves it to a later time, so that this ends.
        while let Some((_, due)) = self.next_due().filter(|(at, _)| *at <= turn.now) {
            match due {
                Due::Job(job) => self.job_due(job, turn),
                Due::Step(step) => self.step_due(step, turn),
            }
            ticked = true;
            self.advance(turn);
        }
        if ticked { Ok(()) } else { Err(Impossible::NothingDue) }
    }

    fn job_due(&mut self, job: usize, turn: &mut Turn<'_>) {
        match &self.record.jobs[job].state {
            JobState::Approval(approval) => {
                let ended = JobState::Ended(approval.clone().end(JobEnd::TimedOut));
                self.end_job(job, ended, StepEnd::Skipped, "nobody approved in time".into(), turn);
            }
            _ => self.stop_job(job, JobEnd::TimedOut, "the job's time is over", turn),
        }
    }

    fn step_due(&mut self, step: StepIndex, turn: &mut Turn<'_>) {
        match &self.step(step).state {
            StepState::Stopping(stopping) => {
                let (ended, reason) = stopping.clone().stopped();
                let reason = format!("{reason}; its executor did not say that it stopped");
                self.move_step(step, StepState::Ended(ended), reason, turn);
            }
            // The delay is over: `advance` queues it.
            StepState::Delayed(delayed) if self.step(step).state.deadline().is_none_or(|deadline| deadline > delayed.until()) => {
            }
            _ => {
                let end = StepEnd::TimedOut { forgiven: self.forgives(step) };
                self.stop_step(step, end, "the step's time is over".into(), turn);
            }
        }
    }
}
