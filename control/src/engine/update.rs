//! What changed, as those are told who watch, and as events.

use std::sync::Arc;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::rows::{JobRow, RunRow, StepRow};
use crate::Millis;

/// One change. It is told after it is durable.
#[derive(Debug, Clone)]
pub struct Update {
    /// Its number: changes are numbered without end, and a later one has a higher number.
    pub seq: i64,
    /// When.
    pub at: Millis,
    /// Of which run.
    pub run_id: Arc<str>,
    /// Of which pipeline.
    pub pipeline_id: Arc<str>,
    /// The namespace of the run's definition.
    pub namespace: Arc<str>,
    /// What.
    pub what: Moved,
}

/// What changed.
#[derive(Debug, Clone)]
pub enum Moved {
    /// A run's status.
    Run {
        /// What it was.
        from: PipelineStatus,
        /// The run now.
        run: RunRow,
    },
    /// A job's status.
    Job {
        /// What it was.
        from: StepRunStatus,
        /// The job now.
        job: JobRow,
    },
    /// A step's status.
    Step {
        /// What it was.
        from: StepRunStatus,
        /// Its job's name.
        job: Arc<str>,
        /// Its place in the job, from 0.
        index: usize,
        /// The attempt now.
        step: StepRow,
    },
    /// A step may be handed out: whoever has room should ask.
    Ready,
    /// An agent is to stop a step run, or not to start it.
    Stop {
        /// The agent.
        agent_id: String,
        /// The step run.
        step_run_id: String,
        /// Why.
        reason: String,
    },
}
