#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ack;
mod agent;
mod decode;
mod digest;
mod streams;

use std::collections::BTreeMap;

use arcgate_api::gateway::v1::{Event, Meta};
use bytes::Bytes;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>() }
}

/// An event as the stock agent sends it.
fn event(agent: &str, seq: u64, content: &str) -> Event {
    Event {
        event_id: format!("evt-{seq}"),
        meta: Some(Meta { agent_id: agent.into(), seq, ..Meta::default() }),
        event_type: "outbox".into(),
        payload: Some(object([("type", text("arcentra.task.log")), ("content", text(content))])),
    }
}

fn encode(event: &Event) -> Bytes {
    event.encode_to_vec().into()
}
