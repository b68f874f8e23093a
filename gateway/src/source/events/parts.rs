//! The parts of an event that others than its decoder want, read from its bytes; the payload stays bytes.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;

/// A `gateway.v1.Event` as far as it matters to lines and sinks. Its id, agent and seq stand beside the stored bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventParts {
    /// Where it comes from.
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<MetaParts>,
    /// Its type.
    #[prost(string, tag = "3")]
    pub(crate) event_type: String,
    /// The encoded `google.protobuf.Struct`.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) payload: Bytes,
}

/// A `gateway.v1.Meta` as far as it matters there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetaParts {
    /// The pipeline; empty if not set.
    #[prost(string, tag = "2")]
    pub(crate) pipeline_id: String,
    /// The step run; empty if not set.
    #[prost(string, tag = "3")]
    pub(crate) step_id: String,
    /// When the event was made.
    #[prost(message, optional, tag = "4")]
    pub(crate) timestamp: Option<Timestamp>,
}
