//! The control plane's events: CloudEvents of types `arcentra.pipeline|job|step.*`, as the existing system's are, and with the ids
//! that those lack.
//!
//! | type | when | data.status |
//! |---|---|---|
//! | `arcentra.pipeline.started`, `.paused`, `.resumed`, `.completed`, `.failed`, `.cancelled` | a run's status changed | `started`, `paused`, `resumed`, `succeeded`, `failed`, `cancelled` |
//! | `arcentra.pipeline.approval.requested`, `.approved`, `.rejected`, `.expired` | somebody's consent is waited for, or no longer | the last word of the type |
//! | `arcentra.job.started`, `.completed`, `.failed`, `.cancelled` | a job's status changed | `started`, `succeeded`, `skipped`, `failed`, `timeout`, `cancelled` |
//! | `arcentra.step.queued`, `.started`, `.completed`, `.failed`, `.cancelled` | an attempt's status changed | `queued`, `started`, `completed`, `skipped`, `failed`, `timeout`, `cancelled` |
//! | `arcentra.agent.registered`, `.unregistered`, `.offline`, `.online` | an agent came, went, was lost, is back | the last word of the type |
//!
//! Secrets, variables and environments are in none of them.

use arcgate_api::pipeline::v1::{PipelineStatus, Spec};
use arcgate_api::steprun::v1::StepRunStatus;
use serde_json::{Value, json};

use super::update::{AgentMoved, Moved, Update};
use crate::agents::AgentRow;

const SOURCE: &str = "urn:arcentra:control:pipeline";
const AGENT_SOURCE: &str = "urn:arcentra:control:agent";

/// An event for the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place among the control plane's events: higher than that of earlier ones.
    pub seq: i64,
    /// Its id, a UUID. Repeats of an event have the same.
    pub event_id: String,
    /// Its type, as `arcentra.step.started`.
    pub event_type: String,
    /// The CloudEvent as JSON.
    pub payload: String,
}

/// The event of a change, if it has one.
pub(super) fn of(update: &Update, spec: &Spec) -> Option<Event> {
    let (kind, status) = kind(&update.what)?;
    let namespace = &*update.namespace;
    let mut data = json!({ "status": status, "runId": &*update.run_id });
    let mut envelope = json!({
        "specversion": "1.0",
        "source": SOURCE,
        "datacontenttype": "application/json",
        "pipelineNamespace": namespace,
        "pipelineVersion": spec.version,
        "pipelineId": &*update.pipeline_id,
        "pipelineRunId": &*update.run_id,
    });
    let subject = match &update.what {
        Moved::Run { run, .. } => {
            data["pipelineNamespace"] = json!(namespace);
            data["pipelineVersion"] = json!(spec.version);
            data["jobCount"] = json!(run.total_jobs);
            envelope["projectId"] = json!(run.project_id);
            format!("pipeline:{namespace}")
        }
        Moved::Job { job, .. } => {
            put_error(&mut data, &job.error);
            about_job(&mut envelope, &update.pipeline_id, &job.name);
            envelope["jobRunId"] = json!(job.job_run_id);
            format!("pipeline:{namespace}:job:{}", job.name)
        }
        Moved::Step { job, step, index, .. } => {
            put_error(&mut data, &step.error);
            data["attempt"] = json!(step.number);
            if let Some(code) = step.exit_code {
                data["exitCode"] = json!(code);
            }
            about_job(&mut envelope, &update.pipeline_id, job);
            envelope["stepRunId"] = json!(step.step_run_id);
            envelope["stepName"] = json!(step.name);
            envelope["stepIndex"] = json!(index);
            if !step.agent_id.is_empty() {
                envelope["agentId"] = json!(step.agent_id);
            }
            format!("pipeline:{namespace}:job:{job}:step:{}", step.name)
        }
        Moved::Agent { .. } | Moved::Ready | Moved::Stop { .. } => return None,
    };
    Some(finish(envelope, update.seq, update.at, kind, &subject, data))
}

