//! StreamService.

use arcgate_api::stream::v1 as pb;
use arcgate_api::stream::v1::stream_service_server::StreamService;
use tonic::{Request, Response, Status, Streaming};

use super::agent::{self, Answers};
use crate::agents::Agents;

mod channel;
#[cfg(test)]
mod tests;

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

#[tonic::async_trait]
impl StreamService for StreamCalls {
    type StreamStepRunStatusStream = Answers<pb::StreamStepRunStatusResponse>;

    async fn stream_step_run_status(
        &self,
        _: Request<pb::StreamStepRunStatusRequest>,
    ) -> Answered<Self::StreamStepRunStatusStream> {
        Err(Status::unimplemented("not yet"))
    }

    type StreamJobStatusStream = Answers<pb::StreamJobStatusResponse>;

    async fn stream_job_status(&self, _: Request<pb::StreamJobStatusRequest>) -> Answered<Self::StreamJobStatusStream> {
        Err(Status::unimplemented("not yet"))
    }

    type StreamPipelineStatusStream = Answers<pb::StreamPipelineStatusResponse>;

    async fn stream_pipeline_status(
        &self,
        _: Request<pb::StreamPipelineStatusRequest>,
    ) -> Answered<Self::StreamPipelineStatusStream> {
        Err(Status::unimplemented("not yet"))
    }

    type AgentChannelStream = Answers<pb::AgentChannelResponse>;

    async fn agent_channel(&self, asked: Request<Streaming<pb::AgentChannelRequest>>) -> Answered<Self::AgentChannelStream> {
        agent::open::<channel::AgentChannel>(&self.agents, asked).await
    }

    type StreamAgentStatusStream = Answers<pb::StreamAgentStatusResponse>;

    async fn stream_agent_status(&self, _: Request<pb::StreamAgentStatusRequest>) -> Answered<Self::StreamAgentStatusStream> {
        Err(Status::unimplemented("not yet"))
    }

    type StreamEventsStream = Answers<pb::StreamEventsResponse>;

    async fn stream_events(&self, _: Request<pb::StreamEventsRequest>) -> Answered<Self::StreamEventsStream> {
        Err(Status::unimplemented("not yet"))
    }
}
