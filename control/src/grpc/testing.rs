//! What the tests of the calls stand on: the services on a real server, an engine with a clock of its own behind it, and agents that
//! speak over either channel.

use std::collections::HashMap;
use std::time::Duration;

use arcgate_api::agent::v1 as pb;
use arcgate_api::agent::v1::agent_service_client::AgentServiceClient;
use arcgate_api::agent::v1::agent_service_server::AgentServiceServer;
use arcgate_api::steprun::v1::StepRunStatus;
use arcgate_api::steprun::v1::step_run_service_client::StepRunServiceClient;
use arcgate_api::steprun::v1::step_run_service_server::StepRunServiceServer;
use arcgate_api::stream::v1 as stream;
use arcgate_api::stream::v1::stream_service_client::StreamServiceClient;
use arcgate_api::stream::v1::stream_service_server::StreamServiceServer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status, Streaming};

use super::{AgentCalls, StepRunCalls, StreamCalls};
use crate::agents::{AgentSettings, Agents, Caller, NewRegistrationToken, Role};
use crate::engine::Clock as _;
use crate::engine::tests::Bench;

type Client<C> = InterceptedService<C, Signed>;

/// Says who calls, in a way that only tests understand.
#[derive(Debug, Clone)]
pub(super) struct Signed(String);

impl tonic::service::Interceptor for Signed {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("caller", self.0.parse().unwrap());
        Ok(request)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "interceptors may refuse")]
fn known(mut request: Request<()>) -> Result<Request<()>, Status> {
    let said = request.metadata().get("caller").map(|said| said.to_str().unwrap().to_owned()).unwrap_or_default();
    let user = |role| Caller::User { name: "ann".into(), role };
    let caller = match said.split_once(' ') {
        Some(("agent", id)) => Some(Caller::Agent(id.to_owned())),
        Some(("user", "admin")) => Some(user(Role::Admin)),
        Some(("user", "operator")) => Some(user(Role::Operator)),
        Some(("user", "viewer")) => Some(user(Role::Viewer)),
        Some(("stock", _)) => Some(Caller::StockAgent),
        _ => None,
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    Ok(request)
}

/// All services on a server, an engine behind it.
pub(super) struct Place {
    pub(super) bench: Bench,
    pub(super) agents: Agents,
    channel: Channel,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Place {
    pub(super) async fn on(bench: Bench, settings: AgentSettings) -> Self {
        let (agents, task) = Agents::start(bench.engine.clone(), settings);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(AgentServiceServer::with_interceptor(AgentCalls::new(agents.clone()), known))
            .add_service(StepRunServiceServer::with_interceptor(StepRunCalls::new(bench.engine.clone()), known))
            .add_service(StreamServiceServer::with_interceptor(StreamCalls::new(agents.clone()), known));
        let server = tokio::spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))).await.unwrap();
        });
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { bench, agents, channel, tasks: vec![task, server] }
    }

    /// One on each kind of database.
    pub(super) async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for bench in Bench::all().await {
            all.push(Self::on(bench, AgentSettings::default()).await);
        }
        all
    }

    pub(super) async fn one() -> Self {
        Self::on(Bench::one().await, AgentSettings::default()).await
    }

    /// Kills the engine and the server, and starts both again.
    pub(super) async fn restart(mut self) -> Self {
        for task in &self.tasks {
            task.abort();
        }
        let settings = self.agents.settings();
        let other = Bench::on(crate::db::tests::on_file().await).await;
        let mut bench = std::mem::replace(&mut self.bench, other);
        drop(self);
        bench.restart().await;
        Self::on(bench, settings).await
    }

    /// AgentService, called by `who`: `agent ID`, `user ROLE`, `stock agent` or nobody.
    pub(super) fn calls(&self, who: &str) -> AgentServiceClient<Client<Channel>> {
        AgentServiceClient::with_interceptor(self.channel.clone(), Signed(who.to_owned()))
    }

    /// StepRunService, called by `who`.
    pub(super) fn step_runs(&self, who: &str) -> StepRunServiceClient<Client<Channel>> {
        StepRunServiceClient::with_interceptor(self.channel.clone(), Signed(who.to_owned()))
    }

    /// StreamService, called by `who`.
    pub(super) fn streams(&self, who: &str) -> StreamServiceClient<Client<Channel>> {
        StreamServiceClient::with_interceptor(self.channel.clone(), Signed(who.to_owned()))
    }

    pub(super) async fn registration_token(&self, max_uses: u32) -> String {
        let wanted = NewRegistrationToken { max_uses, ..Default::default() };
        self.bench.fresh.database.new_registration_token(wanted, self.bench.clock.now()).await.unwrap()
    }

    /// A new agent with these labels and so much room. Its id.
    pub(super) async fn agent(&self, labels: &[(&str, &str)], most: i32) -> String {
        let request = pb::RegisterRequest {
            registration_token: self.registration_token(0).await,
            labels: map(labels),
            max_concurrent_step_runs: most,
            ..Default::default()
        };
        self.calls("").register(request).await.unwrap().into_inner().agent_id
    }

    /// What an agent is given by FetchStepRun.
    pub(super) async fn fetch(&self, agent: &str, most: i32) -> Vec<pb::StepRun> {
        let request = pb::FetchStepRunRequest { agent_id: agent.into(), max_step_runs: most };
        self.calls(&format!("agent {agent}")).fetch_step_run(request).await.unwrap().into_inner().step_runs
    }

    /// Reports over a unary call. The yes or the no.
    pub(super) async fn report(&self, agent: &str, id: &str, status: StepRunStatus) -> Result<bool, Status> {
        let request = pb::ReportStepRunStatusRequest {
            agent_id: agent.into(),
            step_run_id: id.into(),
            status: status.into(),
            ..Default::default()
        };
        let answer = self.calls(&format!("agent {agent}")).report_step_run_status(request).await?;
        Ok(answer.into_inner().success)
    }
}

