//! A job's states:
//!
//! ```text
//! Waiting ──▶ Approval ──▶ Cleared ──▶ Key ──▶ Running ──▶ Stopping ──▶ Ended ──▶ Waiting or Cleared, again
//!    └────────────┴───────────┴─────────┴─────────┴──────────────────────▲
//! ```

use arcgate_api::steprun::v1::StepRunStatus;
use serde::{Deserialize, Serialize};

use super::step::{Step, StepEnd};
use crate::Millis;

/// A job of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its state.
    pub state: JobState,
    /// Its steps, in the plan's order.
    pub steps: Vec<Step>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobEnd {
    /// No step ended badly.
    Succeeded,
    /// A step ended badly, or approval was denied, or its condition could not be computed.
    Failed,
    /// Its time was over, or its approval's.
    TimedOut,
    /// It was no longer wanted, or a step of it.
    Cancelled,
    /// Its own condition did not hold, though all before it ended well.
    Skipped,
    /// Something before it ended badly.
    Blocked,
}

impl JobEnd {
    /// Whether jobs that depend on it are to know that something went wrong.
    #[must_use]
    pub fn is_bad(self) -> bool {
        !matches!(self, Self::Succeeded | Self::Skipped)
    }
}

/// A job's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// For the jobs that it depends on.
    Waiting(WaitingJob),
    /// For somebody's consent.
    Approval(Approval),
    /// It may run as soon as the run is not paused.
    Cleared(Cleared),
    /// For its concurrency key.
    Key(KeyWait),
    /// Its steps come one after the other.
    Running(RunningJob),
    /// It is to end, but a step is still running.
    Stopping(StoppingJob),
    /// Over.
    Ended(EndedJob),
}

/// A job whose dependencies have not ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WaitingJob(());

/// A job that waits for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    expires: Millis,
}

/// A job that nothing but a pause holds back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// The step to begin with.
    at: usize,
    /// Whether a step of it was started in an earlier round.
    before: bool,
}

/// A job that waits for its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWait {
    at: usize,
    before: bool,
}

/// A job whose steps are executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJob {
    /// The current step.
    at: usize,
    /// How the job will end because of a step that ended badly.
    bad: Option<JobEnd>,
    before: bool,
    /// Whether a step was started in this round.
    started: bool,
    /// From that start on.
    deadline: Option<Millis>,
}

/// A job that ends when its running step has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppingJob {
    at: usize,
    end: JobEnd,
    reason: String,
    before: bool,
    started: bool,
}

/// A job that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedJob {
    end: JobEnd,
    /// Whether a step of it was ever started.
    started: bool,
}

impl WaitingJob {
    pub(in crate::plan) fn ask(self, expires: Millis) -> Approval {
        Approval { expires }
    }

    pub(in crate::plan) fn clear(self) -> Cleared {
        Cleared { at: 0, before: false }
    }

    pub(in crate::plan) fn end(self, end: JobEnd) -> EndedJob {
        EndedJob { end, started: false }
    }
}

impl Approval {
    pub(in crate::plan) fn clear(self) -> Cleared {
        Cleared { at: 0, before: false }
    }

    pub(in crate::plan) fn end(self, end: JobEnd) -> EndedJob {
        EndedJob { end, started: false }
    }
}

impl Cleared {
    pub(in crate::plan) fn want_key(self) -> KeyWait {
        KeyWait { at: self.at, before: self.before }
    }

    pub(in crate::plan) fn run(self) -> RunningJob {
        RunningJob { at: self.at, bad: None, before: self.before, started: false, deadline: None }
    }

    pub(in crate::plan) fn end(self, end: JobEnd) -> EndedJob {
        EndedJob { end, started: self.before }
    }
}

impl KeyWait {
    pub(in crate::plan) fn run(self) -> RunningJob {
        Cleared { at: self.at, before: self.before }.run()
    }

    pub(in crate::plan) fn end(self, end: JobEnd) -> EndedJob {
        EndedJob { end, started: self.before }
    }
}

