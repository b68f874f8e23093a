//! JSON as protobuf has it.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// The members of an object; nothing if it is none. Numbers become doubles, as in every `Struct`.
#[must_use]
pub fn to_struct(json: &serde_json::Value) -> Option<Struct> {
    match value(json).kind {
        Some(Kind::StructValue(fields)) => Some(fields),
        _ => None,
    }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(yes) => Kind::BoolValue(*yes),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(value).collect() }),
        serde_json::Value::Object(fields) => {
            Kind::StructValue(Struct { fields: fields.iter().map(|(name, field)| (name.clone(), value(field))).collect() })
        }
    };
    Value { kind: Some(kind) }
}
