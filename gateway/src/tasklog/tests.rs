//! Lines from events, by themselves and through the whole way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod follow;

use std::collections::BTreeMap;

use arcgate_api::gateway::v1::{Event, Meta};
use bytes::Bytes;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp, Value};

use super::lines::TaskLines;
use crate::block::OutputStream;
use crate::id::{AgentId, Id, StepRunId};
use crate::lookup::{NoLookup, StepRunLookup};

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>() }
}

/// An event as the stock agent sends it.
fn event(event_type: &str, data: Struct) -> Event {
    let payload = object([
        ("specversion", text("1.0")),
        ("type", text(event_type)),
        ("pipelineId", text("pipe")),
        ("stepId", text("build")),
        ("stepName", text("build")),
        ("pluginName", text("shell")),
        ("data", Value { kind: Some(Kind::StructValue(data)) }),
    ]);
    let meta =
        Meta { agent_id: "agent".into(), seq: 1, timestamp: Some(Timestamp { seconds: 5, nanos: 7_000_000 }), ..Meta::default() };
    Event { event_id: "evt-1".into(), meta: Some(meta), event_type: "outbox".into(), payload: Some(payload) }
}

fn log_event(stream: &str, content: &str) -> Event {
    event("arcentra.task.log", object([("stream", text(stream)), ("content", text(content))]))
}

fn with_step_id(step_id: &str, mut event: Event) -> Event {
    event.meta.as_mut().unwrap().step_id = step_id.into();
    event
}

fn encode(event: &Event) -> Bytes {
    event.encode_to_vec().into()
}

fn agent() -> AgentId {
    Id::parse("agent").unwrap()
}

fn lines_of(event: &Event, lookup: &dyn StepRunLookup) -> Option<TaskLines> {
    TaskLines::of(&encode(event), &agent(), lookup)
}

/// Knows one step.
struct Knows;

impl StepRunLookup for Knows {
    fn step_run(&self, agent: &AgentId, step_name: &str) -> Option<StepRunId> {
        (agent.as_str() == "agent" && step_name == "build").then(|| Id::parse("known").unwrap())
    }
}

#[test]
fn the_stream_is_what_meta_says_or_the_lookup_or_a_name_made_of_the_event() {
    let step_run = |event: &Event, lookup: &dyn StepRunLookup| lines_of(event, lookup).unwrap().step_run.to_string();
    let plain = log_event("stdout", "x\n");
    assert_eq!(step_run(&with_step_id("named", plain.clone()), &Knows), "named");
    assert_eq!(step_run(&plain, &Knows), "known");
    assert_eq!(step_run(&plain, &NoLookup), "pipe-build-agent");
    let mut of_meta = plain.clone();
    of_meta.meta.as_mut().unwrap().pipeline_id = "other".into();
    assert_eq!(step_run(&of_meta, &NoLookup), "other-build-agent");
    assert_eq!(lines_of(&of_meta, &NoLookup).unwrap().pipeline_id, "other");
    assert_eq!(lines_of(&with_step_id("a\nb", plain), &NoLookup), None, "no name for a stream");
}

#[test]
fn the_text_is_a_slice_of_the_event_with_what_it_says_beside() {
    let raw = encode(&log_event("stderr", "one\ntwo\n"));
    let lines = TaskLines::of(&raw, &agent(), &NoLookup).unwrap();
    assert!(raw.as_ptr_range().contains(&lines.text.as_ptr()));
    let step_run = Id::parse("pipe-build-agent").unwrap();
    assert_eq!(
        lines,
        TaskLines {
            step_run,
            pipeline_id: "pipe".into(),
            text: Bytes::from_static(b"one\ntwo\n"),
            stream: OutputStream::Stderr,
            plugin: "shell".into(),
            time: Some(5007),
            ends: false,
        }
    );
    assert_eq!(lines_of(&log_event("else", "x"), &NoLookup).unwrap().stream, OutputStream::Unspecified);
}

#[test]
fn other_events_are_no_lines_and_some_end_the_log() {
    for event_type in ["arcentra.task.started", "arcentra.task.progress", "arcentra.job.completed", "", "log"] {
        assert_eq!(lines_of(&event(event_type, object([("content", text("x"))])), &NoLookup), None, "{event_type}");
    }
    for event_type in ["arcentra.task.finished", "arcentra.step.completed", "arcentra.step.failed"] {
        let lines = lines_of(&event(event_type, object([("content", text("x"))])), &NoLookup).unwrap();
        assert!(lines.ends && lines.text.is_empty(), "{event_type}");
    }
    let mut own = event("", object([]));
    (own.event_type, own.payload) = ("arcentra.step.completed".into(), None);
    assert!(lines_of(&with_step_id("s", own), &NoLookup).unwrap().ends, "the event's own type counts too");
}

#[test]
fn events_without_sense_do_no_harm() {
    assert_eq!(TaskLines::of(&Bytes::from_static(b"\xff\xff"), &agent(), &NoLookup), None);
    let mut far = log_event("stdout", "x");
    far.meta.as_mut().unwrap().timestamp = Some(Timestamp { seconds: i64::MAX, nanos: i32::MAX });
    assert_eq!(lines_of(&far, &NoLookup).unwrap().time, Some(i64::MAX));
    let mut bare = log_event("stdout", "x");
    bare.payload = Some(object([("type", text("arcentra.task.log")), ("data", text("x"))]));
    assert!(lines_of(&bare, &NoLookup).unwrap().text.is_empty());
}
