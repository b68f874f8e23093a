//! Conditions of jobs and steps: the part of the [expr language](https://expr-lang.org) that conditions need.
//!
//! A condition is compiled when a definition is checked and again when a run begins. An unknown name, operands that do not fit
//! and a result that is not a bool are errors then; what only shows with the values (`int("x")`) is an error of the job or step.
//! An empty condition is `success()`.
//!
//! **Names**
//!
//! | name | value |
//! |---|---|
//! | `NAME` | the variable of the pipeline, or of the run's trigger; always text |
//! | `env`, `variables` | all of them: `env.NAME`, `env["a-b"]`, `"NAME" in env`; a missing one is `""` |
//! | `job.name`, `job.description` | of this job |
//! | `step.name`, `step.uses` | of this step; not in a job's condition |
//! | `branch` | the branch that the run is for, or `""` |
//! | `event` | what began the run: `manual`, `cron`, or the kind of event, as `push` |
//! | `success()` | no job that this one depends on, or no earlier step of this job, ended badly |
//! | `failure()` | one of them did |
//! | `always()` | true |
//!
//! A variable named `branch` or `event` takes the place of that name. A condition that names none of the three functions holds
//! only if `success()` holds too.
//!
//! **Operators**, those that bind weaker first: `|` (`x | lower()`), `? :`, `or` `||`, `and` `&&`, comparisons (`==` `!=` `<` `<=`
//! `>` `>=` `in` `contains` `startsWith` `endsWith` `matches`, the words also with `not` before them), `..`, `+` `-`, `not` `!`,
//! `*` `/` `%`, signs, `**` `^`, `??`. `/` and `**` give floats. `matches` takes a regular expression of the crate `regex`.
//!
//! **Functions**: `len`, `int`, `float`, `string`, `abs`, `lower`, `upper`, `trim`, `trimPrefix`, `trimSuffix`, `hasPrefix`,
//! `hasSuffix`, `split`, `join`, `replace`.
//!
//! Not there: closures (`any(…, {# > 1})`), `let`, slices, map literals, chains of comparisons (`1 < a < 3`).

mod check;
mod eval;
mod functions;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{HashMap, HashSet};

use self::check::Type;
use self::parser::{Expr, Node};

/// The longest condition, in bytes.
pub const MAX_BYTES: usize = 4096;
/// The most words and signs in a condition: what bounds the depth of its tree.
const MAX_TOKENS: usize = 400;
/// The longest text that a condition may compute or take from a variable, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// The most parts that `split` makes.
const MAX_PARTS: usize = 1000;

/// Why a condition is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at column {column} of the condition)")]
pub struct WhenError {
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// What a condition may name.
#[derive(Debug, Clone)]
pub struct Scope<'s> {
    /// The names of the variables.
    pub variables: &'s HashSet<String>,
    /// Whether it is a step's condition and may name `step`.
    pub step: bool,
}

/// The values of the names.
#[derive(Debug, Clone, Copy)]
pub struct Values<'v> {
    /// The run's variables.
    pub variables: &'v HashMap<String, String>,
    /// The run's branch.
    pub branch: &'v str,
    /// What began the run.
    pub event: &'v str,
    /// The job's name and description.
    pub job: (&'v str, &'v str),
    /// The step's name and plugin, in a step's condition.
    pub step: Option<(&'v str, &'v str)>,
    /// Whether what came before ended badly.
    pub failed: bool,
}

/// A condition that was compiled.
#[derive(Debug, Clone, Default)]
pub struct When {
    /// Absent: `success()`.
    expr: Option<Expr>,
    names_status: bool,
}

impl When {
    /// Compiles a condition.
    ///
    /// # Errors
    /// The first mistake: of syntax, an unknown name, operands that do not fit, a result that is not a bool.
    pub fn compile(text: &str, scope: &Scope<'_>) -> Result<Self, WhenError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let (expr, names_status) = parser::parse(text)?;
        match check::check(&expr, scope)? {
            Type::Bool | Type::Any => Ok(Self { expr: Some(expr), names_status }),
            other => {
                let message = format!("the condition must be true or false, but it is {other}");
                Err(WhenError { column: 1, message })
            }
        }
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why these values can not be computed with.
    pub fn holds(&self, values: &Values<'_>) -> Result<bool, WhenError> {
        let Some(expr) = &self.expr else { return Ok(!values.failed) };
        if values.failed && !self.names_status {
            return Ok(false);
        }
        match eval::eval(expr, values)? {
            value::Value::Bool(holds) => Ok(holds),
            other => Err(WhenError {
                column: 1,
                message: format!("the condition must be true or false, but it is {}", other.describe()),
            }),
        }
    }

    /// Whether no values make it hold, as far as its text alone tells. `may_fail` says whether something comes before that can
    /// end badly.
    #[must_use]
    pub fn never_holds(&self, may_fail: bool) -> bool {
        let Some(expr) = &self.expr else { return false };
        let with = |failed| constant(expr, failed) == Some(false);
        with(false) && (!may_fail || !self.names_status || with(true))
    }
}

/// The value of what does not depend on values.
fn constant(expr: &Expr, failed: bool) -> Option<bool> {
    match &expr.node {
        Node::Bool(value) => Some(*value),
        Node::Call(name, _) => match name.as_str() {
            "success" => Some(!failed),
            "failure" => Some(failed),
            "always" => Some(true),
            _ => None,
        },
        Node::Unary("not", inner) => constant(inner, failed).map(|value| !value),
        Node::Binary(operator @ ("and" | "or"), left, right) => {
            let decides = *operator == "or";
            match (constant(left, failed), constant(right, failed)) {
                (Some(left), Some(right)) if left != decides && right != decides => Some(!decides),
                (left, right) if left == Some(decides) || right == Some(decides) => Some(decides),
                _ => None,
            }
        }
        _ => None,
    }
}
