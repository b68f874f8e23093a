//! A run: its plan and its state, and the way of an input through them.

use std::sync::Arc;

use arcgate_api::steprun::v1::StepRunStatus;

use super::definition::Plan;
use super::input::{Change, Impossible, Input, StepIndex, What};
use super::state::{Job, JobState, Record, RunState, Step, StepState, WaitingJob, WaitingStep, status_name};
use crate::Millis;

mod advance;
mod again;
mod cancel;
mod pause;
mod steps;
mod time;

/// A run of a pipeline.
#[derive(Debug, Clone)]
pub struct Run {
    plan: Arc<Plan>,
    record: Record,
}

/// Why a record is not one of a plan's runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record does not fit the plan: {0}")]
pub struct Corrupt(String);

/// What one input needs besides the run: the time, new ids, and a place for what follows.
pub(super) struct Turn<'t> {
    now: Millis,
    ids: &'t mut dyn FnMut() -> String,
    changes: Vec<Change>,
}

impl Run {
    /// A run that has not begun. `ids` gives the ids of attempts, each time another one; here the first of each step.
    #[must_use]
    pub fn new(plan: Arc<Plan>, ids: &mut dyn FnMut() -> String) -> Self {
        let mut step = || Step { state: StepState::Waiting(WaitingStep::default()), attempt: ids(), number: 1, tries: 1 };
        let mut job =
            |steps: usize| Job { state: JobState::Waiting(WaitingJob::default()), steps: (0..steps).map(|_| step()).collect() };
        let jobs = plan.jobs.iter().map(|planned| job(planned.steps.len())).collect();
        Self { plan, record: Record { state: RunState::Pending, jobs } }
    }

    /// A run as it was when its record was kept.
    ///
    /// # Errors
    /// If the record has not the plan's jobs and steps.
    pub fn restore(plan: Arc<Plan>, record: Record) -> Result<Self, Corrupt> {
        if record.jobs.len() != plan.jobs.len() {
            return Err(Corrupt(format!("{} jobs instead of {}", record.jobs.len(), plan.jobs.len())));
        }
        for (job, planned) in record.jobs.iter().zip(&plan.jobs) {
            if job.steps.len() != planned.steps.len() {
                return Err(Corrupt(format!(
                    "job '{}' has {} steps instead of {}",
                    planned.name,
                    job.steps.len(),
                    planned.steps.len()
                )));
            }
            if job.state.current().is_some_and(|at| at >= job.steps.len()) {
                return Err(Corrupt(format!("job '{}' is at a step that it does not have", planned.name)));
            }
        }
        Ok(Self { plan, record })
    }

    /// What does not change.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What changes, to be kept.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Takes an input at time `now`, which should not be before that of the last one.
    ///
    /// # Errors
    /// Why the input can not be; then nothing has changed.
    pub fn apply(&mut self, input: Input, now: Millis, ids: &mut dyn FnMut() -> String) -> Result<Vec<Change>, Impossible> {
        let due = self.due();
        let mut turn = Turn { now, ids, changes: Vec::new() };
        match input {
            Input::Begin => self.begin(&mut turn)?,
            Input::StepStarted { step, attempt } => self.step_started(step, &attempt, &mut turn)?,
            Input::StepEnded { step, attempt, outcome, reason } => self.step_ended(step, &attempt, outcome, reason, &mut turn)?,
            Input::StepReturned { step, attempt, reason } => self.step_returned(step, &attempt, reason, &mut turn)?,
            Input::Tick => self.tick(&mut turn)?,
            Input::Approve { job, by } => self.approve(job, &by, &mut turn)?,
            Input::Reject { job, reason } => self.reject(job, reason, &mut turn)?,
            Input::KeyGranted { job } => self.key_granted(job, &mut turn)?,
            Input::Pause { reason } => self.pause(reason, &mut turn)?,
            Input::Resume { reason } => self.resume(reason, &mut turn)?,
            Input::Cancel { what: What::Run, reason } => self.cancel_run(&reason, &mut turn)?,
            Input::Cancel { what: What::Job(job), reason } => self.cancel_job(job, &reason, &mut turn)?,
            Input::Cancel { what: What::Step(step), reason } => self.cancel_step(step, reason, &mut turn)?,
            Input::RetryStep { step, reason } => self.retry_step(step, &reason, &mut turn)?,
        }
        self.advance(&mut turn);
        let mut changes = turn.changes;
        if self.due() != due {
            changes.push(Change::Due { at: self.due() });
        }
        Ok(changes)
    }

