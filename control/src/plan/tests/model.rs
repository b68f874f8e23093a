//! Random definitions, and how a run of one ends if nobody interferes: computed from the rules alone, without a state machine.

use std::collections::HashMap;

use arcgate_api::pipeline::v1 as pb;
use arcgate_api::steprun::v1::StepRunStatus as Status;
use proptest::prelude::*;

use super::super::input::Outcome;

/// A condition, whose value the model knows without the expression.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cond {
    None,
    True,
    False,
    Success,
    Failure,
    Always,
    FailureOrTrue,
    AlwaysButFalse,
    Broken,
}

impl Cond {
    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::True => "A == 'x'",
            Self::False => "A == 'y'",
            Self::Success => "success()",
            Self::Failure => "failure()",
            Self::Always => "always()",
            Self::FailureOrTrue => "failure() or A == 'x'",
            Self::AlwaysButFalse => "always() && A == 'y'",
            Self::Broken => "int(A) > 1",
        }
    }

    /// Whether it holds after what came before; absent if it can not be computed.
    pub(super) fn holds(self, failed: bool) -> Option<bool> {
        match self {
            Self::None | Self::True | Self::Success => Some(!failed),
            Self::False | Self::AlwaysButFalse => Some(false),
            Self::Failure => Some(failed),
            Self::Always | Self::FailureOrTrue => Some(true),
            Self::Broken => failed.then_some(false),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct StepDef {
    pub(super) when: Cond,
    pub(super) continue_on_error: bool,
    /// In seconds.
    pub(super) timeout: Option<i64>,
    /// So many attempts end in this way, then it succeeds.
    pub(super) failures: u32,
    pub(super) how: Outcome,
}

#[derive(Debug, Clone)]
pub(super) struct JobDef {
    /// Indices of jobs before it.
    pub(super) before: Vec<usize>,
    pub(super) when: Cond,
    pub(super) key: Option<u8>,
    pub(super) approval: bool,
    /// In seconds.
    pub(super) timeout: Option<i64>,
    pub(super) attempts: u32,
    /// In seconds.
    pub(super) delay: i64,
    pub(super) steps: Vec<StepDef>,
}

/// A condition; mostly none, since much else hides what comes behind.
fn cond() -> impl Strategy<Value = Cond> {
    prop_oneof![
        12 => Just(Cond::None),
        2 => Just(Cond::True),
        1 => Just(Cond::False),
        1 => Just(Cond::Success),
        3 => Just(Cond::Failure),
        3 => Just(Cond::Always),
        1 => Just(Cond::FailureOrTrue),
        1 => Just(Cond::AlwaysButFalse),
        1 => Just(Cond::Broken),
    ]
}

fn seconds(timeouts: bool) -> BoxedStrategy<Option<i64>> {
    if timeouts { prop::option::weighted(0.3, 1i64..30).boxed() } else { Just(None).boxed() }
}

fn step(timeouts: bool) -> impl Strategy<Value = StepDef> {
    let how = prop_oneof![
        4 => Just(Outcome::Failed),
        2 => Just(Outcome::Lost),
        1 => Just(Outcome::TimedOut),
        1 => Just(Outcome::Cancelled),
    ];
    let failures = prop_oneof![5 => Just(0u32), 2 => 1u32..3, 1 => Just(9u32)];
    (cond(), prop::bool::weighted(0.2), seconds(timeouts), failures, how)
        .prop_map(|(when, continue_on_error, timeout, failures, how)| StepDef { when, continue_on_error, timeout, failures, how })
}

fn job(timeouts: bool) -> impl Strategy<Value = JobDef> {
    let waits = (cond(), prop::option::weighted(0.3, 0u8..2), prop::bool::weighted(0.2), seconds(timeouts));
    (waits, 1u32..4, 0i64..3, prop::collection::vec(step(timeouts), 1..4)).prop_map(
        |((when, key, approval, timeout), attempts, delay, steps)| JobDef {
            before: Vec::new(),
            when,
            key,
            approval,
            timeout,
            attempts,
            delay,
            steps,
        },
    )
}

/// Jobs in any order, each depending on some of those that are earlier in another order.
pub(super) fn jobs(timeouts: bool) -> impl Strategy<Value = Vec<JobDef>> {
    let edges = prop::collection::vec(prop::bool::weighted(0.4), 49);
    (1usize..7).prop_flat_map(move |count| {
        let order = Just((0..count).collect::<Vec<usize>>()).prop_shuffle();
        (prop::collection::vec(job(timeouts), count), order, edges.clone()).prop_map(|(mut jobs, order, edges)| {
            for (later, job) in order.iter().enumerate() {
                jobs[*job].before =
                    (0..later).filter(|earlier| edges[later * 7 + earlier]).map(|earlier| order[earlier]).collect();
            }
            jobs
        })
    })
}

pub(super) fn spec(jobs: &[JobDef]) -> pb::Spec {
    let duration = |seconds: Option<i64>| seconds.map(|seconds| format!("{seconds}s")).unwrap_or_default();
    let step = |(index, step): (usize, &StepDef)| pb::Step {
        name: format!("s{index}"),
        uses: "shell".into(),
        when: step.when.text().into(),
        continue_on_error: step.continue_on_error,
        timeout: duration(step.timeout),
        ..Default::default()
    };
    let job = |(index, job): (usize, &JobDef)| pb::Job {
        name: format!("j{index}"),
        depends_on: job.before.iter().map(|before| format!("j{before}")).collect(),
        when: job.when.text().into(),
        concurrency: job.key.map(|key| format!("key{key}")).unwrap_or_default(),
        approval: job.approval.then(|| pb::Approval { required: true, ..Default::default() }),
        timeout: duration(job.timeout),
        retry: Some(pb::Retry { max_attempts: job.attempts as i32, delay: format!("{}s", job.delay) }),
        steps: job.steps.iter().enumerate().map(step).collect(),
        ..Default::default()
    };
    pb::Spec {
        namespace: "model".into(),
        variables: HashMap::from([("A".into(), "x".into())]),
        jobs: jobs.iter().enumerate().map(job).collect(),
        ..Default::default()
    }
}

/// How a job ends, and for each step how and after how many attempts (0: it never ran).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    pub(super) status: Status,
    pub(super) steps: Vec<(Status, u32)>,
    bad: bool,
}

/// How a job of these ends if nobody interferes.
pub(super) fn predict(jobs: &[JobDef], index: usize) -> Ending {
    let job = &jobs[index];
    let failed = job.before.iter().any(|before| predict(jobs, *before).bad);
    let never = |status, bad| Ending { status, steps: vec![(Status::Skipped, 0); job.steps.len()], bad };
    match job.when.holds(failed) {
        None => return never(Status::Failed, true),
        Some(false) => return never(Status::Skipped, failed),
        Some(true) => {}
    }
    let mut first_bad = None;
    let mut steps = Vec::new();
    for step in &job.steps {
        let (status, tries) = match (step.when.holds(first_bad.is_some()), step.how) {
            (None, _) => (Status::Failed, 0),
            (Some(false), _) => (Status::Skipped, 0),
            _ if step.failures == 0 => (Status::Success, 1),
            (_, Outcome::TimedOut) => (Status::Timeout, 1),
            (_, Outcome::Cancelled) => (Status::Cancelled, 1),
            _ if step.failures < job.attempts => (Status::Success, step.failures + 1),
            _ => (Status::Failed, job.attempts),
        };
        let bad = match status {
            Status::Cancelled => Some(Status::Cancelled),
            Status::Failed | Status::Timeout if !step.continue_on_error => Some(Status::Failed),
            _ => None,
        };
        first_bad = first_bad.or(bad);
        steps.push((status, tries));
    }
    Ending { status: first_bad.unwrap_or(Status::Success), steps, bad: first_bad.is_some() }
}