impl RunningJob {
    pub(in crate::plan) fn at(&self) -> usize {
        self.at
    }

    pub(in crate::plan) fn has_failed(&self) -> bool {
        self.bad.is_some()
    }

    /// A step starts; the first one starts the job's time.
    pub(in crate::plan) fn start(self, now: Millis, timeout: Option<Millis>) -> Self {
        if self.started {
            return self;
        }
        Self { started: true, deadline: timeout.map(|timeout| now.saturating_add(timeout)), ..self }
    }

    pub(in crate::plan) fn is_started(&self) -> bool {
        self.started
    }

    /// The current step ended: the next one is current.
    pub(in crate::plan) fn next(self, end: StepEnd) -> Self {
        let bad = match end {
            StepEnd::Cancelled => Some(JobEnd::Cancelled),
            end if end.is_bad() => Some(JobEnd::Failed),
            _ => None,
        };
        Self { at: self.at + 1, bad: self.bad.or(bad), ..self }
    }

    /// Its deadline moves by the length of a pause.
    pub(in crate::plan) fn extend(self, by: Millis) -> Self {
        Self { deadline: self.deadline.map(|deadline| deadline.saturating_add(by)), ..self }
    }

    pub(in crate::plan) fn stop(self, end: JobEnd, reason: String) -> StoppingJob {
        StoppingJob { at: self.at, end, reason, before: self.before, started: self.started }
    }

    /// All steps are over.
    pub(in crate::plan) fn finish(self) -> EndedJob {
        EndedJob { end: self.bad.unwrap_or(JobEnd::Succeeded), started: self.before || self.started }
    }
}

impl StoppingJob {
    pub(in crate::plan) fn at(&self) -> usize {
        self.at
    }

    /// Its running step ended: it ends as was wanted, and why.
    pub(in crate::plan) fn stopped(self) -> (EndedJob, String) {
        (EndedJob { end: self.end, started: self.before || self.started }, self.reason)
    }
}

impl EndedJob {
    /// How it ended.
    #[must_use]
    pub fn end(&self) -> JobEnd {
        self.end
    }

    /// Whether a step of it was ever started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// It begins anew with its dependencies.
    pub(in crate::plan) fn again(self) -> WaitingJob {
        WaitingJob(())
    }

    /// It goes on with a step.
    pub(in crate::plan) fn again_from(self, at: usize) -> Cleared {
        Cleared { at, before: true }
    }
}

impl JobState {
    /// What the world sees.
    #[must_use]
    pub fn status(&self) -> StepRunStatus {
        match self {
            Self::Waiting(_) | Self::Approval(_) | Self::Cleared(_) => StepRunStatus::Pending,
            Self::Running(RunningJob { started: true, .. }) | Self::Stopping(StoppingJob { started: true, .. }) => {
                StepRunStatus::Running
            }
            Self::Key(_) | Self::Running(_) | Self::Stopping(_) => StepRunStatus::Queued,
            Self::Ended(ended) => match ended.end {
                JobEnd::Succeeded => StepRunStatus::Success,
                JobEnd::Failed => StepRunStatus::Failed,
                JobEnd::TimedOut => StepRunStatus::Timeout,
                JobEnd::Cancelled => StepRunStatus::Cancelled,
                JobEnd::Skipped | JobEnd::Blocked => StepRunStatus::Skipped,
            },
        }
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn end(&self) -> Option<JobEnd> {
        if let Self::Ended(ended) = self { Some(ended.end) } else { None }
    }

    /// Its current step, if it has begun with its steps.
    pub(in crate::plan) fn current(&self) -> Option<usize> {
        match self {
            Self::Running(RunningJob { at, .. }) | Self::Stopping(StoppingJob { at, .. }) => Some(*at),
            _ => None,
        }
    }

    /// The next time at which something is to be done about the job itself.
    pub(in crate::plan) fn due(&self, paused: bool) -> Option<Millis> {
        match self {
            Self::Approval(approval) => Some(approval.expires),
            Self::Running(running) if !paused => running.deadline,
            _ => None,
        }
    }
}
