//! `gateway.v1.GatewayService` for those who want events as bytes.
//!
//! The generated request decodes a whole batch into a tree of payloads, and one event that is not decodable spoils the
//! batch. Here a batch is a list of encoded events, each a slice of the message it came in (which therefore stays in
//! memory as a whole). [`PushEventsRequest`] and [`EventBatch`] are the same on the wire as the messages of that name
//! in [`gateway::v1`](crate::gateway::v1).
//! Everything else of the service is the same type as there, logs included: their data is bytes already.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

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

/// The most events of a batch that are kept: what an event takes in memory is not in proportion to its bytes on the wire, so that
/// a message of 50 million empty ones would pass any bound.
pub const MAX_BATCH_EVENTS: usize = 10_000;

/// Events, sent together, not decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBatch {
    /// The agent's name for this batch.
    pub batch_id: String,
    /// The events, each an encoded [`Event`](crate::gateway::v1::Event), perhaps; at most [`MAX_BATCH_EVENTS`].
    pub events: Vec<Bytes>,
    /// The batch had more events than that, which were not kept. Not on the wire.
    pub too_many: bool,
}

impl EventBatch {
    /// A batch of encoded events, to be sent.
    #[must_use]
    pub fn new(batch_id: impl Into<String>, events: Vec<Bytes>) -> Self {
        Self { batch_id: batch_id.into(), events, too_many: false }
    }
}

const BATCH_ID: u32 = 1;
const EVENTS: u32 = 2;

impl Message for EventBatch {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if !self.batch_id.is_empty() {
            encoding::string::encode(BATCH_ID, &self.batch_id, buffer);
        }
        encoding::bytes::encode_repeated(EVENTS, &self.events, buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            BATCH_ID => encoding::string::merge(wire_type, &mut self.batch_id, buffer, context),
            EVENTS if self.events.len() < MAX_BATCH_EVENTS => {
                encoding::bytes::merge_repeated(wire_type, &mut self.events, buffer, context)
            }
            _ => {
                self.too_many |= tag == EVENTS;
                encoding::skip_field(wire_type, tag, buffer, context)
            }
        }
    }

    fn encoded_len(&self) -> usize {
        let id = if self.batch_id.is_empty() { 0 } else { encoding::string::encoded_len(BATCH_ID, &self.batch_id) };
        id + encoding::bytes::encoded_len_repeated(EVENTS, &self.events)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