pub(super) fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Which of the two channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Connect,
    AgentChannel,
}

pub(super) const BOTH: [Over; 2] = [Over::Connect, Over::AgentChannel];

/// What an agent hears.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Work(Box<pb::StepRun>),
    NoWork(String),
    /// The step run, and the request that this answers, if any.
    Stop(String, String),
    Config {
        interval: i64,
        most: i32,
    },
    Alive(String),
    Yes(String),
}

enum Up {
    Connect(mpsc::Sender<pb::ConnectRequest>),
    AgentChannel(mpsc::Sender<stream::AgentChannelRequest>),
}

enum Down {
    Connect(Streaming<pb::ConnectResponse>),
    AgentChannel(Streaming<stream::AgentChannelResponse>),
}

/// An agent on a channel.
pub(super) struct Link {
    pub(super) agent: String,
    up: Up,
    down: Down,
    asked: u32,
}

fn incoming<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

impl Link {
    pub(super) async fn open(place: &Place, over: Over, agent: &str) -> Result<Self, Status> {
        let who = format!("agent {agent}");
        let (up, down) = match over {
            Over::Connect => {
                let (up, receiver) = mpsc::channel(64);
                let down = place.calls(&who).connect(incoming(receiver)).await?.into_inner();
                (Up::Connect(up), Down::Connect(down))
            }
            Over::AgentChannel => {
                let (up, receiver) = mpsc::channel(64);
                let down = place.streams(&who).agent_channel(incoming(receiver)).await?.into_inner();
                (Up::AgentChannel(up), Down::AgentChannel(down))
            }
        };
        Ok(Self { agent: agent.to_owned(), up, down, asked: 0 })
    }

