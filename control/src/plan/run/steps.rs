//! What executors report.

use super::super::input::{Impossible, Outcome, StepIndex};
use super::super::state::{JobState, StepEnd, StepState};
use super::{Run, Turn};

impl Run {
    /// Whether a report is about the step's current attempt.
    fn current(&self, step: StepIndex, attempt: &str) -> Result<(), Impossible> {
        self.known_step(step)?;
        if self.step(step).attempt == attempt {
            return Ok(());
        }
        Err(Impossible::OldAttempt { step: self.step_name(step), attempt: attempt.to_owned() })
    }

    pub(super) fn step_started(&mut self, step: StepIndex, attempt: &str, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.current(step, attempt)?;
        let StepState::Queued(queued) = &self.step(step).state else { return Err(self.refuse_step(step, "started")) };
        let running = queued.clone().start(turn.now, self.plan.jobs[step.job].steps[step.step].timeout);
        if let JobState::Running(job) = &self.record.jobs[step.job].state
            && !job.is_started()
        {
            let job = job.clone().start(turn.now, self.plan.jobs[step.job].timeout);
            self.move_job(step.job, JobState::Running(job), String::new(), turn);
        }
        self.move_step(step, StepState::Running(running), String::new(), turn);
        Ok(())
    }

    pub(super) fn step_ended(
        &mut self,
        step: StepIndex,
        attempt: &str,
        outcome: Outcome,
        reason: String,
        turn: &mut Turn<'_>,
    ) -> Result<(), Impossible> {
        self.current(step, attempt)?;
        match &self.step(step).state {
            // The report of its start was lost, or is slower.
            StepState::Queued(_) => self.step_started(step, attempt, turn)?,
            StepState::Running(_) | StepState::Stopping(_) => {}
            _ => return Err(self.refuse_step(step, "ended")),
        }
        let forgiven = self.forgives(step);
        let state = match (&self.step(step).state, outcome) {
            (StepState::Stopping(stopping), Outcome::Succeeded) => stopping.clone().succeeded(),
            (StepState::Stopping(stopping), _) => {
                let (ended, why) = stopping.clone().stopped();
                self.move_step(step, StepState::Ended(ended), why, turn);
                return Ok(());
            }
            (StepState::Running(running), Outcome::Succeeded) => running.clone().end(StepEnd::Succeeded),
            (StepState::Running(running), Outcome::Cancelled) => running.clone().end(StepEnd::Cancelled),
            (StepState::Running(running), Outcome::TimedOut) => running.clone().end(StepEnd::TimedOut { forgiven }),
            (StepState::Running(running), Outcome::Failed | Outcome::Lost) => {
                let job = &self.plan.jobs[step.job];
                let tries = self.step(step).tries;
                let failed = running.clone().end(StepEnd::Failed { forgiven });
                if tries < job.max_attempts {
                    let delayed = running.clone().delay(turn.now.saturating_add(job.delay));
                    self.move_step(step, StepState::Ended(failed), reason, turn);
                    self.new_attempt(step, tries + 1, turn);
                    self.replace_step(step, StepState::Delayed(delayed), turn);
                    return Ok(());
                }
                failed
            }
            _ => return Err(self.refuse_step(step, "ended")),
        };
        self.move_step(step, StepState::Ended(state), reason, turn);
        Ok(())
    }

    /// The attempt is dead, so that an executor that comes back can not start it beside the new one. It was not tried, so that it
    /// does not count.
    pub(super) fn step_returned(
        &mut self,
        step: StepIndex,
        attempt: &str,
        reason: String,
        turn: &mut Turn<'_>,
    ) -> Result<(), Impossible> {
        self.current(step, attempt)?;
        let StepState::Queued(queued) = &self.step(step).state else { return Err(self.refuse_step(step, "given back")) };
        let (dead, next) = (queued.clone().end(StepEnd::Cancelled), queued.clone().give_back(turn.now));
        let tries = self.step(step).tries;
        self.move_step(step, StepState::Ended(dead), reason, turn);
        self.new_attempt(step, tries, turn);
        self.replace_step(step, StepState::Delayed(next), turn);
        Ok(())
    }
}
