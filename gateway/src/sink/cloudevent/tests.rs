//! The JSON of events: what it says, against trees built by other libraries, and its very text, in golden files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arcgate_api::gateway::v1::{Event, Meta};
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct, Timestamp, Value};
use serde_json::{Value as Json, json};

use super::{CloudEvent, WriteError, Written};
use crate::id::Id;
use crate::store::events::StoredEvent;

fn value_of(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(NullValue::NullValue.into()),
        Json::Bool(truth) => Kind::BoolValue(*truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(value_of).collect() }),
        Json::Object(_) => Kind::StructValue(struct_of(json)),
    };
    Value { kind: Some(kind) }
}

fn struct_of(json: &Json) -> Struct {
    Struct { fields: json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value_of(value))).collect() }
}

/// What `serde_json` makes of a payload; whole numbers are integers there, so all are compared as doubles.
fn json_of(value: &Value) -> Json {
    match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::BoolValue(truth)) => json!(truth),
        Some(Kind::StructValue(Struct { fields })) => {
            Json::Object(fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
        }
        Some(Kind::ListValue(ListValue { values })) => values.iter().map(json_of).collect(),
    }
}

/// Equal but for how a number is written.
fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => {
            // serde_json may read a decimal a few units in the last place wrong, which is much of the smallest numbers there are.
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            one == other || (one.signum() == other.signum() && one.to_bits().abs_diff(other.to_bits()) <= 4)
        }
        (Json::Array(one), Json::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b)),
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(name, a)| other.get(name).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}

fn stored(event: &Event) -> StoredEvent {
    StoredEvent {
        position: 0,
        next: 8,
        received: 1_700_000_000_123,
        agent: Id::parse("agent-1").unwrap(),
        event_id: event.event_id.as_str().into(),
        seq: 7,
        digest: 1,
        raw: event.encode_to_vec().into(),
    }
}

fn event(event_type: &str, payload: Struct) -> Event {
    let timestamp = Some(Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 });
    let meta = Meta { agent_id: "agent-1".into(), seq: 7, timestamp, ..Meta::default() };
    Event { event_id: "evt-7".into(), meta: Some(meta), event_type: event_type.into(), payload: Some(payload) }
}

/// The text of an event without a limit.
fn text(event: &Event) -> String {
    let mut out = Vec::new();
    let whole = CloudEvent::of(&stored(event)).unwrap().write(usize::MAX, || panic!("nothing is cut"), &mut out);
    assert_eq!(whole, Ok(Written::Whole));
    String::from_utf8(out).unwrap()
}

fn parsed(event: &Event) -> Json {
    serde_json::from_str(&text(event)).unwrap()
}

/// A step's output as the existing agent sends it.
fn envelope(content: &str) -> Json {
    json!({
        "specversion": "1.0", "id": "0b5d4f0e-6a35-4f6e-9a6c-0d9a3a1f6d11", "source": "urn:arcentra:executor:shell",
        "type": "arcentra.task.log", "time": "2026-03-04T05:06:07.123456789+02:00", "datacontenttype": "application/json",
        "subject": "pipeline/p-1/step/build", "pipelineId": "p-1", "stepId": "build", "stepName": "build", "pluginName": "shell",
        "data": { "stream": "stdout", "content": content },
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(NullValue::NullValue.into())),
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(Kind::NumberValue),
        any::<i32>().prop_map(|number| Kind::NumberValue(number.into())),
        ".{0,12}".prop_map(Kind::StringValue),
        any::<bool>().prop_map(Kind::BoolValue),
    ];
    let kind = leaf.prop_recursive(5, 40, 6, |inner| {
        let value = inner.prop_map(|kind| Value { kind: Some(kind) });
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4).prop_map(|values| Kind::ListValue(ListValue { values })),
            prop::collection::btree_map(".{0,3}", value, 0..5).prop_map(|fields| Kind::StructValue(Struct { fields })),
        ]
    });
    kind.prop_map(|kind| Value { kind: Some(kind) })
}

fn any_payload() -> impl Strategy<Value = Struct> {
    prop::collection::btree_map("[a-d]{0,2}", any_value(), 0..5).prop_map(|fields| Struct { fields })
}

proptest! {
    #[test]
    fn any_payload_is_the_data_of_its_envelope(payload in any_payload()) {
        let tree = json_of(&Value { kind: Some(Kind::StructValue(payload.clone())) });
        let found = parsed(&event("build.done", payload));
        prop_assert!(same(&found["data"], &tree), "{found} is not {tree}");
        prop_assert_eq!((&found["type"], &found["id"]), (&json!("build.done"), &json!("evt-7")));
    }

    #[test]
    fn an_envelope_is_taken_as_it_is(data in any_value(), extension in any_value()) {
        let mut tree = envelope("");
        let mut payload = struct_of(&tree);
        for (name, value) in [("data", data), ("zone", extension)] {
            tree[name] = json_of(&value);
            payload.fields.insert(name.into(), value);
        }
        let found = parsed(&event("outbox", payload));
        prop_assert!(same(&found, &tree), "{found} is not {tree}");
    }

    #[test]
    fn a_cut_event_fits_and_loses_nothing_but_the_end_of_its_content(content in ".{0,400}", limit in 0_usize..1500) {
        let mut out = b"before".to_vec();
        let event = stored(&event("outbox", struct_of(&envelope(&content))));
        let written = CloudEvent::of(&event).unwrap().write(limit, || Some("run-\"1\"".into()), &mut out);
        match written {
            Err(error) => {
                prop_assert_eq!((error, out.as_slice()), (WriteError::TooLarge(limit), &b"before"[..]));
                prop_assert!(limit < 900, "an envelope without content is not that large");
            }
            Ok(Written::Whole) => prop_assert!(out.len() <= limit),
            Ok(Written::Cut(bytes)) => {
                prop_assert!(out.len() <= limit);
                let mut found: Json = serde_json::from_slice(&out[6..]).unwrap();
                let left = found["data"]["content"].as_str().unwrap().to_owned();
                prop_assert!(content.starts_with(&left));
                prop_assert_eq!((content.len() - left.len()) as u64, bytes);
                let marks = json!({ "stream": "stdout", "content": left, "contentTruncated": true, "contentBytes": content.len(),
                    "contentStepRunId": "run-\"1\"" });
                prop_assert_eq!(found["data"].take(), marks);
                let mut rest = envelope("");
                rest["data"] = Json::Null;
                prop_assert_eq!(found, rest);
            }
        }
    }

    #[test]
    fn a_number_is_read_back_as_it_was(number: f64) {
        prop_assume!(number.is_finite());
        let text = text(&event("n", struct_of(&json!({ "n": number }))));
        let digits = text.split("\"n\":").nth(1).unwrap().split('}').next().unwrap();
        prop_assert_eq!(digits.parse::<f64>().unwrap().to_bits(), number.to_bits());
    }
}