    /// What comes next, within a minute; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Heard>, Status> {
        let next = async {
            Ok(match &mut self.down {
                Down::Connect(down) => down.message().await?.map(heard_connect),
                Down::AgentChannel(down) => down.message().await?.map(heard_channel),
            })
        };
        tokio::time::timeout(Duration::from_secs(60), next).await.expect("nothing comes")
    }

    /// The next work; settings are passed over.
    pub(super) async fn work(&mut self) -> pb::StepRun {
        loop {
            match self.next().await.unwrap().unwrap() {
                Heard::Work(step) => return *step,
                Heard::Config { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What comes next but settings.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            match self.next().await.unwrap().unwrap() {
                Heard::Config { .. } => {}
                other => return other,
            }
        }
    }

    /// How the channel ends.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("it ended"),
                Err(status) => return status,
            }
        }
    }

    async fn say(&self, request: &str, connect: pb::connect_request::Payload, channel: stream::agent_channel_request::Payload) {
        let (agent_id, request_id) = (self.agent.clone(), request.to_owned());
        // A channel that has ended is found by who listens.
        match &self.up {
            Up::Connect(up) => drop(up.send(pb::ConnectRequest { agent_id, request_id, payload: Some(connect) }).await),
            Up::AgentChannel(up) => {
                drop(up.send(stream::AgentChannelRequest { agent_id, request_id, payload: Some(channel) }).await);
            }
        }
    }

    pub(super) async fn alive(&mut self, running: i32, most: i32) -> String {
        self.asked += 1;
        let request = format!("r{}", self.asked);
        let connect =
            pb::ConnectHeartbeat { running_step_runs_count: running, max_concurrent_step_runs: most, ..Default::default() };
        let channel =
            stream::HeartbeatData { running_step_runs_count: running, max_concurrent_step_runs: most, ..Default::default() };
        self.say(
            &request,
            pb::connect_request::Payload::Heartbeat(connect),
            stream::agent_channel_request::Payload::Heartbeat(channel),
        )
        .await;
        request
    }

    /// Reports, and gives the request's name.
    pub(super) async fn report(&mut self, id: &str, status: StepRunStatus) -> String {
        self.asked += 1;
        let request = format!("r{}", self.asked);
        let connect = pb::TaskStatus { step_run_id: id.into(), status: status.into(), ..Default::default() };
        let channel = stream::StepRunStatusUpdate { step_run_id: id.into(), status: status.into(), ..Default::default() };
        self.say(
            &request,
            pb::connect_request::Payload::TaskStatus(connect),
            stream::agent_channel_request::Payload::StepRunStatus(channel),
        )
        .await;
        request
    }

    /// Asks to start: whether that is granted.
    pub(super) async fn start(&mut self, id: &str) -> bool {
        let request = self.report(id, StepRunStatus::Running).await;
        match self.hear().await {
            Heard::Yes(answers) => {
                assert_eq!(answers, request);
                true
            }
            Heard::Stop(step, answers) => {
                assert_eq!((step, answers), (id.to_owned(), request));
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// Says that it could not take a step run.
    pub(super) async fn refuse(&mut self, id: &str) {
        let Up::Connect(up) = &self.up else { panic!("only Connect has acknowledgements") };
        let ack =
            pb::TaskAck { command_id: format!("dispatch-{id}"), status: pb::AckStatus::Failed.into(), message: "no disk".into() };
        let payload = Some(pb::connect_request::Payload::TaskAck(ack));
        up.send(pb::ConnectRequest { agent_id: self.agent.clone(), request_id: String::new(), payload }).await.unwrap();
    }

    /// Asks for work.
    pub(super) async fn fetch(&mut self, most: i32) -> String {
        let Up::AgentChannel(up) = &self.up else { panic!("only AgentChannel has requests for work") };
        self.asked += 1;
        let request_id = format!("r{}", self.asked);
        let fetch = stream::StepRunFetchRequest { max_step_runs: most };
        let payload = Some(stream::agent_channel_request::Payload::StepRunFetch(fetch));
        let request = stream::AgentChannelRequest { agent_id: self.agent.clone(), request_id: request_id.clone(), payload };
        up.send(request).await.unwrap();
        request_id
    }
}

fn heard_connect(message: pb::ConnectResponse) -> Heard {
    use pb::connect_response::Payload;
    match message.payload {
        Some(Payload::TaskDispatch(mut work)) => {
            let step = work.step_runs.remove(0);
            assert_eq!(message.command_id, format!("dispatch-{}", step.step_run_id));
            Heard::Work(Box::new(step))
        }
        Some(Payload::TaskCancel(cancel)) => {
            let answers = Some(message.command_id).filter(|id| !id.starts_with("cancel-"));
            Heard::Stop(cancel.step_run_id, answers.unwrap_or_default())
        }
        None => Heard::Yes(message.command_id),
    }
}

fn heard_channel(message: stream::AgentChannelResponse) -> Heard {
    use stream::agent_channel_response::Payload;
    match message.payload {
        Some(Payload::StepRunAssignment(work)) if work.step_runs.is_empty() => Heard::NoWork(message.response_id),
        Some(Payload::StepRunAssignment(mut work)) => Heard::Work(Box::new(work.step_runs.remove(0))),
        Some(Payload::StepRunCancelCommand(cancel)) => Heard::Stop(cancel.step_run_id, message.response_id),
        Some(Payload::ConfigUpdate(config)) => {
            Heard::Config { interval: config.heartbeat_interval, most: config.max_concurrent_step_runs }
        }
        Some(Payload::HeartbeatAck(_)) => Heard::Alive(message.response_id),
        None => Heard::Yes(message.response_id),
    }
}
