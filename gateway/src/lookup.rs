//! What the data plane asks of whoever knows the step runs.
//!
//! Declared here, answered by the control plane where there is one. Each answer may be "not known": logs and events must flow
//! without it.

use std::future::ready;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::BoxStream;

use crate::id::{AgentId, StepRunId};

/// Where a step run belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parents {
    /// The pipeline.
    pub pipeline_id: String,
    /// The job.
    pub job_id: String,
}

/// A step run as a client of the status channel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTarget {
    /// The pipeline, or `-`.
    pub pipeline_id: String,
    /// The job, or `-`.
    pub job_id: String,
    /// The step run: its id, or the job's id, `-` and the step's name.
    pub step_run_id: String,
}

/// What a status subscription is told.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusItem {
    /// The step run as it is: `data` of `status_snapshot`. First, and again if changes were missed.
    Snapshot(serde_json::Value),
    /// A change after that: `data` of `status`.
    Change(serde_json::Value),
}

/// A step run's status from now on. It ends when nothing will change any more.
pub type StatusFeed = BoxStream<'static, StatusItem>;

/// Knows step runs. Calls that are not futures may block: they are made off the runtime's threads.
pub trait StepRunLookup: Send + Sync + 'static {
    /// Follows the status of the step run that `target` names; nothing if there is none.
    fn status(&self, target: StatusTarget) -> BoxFuture<'_, Option<StatusFeed>> {
        let _ = target;
        ready(None).boxed()
    }

    /// The agent that the step run was handed to.
    fn owner(&self, step_run: &StepRunId) -> Option<AgentId> {
        let _ = step_run;
        None
    }

    /// The step run that `agent` runs under the name `step_name`, or ran last.
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
