//! The control plane beside the data plane: started on its database, joined to the event log, served on the same port.
//!
//! | part | what it joins |
//! |---|---|
//! | `auth` | tokens to callers: what both planes ask of who calls |
//! | `layer` | callers to the calls of the control plane |
//! | `until_stop` | its endless answers to the end of the gateway |
//! | `events` | the event log to the engine, both ways |
//! | `lookup` | step runs to what the data plane asks of them |

use std::sync::Arc;
use std::time::Duration;

use arcgate_api::agent::v1::agent_service_server::AgentServiceServer;
use arcgate_api::pipeline::v1::pipeline_service_server::PipelineServiceServer;
use arcgate_api::steprun::v1::step_run_service_server::StepRunServiceServer;
use arcgate_api::stream::v1::stream_service_server::StreamServiceServer;
use arcgate_control::agents::{AgentSettings, Agents};
use arcgate_control::db::{Database, DbError, Location};
use arcgate_control::engine::{Engine, SystemClock};
use arcgate_control::grpc::{AgentCalls, PipelineCalls, StepRunCalls, StreamCalls};
use arcgate_control::pipelines::Repositories;
use arcgate_gateway::source::events::own::OwnEvents;
use arcgate_gateway::stop::Stop;
use tokio::task::JoinHandle;
use tonic::service::{LayerExt as _, Routes};

mod auth;
mod events;
mod layer;
mod lookup;
mod until_stop;

pub use self::auth::Auth;
use self::events::JoinedLog;
use self::layer::CallerLayer;
pub use self::lookup::ControlLookup;

/// A running control plane.
pub struct ControlPlane {
    engine: Engine,
    agents: Agents,
    /// The relay, the follower, the dispatcher.
    tasks: Vec<JoinHandle<()>>,
    worker: JoinHandle<()>,
}

impl ControlPlane {
    /// Starts it on its database, with the runs that are in it.
    ///
    /// # Errors
    /// If the database cannot be reached or read, or another program writes to it.
    pub async fn start(location: &Location, settings: AgentSettings) -> Result<Self, DbError> {
        let database = Database::open(location).await?;
        let (engine, worker) = Engine::start(database, Arc::new(SystemClock)).await?;
        let (agents, dispatch) = Agents::start(engine.clone(), settings);
        Ok(Self { engine, agents, tasks: vec![dispatch], worker })
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.agents
    }

    /// Joins it to the event log: what it does goes there, what is accepted there comes to it.
    pub fn join(&mut self, events: OwnEvents) {
        let log = Arc::new(JoinedLog::new(events));
        self.tasks.push(tokio::spawn(self.engine.clone().relay(Arc::clone(&log))));
        self.tasks.push(tokio::spawn(self.engine.clone().follow(log)));
        self.tasks.push(tokio::spawn(Repositories::new(self.engine.clone()).follow()));
    }

    /// Its calls. Their callers are whom `auth` knows; answers without end of their own end at the `stop`; a message has at most
    /// `max_message` bytes.
    #[must_use]
    pub fn calls(&self, auth: &Arc<Auth>, stop: Stop, max_message: usize) -> Calls {
        let layer = CallerLayer::new(Arc::clone(auth), stop);
        Calls { engine: self.engine.clone(), agents: self.agents.clone(), layer, max_message }
    }

    /// Ends it, once its calls have ended: what was begun is finished, at most within `bound`.
    pub async fn stop(self, bound: Duration) {
        let Self { engine, tasks, worker, .. } = self;
        engine.stop();
        for task in tasks {
            task.abort();
        }
        if tokio::time::timeout(bound, worker).await.is_err() {
            tracing::warn!("the control plane did not end in time; the next start goes on where its database says");
        }
    }
}

/// The calls of a control plane.
pub struct Calls {
    engine: Engine,
    agents: Agents,
    layer: CallerLayer,
    max_message: usize,
}

impl Calls {
    /// Adds them to others.
    pub fn serve(self, routes: Routes) -> Routes {
        let Self { engine, agents, layer, max_message } = self;
        let pipelines = PipelineServiceServer::new(PipelineCalls::new(engine.clone())).max_decoding_message_size(max_message);
        let step_runs = StepRunServiceServer::new(StepRunCalls::new(engine)).max_decoding_message_size(max_message);
        let of_agents = AgentServiceServer::new(AgentCalls::new(agents.clone())).max_decoding_message_size(max_message);
        let streams = StreamServiceServer::new(StreamCalls::new(agents)).max_decoding_message_size(max_message);
        routes
            .add_service(layer.named_layer(pipelines))
            .add_service(layer.named_layer(step_runs))
            .add_service(layer.named_layer(of_agents))
            .add_service(layer.named_layer(streams))
    }
}