#[test]
fn whole_numbers_have_no_point_and_what_json_lacks_is_a_text() {
    let numbers = [3.0, -3.0, 0.5, 1e20, 1e21, 1e-7, 9_007_199_254_740_993.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let values = numbers.map(|number| Value { kind: Some(Kind::NumberValue(number)) }).to_vec();
    let list = Value { kind: Some(Kind::ListValue(ListValue { values })) };
    let text = text(&event("n", Struct { fields: [("n".to_owned(), list)].into() }));
    let expected = r#""n":[3,-3,0.5,100000000000000000000,1e21,1e-7,9007199254740992,"NaN","Infinity","-Infinity"]"#;
    assert!(text.contains(expected), "{text}");
}

#[test]
fn the_text_is_the_golden_one() {
    let log = event("outbox", struct_of(&envelope("line \"one\"\nline two\n")));
    assert_eq!(text(&log), include_str!("golden/task-log.json").trim_end());

    let mut own = event("build.done", struct_of(&json!({ "durationMs": 1500, "ok": true, "tags": ["a", null] })));
    let meta = own.meta.as_mut().unwrap();
    (meta.pipeline_id, meta.step_id) = ("p-1".into(), "run-1".into());
    assert_eq!(text(&own), include_str!("golden/wrapped.json").trim_end());

    let mut out = Vec::new();
    let long = stored(&event("outbox", struct_of(&envelope(&"0123456789\n".repeat(100)))));
    let cut = CloudEvent::of(&long).unwrap().write(560, || Some("run-1".into()), &mut out).unwrap();
    assert!(matches!(cut, Written::Cut(_)));
    assert_eq!(String::from_utf8(out).unwrap(), include_str!("golden/cut.json").trim_end());
}

#[test]
fn what_an_envelope_lacks_is_added() {
    let found = parsed(&event("outbox", struct_of(&json!({ "specversion": "1.0", "source": "", "time": null }))));
    let expected = json!({
        "specversion": "1.0", "id": "evt-7", "source": "urn:arcgate:agent:agent-1", "type": "outbox",
        "time": "2023-11-14T22:13:20.120Z", "datacontenttype": "application/json",
    });
    assert_eq!(found, expected);
}

#[test]
fn an_event_without_anything_is_a_cloudevent_too() {
    let mut bare = event("", Struct::default());
    (bare.meta, bare.payload) = (None, None);
    let found = parsed(&bare);
    assert_eq!(found["type"], "arcgate.event");
    assert_eq!(found["time"], "2023-11-14T22:13:20.123Z", "when it arrived");
    let mut odd = event("x", Struct::default());
    odd.meta.as_mut().unwrap().timestamp = Some(Timestamp { seconds: i64::MAX, nanos: -1 });
    assert_eq!(parsed(&odd)["time"], "2023-11-14T22:13:20.123Z", "a time that RFC 3339 cannot write");
}

#[test]
fn a_payload_at_the_limit_of_depth_is_written() {
    let mut deep = json!({});
    for _ in 1..crate::source::events::digest::MAX_DEPTH {
        deep = json!({ "d": deep });
    }
    let deep = event("deep", struct_of(&deep));
    let bytes = deep.payload.as_ref().unwrap().encode_to_vec();
    assert!(crate::source::events::digest::digest("deep", &bytes).is_ok(), "it is accepted");
    assert!(text(&deep).len() > 500);
}

#[test]
fn without_content_a_large_event_stays_too_large() {
    let event = stored(&event("x", struct_of(&json!({ "metadata": "m".repeat(5000) }))));
    let event = CloudEvent::of(&event).unwrap();
    assert!(!event.has_content());
    let mut out = Vec::new();
    assert_eq!(event.write(4096, || None, &mut out), Err(WriteError::TooLarge(4096)));
    assert!(out.is_empty());
}

#[test]
fn text_that_grows_by_being_escaped_takes_no_more_room_than_the_limit_asks_for() {
    // Each becomes six bytes.
    let content = "\u{1}".repeat(3 << 20);
    let event = stored(&event("outbox", struct_of(&envelope(&content))));
    let (limit, mut out) = (4 << 20, Vec::new());
    let written = CloudEvent::of(&event).unwrap().write(limit, || None, &mut out).unwrap();
    assert!(matches!(written, Written::Cut(_)), "{written:?}");
    assert!(out.len() <= limit && out.len() > limit - 1024, "{}", out.len());
    assert!(out.capacity() <= 2 * limit + (1 << 20), "{}", out.capacity());
}
