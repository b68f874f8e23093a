//! A step's states:
//!
//! ```text
//! Waiting ──▶ Queued ──▶ Running ──▶ Stopping ──▶ Ended ──▶ Waiting, again
//!    │          ▲ │         │                       ▲
//!    │   Delayed┘◀┴─────────┤ (an attempt failed)   │
//!    └──────────┴───────────┴───────────────────────┘
//! ```

use arcgate_api::steprun::v1::StepRunStatus;
use serde::{Deserialize, Serialize};

use crate::Millis;

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The state of its current attempt.
    pub state: StepState,
    /// The current attempt's id.
    pub attempt: String,
    /// The current attempt's number, from 1.
    pub number: u32,
    /// How many attempts this round has had, the current one included: what `max_attempts` bounds.
    pub tries: u32,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepEnd {
    /// It did what it should.
    Succeeded,
    /// All its attempts failed.
    Failed {
        /// Whether `continue_on_error` makes this a good end.
        forgiven: bool,
    },
    /// Its time was over.
    TimedOut {
        /// Whether `continue_on_error` makes this a good end.
        forgiven: bool,
    },
    /// It was no longer wanted.
    Cancelled,
    /// Its condition did not hold, or its job was skipped.
    Skipped,
}

impl StepEnd {
    /// Whether what follows is to know that something went wrong.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed { forgiven: false } | Self::TimedOut { forgiven: false } | Self::Cancelled)
    }
}

/// A step's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepState {
    /// For its turn.
    Waiting(WaitingStep),
    /// For an executor.
    Queued(Queued),
    /// At an executor.
    Running(RunningStep),
    /// Told to stop.
    Stopping(StoppingStep),
    /// Between two attempts.
    Delayed(Delayed),
    /// Over.
    Ended(EndedStep),
}

/// A step whose turn has not come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WaitingStep(());

/// A step that may be handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// From the first attempt's start on.
    deadline: Option<Millis>,
}

/// A step that is being executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStep {
    deadline: Option<Millis>,
}

/// A step whose executor was told to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppingStep {
    end: StepEnd,
    reason: String,
    until: Millis,
}

/// A step whose last attempt failed and whose next comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delayed {
    until: Millis,
    deadline: Option<Millis>,
}

/// A step that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedStep {
    end: StepEnd,
}

impl WaitingStep {
    pub(in crate::plan) fn queue(self) -> Queued {
        Queued { deadline: None }
    }

    pub(in crate::plan) fn end(self, end: StepEnd) -> EndedStep {
        EndedStep { end }
    }
}

impl Queued {
    pub(in crate::plan) fn start(self, now: Millis, timeout: Option<Millis>) -> RunningStep {
        RunningStep { deadline: self.deadline.or(timeout.map(|timeout| now.saturating_add(timeout))) }
    }

    pub(in crate::plan) fn end(self, end: StepEnd) -> EndedStep {
        EndedStep { end }
    }

    /// Its executor is gone: it waits to be queued anew.
    pub(in crate::plan) fn give_back(self, now: Millis) -> Delayed {
        Delayed { until: now, deadline: self.deadline }
    }

    /// Its deadline moves by the length of a pause.
    pub(in crate::plan) fn extend(self, by: Millis) -> Self {
        Self { deadline: self.deadline.map(|deadline| deadline.saturating_add(by)) }
    }
}

impl RunningStep {
    pub(in crate::plan) fn stop(self, end: StepEnd, reason: String, until: Millis) -> StoppingStep {
        StoppingStep { end, reason, until }
    }

    pub(in crate::plan) fn delay(self, until: Millis) -> Delayed {
        Delayed { until, deadline: self.deadline }
    }

    pub(in crate::plan) fn end(self, end: StepEnd) -> EndedStep {
        EndedStep { end }
    }
}

impl StoppingStep {
    /// Why it is to stop.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// It stopped, or is waited for no longer: it ends as was wanted, and why.
    pub(in crate::plan) fn stopped(self) -> (EndedStep, String) {
        (EndedStep { end: self.end }, self.reason)
    }

    /// It had succeeded before it could be stopped.
    pub(in crate::plan) fn succeeded(self) -> EndedStep {
        EndedStep { end: StepEnd::Succeeded }
    }
}

impl Delayed {
    pub(in crate::plan) fn queue(self) -> Queued {
        Queued { deadline: self.deadline }
    }

    pub(in crate::plan) fn end(self, end: StepEnd) -> EndedStep {
        EndedStep { end }
    }

    /// Its deadline moves by the length of a pause.
    pub(in crate::plan) fn extend(self, by: Millis) -> Self {
        Self { deadline: self.deadline.map(|deadline| deadline.saturating_add(by)), ..self }
    }

    /// When the next attempt comes.
    pub(in crate::plan) fn until(&self) -> Millis {
        self.until
    }
}

impl EndedStep {
    /// How it ended.
    #[must_use]
    pub fn end(&self) -> StepEnd {
        self.end
    }

    pub(in crate::plan) fn again(self) -> WaitingStep {
        WaitingStep(())
    }
}

impl StepState {
    /// What the world sees.
    #[must_use]
    pub fn status(&self) -> StepRunStatus {
        match self {
            Self::Waiting(_) | Self::Delayed(_) => StepRunStatus::Pending,
            Self::Queued(_) => StepRunStatus::Queued,
            Self::Running(_) | Self::Stopping(_) => StepRunStatus::Running,
            Self::Ended(ended) => match ended.end {
                StepEnd::Succeeded => StepRunStatus::Success,
                StepEnd::Failed { .. } => StepRunStatus::Failed,
                StepEnd::TimedOut { .. } => StepRunStatus::Timeout,
                StepEnd::Cancelled => StepRunStatus::Cancelled,
                StepEnd::Skipped => StepRunStatus::Skipped,
            },
        }
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn end(&self) -> Option<StepEnd> {
        if let Self::Ended(ended) = self { Some(ended.end) } else { None }
    }

    /// When its time is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        match self {
            Self::Queued(Queued { deadline })
            | Self::Running(RunningStep { deadline })
            | Self::Delayed(Delayed { deadline, .. }) => *deadline,
            Self::Waiting(_) | Self::Stopping(_) | Self::Ended(_) => None,
        }
    }

    /// The next time at which something is to be done about it.
    pub(in crate::plan) fn due(&self, paused: bool) -> Option<Millis> {
        match self {
            Self::Running(running) => running.deadline,
            Self::Stopping(stopping) => Some(stopping.until),
            Self::Queued(queued) if !paused => queued.deadline,
            Self::Delayed(delayed) if !paused => {
                Some(delayed.deadline.map_or(delayed.until, |deadline| deadline.min(delayed.until)))
            }
            Self::Queued(_) | Self::Delayed(_) | Self::Waiting(_) | Self::Ended(_) => None,
        }
    }
}
