//! A world around a run that knows the rules by itself: it decides which inputs are possible, follows the changes, and objects to
//! each that the rules do not allow, to each that is missing, and to each due time that is not its own.

use std::collections::BTreeMap;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus as Status;

use super::super::input::*;
use super::model::{JobDef, StepDef, spec};
use super::*;
use crate::Millis;

#[derive(Debug, Clone)]
pub(super) struct JobFacts {
    pub(super) status: Status,
    /// Whether those that depend on it are to know of a failure.
    bad: bool,
    /// Whether a step may be handed out, as far as this job's own waits go.
    approval: Option<Millis>,
    approved: bool,
    pub(super) key_wanted: bool,
    pub(super) key_held: bool,
    /// A step of it was started, in this round or ever.
    started: bool,
    ever_started: bool,
    deadline: Option<Millis>,
    /// How it must end, since somebody or the time said so.
    must_end: Option<Status>,
}

#[derive(Debug, Clone)]
pub(super) struct StepFacts {
    pub(super) status: Status,
    pub(super) attempt: String,
    /// Attempts that were handed out in this round.
    pub(super) tries: u32,
    deadline: Option<Millis>,
    delayed: Option<Millis>,
    /// Told to stop: until when it is waited for.
    pub(super) stopping: Option<Millis>,
    must_end: Option<Status>,
    outcome: Option<Outcome>,
}

pub(super) struct World {
    pub(super) run: Run,
    pub(super) defs: Vec<JobDef>,
    pub(super) now: Millis,
    pub(super) status: PipelineStatus,
    pub(super) cancelling: bool,
    paused_since: Millis,
    pub(super) jobs: Vec<JobFacts>,
    pub(super) steps: BTreeMap<StepIndex, StepFacts>,
    /// Attempts that are over.
    pub(super) old: Vec<(StepIndex, String)>,
}

pub(super) fn is_over(status: Status) -> bool {
    matches!(status, Status::Success | Status::Failed | Status::Cancelled | Status::Timeout | Status::Skipped)
}

impl World {
    pub(super) fn new(defs: Vec<JobDef>) -> Self {
        let spec = spec(&defs);
        assert_eq!(crate::spec::validate(&spec).problems, []);
        let run = Run::new(Arc::new(Plan::new(&spec, &Cause::default()).unwrap()), &mut ids());
        let job = JobFacts {
            status: Status::Pending,
            bad: false,
            approval: None,
            approved: false,
            key_wanted: false,
            key_held: false,
            started: false,
            ever_started: false,
            deadline: None,
            must_end: None,
        };
        let mut steps = BTreeMap::new();
        for (index, def) in defs.iter().enumerate() {
            for step in (0..def.steps.len()).map(|step| StepIndex { job: index, step }) {
                steps.insert(step, Self::fresh(run.record().jobs[step.job].steps[step.step].attempt.clone()));
            }
        }
        let jobs = vec![job; defs.len()];
        let status = PipelineStatus::Pending;
        Self { run, defs, now: 1_000, status, cancelling: false, paused_since: 0, jobs, steps, old: Vec::new() }
    }

    fn fresh(attempt: String) -> StepFacts {
        let (status, none) = (Status::Pending, None);
        StepFacts { status, attempt, tries: 0, deadline: none, delayed: none, stopping: none, must_end: None, outcome: None }
    }

    pub(super) fn def(&self, step: StepIndex) -> &StepDef {
        &self.defs[step.job].steps[step.step]
    }

    pub(super) fn run_is_over(&self) -> bool {
        matches!(self.status, PipelineStatus::Success | PipelineStatus::Failed | PipelineStatus::Cancelled)
    }

    fn is_bad(&self, step: StepIndex) -> bool {
        let forgiven = self.def(step).continue_on_error;
        match self.steps[&step].status {
            Status::Cancelled => true,
            Status::Failed | Status::Timeout => !forgiven,
            _ => false,
        }
    }

    fn earlier(&self, step: StepIndex) -> impl Iterator<Item = StepIndex> {
        (0..step.step).map(move |earlier| StepIndex { step: earlier, ..step })
    }

    fn steps_of(&self, job: usize) -> impl Iterator<Item = StepIndex> + use<> {
        (0..self.defs[job].steps.len()).map(move |step| StepIndex { job, step })
    }

    fn failed_before(&self, job: usize) -> bool {
        self.defs[job].before.iter().any(|before| self.jobs[*before].bad)
    }

