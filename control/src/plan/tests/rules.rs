//! Each rule of the module's documentation, by example.

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::super::input::*;
use super::*;
use crate::Millis;

/// A run with a clock, whose jobs and steps are named `job` and `job.step`.
struct Case {
    run: Run,
    now: Millis,
    changes: Vec<Change>,
}

impl Case {
    fn new(text: &str) -> Self {
        let mut case = Self { run: run_of(text, &Cause::default()), now: 1_000_000, changes: Vec::new() };
        case.give(Input::Begin);
        case
    }

    fn give(&mut self, input: Input) -> &[Change] {
        let what = format!("{input:?}");
        self.changes = self.run.apply(input, self.now, &mut ids()).unwrap_or_else(|error| panic!("{what}: {error}"));
        &self.changes
    }

    fn refuse(&mut self, input: Input) -> String {
        let before = self.run.record().clone();
        let error = self.run.apply(input, self.now, &mut ids()).unwrap_err();
        assert_eq!(self.run.record(), &before);
        error.to_string()
    }

    fn step(&self, name: &str) -> StepIndex {
        let (job, step) = name.split_once('.').unwrap();
        let job = self.job(job);
        StepIndex { job, step: self.run.plan().jobs[job].steps.iter().position(|planned| planned.name == step).unwrap() }
    }

    fn job(&self, name: &str) -> usize {
        self.run.plan().jobs.iter().position(|planned| planned.name == name).unwrap()
    }

    fn attempt(&self, name: &str) -> String {
        let step = self.step(name);
        self.run.record().jobs[step.job].steps[step.step].attempt.clone()
    }

    fn start(&mut self, name: &str) -> &[Change] {
        let (step, attempt) = (self.step(name), self.attempt(name));
        self.give(Input::StepStarted { step, attempt })
    }

    fn end(&mut self, name: &str, outcome: Outcome) -> &[Change] {
        let (step, attempt) = (self.step(name), self.attempt(name));
        self.give(Input::StepEnded { step, attempt, outcome, reason: String::new() })
    }

    fn succeed(&mut self, name: &str) {
        self.end(name, Outcome::Succeeded);
    }

    fn cancel(&mut self, what: What) -> &[Change] {
        self.give(Input::Cancel { what, reason: "no longer wanted".into() })
    }

    fn tick_after(&mut self, millis: Millis) -> &[Change] {
        self.now += millis;
        self.give(Input::Tick)
    }

    fn step_status(&self, name: &str) -> StepRunStatus {
        let step = self.step(name);
        self.run.record().jobs[step.job].steps[step.step].state.status()
    }

    fn job_end(&self, name: &str) -> Option<JobEnd> {
        self.run.record().jobs[self.job(name)].state.end()
    }

    fn status(&self) -> PipelineStatus {
        self.run.record().state.status()
    }

    /// The steps that may be handed out.
    fn queued(&self) -> Vec<String> {
        let mut queued = Vec::new();
        for (job, planned) in self.run.record().jobs.iter().zip(&self.run.plan().jobs) {
            for (step, planned_step) in job.steps.iter().zip(&planned.steps) {
                if step.state.status() == StepRunStatus::Queued {
                    queued.push(format!("{}.{}", planned.name, planned_step.name));
                }
            }
        }
        queued
    }

    fn stopped(&self) -> Vec<StepIndex> {
        self.changes.iter().filter_map(|change| if let Change::Stop { step, .. } = change { Some(*step) } else { None }).collect()
    }
}

const DIAMOND: &str = "
jobs:
- {name: a, steps: [{name: s, uses: shell}]}
- {name: b, dependsOn: [a], steps: [{name: s, uses: shell}]}
- {name: c, dependsOn: [a], steps: [{name: s, uses: shell}]}
- {name: d, dependsOn: [b, c], steps: [{name: s, uses: shell}]}
";

#[test]
fn jobs_run_after_those_they_depend_on_and_side_by_side() {
    let mut case = Case::new(DIAMOND);
    assert_eq!(case.queued(), ["a.s"]);
    case.start("a.s");
    case.succeed("a.s");
    assert_eq!(case.queued(), ["b.s", "c.s"]);
    case.succeed("b.s");
    assert_eq!(case.queued(), ["c.s"]);
    case.succeed("c.s");
    assert_eq!(case.queued(), ["d.s"]);
    assert_eq!(case.status(), PipelineStatus::Running);
    case.succeed("d.s");
    assert_eq!(case.status(), PipelineStatus::Success);
}

