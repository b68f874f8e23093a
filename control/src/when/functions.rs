//! The functions of conditions: what they take and give, and what they do.

use regex::{Regex, RegexBuilder};

use super::check::Type;
use super::value::Value;
use super::{MAX_PARTS, MAX_TEXT_BYTES};
use crate::text::{hint, quoted};

const NAMES: [&str; 18] = [
    "success",
    "failure",
    "always",
    "len",
    "int",
    "float",
    "string",
    "abs",
    "lower",
    "upper",
    "trim",
    "trimPrefix",
    "trimSuffix",
    "hasPrefix",
    "hasSuffix",
    "split",
    "join",
    "replace",
];
/// A compiled regular expression takes at most this much memory, in bytes.
const MAX_PATTERN_BYTES: usize = 256 << 10;
pub(super) const TOO_LONG: &str = "the text that the condition makes is longer than 64 KiB";

/// The kind of value that a function gives for arguments of these kinds.
pub(super) fn result(name: &str, arguments: &[Type]) -> Result<Type, String> {
    use Type::{Bool, Float, Int, Text};
    let texts = |count: usize| arguments.len() == count && arguments.iter().all(|argument| argument.is(&Text));
    let (fits, takes, gives) = match (name, arguments) {
        ("success" | "failure" | "always", arguments) => (arguments.is_empty(), "nothing", Bool),
        ("len", [Type::Any | Text | Type::List(_) | Type::Map | Type::Range]) => (true, "", Int),
        ("len", _) => (false, "text, a list, a map or a range", Int),
        ("int", [one]) => (one.is_number() || one.is(&Text), "a number or text", Int),
        ("int", _) => (false, "a number or text", Int),
        ("float", [one]) => (one.is_number() || one.is(&Text), "a number or text", Float),
        ("float", _) => (false, "a number or text", Float),
        ("string", [_]) => (true, "", Text),
        ("string", _) => (false, "one value", Text),
        ("abs", [one]) => (one.is_number(), "a number", one.clone()),
        ("abs", _) => (false, "a number", Float),
        ("lower" | "upper", _) => (texts(1), "a text", Text),
        ("trim", _) => (texts(1) || texts(2), "one or two texts", Text),
        ("trimPrefix" | "trimSuffix", _) => (texts(2), "two texts", Text),
        ("hasPrefix" | "hasSuffix", _) => (texts(2), "two texts", Bool),
        ("split", _) => (texts(2), "two texts", Type::List(Box::new(Text))),
        ("join", [list] | [list, Text]) => {
            (matches!(list, Type::Any) || matches!(list, Type::List(element) if element.is(&Text)), "a list of texts", Text)
        }
        ("join", _) => (false, "a list of texts, and the text between them", Text),
        ("replace", _) => (texts(3), "three texts", Text),
        _ => return Err(format!("the function {} is unknown{}", quoted(name), hint(name, NAMES))),
    };
    if fits {
        return Ok(gives);
    }
    let given = arguments.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("{name}() takes {takes}, not ({given})"))
}

/// Calls a function.
pub(super) fn call<'v>(name: &str, arguments: &[Value<'v>], failed: bool) -> Result<Value<'v>, String> {
    use Value::{Bool, Float, Int, List, Map, Range, Text};
    Ok(match (name, arguments) {
        ("success", []) => Bool(!failed),
        ("failure", []) => Bool(failed),
        ("always", []) => Bool(true),
        ("len", [Text(text)]) => Int(text.chars().count() as i64),
        ("len", [List(elements)]) => Int(elements.len() as i64),
        ("len", [Map(map)]) => Int(map.len() as i64),
        ("len", [Range(first, last)]) => {
            Int(last.checked_sub(*first).and_then(|len| len.checked_add(1)).unwrap_or(i64::MAX).max(0))
        }
        ("int", [Int(value)]) => Int(*value),
        ("int", [Float(value)]) if value.abs() < 9.0e18 => Int(*value as i64),
        ("int", [Text(text)]) => Int(text.parse().map_err(|_| format!("{} is not a whole number", quoted(text)))?),
        ("float", [Text(text)]) => Float(text.parse().map_err(|_| format!("{} is not a number", quoted(text)))?),
        ("float", [one @ (Int(_) | Float(_))]) => one.number().map_or(Value::Nil, Float),
        ("string", [one]) => Text(as_text(one)?),
        ("abs", [Int(value)]) => Int(value.checked_abs().ok_or("the number is larger than 2^63")?),
        ("abs", [Float(value)]) => Float(value.abs()),
        ("lower", [Text(text)]) => Text(text.to_lowercase()),
        ("upper", [Text(text)]) => Text(text.to_uppercase()),
        ("trim", [Text(text)]) => Text(text.trim().to_owned()),
        ("trim", [Text(text), Text(cut)]) => Text(text.trim_matches(|c| cut.contains(c)).to_owned()),
        ("trimPrefix", [Text(text), Text(prefix)]) => Text(text.strip_prefix(prefix.as_str()).unwrap_or(text).to_owned()),
        ("trimSuffix", [Text(text), Text(suffix)]) => Text(text.strip_suffix(suffix.as_str()).unwrap_or(text).to_owned()),
        ("hasPrefix", [Text(text), Text(prefix)]) => Bool(text.starts_with(prefix.as_str())),
        ("hasSuffix", [Text(text), Text(suffix)]) => Bool(text.ends_with(suffix.as_str())),
        ("split", [Text(text), Text(between)]) if between.is_empty() => {
            List(parts(text.split("").filter(|part| !part.is_empty()))?)
        }
        ("split", [Text(text), Text(between)]) => List(parts(text.split(between.as_str()))?),
        ("join", [List(elements)]) => Text(join(elements, "")?),
        ("join", [List(elements), Text(between)]) => Text(join(elements, between)?),
        ("replace", [Text(text), Text(from), Text(to)]) => {
            let growth = text.matches(from.as_str()).count().saturating_mul(to.len());
            Text(bounded(text.len().saturating_add(growth), || text.replace(from.as_str(), to))?)
        }
        _ => {
            let given = arguments.iter().map(Value::describe).collect::<Vec<_>>().join(", ");
            return Err(format!("{name}() can not take ({given})"));
        }
    })
}

fn parts<'v, 't>(parts: impl Iterator<Item = &'t str>) -> Result<Vec<Value<'v>>, String> {
    let parts: Vec<_> = parts.take(MAX_PARTS + 1).map(|part| Value::Text(part.to_owned())).collect();
    if parts.len() > MAX_PARTS { Err(format!("split() makes more than {MAX_PARTS} parts")) } else { Ok(parts) }
}

fn bounded(len: usize, make: impl FnOnce() -> String) -> Result<String, String> {
    if len > MAX_TEXT_BYTES { Err(TOO_LONG.into()) } else { Ok(make()) }
}

fn join(elements: &[Value<'_>], between: &str) -> Result<String, String> {
    let texts = elements.iter().map(as_text).collect::<Result<Vec<_>, _>>()?;
    let len = texts.iter().fold(0usize, |len, text| len.saturating_add(text.len() + between.len()));
    bounded(len, || texts.join(between))
}

fn as_text(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::Nil => "<nil>".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        other => return Err(format!("{} can not be made text", other.describe())),
    })
}

/// Compiles a regular expression, with bounded memory; matching takes time in proportion to the text.
pub(super) fn pattern(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build();
    built.map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{} is no regular expression: {last}", quoted(pattern))
    })
}
