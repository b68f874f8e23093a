//! The service with raw events is the published service: its calls have the same paths, and the contract's own client
//! talks with it.

use std::pin::Pin;

use arcgate_api::gateway::v1::gateway_service_client::GatewayServiceClient;
use arcgate_api::gateway::v1::{
    self, Event, EventBatch, IngestAck, LogBatch, PushEventsResponse, PushLogsRequest, PushLogsResponse, push_events_request,
    push_logs_request,
};
use arcgate_api::ingest::gateway_service_server::{GatewayService, GatewayServiceServer};
use arcgate_api::ingest::{Payload, PushEventsRequest};
use tonic::codegen::tokio_stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

#[tokio::test]
async fn the_contracts_client_talks_with_the_raw_service() {
    let mut client = GatewayServiceClient::new(GatewayServiceServer::new(Counter));

    let events = tokio_stream::iter([events(3), events(2)]);
    let response = client.push_events(events).await.unwrap().into_inner();
    assert_eq!(response.ack.unwrap().taken, 5);

    let logs = tokio_stream::iter([logs(b"one"), logs(b"and two")]);
    let response = client.push_logs(logs).await.unwrap().into_inner();
    assert_eq!(response.ack.unwrap().taken, 10);

    let events = tokio_stream::iter([self::events(3), self::events(2)]);
    let mut answers = client.event_session(events).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ack.unwrap().taken, 3);
    assert_eq!(answers.message().await.unwrap().unwrap().ack.unwrap().taken, 2);
    assert!(answers.message().await.unwrap().is_none());

    let logs = tokio_stream::iter([self::logs(b"one")]);
    let mut answers = client.log_session(logs).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ack.unwrap().taken, 3);
}

fn events(count: usize) -> v1::PushEventsRequest {
    let batch = EventBatch { batch_id: String::new(), events: vec![Event::default(); count] };
    v1::PushEventsRequest { payload: Some(push_events_request::Payload::Batch(batch)) }
}

fn logs(data: &'static [u8]) -> PushLogsRequest {
    let batch = LogBatch { data: data.into(), ..LogBatch::default() };
    PushLogsRequest { payload: Some(push_logs_request::Payload::Batch(batch)) }
}

/// Takes everything: counts events, and bytes of logs.
struct Counter;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl GatewayService for Counter {
    type LogSessionStream = Answers<PushLogsResponse>;
    type EventSessionStream = Answers<PushEventsResponse>;

    async fn push_logs(&self, request: Request<Streaming<PushLogsRequest>>) -> Result<Response<PushLogsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut taken = 0;
        while let Some(message) = stream.message().await? {
            taken += bytes_of(&message);
        }
        Ok(Response::new(PushLogsResponse { ack: ack(taken) }))
    }

    async fn push_events(&self, request: Request<Streaming<PushEventsRequest>>) -> Result<Response<PushEventsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut taken = 0;
        while let Some(message) = stream.message().await? {
            taken += events_of(&message);
        }
        Ok(Response::new(PushEventsResponse { ack: ack(taken) }))
    }

    async fn log_session(
        &self,
        request: Request<Streaming<PushLogsRequest>>,
    ) -> Result<Response<Self::LogSessionStream>, Status> {
        let answers = request.into_inner().map(|message| Ok(PushLogsResponse { ack: ack(bytes_of(&message?)) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn event_session(
        &self,
        request: Request<Streaming<PushEventsRequest>>,
    ) -> Result<Response<Self::EventSessionStream>, Status> {
        let answers = request.into_inner().map(|message| Ok(PushEventsResponse { ack: ack(events_of(&message?)) }));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn ack(taken: usize) -> Option<IngestAck> {
    Some(IngestAck { taken: taken as u64, ..IngestAck::default() })
}

fn bytes_of(message: &PushLogsRequest) -> usize {
    match &message.payload {
        Some(push_logs_request::Payload::Batch(batch)) => batch.data.len(),
        _ => 0,
    }
}

fn events_of(message: &PushEventsRequest) -> usize {
    match &message.payload {
        Some(Payload::Batch(batch)) => batch.events.len(),
        _ => 0,
    }
}
