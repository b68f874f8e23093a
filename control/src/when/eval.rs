//! The value of a condition.

use super::parser::{Expr, Node};
use super::value::Value;
use super::{MAX_TEXT_BYTES, Values, WhenError, functions};

fn fail<T>(expr: &Expr, message: impl Into<String>) -> Result<T, WhenError> {
    Err(WhenError { column: expr.column, message: message.into() })
}

/// The value of `expr`. It was checked, so that most of what could not fit is gone; what is left is an error here.
pub(super) fn eval<'v>(expr: &Expr, values: &Values<'v>) -> Result<Value<'v>, WhenError> {
    match &expr.node {
        Node::Nil => Ok(Value::Nil),
        Node::Bool(value) => Ok(Value::Bool(*value)),
        Node::Int(value) => Ok(Value::Int(*value)),
        Node::Float(value) => Ok(Value::Float(*value)),
        Node::Text(text) => Ok(Value::Text(text.clone())),
        Node::List(elements) => Ok(Value::List(elements.iter().map(|element| eval(element, values)).collect::<Result<_, _>>()?)),
        Node::Name(name) => self::name(expr, name, values),
        Node::Unary(operator, inner) => match (*operator, eval(inner, values)?) {
            ("not", Value::Bool(value)) => Ok(Value::Bool(!value)),
            ("-", Value::Int(value)) => value.checked_neg().map(Value::Int).map_or_else(|| fail(expr, TOO_LARGE), Ok),
            ("-", Value::Float(value)) => Ok(Value::Float(-value)),
            ("+", value @ (Value::Int(_) | Value::Float(_))) => Ok(value),
            (operator, value) => fail(expr, format!("'{operator}' does not fit {}", value.describe())),
        },
        Node::Binary(operator @ ("and" | "or"), left, right) => match eval(left, values)? {
            Value::Bool(left) if left == (*operator == "or") => Ok(Value::Bool(left)),
            Value::Bool(_) => match eval(right, values)? {
                value @ Value::Bool(_) => Ok(value),
                other => fail(expr, format!("'{operator}' takes bools, not {}", other.describe())),
            },
            other => fail(expr, format!("'{operator}' takes bools, not {}", other.describe())),
        },
        Node::Binary("??", left, right) => match eval(left, values)? {
            Value::Nil => eval(right, values),
            value => Ok(value),
        },
        Node::Binary(operator, left, right) => {
            let (left, right) = (eval(left, values)?, eval(right, values)?);
            binary(operator, left, right).or_else(|message| fail(expr, message))
        }
        Node::Member(inner, field) => index(expr, eval(inner, values)?, Value::Text(field.clone())),
        Node::Index(inner, position) => index(expr, eval(inner, values)?, eval(position, values)?),
        Node::Call(name, arguments) => {
            let arguments = arguments.iter().map(|argument| eval(argument, values)).collect::<Result<Vec<_>, _>>()?;
            functions::call(name, &arguments, values.failed).or_else(|message| fail(expr, message))
        }
        Node::Choice(condition, then, otherwise) => match eval(condition, values)? {
            Value::Bool(true) => eval(then, values),
            Value::Bool(false) => eval(otherwise, values),
            other => fail(expr, format!("before '?' stands a bool, not {}", other.describe())),
        },
    }
}

const TOO_LARGE: &str = "the number is larger than 2^63";

fn name<'v>(expr: &Expr, name: &str, values: &Values<'v>) -> Result<Value<'v>, WhenError> {
    let text = |text: &str| Ok(Value::Text(text.to_owned()));
    match (name, values.step) {
        ("env" | "variables", _) => Ok(Value::Map(values.variables)),
        ("job", _) => Ok(Value::Object(vec![("name", values.job.0), ("description", values.job.1)])),
        ("step", Some((name, uses))) => Ok(Value::Object(vec![("name", name), ("uses", uses)])),
        _ => match (values.variables.get(name), name) {
            (Some(value), _) => variable(expr, value),
            (None, "branch") => text(values.branch),
            (None, "event") => text(values.event),
            (None, _) => fail(expr, format!("the variable {} has no value", crate::text::quoted(name))),
        },
    }
}

fn variable<'v>(expr: &Expr, value: &str) -> Result<Value<'v>, WhenError> {
    if value.len() > MAX_TEXT_BYTES {
        return fail(expr, format!("the variable has {} bytes; a condition takes at most {MAX_TEXT_BYTES}", value.len()));
    }
    Ok(Value::Text(value.to_owned()))
}

