//! `gateway.v1.GatewayService`: who calls, and which stream loop serves it.

use std::pin::Pin;
use std::sync::Arc;

use arcgate_api::gateway::v1::{PushEventsResponse, PushLogsRequest, PushLogsResponse};
use arcgate_api::ingest::PushEventsRequest;
use arcgate_api::ingest::gateway_service_server::GatewayService;
use futures_util::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::events::{self, EventIngest};
use super::logs::{self, LogIngest};
use crate::access::{AuthError, Callers, Identity, Verb, bearer};

/// The service.
pub struct Service {
    /// What log streams share.
    pub logs: Arc<LogIngest>,
    /// What event streams share.
    pub events: Arc<EventIngest>,
    /// Who may call.
    pub callers: Arc<dyn Callers>,
    /// Agents that never send a token may push events.
    pub stock_agents: bool,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    async fn identify(&self, metadata: &MetadataMap) -> Result<Identity, Status> {
        let header = metadata.get("authorization").map(|value| value.to_str().map_err(|_| AuthError::Malformed));
        let token = header.transpose().and_then(|header| header.map(bearer).transpose()).map_err(refusal)?;
        self.callers.identify(token).await.map_err(refusal)
    }

    /// Who pushes events, if they may. `without_token`: those are let in too that cannot send a token.
    async fn identify_writer(&self, metadata: &MetadataMap, without_token: bool) -> Result<Identity, Status> {
        let identity = match self.identify(metadata).await {
            Err(_) if without_token && !metadata.contains_key("authorization") => Identity::StockAgent,
            identity => identity?,
        };
        if self.logs.access.may(&identity, Verb::WriteEvents, None).await {
            return Ok(identity);
        }
        Err(Status::permission_denied("this token may not write events; use one that may"))
    }
}

fn refusal(error: AuthError) -> Status {
    match error {
        AuthError::Unavailable => Status::unavailable(error.to_string()),
        _ => Status::unauthenticated(error.to_string()),
    }
}

#[tonic::async_trait]
impl GatewayService for Service {
    type LogSessionStream = Answers<PushLogsResponse>;
    type EventSessionStream = Answers<PushEventsResponse>;

    async fn push_logs(&self, request: Request<Streaming<PushLogsRequest>>) -> Result<Response<PushLogsResponse>, Status> {
        let identity = self.identify(request.metadata()).await?;
        logs::push_logs(Arc::clone(&self.logs), identity, request.into_inner()).await
    }

    async fn log_session(
        &self,
        request: Request<Streaming<PushLogsRequest>>,
    ) -> Result<Response<Self::LogSessionStream>, Status> {
        let identity = self.identify(request.metadata()).await?;
        Ok(logs::log_session(Arc::clone(&self.logs), identity, request.into_inner()))
    }

    async fn push_events(&self, request: Request<Streaming<PushEventsRequest>>) -> Result<Response<PushEventsResponse>, Status> {
        let identity = self.identify_writer(request.metadata(), self.stock_agents).await?;
        events::push::push_events(&self.events, &identity, request.into_inner()).await
    }

    async fn event_session(
        &self,
        request: Request<Streaming<PushEventsRequest>>,
    ) -> Result<Response<Self::EventSessionStream>, Status> {
        let identity = self.identify_writer(request.metadata(), false).await?;
        Ok(events::session::event_session(Arc::clone(&self.events), &identity, request.into_inner()))
    }
}
