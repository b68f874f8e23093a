//! Each change against the rules, and what must not be left undone.

use super::*;

impl World {
    pub(super) fn follow(&mut self, change: &Change) {
        match change {
            Change::Run { from, to, .. } => {
                assert_eq!(*from, self.status);
                if matches!(to, PipelineStatus::Success | PipelineStatus::Failed | PipelineStatus::Cancelled) {
                    assert_eq!(*to, self.run_end());
                }
                self.status = *to;
            }
            Change::Job { job, from, to, .. } => self.follow_job(*job, *from, *to),
            Change::Step { step, attempt, from, to, .. } => self.follow_step(*step, attempt, *from, *to),
            Change::NewAttempt { step, attempt, .. } => {
                let (now, max, delay) = (self.now, self.defs[step.job].attempts, self.defs[step.job].delay);
                let facts = self.facts(*step);
                let again = facts.tries > 0;
                if again {
                    assert!(facts.status == Status::Failed && facts.tries < max, "{step:?}: an attempt too many");
                    facts.delayed = Some(now + delay * 1000);
                }
                let old = std::mem::replace(&mut facts.attempt, attempt.clone());
                (facts.status, facts.outcome) = (Status::Pending, None);
                assert!(!self.old.iter().any(|(_, one)| one == attempt), "the id was given before");
                self.old.push((*step, old));
            }
            Change::Stop { step, attempt, .. } => {
                let now = self.now;
                let facts = self.facts(*step);
                assert!(
                    facts.attempt == *attempt && facts.status == Status::Running && facts.must_end.is_some(),
                    "{step:?} must not stop"
                );
                facts.stopping = Some(now + STOP_GRACE);
            }
            Change::ApprovalWanted { job, expires } => {
                assert!(self.defs[*job].approval && !self.jobs[*job].approved);
                self.jobs[*job].approval = Some(*expires);
            }
            Change::KeyWanted { job, key } => {
                assert_eq!(Some(key), self.defs[*job].key.map(|key| format!("key{key}")).as_ref());
                assert!(!std::mem::replace(&mut self.jobs[*job].key_wanted, true));
                self.check_may_begin(*job);
            }
            Change::KeyReleased { job, .. } => {
                assert!(self.jobs[*job].key_wanted && is_over(self.jobs[*job].status));
                (self.jobs[*job].key_wanted, self.jobs[*job].key_held) = (false, false);
            }
            Change::Notify { .. } => panic!("nobody asked for it"),
            Change::Due { at } => assert_eq!(*at, self.run.due()),
        }
    }

    fn run_end(&self) -> PipelineStatus {
        assert!(self.jobs.iter().all(|job| is_over(job.status)), "the run ended before its jobs");
        let any = |statuses: &[Status]| self.jobs.iter().any(|job| statuses.contains(&job.status));
        match () {
            () if self.cancelling => PipelineStatus::Cancelled,
            () if any(&[Status::Failed, Status::Timeout]) => PipelineStatus::Failed,
            () if any(&[Status::Cancelled]) => PipelineStatus::Cancelled,
            () => PipelineStatus::Success,
        }
    }

    fn follow_job(&mut self, job: usize, from: Status, to: Status) {
        // A new round begins where an old one ended.
        assert!(
            from == self.jobs[job].status || self.jobs[job].status == Status::Pending,
            "job {job}: {from:?} is not its status"
        );
        assert!(!is_over(self.jobs[job].status), "job {job} moved after its end");
        self.jobs[job].status = to;
        if !is_over(to) {
            return;
        }
        assert!(self.steps_of(job).all(|step| is_over(self.steps[&step].status)), "job {job} ended before its steps");
        let failed = self.failed_before(job);
        let begun = self.steps_of(job).any(|step| self.steps[&step].tries > 0);
        let deps_over = self.defs[job].before.iter().all(|before| is_over(self.jobs[*before].status));
        let condition = self.defs[job].when.holds(failed);
        let expected = match (self.jobs[job].must_end, condition) {
            (Some(must), _) => must,
            (None, None) if !begun && !self.jobs[job].ever_started => Status::Failed,
            (None, Some(false)) if !begun && !self.jobs[job].ever_started => Status::Skipped,
            _ => {
                let first_bad = self.steps_of(job).find(|step| self.is_bad(*step));
                match first_bad.map(|step| self.steps[&step].status) {
                    None => Status::Success,
                    Some(Status::Cancelled) => Status::Cancelled,
                    Some(_) => Status::Failed,
                }
            }
        };
        assert_eq!(to, expected, "job {job}");
        assert!(deps_over || expected == Status::Cancelled, "job {job} ended before those it depends on");
        self.jobs[job].bad =
            matches!(to, Status::Failed | Status::Timeout | Status::Cancelled) || (to == Status::Skipped && failed);
    }

    /// What must be before a job asks for its key or a step of it is handed out.
    fn check_may_begin(&self, job: usize) {
        let facts = &self.jobs[job];
        let def = &self.defs[job];
        assert!(self.status == PipelineStatus::Running && !self.cancelling, "job {job} goes on though the run does not");
        assert!(
            def.before.iter().all(|before| is_over(self.jobs[*before].status)),
            "job {job} goes on before those it depends on"
        );
        assert!(
            facts.ever_started || def.when.holds(self.failed_before(job)) == Some(true),
            "job {job} goes on against its condition"
        );
        assert!(!def.approval || facts.approved, "job {job} goes on without approval");
        assert!(facts.must_end.is_none() && !is_over(facts.status), "job {job} goes on after its end");
    }

