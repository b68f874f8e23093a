//! Arbitrary JSON inside a definition: `google.protobuf.Struct`.

use prost_types::value::Kind as PbKind;
use prost_types::{ListValue, Struct};

use super::fields::{Reader, Value, key};
use super::node::{Kind, Node};
use super::problem::Segment;

/// Whole numbers beyond this lose digits as a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Value for Struct {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        let Kind::Map(entries) = &node.kind else {
            return reader.wrong(node, format!("must be a map, not {}", node.describe()));
        };
        let fields = (entries.iter())
            .map(|(key, value)| (key.name.clone(), reader.below(Segment::Key(key.name.clone()), |reader| read(value, reader))))
            .collect();
        Self { fields }
    }

    fn write(&self) -> Kind {
        Kind::Map(self.fields.iter().map(|(name, value)| (key(name), Node::new(write(value)))).collect())
    }

    fn is_unset(&self) -> bool {
        false
    }
}

fn read(node: &Node, reader: &mut Reader) -> prost_types::Value {
    let kind = match &node.kind {
        Kind::Null => PbKind::NullValue(0),
        Kind::Bool(value) => PbKind::BoolValue(*value),
        Kind::Number(value, text) if value.abs() > EXACT && value.fract() == 0.0 && !text.contains(['.', 'e', 'E']) => {
            return reader.wrong(node, format!("{text} has more digits than a JSON number keeps; write it in quotes"));
        }
        Kind::Number(value, _) => PbKind::NumberValue(*value),
        Kind::Text(text) => PbKind::StringValue(text.clone()),
        Kind::List(elements) => PbKind::ListValue(ListValue {
            values: (elements.iter().enumerate())
                .map(|(index, element)| reader.below(Segment::Index(index), |reader| read(element, reader)))
                .collect(),
        }),
        Kind::Map(_) => PbKind::StructValue(Struct::read(node, reader)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A value without a kind is null, and so is a number that JSON does not have.
fn write(value: &prost_types::Value) -> Kind {
    match &value.kind {
        Some(PbKind::BoolValue(value)) => Kind::Bool(*value),
        Some(PbKind::NumberValue(value)) if value.is_finite() => Kind::Number(*value, number(*value)),
        Some(PbKind::StringValue(text)) => Kind::Text(text.clone()),
        Some(PbKind::ListValue(list)) => Kind::List(list.values.iter().map(|value| Node::new(write(value))).collect()),
        Some(PbKind::StructValue(fields)) => fields.write(),
        None | Some(PbKind::NullValue(_) | PbKind::NumberValue(_)) => Kind::Null,
    }
}

/// The shortest text that is read as the same double, in a form that JSON and YAML share.
fn number(value: f64) -> String {
    let whole = value.fract() == 0.0 && value.abs() < EXACT;
    if whole { format!("{value:.0}") } else { format!("{value:?}") }
}
