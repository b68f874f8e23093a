//! Clients of the control plane: somebody who makes pipelines, and an agent that does as it is told, without executing anything.

use arcgate_api::agent::v1::agent_service_client::AgentServiceClient;
use arcgate_api::agent::v1::{AgentStatus, RegisterRequest, StepRun};
use arcgate_api::pipeline::v1::pipeline_service_client::PipelineServiceClient;
use arcgate_api::pipeline::v1::{CreatePipelineRequest, Job, SavePipelineSpecRequest, Spec, Step, TriggerPipelineRequest};
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::stream::v1::agent_channel_request::Payload as Up;
use arcgate_api::stream::v1::agent_channel_response::Payload as Down;
use arcgate_api::stream::v1::stream_service_client::StreamServiceClient;
use arcgate_api::stream::v1::{AgentChannelRequest, AgentChannelResponse, HeartbeatData, StepRunStatusUpdate};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::{Outcome, Trouble};

/// How many messages of an agent may wait to be sent.
const UNSENT: usize = 64;

/// Makes a pipeline of these jobs; its id.
pub async fn pipeline(channel: &Channel, name: &str, jobs: Vec<Job>) -> Outcome<String> {
    let mut client = PipelineServiceClient::new(channel.clone());
    let create = CreatePipelineRequest {
        project_id: "00000000-0000-4000-8000-000000000000".into(),
        name: name.into(),
        pipeline_file_path: "pipeline.yaml".into(),
        ..Default::default()
    };
    let created = client.create_pipeline(create).await?.into_inner();
    if !created.success {
        return Err(format!("the pipeline is not made: {}", created.message).into());
    }
    let spec = Spec { namespace: name.into(), jobs, ..Default::default() };
    let save = SavePipelineSpecRequest { pipeline_id: created.pipeline_id.clone(), spec: Some(spec), ..Default::default() };
    let saved = client.save_pipeline_spec(save).await?.into_inner();
    if saved.success { Ok(created.pipeline_id) } else { Err(format!("the definition is not kept: {}", saved.message).into()) }
}

/// A job of one step that says nothing and does nothing.
#[must_use]
pub fn job(name: &str) -> Job {
    let step = Step { name: "step".into(), uses: "shell".into(), ..Default::default() };
    Job { name: name.into(), steps: vec![step], ..Default::default() }
}

/// Begins a run; its id.
pub async fn trigger(channel: &Channel, pipeline_id: &str, request_id: &str) -> Outcome<String> {
    let request = TriggerPipelineRequest { pipeline_id: pipeline_id.into(), request_id: request_id.into(), ..Default::default() };
    let answer = PipelineServiceClient::new(channel.clone()).trigger_pipeline(request).await?.into_inner();
    if answer.success { Ok(answer.run_id) } else { Err(format!("no run begins: {}", answer.message).into()) }
}

/// An agent on a channel.
#[derive(Debug)]
pub struct ScriptedAgent {
    /// Its id.
    pub id: String,
    say: mpsc::Sender<AgentChannelRequest>,
    hear: Streaming<AgentChannelResponse>,
    said: u64,
}

impl ScriptedAgent {
    /// Registers at a gateway that asks nobody who they are, and opens its channel. Executes one step run at a time.
    pub async fn open(channel: &Channel) -> Outcome<Self> {
        let register = RegisterRequest { max_concurrent_step_runs: 1, ..Default::default() };
        let registered = AgentServiceClient::new(channel.clone()).register(register).await?.into_inner();
        let (say, saying) = mpsc::channel(UNSENT);
        let mut open = Request::new(ReceiverStream::new(saying));
        open.metadata_mut().insert("authorization", format!("Bearer {}", registered.auth_token).parse()?);
        let hear = StreamServiceClient::new(channel.clone()).agent_channel(open).await?.into_inner();
        let mut agent = Self { id: registered.agent_id, say, hear, said: 0 };
        agent.heartbeat(0).await?;
        Ok(agent)
    }

    /// Gives a sign of life.
    pub async fn heartbeat(&mut self, running: i32) -> Outcome<()> {
        let heartbeat = HeartbeatData {
            timestamp: 0,
            status: i32::from(AgentStatus::Online),
            running_step_runs_count: running,
            max_concurrent_step_runs: 1,
        };
        self.say(Up::Heartbeat(heartbeat)).await.map(|_| ())
    }

    /// Says how a step run stands; what the answer is called.
    pub async fn report(&mut self, step_run_id: &str, status: StepRunStatus) -> Outcome<String> {
        let update = StepRunStatusUpdate { step_run_id: step_run_id.into(), status: status.into(), ..Default::default() };
        self.say(Up::StepRunStatus(update)).await
    }

    async fn say(&mut self, payload: Up) -> Outcome<String> {
        self.said += 1;
        let request_id = self.said.to_string();
        let message = AgentChannelRequest { agent_id: String::new(), request_id: request_id.clone(), payload: Some(payload) };
        self.say.send(message).await?;
        Ok(request_id)
    }

    /// What it is told next.
    pub async fn hear(&mut self) -> Outcome<AgentChannelResponse> {
        self.hear.message().await?.ok_or_else(|| Trouble::from("the channel has ended"))
    }

    /// The step run that it is given next.
    pub async fn given(&mut self) -> Outcome<StepRun> {
        loop {
            if let Some(Down::StepRunAssignment(assignment)) = self.hear().await?.payload
                && let Some(step_run) = assignment.step_runs.into_iter().next()
            {
                return Ok(step_run);
            }
        }
    }
}
