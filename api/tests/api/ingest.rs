//! The raw requests of `arcgate_api::ingest` and the contract's own are the same bytes.

use std::collections::BTreeMap;

use arcgate_api::gateway::v1::{self, AgentHandshake, Event, Meta, push_events_request::Payload};
use arcgate_api::ingest;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use prost_types::{Struct, Timestamp, Value, value::Kind};

proptest! {
    #[test]
    fn raw_requests_decode_what_the_contracts_messages_encode(request in request()) {
        let raw = ingest::PushEventsRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        prop_assert_eq!(&raw, &to_raw(&request));
        if let (Some(ingest::Payload::Batch(raw)), Some(Payload::Batch(batch))) = (raw.payload, request.payload) {
            for (bytes, event) in raw.events.into_iter().zip(batch.events) {
                prop_assert_eq!(Event::decode(bytes).unwrap(), event);
            }
        }
    }

    #[test]
    fn the_contracts_messages_decode_what_raw_requests_encode(request in request()) {
        let encoded = to_raw(&request).encode_to_vec();
        prop_assert_eq!(v1::PushEventsRequest::decode(encoded.as_slice()).unwrap(), request);
    }
}

/// Fields that this release does not know are skipped, and an event that is no event spoils nothing.
#[test]
fn raw_requests_take_any_event() {
    let batch = ingest::EventBatch::new("", vec![Bytes::from_static(b"\xff no event")]);
    let mut encoded = ingest::PushEventsRequest { payload: Some(ingest::Payload::Batch(batch.clone())) }.encode_to_vec();
    encoded.extend([0xa2, 0x06, 0x01, b'x']); // Field 100, a length of one byte.
    assert!(v1::PushEventsRequest::decode(encoded.as_slice()).is_err());
    let raw = ingest::PushEventsRequest::decode(encoded.as_slice()).unwrap();
    assert_eq!(raw.payload, Some(ingest::Payload::Batch(batch)));
}

/// Events are slices of the message that they came in.
#[test]
fn raw_events_are_not_copied() {
    let batch = ingest::EventBatch::new("batch-1", vec![Bytes::from(vec![7; 100_000])]);
    let request = ingest::PushEventsRequest { payload: Some(ingest::Payload::Batch(batch)) };
    let message = Bytes::from(request.encode_to_vec());
    let place = message.as_ptr_range(); // Lives as long as the events below, if they are slices of it.
    let Some(ingest::Payload::Batch(batch)) = ingest::PushEventsRequest::decode(message).unwrap().payload else {
        panic!("not a batch");
    };
    assert!(place.contains(&batch.events[0].as_ptr()));
}

/// 50 million empty events fit into one message of 100 MiB.
#[test]
fn a_raw_batch_keeps_a_bounded_number_of_events_and_says_so() {
    let decode = |events: usize| {
        let message: Vec<u8> = [0x12, 0x00].repeat(events);
        ingest::EventBatch::decode(message.as_slice()).unwrap()
    };
    let full = decode(ingest::MAX_BATCH_EVENTS);
    assert_eq!((full.events.len(), full.too_many), (ingest::MAX_BATCH_EVENTS, false));
    let over = decode(5_000_000);
    assert_eq!((over.events.len(), over.too_many), (ingest::MAX_BATCH_EVENTS, true));
}

fn to_raw(request: &v1::PushEventsRequest) -> ingest::PushEventsRequest {
    let payload = request.payload.clone().map(|payload| match payload {
        Payload::Handshake(handshake) => ingest::Payload::Handshake(handshake),
        Payload::Batch(batch) => ingest::Payload::Batch(ingest::EventBatch::new(
            batch.batch_id,
            batch.events.iter().map(|event| event.encode_to_vec().into()).collect(),
        )),
    });
    ingest::PushEventsRequest { payload }
}

fn request() -> impl Strategy<Value = v1::PushEventsRequest> {
    let handshake = (".*", any::<u64>())
        .prop_map(|(agent_id, last_known_seq)| Payload::Handshake(AgentHandshake { agent_id, last_known_seq }));
    let batch = (".*", proptest::collection::vec(event(), 0..8))
        .prop_map(|(batch_id, events)| Payload::Batch(v1::EventBatch { batch_id, events }));
    proptest::option::of(prop_oneof![handshake, batch]).prop_map(|payload| v1::PushEventsRequest { payload })
}

fn event() -> impl Strategy<Value = Event> {
    let payload = proptest::collection::btree_map(".*", value(), 0..4).prop_map(|fields| Struct { fields });
    (".*", proptest::option::of(meta()), ".*", proptest::option::of(payload))
        .prop_map(|(event_id, meta, event_type, payload)| Event { event_id, meta, event_type, payload })
}

fn meta() -> impl Strategy<Value = Meta> {
    let timestamp = (any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos });
    (".*", ".*", ".*", proptest::option::of(timestamp), any::<u64>())
        .prop_map(|(agent_id, pipeline_id, step_id, timestamp, seq)| Meta { agent_id, pipeline_id, step_id, timestamp, seq })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        (-1e9..1e9).prop_map(Kind::NumberValue),
        ".*".prop_map(Kind::StringValue),
    ];
    let nested = leaf.prop_map(|kind| Value { kind: Some(kind) }).prop_recursive(3, 16, 4, |inner| {
        proptest::collection::btree_map(".*", inner, 0..4)
            .prop_map(|fields: BTreeMap<String, Value>| Value { kind: Some(Kind::StructValue(Struct { fields })) })
    });
    nested.boxed()
}
