//! What the data plane asks of whoever knows the step runs.
//!
//! Declared here, answered by the control plane where there is one. Each answer may be "not known": logs and events must flow
//! without it.

use crate::id::{AgentId, StepRunId};

/// Where a step run belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parents {
    /// The pipeline.
    pub pipeline_id: String,
    /// The job.
    pub job_id: String,
}

/// A step run's status as a status subscription shows it first.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusSnapshot {
    /// Where the step run belongs.
    pub parents: Parents,
    /// The step run, a JSON object with the fields of `status_snapshot`.
    pub data: serde_json::Value,
}

/// Knows step runs. Calls may block: they are made off the runtime's threads.
pub trait StepRunLookup: Send + Sync + 'static {
    /// The step run's status.
    fn status(&self, step_run: &StepRunId) -> Option<StatusSnapshot> {
        let _ = step_run;
        None
    }

    /// The agent that runs the step run now.
    fn owner(&self, step_run: &StepRunId) -> Option<AgentId> {
        let _ = step_run;
        None
    }

    /// The step run that `agent` runs under the name `step_name`.
    fn step_run(&self, agent: &AgentId, step_name: &str) -> Option<StepRunId> {
        let _ = (agent, step_name);
        None
    }

    /// The pipeline and the job that the step run belongs to.
    fn parents(&self, step_run: &StepRunId) -> Option<Parents> {
        let _ = step_run;
        None
    }
}

/// Knows nothing: a gateway without a control plane.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLookup;

impl StepRunLookup for NoLookup {}
