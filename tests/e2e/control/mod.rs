//! The control plane over the real binary: who may call what, runs that begin by themselves, and the command line.

mod commands;
mod permissions;
mod runs;
mod work;

use std::fs;

use arcgate_api::agent::v1::agent_service_client::AgentServiceClient;
use arcgate_api::agent::v1::{FetchStepRunRequest, RegisterRequest, ReportStepRunStatusRequest, StepRun};
use arcgate_api::pipeline::v1::pipeline_service_client::PipelineServiceClient;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::steprun::v1::step_run_service_client::StepRunServiceClient;
use arcgate_api::stream::v1::stream_service_client::StreamServiceClient;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::harness::{Launch, Outcome, Rig, SOON, binary, eventually, folder, text};

/// A gateway that wants tokens, and one of each kind.
pub(crate) struct Place {
    pub(crate) rig: Rig,
    pub(crate) viewer: String,
    pub(crate) operator: String,
    pub(crate) admin: String,
    pub(crate) registration: String,
}

/// Sends a token with each call; none if it is empty.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(String);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        if !self.0.is_empty() {
            let value = format!("Bearer {}", self.0).parse().map_err(|_| tonic::Status::internal("no header"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Bearer>;

impl Place {
    pub(crate) async fn start() -> Outcome<Self> {
        let folder = folder()?;
        let tokens = folder.path().join("tokens");
        fs::write(&tokens, "root\n")?;
        let launch = Launch::new(binary(), folder.path().join("data"))
            .with("ARCGATE_AUTH__TOKEN_FILE", &tokens.display().to_string())
            .with("ARCGATE_AUTH__STOCK_AGENTS", "false");
        let rig = Rig::launch(launch, folder).await?;
        let token = async |role: &str| -> Outcome<String> {
            let made = text(&rig.arcgate(&["token", "create", "--role", role, "--name", &format!("the {role}")]).await?, 0)?;
            Ok(made.trim_end().to_owned())
        };
        let (viewer, operator) = (token("viewer").await?, token("operator").await?);
        let (admin, registration) = (token("admin").await?, token("agent").await?);
        Ok(Self { rig, viewer, operator, admin, registration })
    }

    fn channel(&self, token: &str) -> Outcome<(Channel, Bearer)> {
        Ok((self.rig.gateway.channel()?, Bearer(token.to_owned())))
    }

    pub(crate) fn pipelines(&self, token: &str) -> Outcome<PipelineServiceClient<Client>> {
        let (channel, bearer) = self.channel(token)?;
        Ok(PipelineServiceClient::with_interceptor(channel, bearer))
    }

    pub(crate) fn step_runs(&self, token: &str) -> Outcome<StepRunServiceClient<Client>> {
        let (channel, bearer) = self.channel(token)?;
        Ok(StepRunServiceClient::with_interceptor(channel, bearer))
    }

    pub(crate) fn agents(&self, token: &str) -> Outcome<AgentServiceClient<Client>> {
        let (channel, bearer) = self.channel(token)?;
        Ok(AgentServiceClient::with_interceptor(channel, bearer))
    }

    pub(crate) fn streams(&self, token: &str) -> Outcome<StreamServiceClient<Client>> {
        let (channel, bearer) = self.channel(token)?;
        Ok(StreamServiceClient::with_interceptor(channel, bearer))
    }

    /// A new agent that executes two step runs at a time: its id and its token.
    pub(crate) async fn agent(&self) -> Outcome<(String, String)> {
        let request = RegisterRequest {
            registration_token: self.registration.clone(),
            agent_name: "scripted".into(),
            os: "linux".into(),
            arch: "amd64".into(),
            labels: [("os".to_owned(), "linux".to_owned())].into(),
            max_concurrent_step_runs: 2,
            ..Default::default()
        };
        let registered = self.agents("")?.register(request).await?.into_inner();
        Ok((registered.agent_id, registered.auth_token))
    }

    /// The step run that an agent is given next.
    pub(crate) async fn given(&self, (id, token): &(String, String)) -> Outcome<StepRun> {
        eventually(SOON, "work", async || {
            let request = FetchStepRunRequest { agent_id: id.clone(), max_step_runs: 1 };
            Ok(self.agents(token)?.fetch_step_run(request).await?.into_inner().step_runs.pop())
        })
        .await
    }

    pub(crate) async fn report(&self, (id, token): &(String, String), step_run: &str, status: StepRunStatus) -> Outcome<()> {
        let request = ReportStepRunStatusRequest {
            agent_id: id.clone(),
            step_run_id: step_run.to_owned(),
            status: status.into(),
            exit_code: i32::from(status == StepRunStatus::Failed),
            ..Default::default()
        };
        let answer = self.agents(token)?.report_step_run_status(request).await?.into_inner();
        if answer.success { Ok(()) } else { Err(answer.message.into()) }
    }
}
