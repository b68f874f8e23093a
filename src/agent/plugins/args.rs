//! A step's arguments: as JSON, secrets filled in.

use arcgate_api::agent::v1::StepRun;
use arcgate_control::template;
use prost_types::Struct;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

/// Numbers above this are no exact integers in a `Struct`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The arguments, with `${{ secrets.NAME }}` filled in.
///
/// # Errors
/// In words for people: they would become too long.
pub(super) fn filled(step: &StepRun) -> Result<Map<String, Value>, String> {
    let Some(args) = &step.args else { return Ok(Map::new()) };
    let secret = |name: &str| secret_of(step, name);
    Ok(object(&template::fill_struct(args, &secret).map_err(|error| error.to_string())?))
}

/// The secret of a name as `secrets.TOKEN`.
pub(super) fn secret_of(step: &StepRun, name: &str) -> Option<String> {
    name.strip_prefix("secrets.").and_then(|name| step.secrets.get(name)).cloned()
}

/// The text of an argument; nothing if there is none, or it is empty. What is no text is given as JSON.
pub(super) fn text(args: &Map<String, Value>, name: &str) -> Option<String> {
    match args.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    }
}

/// The text of the first argument of these that there is.
pub(super) fn first_text(args: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| text(args, name))
}

fn object(object: &Struct) -> Map<String, Value> {
    object.fields.iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(of: &prost_types::Value) -> Value {
    match &of.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(yes)) => Value::Bool(*yes),
        Some(Kind::NumberValue(number)) => number_of(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(value).collect()),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)),
    }
}

/// `3`, not `3.0`: that is what the pipeline says.
fn number_of(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number in range")]
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
