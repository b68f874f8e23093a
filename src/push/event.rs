//! The events of a pushed step run: CloudEvents as Arcentra's own components write them, kept as JSON until they are sent.

use std::time::Duration;

use arcgate_api::gateway::v1::{Event, Meta};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::json::to_struct;
use crate::time::{Millis, rfc3339, timestamp};

const STARTED: &str = "arcentra.step.started";

/// Who pushes what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The agent.
    pub(crate) agent_id: String,
    /// The step run.
    pub(crate) step_run_id: String,
    /// The pipeline; empty if unknown.
    pub(crate) pipeline_id: String,
}

/// How a step run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The exit code; 128 + n after signal n.
    pub(crate) exit_code: u8,
    /// Why it failed, for people; empty if it did not.
    pub(crate) error: String,
    /// How long it took.
    pub(crate) took: Duration,
    /// How many lines it wrote.
    pub(crate) lines: u64,
}

/// An event that waits for the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Its place among the events of its outbox, from 1.
    pub(crate) seq: u64,
    /// Its name, a UUID: however often it is sent, the gateway keeps it once.
    pub(crate) id: String,
    /// Its type.
    pub(crate) kind: String,
    /// What it is about.
    pub(crate) about: Identity,
    /// The CloudEvent.
    pub(crate) payload: serde_json::Value,
}

impl Pending {
    /// `arcentra.step.started`.
    #[must_use]
    pub(crate) fn started(about: &Identity, now: Millis) -> Self {
        Self::new(about, STARTED, now, &json!({ "status": "started" }))
    }

    /// `arcentra.step.completed` or `arcentra.step.failed`.
    #[must_use]
    pub(crate) fn finished(about: &Identity, now: Millis, outcome: &Outcome) -> Self {
        let millis = u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX);
        let mut data = json!({
            "status": "completed", "exitCode": outcome.exit_code, "durationMs": millis, "lines": outcome.lines,
        });
        let mut kind = "arcentra.step.completed";
        if outcome.exit_code != 0 {
            kind = "arcentra.step.failed";
            data["status"] = "failed".into();
            data["error"] = outcome.error.as_str().into();
        }
        Self::new(about, kind, now, &data)
    }

    fn new(about: &Identity, kind: &str, now: Millis, data: &serde_json::Value) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        let mut payload = json!({
            "specversion": "1.0",
            "id": id,
            "source": "urn:arcgate:push",
            "type": kind,
            "subject": format!("step-run:{}", about.step_run_id),
            "time": rfc3339(now),
            "datacontenttype": "application/json",
            "data": data,
            "stepRunId": about.step_run_id,
            "agentId": about.agent_id,
        });
        if !about.pipeline_id.is_empty() {
            payload["pipelineId"] = about.pipeline_id.as_str().into();
        }
        Self { seq: 0, id, kind: kind.to_owned(), about: about.clone(), payload }
    }

    /// Whether it says that the step run has ended.
    #[must_use]
    pub(crate) fn is_last(&self) -> bool {
        self.kind != STARTED
    }

    /// The event as it goes on the wire at `now`.
    #[must_use]
    pub(crate) fn to_event(&self, now: Millis) -> Event {
        let meta = Meta {
            agent_id: self.about.agent_id.clone(),
            pipeline_id: self.about.pipeline_id.clone(),
            step_id: self.about.step_run_id.clone(),
            timestamp: Some(timestamp(now)),
            seq: self.seq,
        };
        Event { event_id: self.id.clone(), meta: Some(meta), event_type: self.kind.clone(), payload: to_struct(&self.payload) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prost_types::value::Kind;

    use super::*;

    #[test]
    fn events_are_cloud_events_with_the_outcome() {
        let about = Identity { agent_id: "a".into(), step_run_id: "s".into(), pipeline_id: String::new() };
        let started = Pending::started(&about, 1_700_000_000_123);
        assert_eq!(started.payload["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(started.payload["specversion"], "1.0");
        assert_eq!(started.payload.get("pipelineId"), None);

        let mut outcome = Outcome { exit_code: 0, error: String::new(), took: Duration::from_millis(1500), lines: 7 };
        let about = Identity { pipeline_id: "p".into(), ..about };
        let event = Pending::finished(&about, 0, &outcome).to_event(1_001);
        assert_eq!(event.event_type, "arcentra.step.completed");
        let meta = event.meta.unwrap();
        assert_eq!((meta.step_id.as_str(), meta.pipeline_id.as_str(), meta.timestamp.unwrap().nanos), ("s", "p", 1_000_000));
        let fields = event.payload.unwrap().fields;
        assert_eq!(fields["id"].kind, Some(Kind::StringValue(event.event_id)));
        let Some(Kind::StructValue(data)) = &fields["data"].kind else { unreachable!() };
        assert_eq!(data.fields["durationMs"].kind, Some(Kind::NumberValue(1500.0)));

        outcome.exit_code = 130;
        outcome.error = "signal 2".into();
        let failed = Pending::finished(&about, 0, &outcome);
        assert_eq!(failed.kind, "arcentra.step.failed");
        assert_eq!((&failed.payload["data"]["status"], &failed.payload["data"]["error"]), (&json!("failed"), &json!("signal 2")));
    }
}
