//! Pauses, approvals and keys.

use super::super::input::{Impossible, StepIndex};
use super::super::state::{JobEnd, JobState, RunState, StepEnd, StepState};
use super::{Run, Turn};

impl Run {
    pub(super) fn pause(&mut self, reason: String, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        if !self.is_running() {
            return Err(self.refuse_run("paused"));
        }
        self.move_run(RunState::Paused { since: turn.now }, reason, turn);
        Ok(())
    }

    pub(super) fn resume(&mut self, reason: String, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        let RunState::Paused { since } = self.record.state else { return Err(self.refuse_run("resumed")) };
        let paused = turn.now.saturating_sub(since).max(0);
        for job in 0..self.record.jobs.len() {
            let JobState::Running(running) = &self.record.jobs[job].state else { continue };
            let step = StepIndex { job, step: running.at() };
            let longer = JobState::Running(running.clone().extend(paused));
            self.move_job(job, longer, String::new(), turn);
            let state = match self.step(step).state.clone() {
                StepState::Queued(queued) => StepState::Queued(queued.extend(paused)),
                StepState::Delayed(delayed) => StepState::Delayed(delayed.extend(paused)),
                _ => continue,
            };
            self.move_step(step, state, String::new(), turn);
        }
        self.move_run(RunState::Running, reason, turn);
        Ok(())
    }

    pub(super) fn approve(&mut self, job: usize, by: &str, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.known_job(job)?;
        let JobState::Approval(approval) = &self.record.jobs[job].state else { return Err(self.refuse_job(job, "approved")) };
        let cleared = approval.clone().clear();
        self.move_job(job, JobState::Cleared(cleared), format!("approved by {by}"), turn);
        Ok(())
    }

    pub(super) fn reject(&mut self, job: usize, reason: String, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.known_job(job)?;
        let JobState::Approval(approval) = &self.record.jobs[job].state else { return Err(self.refuse_job(job, "rejected")) };
        let ended = JobState::Ended(approval.clone().end(JobEnd::Failed));
        self.end_job(job, ended, StepEnd::Skipped, reason, turn);
        Ok(())
    }

    pub(super) fn key_granted(&mut self, job: usize, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        self.known_job(job)?;
        let JobState::Key(key) = &self.record.jobs[job].state else { return Err(self.refuse_job(job, "given its key")) };
        let running = key.clone().run();
        self.move_job(job, JobState::Running(running), String::new(), turn);
        Ok(())
    }
}
