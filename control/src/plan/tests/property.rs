//! Random definitions, random worlds around their runs, and what must be true of all of them.

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus as Status;
use proptest::prelude::*;

use super::super::input::*;
use super::model::{JobDef, jobs, predict};
use super::world::{World, is_over};
use super::*;

/// What may happen next: which kind of thing, and to which of those it can happen to.
type Choice = (u8, u16);

fn pick<T>(mut from: Vec<T>, which: u16) -> Option<T> {
    if from.is_empty() { None } else { Some(from.swap_remove(usize::from(which) % from.len())) }
}

impl World {
    fn steps_in(&self, status: Status) -> Vec<StepIndex> {
        self.steps.iter().filter(|(_, facts)| facts.status == status).map(|(step, _)| *step).collect()
    }

    fn start(&mut self, step: StepIndex) {
        let attempt = self.steps[&step].attempt.clone();
        self.give(Input::StepStarted { step, attempt });
    }

    /// Ends an attempt as its definition says; one that is to stop in one of the ways that are left to it.
    fn end(&mut self, step: StepIndex, which: u16) {
        let facts = &self.steps[&step];
        let outcome = match (facts.stopping, which % 3) {
            (Some(_), 0) => Outcome::Succeeded,
            (Some(_), 1) => Outcome::Failed,
            (Some(_), _) => Outcome::Cancelled,
            _ if facts.tries <= self.def(step).failures => self.def(step).how,
            _ => Outcome::Succeeded,
        };
        let attempt = facts.attempt.clone();
        self.give(Input::StepEnded { step, attempt, outcome, reason: "said so".into() });
    }

    fn wait(&mut self) {
        if let Some(due) = self.due() {
            self.now = self.now.max(due);
            self.give(Input::Tick);
        }
    }

    fn grant(&mut self, which: u16) {
        let free = |job: &usize| {
            let key = self.defs[*job].key;
            let taken = (0..self.jobs.len()).any(|other| self.defs[other].key == key && self.jobs[other].key_held);
            self.jobs[*job].key_wanted && !self.jobs[*job].key_held && !taken
        };
        if let Some(job) = pick((0..self.jobs.len()).filter(free).collect(), which) {
            self.give(Input::KeyGranted { job });
        }
    }

    fn approve(&mut self, which: u16, reject: bool) {
        let asks = |job: &usize| matches!(self.run.record().jobs[*job].state, JobState::Approval(_));
        let Some(job) = pick((0..self.jobs.len()).filter(asks).collect(), which) else { return };
        self.give(if reject { Input::Reject { job, reason: "no".into() } } else { Input::Approve { job, by: "ann".into() } });
    }

    /// The record is kept as text and read again.
    fn restore(&mut self) {
        let text = serde_json::to_string(self.run.record()).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(&record, self.run.record());
        self.run = Run::restore(self.run.plan().clone(), record).unwrap();
    }

    /// Things that happen in every run.
    fn usual(&mut self, (kind, which): Choice) {
        match kind % 8 {
            0 | 1 => _ = pick(self.steps_in(Status::Queued), which).map(|step| self.start(step)),
            2 | 3 => _ = pick(self.steps_in(Status::Running), which).map(|step| self.end(step, which / 7)),
            4 => _ = pick(self.steps_in(Status::Queued), which).map(|step| self.end(step, which / 7)),
            5 => self.grant(which),
            6 => self.approve(which, false),
            _ if which % 4 == 0 => self.restore(),
            // Approvals would expire.
            _ if self.due().is_some_and(|due| due < self.now + 3_600_000) => self.wait(),
            _ => {}
        }
    }

    /// Things that happen if somebody interferes, or something breaks.
    fn unusual(&mut self, (kind, which): Choice) {
        let step = pick(self.steps.keys().copied().collect(), which).unwrap();
        let reason = String::new();
        match kind % 16 {
            0..=4 => self.usual((kind.wrapping_add(which as u8), which)),
            5 | 6 => self.wait(),
            7 => self.now += i64::from(which % 20_000),
            8 if which % 3 == 0 => self.give(Input::Pause { reason }),
            9 | 10 => self.give(Input::Resume { reason }),
            11 if which % 5 == 0 => self.give(Input::Cancel { what: What::Run, reason }),
            11 if which % 2 == 0 => self.give(Input::Cancel { what: What::Job(step.job), reason }),
            12 if which % 2 == 0 => self.give(Input::Cancel { what: What::Step(step), reason }),
            13 => self.approve(which, true),
            14 => self.give(Input::RetryStep { step, reason }),
            15 => self.garbage(step, which),
            _ => self.usual((kind / 16, which)),
        }
    }