    /// When something is to happen by itself.
    pub(super) fn due(&self) -> Option<Millis> {
        let paused = self.status == PipelineStatus::Paused;
        let mut due = Vec::new();
        for job in self.jobs.iter().filter(|job| !is_over(job.status)) {
            due.extend(job.approval.filter(|_| !job.approved));
            due.extend(job.deadline.filter(|_| !paused && job.must_end.is_none()));
        }
        for step in self.steps.values().filter(|step| !is_over(step.status)) {
            due.extend(step.stopping);
            let runs = step.status == Status::Running;
            due.extend(step.deadline.filter(|_| step.stopping.is_none() && (runs || !paused)));
            due.extend(step.delayed.filter(|_| !paused && step.status == Status::Pending));
        }
        due.into_iter().min()
    }

    /// Whether the rules allow an input now.
    fn allows(&self, input: &Input) -> bool {
        let known = |step: &StepIndex| self.steps.get(step);
        let run_ends = self.run_is_over() || self.cancelling;
        match input {
            Input::Begin => self.status == PipelineStatus::Pending && !run_ends,
            Input::StepStarted { step, attempt } | Input::StepReturned { step, attempt, .. } => {
                known(step).is_some_and(|facts| facts.attempt == *attempt && facts.status == Status::Queued)
            }
            Input::StepEnded { step, attempt, .. } => known(step)
                .is_some_and(|facts| facts.attempt == *attempt && matches!(facts.status, Status::Queued | Status::Running)),
            Input::Tick => self.due().is_some_and(|due| due <= self.now),
            Input::Approve { job, .. } | Input::Reject { job, .. } => {
                self.jobs.get(*job).is_some_and(|job| job.approval.is_some() && !job.approved && !is_over(job.status))
            }
            Input::KeyGranted { job } => {
                self.jobs.get(*job).is_some_and(|job| job.key_wanted && !job.key_held && !is_over(job.status))
            }
            Input::Pause { .. } => self.status == PipelineStatus::Running && !run_ends,
            Input::Resume { .. } => self.status == PipelineStatus::Paused,
            Input::Cancel { what: What::Run, .. } => !run_ends,
            Input::Cancel { what: What::Job(job), .. } => {
                self.jobs.get(*job).is_some_and(|job| !is_over(job.status) && job.must_end.is_none())
            }
            Input::Cancel { what: What::Step(step), .. } => {
                known(step).is_some_and(|facts| !is_over(facts.status) && facts.stopping.is_none())
            }
            Input::RetryStep { step, .. } => {
                let over = matches!(self.status, PipelineStatus::Failed | PipelineStatus::Cancelled);
                over && known(step).is_some()
                    && self.jobs[step.job].bad
                    && self.is_bad(*step)
                    && !self.earlier(*step).any(|earlier| self.is_bad(earlier))
            }
        }
    }

    /// Gives an input to the run and checks what comes of it.
    pub(super) fn give(&mut self, input: Input) {
        let before = self.run.record().clone();
        let allowed = self.allows(&input);
        let noted = input.clone();
        match self.run.apply(input, self.now, &mut ids()) {
            Err(error) => {
                assert!(!allowed, "{noted:?} was refused: {error}");
                assert_eq!(self.run.record(), &before, "{noted:?} was refused, but changed something");
            }
            Ok(changes) => {
                assert!(allowed, "{noted:?} was taken");
                self.note(&noted);
                changes.iter().for_each(|change| self.follow(change));
                self.check_touched(&before, &changes);
                self.check_rest();
            }
        }
    }

    /// What an input means for what must follow.
    fn note(&mut self, input: &Input) {
        match input {
            Input::StepStarted { step, .. } => self.note_start(*step),
            Input::StepEnded { step, outcome, .. } => {
                if self.steps[step].status == Status::Queued {
                    self.note_start(*step);
                }
                self.facts(*step).outcome = Some(*outcome);
            }
            Input::Tick => self.note_time(),
            Input::Approve { job, .. } => self.jobs[*job].approved = true,
            Input::Reject { job, .. } => self.jobs[*job].must_end = Some(Status::Failed),
            Input::KeyGranted { job } => self.jobs[*job].key_held = true,
            Input::Pause { .. } => self.paused_since = self.now,
            Input::Resume { .. } => self.note_resume(),
            Input::Cancel { what: What::Run, .. } => {
                self.cancelling = true;
                (0..self.jobs.len()).for_each(|job| self.note_stop(job, Status::Cancelled));
            }
            Input::Cancel { what: What::Job(job), .. } => self.note_stop(*job, Status::Cancelled),
            Input::Cancel { what: What::Step(step), .. } => self.facts(*step).must_end = Some(Status::Cancelled),
            Input::RetryStep { step, .. } => self.note_again(*step),
            Input::Begin | Input::StepReturned { .. } => {}
        }
    }