fn index<'v>(expr: &Expr, inner: Value<'v>, index: Value<'v>) -> Result<Value<'v>, WhenError> {
    match (inner, index) {
        (Value::Map(map), Value::Text(name)) => variable(expr, map.get(&name).map_or("", String::as_str)),
        (Value::Object(fields), Value::Text(name)) => {
            let field = fields.into_iter().find(|(field, _)| *field == name);
            Ok(field.map_or(Value::Nil, |(_, value)| Value::Text(value.to_owned())))
        }
        (Value::List(mut elements), Value::Int(index)) => {
            // From the end, if negative.
            let at = if index < 0 { index + elements.len() as i64 } else { index };
            match usize::try_from(at).ok().filter(|at| *at < elements.len()) {
                Some(at) => Ok(elements.swap_remove(at)),
                None => fail(expr, format!("the list has {} elements, but element {index} is asked for", elements.len())),
            }
        }
        (inner, index) => fail(expr, format!("{} can not be indexed by {}", inner.describe(), index.describe())),
    }
}

fn binary<'v>(operator: &str, left: Value<'v>, right: Value<'v>) -> Result<Value<'v>, String> {
    let bool = |value: bool| Ok(Value::Bool(value));
    let kinds = (left.describe(), right.describe());
    match (operator, left, right) {
        ("==", left, right) => bool(left.equals(&right)),
        ("!=", left, right) => bool(!left.equals(&right)),
        ("in", left, Value::List(elements)) => bool(elements.iter().any(|element| element.equals(&left))),
        ("in", Value::Text(name), Value::Map(map)) => bool(map.contains_key(&name)),
        ("in", Value::Text(name), Value::Object(fields)) => bool(fields.iter().any(|(field, _)| *field == name)),
        ("in", left, Value::Range(first, last)) if left.number().is_some() => {
            bool(left.number().is_some_and(|value| value.fract() == 0.0 && first as f64 <= value && value <= last as f64))
        }
        ("..", Value::Int(first), Value::Int(last)) => Ok(Value::Range(first, last)),
        (operator, Value::Text(left), Value::Text(right)) => texts(operator, left, &right, kinds),
        (operator, Value::Int(left), Value::Int(right)) if !matches!(operator, "/" | "**") => whole(operator, left, right, kinds),
        (operator, left, right) => match (left.number(), right.number()) {
            (Some(left), Some(right)) => floats(operator, left, right, kinds),
            _ => misfit(operator, kinds),
        },
    }
}

fn misfit<'v>(operator: &str, (left, right): (&str, &str)) -> Result<Value<'v>, String> {
    Err(format!("'{operator}' does not fit {left} and {right}"))
}

fn texts<'v>(operator: &str, left: String, right: &str, kinds: (&str, &str)) -> Result<Value<'v>, String> {
    Ok(Value::Bool(match operator {
        "<" => left.as_str() < right,
        "<=" => left.as_str() <= right,
        ">" => left.as_str() > right,
        ">=" => left.as_str() >= right,
        "contains" => left.contains(right),
        "startsWith" => left.starts_with(right),
        "endsWith" => left.ends_with(right),
        "matches" => functions::pattern(right)?.is_match(&left),
        "+" if left.len() + right.len() <= MAX_TEXT_BYTES => return Ok(Value::Text(left + right)),
        "+" => return Err(functions::TOO_LONG.into()),
        _ => return misfit(operator, kinds),
    }))
}

fn whole<'v>(operator: &str, left: i64, right: i64, kinds: (&str, &str)) -> Result<Value<'v>, String> {
    let value = match operator {
        "<" => return Ok(Value::Bool(left < right)),
        "<=" => return Ok(Value::Bool(left <= right)),
        ">" => return Ok(Value::Bool(left > right)),
        ">=" => return Ok(Value::Bool(left >= right)),
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "%" if right == 0 => return Err("division by zero".into()),
        "%" => left.checked_rem(right),
        _ => return misfit(operator, kinds),
    };
    value.map(Value::Int).ok_or_else(|| TOO_LARGE.into())
}

fn floats<'v>(operator: &str, left: f64, right: f64, kinds: (&str, &str)) -> Result<Value<'v>, String> {
    Ok(match operator {
        "<" => Value::Bool(left < right),
        "<=" => Value::Bool(left <= right),
        ">" => Value::Bool(left > right),
        ">=" => Value::Bool(left >= right),
        "+" => Value::Float(left + right),
        "-" => Value::Float(left - right),
        "*" => Value::Float(left * right),
        "/" => Value::Float(left / right),
        "**" => Value::Float(left.powf(right)),
        _ => return misfit(operator, kinds),
    })
}