    /// What mostly can not be.
    fn garbage(&mut self, step: StepIndex, which: u16) {
        let (old_step, old) = pick(self.old.clone(), which).unwrap_or((step, "never was".into()));
        let current = self.steps[&step].attempt.clone();
        let nowhere = StepIndex { job: 99, step: 0 };
        let (outcome, reason) = (Outcome::Succeeded, String::new());
        self.give(match which % 10 {
            0 => Input::Begin,
            1 => Input::StepStarted { step: old_step, attempt: old },
            2 => Input::StepEnded { step: old_step, attempt: old, outcome, reason },
            3 => Input::StepStarted { step, attempt: current },
            4 => Input::StepEnded { step, attempt: current, outcome: Outcome::Lost, reason },
            5 => Input::StepEnded { step: nowhere, attempt: current, outcome, reason },
            6 => Input::Cancel { what: What::Job(99), reason },
            7 => Input::KeyGranted { job: step.job },
            8 => Input::Approve { job: step.job, by: reason },
            _ => Input::Tick,
        });
    }

    /// Does what is left to do, until the run is over.
    fn finish(&mut self) {
        for round in 0..2_000u16 {
            if self.run_is_over() {
                return;
            }
            match self.status {
                PipelineStatus::Pending => self.give(Input::Begin),
                PipelineStatus::Paused => self.give(Input::Resume { reason: String::new() }),
                _ => {}
            }
            (0..7).for_each(|kind| self.usual((kind, round)));
            let busy = self.steps.values().any(|facts| matches!(facts.status, Status::Queued | Status::Running));
            let asks = self.run.record().jobs.iter().any(|job| matches!(job.state, JobState::Approval(_)));
            if !busy && !asks {
                self.wait();
            }
        }
        panic!("the run does not end: {:#?}", self.run.record());
    }
}

fn choices(most: usize) -> impl Strategy<Value = Vec<Choice>> {
    prop::collection::vec(any::<Choice>(), 0..most)
}

fn check_prediction(defs: &[JobDef], world: &World) {
    for (index, job) in world.jobs.iter().enumerate() {
        let expected = predict(defs, index);
        assert_eq!(job.status, expected.status, "job {index}");
        for (step, (status, tries)) in expected.steps.iter().enumerate() {
            let facts = &world.steps[&StepIndex { job: index, step }];
            assert_eq!((facts.status, facts.tries), (*status, *tries), "step {step} of job {index}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order things happen, and however often the run is paused, jobs and steps end as the definition alone says.
    #[test]
    fn undisturbed_runs_end_as_predicted(defs in jobs(false), choices in choices(60)) {
        let mut world = World::new(defs.clone());
        world.give(Input::Begin);
        for (at, choice) in choices.into_iter().enumerate() {
            match choice.0 {
                0..16 if at % 2 == 0 => world.give(Input::Pause { reason: String::new() }),
                0..64 => world.give(Input::Resume { reason: String::new() }),
                _ => world.usual(choice),
            }
        }
        world.finish();
        check_prediction(&defs, &world);
    }

    /// With cancels, timeouts, rejections, pauses, reruns, late and impossible inputs: every change is one that the rules allow
    /// and none is missing (the world checks both), and the run comes to its end.
    #[test]
    fn no_interference_breaks_a_rule(defs in jobs(true), choices in choices(120), begins in prop::bool::weighted(0.95)) {
        let mut world = World::new(defs);
        if begins {
            world.give(Input::Begin);
        }
        choices.into_iter().for_each(|choice| world.unusual(choice));
        world.finish();
        prop_assert!(world.jobs.iter().all(|job| is_over(job.status)));
        prop_assert_eq!(world.run.due(), None);
    }
}