#[test]
fn a_failure_blocks_all_descendants_and_nothing_else() {
    let text = format!("{DIAMOND}- {{name: e, dependsOn: [d], steps: [{{name: s, uses: shell}}]}}\n");
    let mut case = Case::new(&text);
    case.succeed("a.s");
    case.end("b.s", Outcome::Failed);
    case.succeed("c.s");
    assert_eq!(case.job_end("b"), Some(JobEnd::Failed));
    assert_eq!(case.job_end("c"), Some(JobEnd::Succeeded));
    assert_eq!((case.job_end("d"), case.job_end("e")), (Some(JobEnd::Blocked), Some(JobEnd::Blocked)));
    assert_eq!(case.step_status("e.s"), StepRunStatus::Skipped);
    assert_eq!(case.status(), PipelineStatus::Failed);
}

#[test]
fn conditions_of_jobs_take_up_a_failure_or_skip() {
    let job = |name: &str, before: &str, when: &str| {
        format!("- {{name: {name}, dependsOn: [{before}], when: \"{when}\", steps: [{{name: s, uses: shell}}]}}\n")
    };
    let text = "variables: {A: x}\njobs:\n- {name: a, steps: [{name: s, uses: shell}]}\n".to_owned()
        + &job("blocked", "a", "A == 'x'")
        + &job("mend", "blocked", "failure()")
        + &job("always", "a", "always()")
        + &job("after", "mend", "")
        + &job("skipped", "mend", "A == 'y'")
        + &job("behind", "skipped", "")
        + &job("broken", "mend", "int(A) > 1");
    let mut case = Case::new(&text);
    case.end("a.s", Outcome::Failed);
    assert_eq!(case.queued(), ["mend.s", "always.s"]);
    case.succeed("mend.s");
    assert_eq!((case.job_end("blocked"), case.job_end("skipped")), (Some(JobEnd::Blocked), Some(JobEnd::Skipped)));
    assert_eq!(case.job_end("broken"), Some(JobEnd::Failed));
    assert_eq!(case.queued(), ["always.s", "after.s", "behind.s"]);
}

#[test]
fn steps_run_in_order_and_conditions_take_up_a_failure() {
    let mut case = Case::new(
        "
jobs:
- name: j
  steps:
  - {name: first, uses: shell}
  - {name: second, uses: shell}
  - {name: mend, uses: shell, when: failure()}
  - {name: third, uses: shell}
  - {name: clean, uses: shell, when: always()}
",
    );
    assert_eq!(case.queued(), ["j.first"]);
    case.succeed("j.first");
    case.end("j.second", Outcome::Failed);
    assert_eq!(case.queued(), ["j.mend"]);
    case.succeed("j.mend");
    assert_eq!((case.step_status("j.third"), case.queued()), (StepRunStatus::Skipped, vec!["j.clean".to_owned()]));
    case.succeed("j.clean");
    assert_eq!((case.job_end("j"), case.status()), (Some(JobEnd::Failed), PipelineStatus::Failed));
}

#[test]
fn continue_on_error_forgives_a_failure() {
    let mut case = Case::new(
        "jobs: [{name: j, steps: [{name: a, uses: shell, continue_on_error: true}, {name: b, uses: shell, when: success()}]}]",
    );
    case.end("j.a", Outcome::Failed);
    assert_eq!((case.step_status("j.a"), case.queued()), (StepRunStatus::Failed, vec!["j.b".to_owned()]));
    case.succeed("j.b");
    assert_eq!(case.status(), PipelineStatus::Success);
}

const RETRY: &str =
    "jobs: [{name: j, retry: {max_attempts: 3, delay: 10s}, steps: [{name: a, uses: shell}, {name: b, uses: shell}]}]";

