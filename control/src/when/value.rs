//! Values that a condition computes with.

use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'v> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value<'v>>),
    /// Both ends included.
    Range(i64, i64),
    Map(&'v HashMap<String, String>),
    /// `job` or `step`.
    Object(Vec<(&'static str, &'v str)>),
}

impl Value<'_> {
    /// What it is, for a message.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Range(..) => "a range",
            Self::Map(_) => "a map",
            Self::Object(_) => "an object",
        }
    }

    /// The number that it is.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Equality of the language: whole numbers and floats are equal if their values are.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Int(_) | Self::Float(_), Self::Int(_) | Self::Float(_)) => self.number() == other.number(),
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (a, b) => a == b,
        }
    }
}
