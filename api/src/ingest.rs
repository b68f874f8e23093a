//! `gateway.v1.GatewayService` for those who want events as bytes.
//!
//! The generated request decodes a whole batch into a tree of payloads, and one event that is not decodable spoils the
//! batch. Here a batch is a list of encoded events, each a slice of the message it came in (which therefore stays in
//! memory as a whole). [`PushEventsRequest`] and [`EventBatch`] are the same on the wire as the messages of that name
//! in [`gateway::v1`](crate::gateway::v1).
//! Everything else of the service is the same type as there, logs included: their data is bytes already.

use bytes::Bytes;

use crate::gateway::v1::AgentHandshake;

#[allow(missing_docs, clippy::all, reason = "generated")]
mod service {
    include!(concat!(env!("OUT_DIR"), "/raw/gateway.v1.rs"));
}

pub use service::{gateway_service_client, gateway_service_server};

/// One message of PushEvents or EventSession, with its events as they came.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PushEventsRequest {
    /// What the message is. One without payload is ignored.
    #[prost(oneof = "Payload", tags = "1, 2")]
    pub payload: Option<Payload>,
}

/// What a [`PushEventsRequest`] is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Payload {
    /// Who sends and from which mark; at most once, first.
    #[prost(message, tag = "1")]
    Handshake(AgentHandshake),
    /// Events.
    #[prost(message, tag = "2")]
    Batch(EventBatch),
}

/// Events, sent together, not decoded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventBatch {
    /// The agent's name for this batch.
    #[prost(string, tag = "1")]
    pub batch_id: String,
    /// The events, each an encoded [`Event`](crate::gateway::v1::Event), perhaps.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
}