    fn facts(&mut self, step: StepIndex) -> &mut StepFacts {
        self.steps.get_mut(&step).unwrap()
    }

    fn note_start(&mut self, step: StepIndex) {
        let now = self.now;
        let timeout = self.def(step).timeout;
        let facts = self.facts(step);
        facts.deadline = facts.deadline.or(timeout.map(|timeout| now + timeout * 1000));
        let timeout = self.defs[step.job].timeout;
        let job = &mut self.jobs[step.job];
        if !job.started {
            (job.started, job.ever_started) = (true, true);
            job.deadline = timeout.map(|timeout| now + timeout * 1000);
        }
    }

    fn note_stop(&mut self, job: usize, status: Status) {
        if is_over(self.jobs[job].status) || self.jobs[job].must_end.is_some() {
            return;
        }
        self.jobs[job].must_end = Some(status);
        for step in self.steps_of(job) {
            let facts = self.facts(step);
            facts.must_end = facts.must_end.or(Some(Status::Cancelled));
        }
    }

    fn note_time(&mut self) {
        let (now, paused) = (self.now, self.status == PipelineStatus::Paused);
        for job in &mut self.jobs {
            let expired = job.approval.is_some_and(|expires| expires <= now) && !job.approved && !is_over(job.status);
            if expired {
                job.must_end = Some(Status::Timeout);
            }
        }
        for job in 0..self.jobs.len() {
            if !paused && self.jobs[job].deadline.is_some_and(|deadline| deadline <= now) {
                self.note_stop(job, Status::Timeout);
            }
        }
        for facts in self.steps.values_mut() {
            let over = facts.deadline.is_some_and(|deadline| deadline <= now) && (facts.status == Status::Running || !paused);
            // Its delay may be over before, but then the next attempt's time is over at once.
            if over && !is_over(facts.status) {
                facts.must_end = facts.must_end.or(Some(Status::Timeout));
            }
        }
    }

    fn note_resume(&mut self) {
        let paused = self.now - self.paused_since;
        for job in self.jobs.iter_mut().filter(|job| !is_over(job.status) && job.must_end.is_none()) {
            job.deadline = job.deadline.map(|deadline| deadline + paused);
        }
        for facts in self.steps.values_mut().filter(|facts| matches!(facts.status, Status::Queued | Status::Pending)) {
            facts.deadline = facts.deadline.map(|deadline| deadline + paused);
        }
    }

    fn note_again(&mut self, step: StepIndex) {
        self.cancelling = false;
        let mut behind = vec![step.job];
        while let Some(more) = (0..self.defs.len())
            .find(|job| !behind.contains(job) && self.defs[*job].before.iter().any(|before| behind.contains(before)))
        {
            behind.push(more);
        }
        for (at, job) in behind.into_iter().enumerate() {
            let facts = &mut self.jobs[job];
            if at > 0 && (!facts.bad || facts.ever_started || !matches!(facts.status, Status::Skipped | Status::Cancelled)) {
                continue;
            }
            // What began goes on with its step, without another approval.
            facts.approved &= facts.ever_started;
            facts.approval = facts.approval.filter(|_| facts.approved);
            (facts.status, facts.bad, facts.must_end) = (Status::Pending, false, None);
            (facts.started, facts.deadline, facts.key_wanted, facts.key_held) = (false, None, false, false);
            for reset in self.steps_of(job).filter(|reset| at > 0 || reset.step >= step.step) {
                let old = self.steps[&reset].attempt.clone();
                self.old.push((reset, old.clone()));
                *self.facts(reset) = Self::fresh(old);
            }
        }
    }

    /// Whether the record changed only where a change says so.
    fn check_touched(&self, before: &Record, changes: &[Change]) {
        let after = self.run.record();
        for (job, (old, new)) in before.jobs.iter().zip(&after.jobs).enumerate() {
            let told = changes.iter().any(|change| matches!(change, Change::Job { job: moved, .. } if *moved == job));
            assert!(told || old.state == new.state, "job {job} moved silently");
            for (step, (old, new)) in old.steps.iter().zip(&new.steps).enumerate() {
                let here = StepIndex { job, step };
                let told = changes.iter().any(|change| matches!(change, Change::Step { step: moved, .. } if *moved == here));
                assert!(told || old == new, "{here:?} moved silently");
            }
        }
    }
}

mod follow;