    fn begin(&mut self, turn: &mut Turn<'_>) -> Result<(), Impossible> {
        if self.record.state != RunState::Pending {
            return Err(self.refuse_run("begun"));
        }
        self.move_run(RunState::Running, String::new(), turn);
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.record.state == RunState::Running
    }

    fn is_paused(&self) -> bool {
        matches!(self.record.state, RunState::Paused { .. })
    }

    fn refuse_run(&self, wanted: &'static str) -> Impossible {
        Impossible::State { what: "the run".into(), state: self.record.state.name(), wanted }
    }

    fn refuse_job(&self, job: usize, wanted: &'static str) -> Impossible {
        let state = match &self.record.jobs[job].state {
            JobState::Stopping(_) => "being stopped",
            other => status_name(other.status()),
        };
        Impossible::State { what: format!("job '{}'", self.plan.jobs[job].name), state, wanted }
    }

    fn refuse_step(&self, step: StepIndex, wanted: &'static str) -> Impossible {
        let state = match &self.step(step).state {
            StepState::Stopping(_) => "being stopped",
            other => status_name(other.status()),
        };
        Impossible::State { what: self.step_name(step), state, wanted }
    }

    fn step_name(&self, step: StepIndex) -> String {
        let job = &self.plan.jobs[step.job];
        format!("step '{}' of job '{}'", job.steps[step.step].name, job.name)
    }

    fn known_job(&self, job: usize) -> Result<(), Impossible> {
        if job < self.record.jobs.len() { Ok(()) } else { Err(Impossible::Unknown) }
    }

    fn known_step(&self, step: StepIndex) -> Result<(), Impossible> {
        let known = self.record.jobs.get(step.job).is_some_and(|job| step.step < job.steps.len());
        if known { Ok(()) } else { Err(Impossible::Unknown) }
    }

    fn step(&self, step: StepIndex) -> &Step {
        &self.record.jobs[step.job].steps[step.step]
    }

    fn move_run(&mut self, state: RunState, reason: String, turn: &mut Turn<'_>) {
        let from = self.record.state.status();
        let to = state.status();
        self.record.state = state;
        turn.changes.push(Change::Run { from, to, reason });
    }

    fn move_job(&mut self, job: usize, state: JobState, reason: String, turn: &mut Turn<'_>) {
        let place = &mut self.record.jobs[job].state;
        let from = place.status();
        let to = state.status();
        *place = state;
        turn.changes.push(Change::Job { job, from, to, reason });
    }

    fn move_step(&mut self, step: StepIndex, state: StepState, reason: String, turn: &mut Turn<'_>) {
        let place = &mut self.record.jobs[step.job].steps[step.step];
        let from = place.state.status();
        let to = state.status();
        place.state = state;
        turn.changes.push(Change::Step { step, attempt: place.attempt.clone(), from, to, reason });
    }

    /// Gives a step the state of its new attempt, which the world saw as pending from its beginning.
    fn replace_step(&mut self, step: StepIndex, state: StepState, turn: &mut Turn<'_>) {
        let (from, to) = (StepRunStatus::Pending, state.status());
        let place = &mut self.record.jobs[step.job].steps[step.step];
        place.state = state;
        turn.changes.push(Change::Step { step, attempt: place.attempt.clone(), from, to, reason: String::new() });
    }

    /// Gives a step a new attempt, in a round that has had `tries` then.
    fn new_attempt(&mut self, step: StepIndex, tries: u32, turn: &mut Turn<'_>) {
        let place = &mut self.record.jobs[step.job].steps[step.step];
        place.attempt = (turn.ids)();
        place.number = place.number.saturating_add(1);
        place.tries = tries;
        turn.changes.push(Change::NewAttempt { step, attempt: place.attempt.clone(), number: place.number });
    }
}