#[test]
fn each_step_is_tried_as_often_as_said_with_the_delay_between() {
    let mut case = Case::new(RETRY);
    let first = case.attempt("j.a");
    let changes = case.end("j.a", Outcome::Failed).to_vec();
    let second = case.attempt("j.a");
    assert_ne!(first, second);
    assert!(changes.contains(&Change::NewAttempt { step: case.step("j.a"), attempt: second, number: 2 }));
    assert_eq!((case.queued(), case.run.due()), (vec![], Some(case.now + 10_000)));
    case.now += 9_999;
    assert_eq!(case.refuse(Input::Tick), "nothing is due yet");
    case.tick_after(1);
    assert_eq!(case.queued(), ["j.a"]);
    case.start("j.a");
    // A late report of the first attempt.
    let step = case.step("j.a");
    let late = case.refuse(Input::StepEnded { step, attempt: first, outcome: Outcome::Succeeded, reason: String::new() });
    assert!(late.contains("is not the current one of step 'a' of job 'j'"), "{late}");
    case.end("j.a", Outcome::Lost);
    case.tick_after(10_000);
    case.succeed("j.a");
    // The next step has all its attempts.
    for _ in 0..2 {
        case.end("j.b", Outcome::Failed);
        case.tick_after(10_000);
    }
    case.end("j.b", Outcome::Failed);
    assert_eq!((case.job_end("j"), case.run.due()), (Some(JobEnd::Failed), None));
}

#[test]
fn a_steps_timeout_covers_all_its_attempts() {
    let mut case =
        Case::new("jobs: [{name: j, retry: {max_attempts: 9, delay: 4s}, steps: [{name: a, uses: shell, timeout: 10s}]}]");
    case.now += 60_000; // Waiting for an agent does not count.
    case.start("j.a");
    case.now += 5_000;
    case.end("j.a", Outcome::Failed);
    case.tick_after(4_000);
    case.start("j.a");
    assert_eq!(case.run.due(), Some(case.now + 1_000));
    case.tick_after(1_000);
    assert_eq!(case.stopped(), [case.step("j.a")]);
    assert_eq!(case.step_status("j.a"), StepRunStatus::Running);
    case.end("j.a", Outcome::Cancelled);
    assert_eq!((case.step_status("j.a"), case.job_end("j")), (StepRunStatus::Timeout, Some(JobEnd::Failed)));
}

#[test]
fn an_executor_that_does_not_stop_is_waited_for_only_so_long() {
    let mut case = Case::new("jobs: [{name: j, steps: [{name: a, uses: shell, timeout: 10s}]}]");
    case.start("j.a");
    case.tick_after(10_000);
    case.tick_after(STOP_GRACE);
    assert_eq!(case.step_status("j.a"), StepRunStatus::Timeout);
    let (step, attempt) = (case.step("j.a"), case.attempt("j.a"));
    let late = case.refuse(Input::StepEnded { step, attempt, outcome: Outcome::Succeeded, reason: String::new() });
    assert_eq!(late, "step 'a' of job 'j' is over (timed out), so that it can not be ended");
}

#[test]
fn a_jobs_timeout_stops_its_step_and_runs_no_other() {
    let mut case = Case::new(
        "jobs: [{name: j, timeout: 10s, steps: [{name: a, uses: shell}, {name: b, uses: shell, when: always()}]}, {name: k, dependsOn: [j], when: failure(), steps: [{name: s, uses: shell}]}]",
    );
    case.start("j.a");
    case.tick_after(10_000);
    assert_eq!(case.stopped(), [case.step("j.a")]);
    case.end("j.a", Outcome::Failed);
    assert_eq!((case.job_end("j"), case.step_status("j.b")), (Some(JobEnd::TimedOut), StepRunStatus::Cancelled));
    assert_eq!(case.queued(), ["k.s"]);
    case.succeed("k.s");
    assert_eq!(case.status(), PipelineStatus::Failed);
}

const APPROVAL: &str =
    "jobs: [{name: j, approval: {required: true}, notify: {on_failure: {plugin: slack}}, steps: [{name: a, uses: shell}]}]";

#[test]
fn a_job_waits_for_its_approval() {
    let mut case = Case::new(APPROVAL);
    assert_eq!((case.queued(), case.run.due()), (vec![], Some(case.now + APPROVAL_EXPIRY)));
    case.give(Input::Approve { job: 0, by: "ann".into() });
    assert_eq!(case.queued(), ["j.a"]);
    assert_eq!(case.refuse(Input::Approve { job: 0, by: "ann".into() }), "job 'j' is queued, so that it can not be approved");

    let mut case = Case::new(APPROVAL);
    let changes = case.give(Input::Reject { job: 0, reason: "not today".into() });
    assert!(changes.contains(&Change::Notify { job: 0, succeeded: false }));
    assert_eq!((case.job_end("j"), case.status()), (Some(JobEnd::Failed), PipelineStatus::Failed));

    let mut case = Case::new(APPROVAL);
    case.tick_after(APPROVAL_EXPIRY);
    assert_eq!((case.job_end("j"), case.step_status("j.a")), (Some(JobEnd::TimedOut), StepRunStatus::Skipped));
}

