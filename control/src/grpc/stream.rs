//! StreamService. A stream of statuses begins with how things are, goes on with each change, and ends when what it was asked to watch has
//! ended: all the step runs or runs that it names, or the run that it names. One that names none of those goes on until the caller ends it.

use arcgate_api::stream::v1 as pb;
use arcgate_api::stream::v1::stream_service_server::StreamService;
use tonic::{Request, Response, Status, Streaming};

use super::agent::{self, Answers};
use crate::agents::{Agents, Caller, Role};

mod channel;
mod events;
mod follow;
mod subjects;
#[cfg(test)]
mod tests;

use self::follow::{Until, follow};
use self::subjects::{AgentsOf, Jobs, Runs, Steps};

/// The calls of StreamService.
#[derive(Debug, Clone)]
pub struct StreamCalls {
    agents: Agents,
}

type Answered<T> = Result<Response<T>, Status>;

impl StreamCalls {
    /// Of these agents, and of their engine.
    #[must_use]
    pub fn new(agents: Agents) -> Self {
        Self { agents }
    }
}

/// How many things a stream may name.
const MOST_NAMED: usize = 500;

/// Whoever may look; and they name no more than they may.
fn viewer<T>(asked: &Request<T>, named: usize) -> Result<(), Status> {
    Caller::of(asked.extensions())?.as_user(Role::Viewer)?;
    if named > MOST_NAMED {
        return Err(Status::invalid_argument(format!("{named} ids are too many for one stream; at most {MOST_NAMED} are taken")));
    }
    Ok(())
}

#[tonic::async_trait]
impl StreamService for StreamCalls {
    type StreamStepRunStatusStream = Answers<pb::StreamStepRunStatusResponse>;

    async fn stream_step_run_status(
        &self,
        asked: Request<pb::StreamStepRunStatusRequest>,
    ) -> Answered<Self::StreamStepRunStatusStream> {
        viewer(&asked, asked.get_ref().step_run_ids.len())?;
        let asked = asked.into_inner();
        let until = match (&*asked.step_run_ids, &*asked.pipeline_run_id) {
            ([], "") => Until::Never,
            ([], run_id) => Until::RunOver(run_id.to_owned()),
            (ids, _) => Until::Over(ids.to_vec()),
        };
        Ok(Response::new(follow(self.agents.engine(), Steps(asked), until)))
    }

    type StreamJobStatusStream = Answers<pb::StreamJobStatusResponse>;

    async fn stream_job_status(&self, asked: Request<pb::StreamJobStatusRequest>) -> Answered<Self::StreamJobStatusStream> {
        viewer(&asked, asked.get_ref().job_ids.len())?;
        let asked = asked.into_inner();
        let run = asked.pipeline_run_id.clone();
        let until = if run.is_empty() { Until::Never } else { Until::RunOver(run) };
        Ok(Response::new(follow(self.agents.engine(), Jobs(asked), until)))
    }

    type StreamPipelineStatusStream = Answers<pb::StreamPipelineStatusResponse>;

    async fn stream_pipeline_status(
        &self,
        asked: Request<pb::StreamPipelineStatusRequest>,
    ) -> Answered<Self::StreamPipelineStatusStream> {
        viewer(&asked, asked.get_ref().pipeline_run_ids.len() + asked.get_ref().pipeline_ids.len())?;
        let asked = asked.into_inner();
        let until = match &*asked.pipeline_run_ids {
            [] => Until::Never,
            ids => Until::Over(ids.to_vec()),
        };
        Ok(Response::new(follow(self.agents.engine(), Runs(asked), until)))
    }

    type AgentChannelStream = Answers<pb::AgentChannelResponse>;

    async fn agent_channel(&self, asked: Request<Streaming<pb::AgentChannelRequest>>) -> Answered<Self::AgentChannelStream> {
        agent::open::<channel::AgentChannel>(&self.agents, asked).await
    }

    type StreamAgentStatusStream = Answers<pb::StreamAgentStatusResponse>;

    async fn stream_agent_status(&self, asked: Request<pb::StreamAgentStatusRequest>) -> Answered<Self::StreamAgentStatusStream> {
        viewer(&asked, asked.get_ref().agent_ids.len())?;
        Ok(Response::new(follow(self.agents.engine(), AgentsOf(asked.into_inner()), Until::Never)))
    }

    type StreamEventsStream = Answers<pb::StreamEventsResponse>;

    async fn stream_events(&self, asked: Request<pb::StreamEventsRequest>) -> Answered<Self::StreamEventsStream> {
        viewer(&asked, asked.get_ref().resource_ids.len())?;
        Ok(Response::new(events::listen(self.agents.engine(), asked.into_inner())?))
    }
}
