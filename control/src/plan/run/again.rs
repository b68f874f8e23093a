//! A step that ended badly runs again, after the end of the run.

use super::super::input::{Impossible, StepIndex};
use super::super::state::{JobEnd, JobState, RunEnd, RunState, StepState};
use super::{Run, Turn};

impl Run {
    pub(super) fn retry_step(&mut self, step: StepIndex, reason: &str, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.known_step(step)?;
        let RunState::Ended { how: RunEnd::Failed | RunEnd::Cancelled } = self.record.state else {
            return Err(self.refuse_run("taken up again"));
        };
        let JobState::Ended(job) = self.record.jobs[step.job].state.clone() else {
            return Err(self.refuse_job(step.job, "taken up again"));
        };
        let is_bad = |step: StepIndex| self.step(step).state.end().is_some_and(|end| end.is_bad());
        if !job.end().is_bad() || !is_bad(step) {
            return Err(self.refuse_step(step, "run again"));
        }
        if let Some(first) =
            (0..step.step).map(|earlier| StepIndex { job: step.job, step: earlier }).find(|earlier| is_bad(*earlier))
        {
            return Err(Impossible::NotFirst { step: self.step_name(step), first: self.step_name(first) });
        }
        self.move_run(RunState::Running, reason.to_owned(), turn);
        let state = match job.is_started() {
            true => JobState::Cleared(job.again_from(step.step)),
            false => JobState::Waiting(job.again()),
        };
        self.move_job(step.job, state, reason.to_owned(), turn);
        self.reset_steps(step, turn);
        for job in self.never_begun_behind(step.job) {
            let JobState::Ended(ended) = &self.record.jobs[job].state else { continue };
            let waiting = JobState::Waiting(ended.clone().again());
            self.move_job(job, waiting, reason.to_owned(), turn);
            self.reset_steps(StepIndex { job, step: 0 }, turn);
        }
        Ok(())
    }

    /// Lets a step and those behind it wait again, each with a new attempt.
    fn reset_steps(&mut self, from: StepIndex, turn: &mut Turn<'_>) {
        for step in (from.step..self.record.jobs[from.job].steps.len()).map(|step| StepIndex { step, ..from }) {
            let StepState::Ended(ended) = &self.step(step).state else { continue };
            let waiting = StepState::Waiting(ended.clone().again());
            self.new_attempt(step, 1, turn);
            self.replace_step(step, waiting, turn);
        }
    }

    /// The jobs that depend on `job`, directly or not, and were blocked or cancelled before they began.
    fn never_begun_behind(&self, job: usize) -> Vec<usize> {
        let mut behind = vec![false; self.plan.jobs.len()];
        behind[job] = true;
        let mut found = Vec::new();
        for later in &self.plan.order {
            if *later == job || !self.plan.jobs[*later].before.iter().any(|before| behind[*before]) {
                continue;
            }
            behind[*later] = true;
            if let JobState::Ended(ended) = &self.record.jobs[*later].state
                && matches!(ended.end(), JobEnd::Blocked | JobEnd::Cancelled)
                && !ended.is_started()
            {
                found.push(*later);
            }
        }
        found
    }
}