#[test]
fn a_job_with_a_key_waits_until_it_is_granted_and_gives_it_back() {
    let text = "variables: {ENV: prod}\njobs: [{name: j, concurrency: 'deploy-${{ ENV }}', steps: [{name: a, uses: shell}]}]";
    let mut case = Case::new(text);
    let key = "deploy-prod".to_owned();
    assert_eq!(case.queued(), Vec::<String>::new());
    case.give(Input::KeyGranted { job: 0 });
    assert_eq!(case.queued(), ["j.a"]);
    case.succeed("j.a");
    assert!(case.changes.contains(&Change::KeyReleased { job: 0, key: key.clone() }));

    let mut run = run_of(text, &Cause::default());
    let changes = run.apply(Input::Begin, 0, &mut ids()).unwrap();
    assert!(changes.contains(&Change::KeyWanted { job: 0, key: key.clone() }));
    let changes = run.apply(Input::Cancel { what: What::Run, reason: String::new() }, 0, &mut ids()).unwrap();
    assert!(changes.contains(&Change::KeyReleased { job: 0, key }));
}

#[test]
fn nothing_new_starts_while_a_run_is_paused() {
    let mut case = Case::new(DIAMOND);
    case.start("a.s");
    case.give(Input::Pause { reason: String::new() });
    case.succeed("a.s");
    assert_eq!((case.job_end("a"), case.queued(), case.status()), (Some(JobEnd::Succeeded), vec![], PipelineStatus::Paused));
    assert_eq!(case.refuse(Input::Pause { reason: String::new() }), "the run is paused, so that it can not be paused");
    case.give(Input::Resume { reason: String::new() });
    assert_eq!(case.queued(), ["b.s", "c.s"]);
}

#[test]
fn a_pause_does_not_count_for_timeouts_of_what_waits() {
    let mut case =
        Case::new("jobs: [{name: j, timeout: 10s, retry: {max_attempts: 2}, steps: [{name: a, uses: shell, timeout: 5s}]}]");
    case.start("j.a");
    case.give(Input::Pause { reason: String::new() });
    case.now += 1_000;
    case.end("j.a", Outcome::Failed);
    assert_eq!(case.run.due(), None);
    case.now += 99_000;
    case.give(Input::Resume { reason: String::new() });
    assert_eq!((case.queued(), case.run.due()), (vec!["j.a".to_owned()], Some(1_105_000)));
}

#[test]
fn a_cancelled_run_stops_what_runs_and_starts_nothing() {
    let mut case = Case::new(DIAMOND);
    case.succeed("a.s");
    case.start("b.s");
    case.cancel(What::Run);
    assert_eq!((case.stopped(), case.queued()), (vec![case.step("b.s")], vec![]));
    assert_eq!((case.job_end("c"), case.job_end("d")), (Some(JobEnd::Cancelled), Some(JobEnd::Cancelled)));
    assert_eq!(case.status(), PipelineStatus::Running);
    assert_eq!(
        case.refuse(Input::Cancel { what: What::Run, reason: String::new() }),
        "the run is being cancelled, so that it can not be cancelled"
    );
    case.end("b.s", Outcome::Cancelled);
    assert_eq!(case.status(), PipelineStatus::Cancelled);
    assert_eq!(
        case.refuse(Input::Cancel { what: What::Run, reason: String::new() }),
        "the run is over, so that it can not be cancelled"
    );
}

#[test]
fn a_cancelled_job_blocks_what_depends_on_it_and_a_cancelled_step_its_job() {
    let mut case = Case::new(DIAMOND);
    case.succeed("a.s");
    case.cancel(What::Job(1));
    assert_eq!((case.job_end("b"), case.queued()), (Some(JobEnd::Cancelled), vec!["c.s".to_owned()]));
    case.start("c.s");
    case.cancel(What::Step(case.step("c.s")));
    // It was quicker.
    case.succeed("c.s");
    assert_eq!((case.job_end("c"), case.job_end("d")), (Some(JobEnd::Succeeded), Some(JobEnd::Blocked)));
    assert_eq!(case.status(), PipelineStatus::Cancelled);

    let mut case = Case::new(RETRY);
    case.cancel(What::Step(case.step("j.b")));
    case.succeed("j.a");
    assert_eq!((case.job_end("j"), case.status()), (Some(JobEnd::Cancelled), PipelineStatus::Cancelled));
}

