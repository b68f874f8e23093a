//! What changed, as those are told who watch, and as events.

use std::sync::Arc;

use arcgate_api::agent::v1::AgentStatus;
use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;

use super::event::Event;
use super::rows::{JobRow, RunRow, StepRow};
use crate::Millis;
use crate::agents::AgentRow;

/// One change. It is told after it is durable.
#[derive(Debug, Clone)]
pub struct Update {
    /// Its number: changes are numbered without end, and a later one has a higher number.
    pub seq: i64,
    /// When.
    pub at: Millis,
    /// Of which run; empty if it is about an agent.
    pub run_id: Arc<str>,
    /// Of which pipeline; empty as well.
    pub pipeline_id: Arc<str>,
    /// The namespace of the run's definition.
    pub namespace: Arc<str>,
    /// Its event, if it has one.
    pub event: Option<Arc<Event>>,
    /// What.
    pub what: Moved,
}

/// What happened to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentMoved {
    /// It introduced itself, for the first time or again.
    Registered,
    /// It said that it goes away.
    Unregistered,
    /// It is no longer heard of.
    Offline,
    /// It is heard of again.
    Online,
    /// Something else about it.
    Changed,
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
    /// An agent's status, labels or settings. It is of no run.
    Agent {
        /// What happened to it.
        what: AgentMoved,
        /// Its status before.
        from: AgentStatus,
        /// The agent now.
        agent: Arc<AgentRow>,
        /// Why; may be empty.
        reason: Arc<str>,
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
