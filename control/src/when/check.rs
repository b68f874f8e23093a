//! What kind of value each part of a condition is, before there are values: finds unknown names and operands that do not fit.

use std::fmt;

use super::parser::{Expr, Node};
use super::{Scope, WhenError, functions};
use crate::text::{hint, quoted};

/// The fields of `job` and `step`.
pub(super) const JOB: &[&str] = &["name", "description"];
pub(super) const STEP: &[&str] = &["name", "uses"];

/// A kind of value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    /// It shows only with the values.
    Any,
    Nil,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Type>),
    Range,
    /// From text to text.
    Map,
    Object(&'static [&'static str]),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any value",
            Self::Nil => "nil",
            Self::Bool => "a bool",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Range => "a range",
            Self::Map => "a map",
            Self::Object(_) => "an object",
        })
    }
}

impl Type {
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Any)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        *self == Self::Any || self == other
    }

    /// Whether values of both can be compared for equality.
    fn compares(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Nil, _) | (_, Self::Any | Self::Nil) => true,
            (Self::List(a), Self::List(b)) => a.compares(b),
            (a, b) => a == b || (a.is_number() && b.is_number()),
        }
    }

    /// The kind of what may be one or the other.
    fn or(self, other: &Self) -> Self {
        if self == *other { self } else { Self::Any }
    }
}

fn fail<T>(expr: &Expr, message: impl Into<String>) -> Result<T, WhenError> {
    Err(WhenError { column: expr.column, message: message.into() })
}

/// The kind of value that `expr` is.
pub(super) fn check(expr: &Expr, scope: &Scope<'_>) -> Result<Type, WhenError> {
    match &expr.node {
        Node::Nil => Ok(Type::Nil),
        Node::Bool(_) => Ok(Type::Bool),
        Node::Int(_) => Ok(Type::Int),
        Node::Float(_) => Ok(Type::Float),
        Node::Text(_) => Ok(Type::Text),
        Node::List(elements) => {
            let mut kinds = elements.iter().map(|element| check(element, scope)).collect::<Result<Vec<_>, _>>()?.into_iter();
            let first = kinds.next().unwrap_or(Type::Any);
            Ok(Type::List(Box::new(kinds.fold(first, |all, next| all.or(&next)))))
        }
        Node::Name(name) => self::name(expr, name, scope),
        Node::Unary(operator, inner) => unary(expr, operator, check(inner, scope)?),
        Node::Binary(operator, left, right) => binary(expr, operator, (left, right), (check(left, scope)?, check(right, scope)?)),
        Node::Member(inner, field) => member(expr, check(inner, scope)?, field),
        Node::Index(inner, index) => match (check(inner, scope)?, check(index, scope)?, &index.node) {
            (Type::List(element), index, _) if index.is(&Type::Int) => Ok(*element),
            (Type::Map, index, _) if index.is(&Type::Text) => Ok(Type::Text),
            (Type::Any, ..) => Ok(Type::Any),
            (object @ Type::Object(_), _, Node::Text(field)) => member(expr, object, field),
            (inner, index, _) => fail(expr, format!("{inner} can not be indexed by {index}")),
        },
        Node::Call(name, arguments) => {
            let kinds = arguments.iter().map(|argument| check(argument, scope)).collect::<Result<Vec<_>, _>>()?;
            functions::result(name, &kinds).or_else(|message| fail(expr, message))
        }
        Node::Choice(condition, then, otherwise) => match check(condition, scope)? {
            Type::Bool | Type::Any => Ok(check(then, scope)?.or(&check(otherwise, scope)?)),
            other => fail(expr, format!("before '?' stands a bool, not {other}")),
        },
    }
}

fn name(expr: &Expr, name: &str, scope: &Scope<'_>) -> Result<Type, WhenError> {
    match name {
        "env" | "variables" => Ok(Type::Map),
        "job" => Ok(Type::Object(JOB)),
        "step" if scope.step => Ok(Type::Object(STEP)),
        "step" => fail(expr, "a job's condition can not name 'step'"),
        "branch" | "event" => Ok(Type::Text),
        _ if scope.variables.contains(name) => Ok(Type::Text),
        "success" | "failure" | "always" => fail(expr, format!("{name} is a function; write {name}()")),
        _ => {
            let mut known: Vec<_> = scope.variables.iter().map(String::as_str).chain(["branch", "env", "event", "job"]).collect();
            known.sort_unstable();
            fail(
                expr,
                format!("the name {} is unknown; declare it in the pipeline's variables{}", quoted(name), hint(name, known)),
            )
        }
    }
}

fn member(expr: &Expr, inner: Type, field: &str) -> Result<Type, WhenError> {
    match inner {
        Type::Map => Ok(Type::Text),
        Type::Any => Ok(Type::Any),
        Type::Object(fields) if fields.contains(&field) => Ok(Type::Text),
        Type::Object(fields) => {
            fail(expr, format!("the name {} is unknown here{}", quoted(field), hint(field, fields.iter().copied())))
        }
        other => fail(expr, format!("{other} has nothing named {}", quoted(field))),
    }
}

fn unary(expr: &Expr, operator: &str, inner: Type) -> Result<Type, WhenError> {
    match operator {
        "not" if inner.is(&Type::Bool) => Ok(Type::Bool),
        "-" | "+" if inner.is_number() => Ok(inner),
        "not" => fail(expr, format!("'not' takes a bool, not {inner}; it binds strongly: write not (a == b), or a not in b")),
        _ => fail(expr, format!("'{operator}' takes a number, not {inner}")),
    }
}

fn binary(expr: &Expr, operator: &str, (_, right_expr): (&Expr, &Expr), (left, right): (Type, Type)) -> Result<Type, WhenError> {
    let both = |kind: Type| left.is(&kind) && right.is(&kind);
    let numbers = left.is_number() && right.is_number();
    let fits = match operator {
        "and" | "or" => both(Type::Bool),
        "==" | "!=" => left.compares(&right),
        "<" | "<=" | ">" | ">=" => numbers || both(Type::Text),
        "contains" | "startsWith" | "endsWith" | "matches" => both(Type::Text),
        "in" => match &right {
            Type::List(element) => left.compares(element),
            Type::Map | Type::Object(_) => left.is(&Type::Text),
            Type::Range => left.is_number(),
            other => *other == Type::Any,
        },
        "+" => numbers || both(Type::Text),
        "-" | "*" | "/" | "**" => numbers,
        "%" | ".." => both(Type::Int),
        _ => true,
    };
    if !fits {
        let help = match (&left, &right) {
            (Type::Text, Type::Int) | (Type::Int, Type::Text) => {
                "; variables are text: compare with text in quotes, or use int(…)"
            }
            _ => "",
        };
        return fail(expr, format!("'{operator}' does not fit {left} and {right}{help}"));
    }
    if let ("matches", Node::Text(pattern)) = (operator, &right_expr.node) {
        functions::pattern(pattern).or_else(|message| fail(right_expr, message))?;
    }
    Ok(match operator {
        "+" if both(Type::Int) || both(Type::Text) || both(Type::Float) => left.or(&right),
        "-" | "*" if both(Type::Int) => left.or(&right),
        "+" if left == Type::Any || right == Type::Any => Type::Any,
        "+" | "-" | "*" | "/" | "**" => Type::Float,
        "%" => Type::Int,
        ".." => Type::Range,
        "??" if left == Type::Nil => right,
        "??" => left.or(&right),
        _ => Type::Bool,
    })
}
