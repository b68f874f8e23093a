//! Equal content has equal digests, other content another; checked against payloads as `prost_types` has them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct, Value};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};

use super::super::digest::{MAX_DEPTH, MAX_OPEN_ENTRIES, digest};
use super::super::payload::{self, PayloadError};
use super::{object, text};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(NullValue::NullValue.into())),
        any::<f64>().prop_filter("compared by ==", |number| !number.is_nan()).prop_map(Kind::NumberValue),
        "[a-c]{0,3}".prop_map(Kind::StringValue),
        any::<bool>().prop_map(Kind::BoolValue),
    ];
    let kind = leaf.prop_recursive(5, 40, 6, |inner| {
        let value = inner.prop_map(|kind| Value { kind: Some(kind) });
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4).prop_map(|values| Kind::ListValue(ListValue { values })),
            prop::collection::btree_map("[a-c]{0,2}", value, 0..5).prop_map(|fields| Kind::StructValue(Struct { fields })),
        ]
    });
    kind.prop_map(|kind| Value { kind: Some(kind) })
}

fn payload() -> impl Strategy<Value = Struct> {
    prop::collection::btree_map("[a-c]{0,2}", value(), 0..5).prop_map(|fields| Struct { fields })
}

fn put(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Encodes as some other writer may: entries in any order, fields of an entry in any order, defaults written or left out, an
/// earlier value for the same key, unknown fields.
fn encode_struct(fields: &BTreeMap<String, Value>, rng: &mut impl Rng) -> Vec<u8> {
    let mut entries: Vec<_> = fields.iter().collect();
    entries.shuffle(rng);
    let mut out = Vec::new();
    for (key, value) in entries {
        if rng.random_bool(0.2) {
            put(1, &encode_entry(key, &text("overwritten"), rng), &mut out);
        }
        put(1, &encode_entry(key, value, rng), &mut out);
        if rng.random_bool(0.2) {
            put(99, b"unknown", &mut out);
        }
    }
    out
}

fn encode_entry(key: &str, value: &Value, rng: &mut impl Rng) -> Vec<u8> {
    let mut fields: Vec<(u32, Vec<u8>)> = vec![(2, encode_value(value, rng))];
    if !key.is_empty() || rng.random_bool(0.5) {
        fields.push((1, key.as_bytes().to_vec()));
    }
    fields.shuffle(rng);
    let mut out = Vec::new();
    fields.iter().for_each(|(number, bytes)| put(*number, bytes, &mut out));
    out
}

fn encode_value(value: &Value, rng: &mut impl Rng) -> Vec<u8> {
    let mut out = Vec::new();
    match value.kind.as_ref().unwrap() {
        Kind::StructValue(Struct { fields }) => put(5, &encode_struct(fields, rng), &mut out),
        Kind::ListValue(ListValue { values }) => {
            let mut list = Vec::new();
            values.iter().for_each(|value| put(1, &encode_value(value, rng), &mut list));
            put(6, &list, &mut out);
        }
        Kind::NullValue(_) if rng.random_bool(0.5) => {}
        _ => out = value.encode_to_vec(),
    }
    out
}

proptest! {
    #[test]
    fn any_order_of_the_same_content_is_the_same(payload in payload(), seed: u64) {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let bytes = encode_struct(&payload.fields, &mut rng);
        prop_assert_eq!(digest("type", &bytes), digest("type", &payload.encode_to_vec()));
        prop_assert!(digest("type", &bytes).is_ok());
    }

    #[test]
    fn other_content_is_another(a in payload(), b in payload()) {
        let equal = digest("type", &a.encode_to_vec()) == digest("type", &b.encode_to_vec());
        // -0 and 0 are equal numbers but other bits.
        prop_assert_eq!(equal, a == b && format!("{a:?}") == format!("{b:?}"));
        prop_assert_ne!(digest("type", &a.encode_to_vec()), digest("other", &a.encode_to_vec()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = digest("type", &bytes);
    }
}

/// The digests of this release. They never change: they are stored beside the events.
#[test]
fn digests_are_what_they_were() {
    let payload = object([
        ("none", Value { kind: Some(Kind::NullValue(0)) }),
        ("number", Value { kind: Some(Kind::NumberValue(-1.5)) }),
        ("text", text("grün")),
        ("truth", Value { kind: Some(Kind::BoolValue(true)) }),
        ("list", Value { kind: Some(Kind::ListValue(ListValue { values: vec![text("a"), text("")] })) }),
        ("object", Value { kind: Some(Kind::StructValue(object([("", text("x"))]))) }),
    ]);
    assert_eq!(digest("outbox", &payload.encode_to_vec()), Ok(GOLDEN));
    assert_eq!(digest("", &[]), Ok(GOLDEN_EMPTY));
}

const GOLDEN: u64 = 12_962_813_956_933_441_093;
const GOLDEN_EMPTY: u64 = 2_498_918_413_332_061_096;

fn nested(levels: usize, list: bool) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 1..levels {
        let mut inner = Vec::new();
        if list {
            put(1, &value, &mut inner);
        } else {
            let mut entry = Vec::new();
            put(2, &value, &mut entry);
            put(1, &entry, &mut inner);
        }
        value.clear();
        put(if list { 6 } else { 5 }, &inner, &mut value);
    }
    let mut entry = Vec::new();
    put(2, &value, &mut entry);
    let mut payload = Vec::new();
    put(1, &entry, &mut payload);
    payload
}

#[test]
fn depth_and_width_are_bounded() {
    for list in [false, true] {
        assert!(digest("", &nested(MAX_DEPTH, list)).is_ok());
        assert_eq!(digest("", &nested(MAX_DEPTH + 1, list)), Err(PayloadError::TooDeep));
        assert_eq!(digest("", &nested(20_000, list)), Err(PayloadError::TooDeep));
    }
    assert!(digest("", &[0x0a, 0].repeat(MAX_OPEN_ENTRIES)).is_ok());
    assert_eq!(digest("", &[0x0a, 0].repeat(MAX_OPEN_ENTRIES + 1)), Err(PayloadError::TooManyFields));
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut payload = object([("key", text("value"))]).encode_to_vec();
    assert_eq!(digest("", &payload[..payload.len() - 1]), Err(PayloadError::Malformed));
    *payload.last_mut().unwrap() = 0xff;
    assert_eq!(digest("", &payload), Err(PayloadError::NotUtf8));
}

#[test]
fn values_are_found_without_building_the_payload() {
    let bytes = object([("a", text("x")), ("data", Value { kind: Some(Kind::StructValue(object([("b", text("y"))]))) })]);
    let bytes = bytes.encode_to_vec();
    let payload = payload::Struct::new(&bytes);
    assert_eq!(payload.text("a"), Some("x"));
    assert_eq!(payload.text("nothing"), None);
    assert_eq!(payload.text("data"), None);
    let Some(payload::Value::Struct(data)) = payload.get("data") else { panic!("no data") };
    assert_eq!(data.text("b"), Some("y"));
}