#[test]
fn a_step_that_ended_badly_runs_again_and_so_does_what_it_blocked() {
    let mut case = Case::new(DIAMOND);
    case.succeed("a.s");
    case.end("b.s", Outcome::Failed);
    let again = |case: &Case, name: &str| Input::RetryStep { step: case.step(name), reason: "again".into() };
    let step = again(&case, "b.s");
    assert_eq!(case.refuse(step.clone()), "the run is running, so that it can not be taken up again");
    case.succeed("c.s");
    let old = case.attempt("b.s");
    case.give(step.clone());
    assert_ne!(case.attempt("b.s"), old);
    assert_eq!((case.status(), case.queued(), case.job_end("d")), (PipelineStatus::Running, vec!["b.s".to_owned()], None));
    case.succeed("b.s");
    case.succeed("d.s");
    assert_eq!(case.status(), PipelineStatus::Success);
    assert_eq!(case.refuse(step), "the run is over, so that it can not be taken up again");
}

#[test]
fn a_step_runs_again_only_after_those_before_it() {
    let mut case = Case::new(
        "jobs: [{name: j, steps: [{name: a, uses: shell}, {name: b, uses: shell, when: always()}, {name: c, uses: shell}]}]",
    );
    case.end("j.a", Outcome::Failed);
    case.end("j.b", Outcome::Failed);
    let again = |case: &Case, name: &str| Input::RetryStep { step: case.step(name), reason: String::new() };
    let (first, second, third) = (again(&case, "j.a"), again(&case, "j.b"), again(&case, "j.c"));
    assert_eq!(case.refuse(second), "step 'b' of job 'j' can not run again before step 'a' of job 'j', which ended badly too");
    assert_eq!(case.refuse(third), "step 'c' of job 'j' is over (skipped), so that it can not be run again");
    case.give(first);
    case.succeed("j.a");
    case.succeed("j.b");
    case.succeed("j.c");
    assert_eq!(case.status(), PipelineStatus::Success);
}

#[test]
fn the_triggers_variables_win_and_are_seen_by_conditions() {
    let cause = Cause { variables: [("A".to_owned(), "2".to_owned())].into(), branch: "main".into(), event: "push".into() };
    let text = "variables: {A: '1'}\njobs: [{name: j, when: \"A == '2' && branch == 'main' && event == 'push'\", steps: [{name: a, uses: shell}]}]";
    let mut run = run_of(text, &cause);
    run.apply(Input::Begin, 0, &mut ids()).unwrap();
    assert_eq!(run.record().jobs[0].steps[0].state.status(), StepRunStatus::Queued);
    let value = |name: &str| run.plan().value_of(name);
    assert_eq!(
        ["A", "env.A", "variables.A", "branch", "event"].map(value),
        ["2", "2", "2", "main", "push"].map(|text| Some(text.to_owned()))
    );
    assert_eq!(value("secrets.A"), None);
}

#[test]
fn a_record_of_another_plan_is_refused() {
    let run = run_of(RETRY, &Cause::default());
    let other = run_of(DIAMOND, &Cause::default());
    assert!(Run::restore(run.plan().clone(), other.record().clone()).is_err());
    assert!(Run::restore(run.plan().clone(), run.record().clone()).is_ok());
}

#[test]
fn what_was_handed_out_in_vain_is_queued_under_another_id_and_counts_no_try() {
    let mut case = Case::new("jobs: [{name: j, steps: [{name: a, uses: shell}]}]");
    let (step, old) = (case.step("j.a"), case.attempt("j.a"));
    let give_back = |attempt: &str| Input::StepReturned { step, attempt: attempt.into(), reason: "gone".into() };
    case.give(give_back(&old));
    assert_eq!(case.queued(), ["j.a"]);
    assert!(case.refuse(Input::StepStarted { step, attempt: old }).contains("is not the current one"));
    case.give(Input::Pause { reason: String::new() });
    let second = case.attempt("j.a");
    case.give(give_back(&second));
    assert_eq!(case.queued(), [""; 0], "nothing becomes ready while the run is paused");
    case.give(Input::Resume { reason: String::new() });
    let record = &case.run.record().jobs[0].steps[0];
    assert_eq!((case.queued(), record.number, record.tries), (vec!["j.a".to_owned()], 3, 1));
    case.start("j.a");
    let third = case.attempt("j.a");
    assert!(case.refuse(give_back(&third)).contains("can not be given back"));
}
