//! The states of a run, its jobs and its steps, as plain data.
//!
//! A state is a type of its own and carries just what belongs to it. Its transitions are methods that consume it; no other code
//! can make one of them (fields are private to this module), so that a transition that is not written here does not exist.

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;
use serde::{Deserialize, Serialize};

use crate::Millis;

pub use self::job::{Job, JobEnd, JobState};
pub use self::step::{Step, StepEnd, StepState};
pub(super) use self::{job::WaitingJob, step::WaitingStep};

pub mod job;
pub mod step;

/// All that changes of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The run's own state.
    pub state: RunState,
    /// Its jobs, in the plan's order.
    pub jobs: Vec<Job>,
}

/// A run's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Not begun.
    Pending,
    /// Begun.
    Running,
    /// Nothing new starts.
    Paused {
        /// Since when.
        since: Millis,
    },
    /// Cancelled, but something is still running.
    Cancelling {
        /// Why.
        reason: String,
    },
    /// Over.
    Ended {
        /// How.
        how: RunEnd,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// No job ended badly.
    Succeeded,
    /// A job failed or timed out.
    Failed,
    /// The run was cancelled, or a job of it.
    Cancelled,
}

impl RunState {
    /// What the world sees.
    #[must_use]
    pub fn status(&self) -> PipelineStatus {
        match self {
            Self::Pending => PipelineStatus::Pending,
            Self::Running | Self::Cancelling { .. } => PipelineStatus::Running,
            Self::Paused { .. } => PipelineStatus::Paused,
            Self::Ended { how: RunEnd::Succeeded } => PipelineStatus::Success,
            Self::Ended { how: RunEnd::Failed } => PipelineStatus::Failed,
            Self::Ended { how: RunEnd::Cancelled } => PipelineStatus::Cancelled,
        }
    }

    /// For messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
            Self::Cancelling { .. } => "being cancelled",
            Self::Ended { .. } => "over",
        }
    }
}

/// The name of a status, for messages.
pub(super) fn status_name(status: StepRunStatus) -> &'static str {
    match status {
        StepRunStatus::Unspecified | StepRunStatus::Pending => "pending",
        StepRunStatus::Queued => "queued",
        StepRunStatus::Running => "running",
        StepRunStatus::Success => "over (succeeded)",
        StepRunStatus::Failed => "over (failed)",
        StepRunStatus::Cancelled => "over (cancelled)",
        StepRunStatus::Timeout => "over (timed out)",
        StepRunStatus::Skipped => "over (skipped)",
    }
}
