//! What an agent tells in events: CloudEvents of the types `arcentra.task.*`, as Arcentra's own agents send them, with the run's and
//! the step run's ids added. Lines are no events here: they go through LogSession.

use std::path::Path;
use std::time::Duration;

use arcgate_api::agent::v1::StepRun;
use arcgate_api::steprun::v1::StepRunStatus;
use serde_json::{Value, json};

use super::desk::Report;
use crate::push::event::{Identity, Pending};
use crate::push::shared::now;
use crate::time::rfc3339;

/// Which step run events are about.
#[derive(Debug, Clone)]
pub(super) struct About {
    who: Identity,
    pipeline_run_id: String,
    job_run_id: String,
    job_name: String,
    step_name: String,
    plugin: String,
}

impl About {
    /// Events about this step run at this agent.
    pub(super) fn new(agent_id: &str, step: &StepRun) -> Self {
        let who = Identity {
            agent_id: agent_id.to_owned(),
            step_run_id: step.step_run_id.clone(),
            pipeline_id: step.pipeline_id.clone(),
        };
        Self {
            who,
            pipeline_run_id: step.pipeline_run_id.clone(),
            job_run_id: step.workspace.clone(),
            job_name: step.job_name.clone(),
            step_name: step.step_name.clone(),
            plugin: step.uses.clone(),
        }
    }

    /// The step begins.
    pub(super) fn started(&self, workspace: &Path) -> Pending {
        let data = json!({ "status": "running", "workspace": workspace.display().to_string(), "message": "execution started" });
        self.event("arcentra.task.started", &data)
    }

    /// How it ended.
    pub(super) fn ended(&self, report: &Report, took: Duration) -> Pending {
        if report.status == StepRunStatus::Success {
            return self.event("arcentra.task.succeeded", &json!({ "status": "succeeded", "durationMs": millis(took) }));
        }
        let data = json!({
            "status": word(report.status), "errorMessage": report.message, "exitCode": report.exit_code, "durationMs": millis(took),
        });
        self.event("arcentra.task.failed", &data)
    }

    /// All is over, the log included. The gateway ends the log at this event.
    pub(super) fn finished(&self, report: &Report, took: Duration) -> Pending {
        self.event("arcentra.task.finished", &json!({ "status": word(report.status), "durationMs": millis(took) }))
    }

    /// Something is kept that outlives the workspace.
    pub(super) fn artifact(&self, name: &str, path: &str, bytes: u64, files: u64, uri: &str) -> Pending {
        let data = json!({ "name": name, "path": path, "size": bytes, "files": files, "uri": uri, "storageType": "local" });
        self.event("arcentra.task.artifact", &data)
    }

    fn event(&self, kind: &str, data: &Value) -> Pending {
        let id = uuid::Uuid::new_v4().to_string();
        let Identity { agent_id, step_run_id, pipeline_id } = &self.who;
        let payload = json!({
            "specversion": "1.0",
            "id": id,
            "source": "urn:arcgate:agent",
            "type": kind,
            "subject": format!("pipeline/{pipeline_id}/step/{}", self.step_name),
            "time": rfc3339(now()),
            "datacontenttype": "application/json",
            "data": data,
            "agentId": agent_id,
            "jobName": self.job_name,
            "jobRunId": self.job_run_id,
            "pipelineId": pipeline_id,
            "pipelineRunId": self.pipeline_run_id,
            "pluginName": self.plugin,
            "stepId": self.step_name,
            "stepName": self.step_name,
            "stepRunId": step_run_id,
        });
        Pending { seq: 0, id, kind: kind.to_owned(), about: self.who.clone(), payload }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn word(status: StepRunStatus) -> &'static str {
    match status {
        StepRunStatus::Success => "succeeded",
        StepRunStatus::Cancelled => "cancelled",
        StepRunStatus::Timeout => "timeout",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_the_step_run_and_keep_one_id() {
        let step = StepRun { step_run_id: "s1".into(), step_name: "build".into(), pipeline_id: "p".into(), ..StepRun::default() };
        let about = About::new("a", &step);
        let report = Report {
            step_run_id: "s1".into(),
            status: StepRunStatus::Timeout,
            exit_code: -1,
            message: "too long".into(),
            ended: 0,
        };
        let failed = about.ended(&report, Duration::from_millis(1_500));
        assert_eq!(failed.kind, "arcentra.task.failed");
        assert_eq!(
            failed.payload["data"],
            json!({"status": "timeout", "errorMessage": "too long", "exitCode": -1, "durationMs": 1500})
        );
        assert_eq!((&failed.payload["id"], &failed.payload["stepRunId"]), (&json!(failed.id), &json!("s1")));
        let (one, other) = (failed.to_event(1), failed.to_event(2));
        assert_eq!((one.event_id, one.payload), (other.event_id, other.payload), "however often it is sent");
        let well = Report { status: StepRunStatus::Success, ..report };
        assert_eq!(about.ended(&well, Duration::ZERO).kind, "arcentra.task.succeeded");
    }
}