/// The event of a change of an agent, if it has one.
pub(super) fn of_agent(update: &Update, what: AgentMoved, agent: &AgentRow, reason: &str) -> Option<Event> {
    let status = match what {
        AgentMoved::Registered => "registered",
        AgentMoved::Unregistered => "unregistered",
        AgentMoved::Offline => "offline",
        AgentMoved::Online => "online",
        AgentMoved::Changed => return None,
    };
    let envelope = json!({
        "specversion": "1.0",
        "source": AGENT_SOURCE,
        "datacontenttype": "application/json",
        "agentId": agent.agent_id,
    });
    let mut data = json!({ "status": status, "agentName": agent.name, "labels": agent.labels });
    if !reason.is_empty() {
        data["reason"] = json!(reason);
    }
    let kind = format!("arcentra.agent.{status}");
    Some(finish(envelope, update.seq, update.at, kind, &format!("agent:{}", agent.agent_id), data))
}

/// An event about an approval: `requested`, `approved`, `rejected`, `expired`.
pub(super) fn of_approval(update: &Update, id: &str, job: &str, what: &str) -> Event {
    let envelope = json!({
        "specversion": "1.0",
        "source": SOURCE,
        "datacontenttype": "application/json",
        "pipelineNamespace": &*update.namespace,
        "pipelineId": &*update.pipeline_id,
        "pipelineRunId": &*update.run_id,
    });
    let data = json!({ "approvalId": id, "status": what, "jobName": job, "runId": &*update.run_id });
    let kind = format!("arcentra.pipeline.approval.{what}");
    finish(envelope, update.seq, update.at, kind, &format!("approval:{id}"), data)
}

fn finish(mut envelope: Value, seq: i64, at: crate::Millis, kind: String, subject: &str, data: Value) -> Event {
    let event_id = uuid::Uuid::new_v4().to_string();
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    envelope["id"] = json!(event_id);
    envelope["type"] = json!(kind);
    envelope["time"] = json!(time.to_string());
    envelope["subject"] = json!(subject);
    envelope["data"] = data;
    Event { seq, event_id, event_type: kind, payload: envelope.to_string() }
}

fn about_job(envelope: &mut Value, pipeline_id: &str, job: &str) {
    envelope["jobId"] = json!(format!("{pipeline_id}-{job}"));
    envelope["jobName"] = json!(job);
}

fn put_error(data: &mut Value, error: &str) {
    if !error.is_empty() {
        data["error"] = json!(error);
    }
}

fn kind(what: &Moved) -> Option<(String, &'static str)> {
    use PipelineStatus as P;
    use StepRunStatus as S;
    let (of, kind, status) = match what {
        Moved::Run { from, run } => match run.status {
            P::Running if *from == P::Paused => ("pipeline", "resumed", "resumed"),
            P::Running => ("pipeline", "started", "started"),
            P::Paused => ("pipeline", "paused", "paused"),
            P::Success => ("pipeline", "completed", "succeeded"),
            P::Failed => ("pipeline", "failed", "failed"),
            P::Cancelled => ("pipeline", "cancelled", "cancelled"),
            P::Unspecified | P::Pending => return None,
        },
        Moved::Job { job, .. } => match job.status {
            S::Running => ("job", "started", "started"),
            S::Success => ("job", "completed", "succeeded"),
            S::Skipped => ("job", "completed", "skipped"),
            S::Failed => ("job", "failed", "failed"),
            S::Timeout => ("job", "failed", "timeout"),
            S::Cancelled => ("job", "cancelled", "cancelled"),
            S::Unspecified | S::Pending | S::Queued => return None,
        },
        Moved::Step { step, .. } => match step.status {
            S::Queued => ("step", "queued", "queued"),
            S::Running => ("step", "started", "started"),
            S::Success => ("step", "completed", "completed"),
            S::Skipped => ("step", "completed", "skipped"),
            S::Failed => ("step", "failed", "failed"),
            S::Timeout => ("step", "failed", "timeout"),
            S::Cancelled => ("step", "cancelled", "cancelled"),
            S::Unspecified | S::Pending => return None,
        },
        Moved::Agent { .. } | Moved::Ready | Moved::Stop { .. } => return None,
    };
    Some((format!("arcentra.{of}.{kind}"), status))
}
