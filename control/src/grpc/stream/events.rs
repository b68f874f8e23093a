//! `StreamEvents`: what happens, from now on. Each event has the id that it has in the event log.
//!
//! Whoever is too slow is told so and cut off, since nothing in between can be left out: the event log has what they missed.

use std::collections::VecDeque;
use std::sync::Arc;

use arcgate_api::pipeline::v1::PipelineStatus;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::stream::v1 as pb;
use pb::EventType;
use tokio::sync::broadcast::{self, error::RecvError};
use tonic::Status;

use super::Answers;
use crate::engine::{AgentMoved, Engine, Moved, Update};

const KINDS: [&str; 4] = ["step_run", "job", "pipeline", "agent"];

struct Listener {
    asked: pb::StreamEventsRequest,
    changes: broadcast::Receiver<Arc<Update>>,
    queue: VecDeque<pb::StreamEventsResponse>,
    over: bool,
}

/// The stream of events that are asked for.
pub(super) fn listen(engine: &Engine, asked: pb::StreamEventsRequest) -> Result<Answers<pb::StreamEventsResponse>, Status> {
    if !asked.resource_type.is_empty() && !KINDS.contains(&&*asked.resource_type) {
        let why =
            format!("resource_type is {}; it must be one of {}", crate::text::quoted(&asked.resource_type), KINDS.join(", "));
        return Err(Status::invalid_argument(why));
    }
    let listener = Listener { asked, changes: engine.changes(), queue: VecDeque::new(), over: false };
    Ok(Box::pin(futures_util::stream::unfold(listener, Listener::next)))
}

impl Listener {
    async fn next(mut self) -> Option<(Result<pb::StreamEventsResponse, Status>, Self)> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            let why = match self.changes.recv().await {
                Ok(update) => {
                    self.queue.extend(event(&update).filter(|event| self.wants(event)));
                    continue;
                }
                Err(RecvError::Lagged(missed)) => Status::data_loss(format!(
                    "this stream was read too slowly and {missed} events went by; ask again, and read the event log for what was missed"
                )),
                Err(RecvError::Closed) => Status::unavailable("the control plane is shutting down; ask again later"),
            };
            self.over = true;
            return Some((Err(why), self));
        }
    }

    fn wants(&self, event: &pb::StreamEventsResponse) -> bool {
        let asked = &self.asked;
        (asked.event_types.is_empty() || asked.event_types.contains(&event.event_type))
            && (asked.resource_ids.is_empty() || asked.resource_ids.contains(&event.resource_id))
            && (asked.resource_type.is_empty() || asked.resource_type == event.resource_type)
    }
}

/// What a change is as an event, if it is one.
fn event(update: &Update) -> Option<pb::StreamEventsResponse> {
    let event_id = update.event.as_ref()?.event_id.clone();
    let run = ("runId", update.run_id.to_string());
    let pipeline = ("pipelineId", update.pipeline_id.to_string());
    let (kind, what, id, name, description, facts) = match &update.what {
        Moved::Run { run, .. } => {
            (of_run(run.status), "pipeline", run.run_id.clone(), &*update.namespace, String::new(), vec![pipeline])
        }
        Moved::Job { job, .. } => {
            let id = format!("{}-{}", update.pipeline_id, job.name);
            (
                of_job(job.status),
                "job",
                id,
                &*job.name,
                job.error.clone(),
                vec![pipeline, run, ("jobRunId", job.job_run_id.clone())],
            )
        }
        Moved::Step { job, step, .. } => {
            let facts = vec![pipeline, run, ("jobName", job.to_string()), ("agentId", step.agent_id.clone())];
            (of_step(step.status), "step_run", step.step_run_id.clone(), &*step.name, step.error.clone(), facts)
        }
        Moved::Agent { what, agent, reason, .. } => {
            let kind = match what {
                AgentMoved::Registered => EventType::AgentRegistered,
                AgentMoved::Unregistered => EventType::AgentUnregistered,
                AgentMoved::Offline => EventType::AgentOffline,
                AgentMoved::Online | AgentMoved::Changed => EventType::Unspecified,
            };
            (kind, "agent", agent.agent_id.clone(), &*agent.name, reason.to_string(), Vec::new())
        }
        Moved::Ready | Moved::Stop { .. } => return None,
    };
    let words = kind.as_str_name().trim_start_matches("EVENT_TYPE_").to_ascii_lowercase().replace('_', " ");
    Some(pb::StreamEventsResponse {
        event_id,
        event_type: kind.into(),
        timestamp: update.at / 1000,
        resource_id: id,
        resource_type: what.to_owned(),
        title: format!("{words}: {name}"),
        description,
        metadata: facts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value)).collect(),
        user_id: String::new(),
    })
}

fn of_run(status: PipelineStatus) -> EventType {
    match status {
        PipelineStatus::Running => EventType::PipelineStarted,
        PipelineStatus::Success => EventType::PipelineCompleted,
        PipelineStatus::Failed => EventType::PipelineFailed,
        PipelineStatus::Cancelled => EventType::PipelineCancelled,
        PipelineStatus::Unspecified | PipelineStatus::Pending | PipelineStatus::Paused => EventType::Unspecified,
    }
}

fn of_job(status: StepRunStatus) -> EventType {
    match status {
        StepRunStatus::Running => EventType::JobStarted,
        StepRunStatus::Success | StepRunStatus::Skipped => EventType::JobCompleted,
        StepRunStatus::Failed | StepRunStatus::Timeout => EventType::JobFailed,
        StepRunStatus::Cancelled => EventType::JobCancelled,
        StepRunStatus::Unspecified | StepRunStatus::Pending | StepRunStatus::Queued => EventType::Unspecified,
    }
}

fn of_step(status: StepRunStatus) -> EventType {
    match status {
        StepRunStatus::Queued => EventType::StepRunCreated,
        StepRunStatus::Running => EventType::StepRunStarted,
        StepRunStatus::Success | StepRunStatus::Skipped => EventType::StepRunCompleted,
        StepRunStatus::Failed | StepRunStatus::Timeout => EventType::StepRunFailed,
        StepRunStatus::Cancelled => EventType::StepRunCancelled,
        StepRunStatus::Unspecified | StepRunStatus::Pending => EventType::Unspecified,
    }
}
