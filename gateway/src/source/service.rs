//! `gateway.v1.GatewayService`: who calls, and which stream loop serves it.

use std::pin::Pin;
use std::sync::Arc;

use arcgate_api::gateway::v1::{PushEventsResponse, PushLogsRequest, PushLogsResponse};
use arcgate_api::ingest::PushEventsRequest;
use arcgate_api::ingest::gateway_service_server::GatewayService;
use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::events::{self, EventIngest};
use super::logs::{self, LogIngest};
use crate::access::{Identity, Tokens, Verb};

/// The service.
pub struct Service {
    /// What log streams share.
    pub logs: Arc<LogIngest>,
    /// What event streams share.
    pub events: Arc<EventIngest>,
    /// Who may call; everyone if there are none.
    pub tokens: Option<Arc<Tokens>>,
    /// Agents that never send a token may push events.
    pub stock_agents: bool,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn identify<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        let Some(tokens) = &self.tokens else { return Ok(Identity::anonymous()) };
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        tokens.authenticate(header).map_err(|error| Status::unauthenticated(error.to_string()))
    }

    /// As [`Self::identify`], but lets those in that cannot send a token.
    fn identify_agent<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        if self.stock_agents && !request.metadata().contains_key("authorization") {
            return Ok(Identity::anonymous());
        }
        self.identify(request)
    }

    fn may_write_events(&self, identity: &Identity) -> Result<(), Status> {
        if self.logs.access.may(identity, Verb::WriteEvents, None) {
            return Ok(());
        }
        Err(Status::permission_denied("this token may not write events; use one that may"))
    }
}

#[tonic::async_trait]
impl GatewayService for Service {
    type LogSessionStream = Answers<PushLogsResponse>;
    type EventSessionStream = Answers<PushEventsResponse>;

    async fn push_logs(&self, request: Request<Streaming<PushLogsRequest>>) -> Result<Response<PushLogsResponse>, Status> {
        let identity = self.identify(&request)?;
        logs::push_logs(Arc::clone(&self.logs), identity, request.into_inner()).await
    }

    async fn log_session(
        &self,
        request: Request<Streaming<PushLogsRequest>>,
    ) -> Result<Response<Self::LogSessionStream>, Status> {
        let identity = self.identify(&request)?;
        Ok(logs::log_session(Arc::clone(&self.logs), identity, request.into_inner()))
    }

    async fn push_events(&self, request: Request<Streaming<PushEventsRequest>>) -> Result<Response<PushEventsResponse>, Status> {
        self.may_write_events(&self.identify_agent(&request)?)?;
        events::push::push_events(&self.events, request.into_inner()).await
    }

    async fn event_session(
        &self,
        request: Request<Streaming<PushEventsRequest>>,
    ) -> Result<Response<Self::EventSessionStream>, Status> {
        self.may_write_events(&self.identify(&request)?)?;
        Ok(events::session::event_session(Arc::clone(&self.events), request.into_inner()))
    }
}
