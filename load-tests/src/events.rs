//! An agent that sends events.

use arcgate_api::gateway::v1::push_events_request::Payload;
use arcgate_api::gateway::v1::{AgentHandshake, Event, EventBatch, IngestAck, Meta, PushEventsRequest, PushEventsResponse};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::logs::client;
use crate::{Outcome, Trouble};

/// Batches that wait on this side before `send` does.
const QUEUE: usize = 4;

/// A payload from JSON; numbers become doubles, as everywhere in a Struct.
pub fn payload(json: &serde_json::Value) -> Struct {
    match json {
        serde_json::Value::Object(fields) => {
            Struct { fields: fields.iter().map(|(key, value)| (key.clone(), value_of(value))).collect() }
        }
        _ => Struct::default(),
    }
}

fn value_of(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Kind::StringValue(value.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(value_of).collect() })
        }
        object @ serde_json::Value::Object(_) => Kind::StructValue(payload(object)),
    };
    Value { kind: Some(kind) }
}

/// An event with a payload from JSON.
pub fn event(agent: &str, id: impl Into<String>, seq: u64, event_type: &str, json: &serde_json::Value) -> Event {
    Event {
        event_id: id.into(),
        meta: Some(Meta { agent_id: agent.to_owned(), seq, ..Meta::default() }),
        event_type: event_type.to_owned(),
        payload: Some(payload(json)),
    }
}

/// The message that holds a batch, named after its first event.
pub fn message(events: Vec<Event>) -> PushEventsRequest {
    let first = events.first().and_then(|event| event.meta.as_ref()).map_or(0, |meta| meta.seq);
    PushEventsRequest { payload: Some(Payload::Batch(EventBatch { batch_id: format!("batch-{first}"), events })) }
}

/// The message that introduces an agent.
pub fn handshake(agent: &str, last_known_seq: u64) -> PushEventsRequest {
    PushEventsRequest { payload: Some(Payload::Handshake(AgentHandshake { agent_id: agent.to_owned(), last_known_seq })) }
}

/// One PushEvents call as existing agents make it: handshake, one batch, half-close, one answer.
pub async fn push(channel: Channel, agent: &str, last_known_seq: u64, events: Vec<Event>) -> Outcome<IngestAck> {
    let messages = [handshake(agent, last_known_seq), message(events)];
    let answer = client(channel).push_events(tokio_stream::iter(messages)).await?;
    answer.into_inner().ack.ok_or_else(|| Trouble::from("an answer without an ack"))
}

/// An EventSession: one answer per batch, in order.
#[derive(Debug)]
pub struct EventSession {
    sender: Option<mpsc::Sender<PushEventsRequest>>,
    answers: Streaming<PushEventsResponse>,
}

impl EventSession {
    /// Opens it and introduces the agent.
    pub async fn open(channel: Channel, agent: &str, last_known_seq: u64) -> Outcome<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        sender.send(handshake(agent, last_known_seq)).await?;
        let answers = client(channel).event_session(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { sender: Some(sender), answers })
    }

    /// Sends a batch.
    pub async fn send(&self, events: Vec<Event>) -> Outcome<()> {
        let sender = self.sender.as_ref().ok_or("the session is half-closed")?;
        Ok(sender.send(message(events)).await?)
    }

    /// The next answer; `None` after the last.
    pub async fn answer(&mut self) -> Outcome<Option<IngestAck>> {
        Ok(self.answers.message().await?.and_then(|answer| answer.ack))
    }

    /// Sends one batch and waits for its answer.
    pub async fn ask(&mut self, events: Vec<Event>) -> Outcome<IngestAck> {
        self.send(events).await?;
        self.answer().await?.ok_or_else(|| Trouble::from("the session ended without an answer"))
    }

    /// Says that no more batches come; answers may still.
    pub fn finish(&mut self) {
        self.sender = None;
    }

    /// Its two sides, for a task each.
    pub fn split(mut self) -> Outcome<(mpsc::Sender<PushEventsRequest>, Streaming<PushEventsResponse>)> {
        Ok((self.sender.take().ok_or("the session is half-closed")?, self.answers))
    }
}