    fn follow_step(&mut self, step: StepIndex, attempt: &str, from: Status, to: Status) {
        let facts = self.steps[&step].clone();
        assert_eq!((attempt, from), (facts.attempt.as_str(), facts.status), "{step:?} moved to {to:?}");
        assert!(!is_over(from), "{step:?} moved after its end");
        let earlier_over = self.earlier(step).all(|earlier| is_over(self.steps[&earlier].status));
        let failed = self.earlier(step).any(|earlier| self.is_bad(earlier));
        match to {
            Status::Queued if from == Status::Pending => {
                self.check_may_begin(step.job);
                let def = &self.defs[step.job];
                assert!(def.key.is_none() || self.jobs[step.job].key_held, "{step:?} goes on without the key");
                assert!(earlier_over, "{step:?} goes on before an earlier step");
                assert_eq!(self.def(step).when.holds(failed), Some(true), "{step:?} goes on against its condition");
                assert!(facts.delayed.is_none_or(|until| until <= self.now), "{step:?} goes on before its delay is over");
                assert!(facts.tries < def.attempts, "{step:?} has an attempt too many");
                self.facts(step).tries += 1;
                self.facts(step).delayed = None;
            }
            Status::Running => assert!(matches!(from, Status::Queued | Status::Running)),
            Status::Pending | Status::Queued => assert_eq!(from, to),
            over => {
                let job = &self.jobs[step.job];
                let expected = match (facts.outcome, facts.must_end) {
                    (Some(Outcome::Succeeded), _) => Status::Success,
                    (_, Some(must)) => must,
                    (Some(Outcome::Failed | Outcome::Lost), _) => Status::Failed,
                    (Some(Outcome::TimedOut), _) => Status::Timeout,
                    (Some(Outcome::Cancelled), _) => Status::Cancelled,
                    // It never ran: its own condition decided, or its job's.
                    (None, None) if self.jobs_turn(step) && earlier_over && self.def(step).when.holds(failed).is_none() => {
                        Status::Failed
                    }
                    (None, None) => Status::Skipped,
                };
                let of_job = over == Status::Skipped && facts.tries == 0 && (job.must_end.is_some() || !self.jobs_turn(step));
                assert!(over == expected || of_job, "{step:?} ended as {over:?}, but {expected:?} was expected: {facts:?}");
                if over == Status::Skipped && !of_job {
                    assert!(earlier_over && self.def(step).when.holds(failed) == Some(false), "{step:?} was skipped");
                }
                self.facts(step).stopping = None;
            }
        }
        self.facts(step).status = to;
    }

    /// Whether the job's own waits are over, so that its steps decide for themselves.
    fn jobs_turn(&self, step: StepIndex) -> bool {
        let (job, def) = (&self.jobs[step.job], &self.defs[step.job]);
        def.before.iter().all(|before| is_over(self.jobs[*before].status))
            && (job.ever_started || def.when.holds(self.failed_before(step.job)) == Some(true))
            && (!def.approval || job.approved)
            && (def.key.is_none() || job.key_held)
    }

    /// Nothing that could happen by itself is left undone.
    pub(super) fn check_rest(&self) {
        assert_eq!(self.run.due(), self.due(), "due");
        assert_eq!(self.run.record().state.status(), self.status);
        let over = self.jobs.iter().all(|job| is_over(job.status));
        assert_eq!(self.run_is_over(), over && self.status != PipelineStatus::Pending, "the run and its jobs end together");
        assert!(self.jobs.iter().all(|job| !is_over(job.status) || !job.key_wanted), "a job that is over keeps its key");
        for (index, job) in self.jobs.iter().enumerate().filter(|(_, job)| !is_over(job.status)) {
            assert_eq!(self.run.record().jobs[index].state.status(), job.status);
            let active = self.steps_of(index).filter(|step| {
                let facts = &self.steps[step];
                matches!(facts.status, Status::Queued | Status::Running)
                    || (facts.status == Status::Pending && facts.delayed.is_some())
            });
            let active = active.count();
            assert!(active <= 1, "job {index} has {active} steps at work");
            if job.must_end.is_some() {
                assert!(self.steps_of(index).any(|step| self.steps[&step].stopping.is_some()), "job {index} should have ended");
                continue;
            }
            let waits = self.defs[index].before.iter().any(|before| !is_over(self.jobs[*before].status));
            let asks = job.approval.is_some() && !job.approved;
            let queues = job.key_wanted && !job.key_held;
            let held = self.status != PipelineStatus::Running;
            assert!(waits || asks || queues || held || active == 1, "job {index} waits for nothing");
        }
        for (step, facts) in self.steps.iter().filter(|(_, facts)| facts.status == Status::Running && facts.must_end.is_some()) {
            assert!(facts.stopping.is_some(), "{step:?} should have been told to stop");
        }
    }
}
