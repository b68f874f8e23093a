//! Values in texts: `${{ NAME }}`, `${{ group.name }}`, and the same with one brace, `${NAME}`.
//!
//! What has no value, and what is not a name, stays as it is: a shell has variables of its own. What was filled in is not
//! looked at again. In arguments, all texts at any depth are filled in, keys are not.

use std::borrow::Cow;
use std::collections::HashMap;

use arcgate_api::pipeline::v1 as pb;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// The longest text, or all the texts of one step's arguments, after filling in, in bytes.
pub const MAX_FILLED_BYTES: usize = 4 << 20;

/// The result would be longer than [`MAX_FILLED_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the values filled in make more than {MAX_FILLED_BYTES} bytes; use shorter variables, or fewer")]
pub struct TooLong;

/// Fills in the values that `value_of` knows, by the exact name between the braces.
///
/// # Errors
/// If the text would become too long.
pub fn fill<'t>(text: &'t str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<Cow<'t, str>, TooLong> {
    Filler { value_of, left: MAX_FILLED_BYTES }.text(text)
}

/// Fills in all texts of a step's arguments.
///
/// # Errors
/// If the texts together would become too long.
pub fn fill_struct(object: &Struct, value_of: &dyn Fn(&str) -> Option<String>) -> Result<Struct, TooLong> {
    Filler { value_of, left: MAX_FILLED_BYTES }.object(object)
}

struct Filler<'v> {
    value_of: &'v dyn Fn(&str) -> Option<String>,
    left: usize,
}

impl Filler<'_> {
    fn text<'t>(&mut self, text: &'t str) -> Result<Cow<'t, str>, TooLong> {
        self.spend(text.len())?;
        let mut filled = String::new();
        let mut kept = 0;
        let mut from = 0;
        while let Some(begin) = text[from..].find("${").map(|at| at + from) {
            from = begin + 2;
            let Some((name, len)) = name(&text[begin..]) else { continue };
            let Some(value) = (self.value_of)(name) else { continue };
            self.spend(value.len())?;
            filled.push_str(&text[kept..begin]);
            filled.push_str(&value);
            from = begin + len;
            kept = from;
        }
        if kept == 0 {
            return Ok(Cow::Borrowed(text));
        }
        filled.push_str(&text[kept..]);
        Ok(Cow::Owned(filled))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TooLong> {
        self.left = self.left.checked_sub(bytes).ok_or(TooLong)?;
        Ok(())
    }

    fn object(&mut self, object: &Struct) -> Result<Struct, TooLong> {
        let fields = object.fields.iter().map(|(name, value)| Ok((name.clone(), self.value(value)?)));
        Ok(Struct { fields: fields.collect::<Result<_, _>>()? })
    }

    fn value(&mut self, value: &Value) -> Result<Value, TooLong> {
        let kind = match &value.kind {
            Some(Kind::StringValue(text)) => Some(Kind::StringValue(self.text(text)?.into_owned())),
            Some(Kind::StructValue(object)) => Some(Kind::StructValue(self.object(object)?)),
            Some(Kind::ListValue(list)) => {
                let values = list.values.iter().map(|value| self.value(value)).collect::<Result<_, _>>()?;
                Some(Kind::ListValue(prost_types::ListValue { values }))
            }
            other => other.clone(),
        };
        Ok(Value { kind })
    }
}

/// The name in a placeholder at the begin of `text`, and the placeholder's length.
fn name(text: &str) -> Option<(&str, usize)> {
    let (open, close) = if text.starts_with("${{") { ("${{", "}}") } else { ("${", "}") };
    let inside = &text[open.len()..];
    let end = inside.find('}')?;
    let name = inside[..end].trim();
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_name = name.split_once('.').map_or_else(|| is_word(name), |(group, name)| is_word(group) && is_word(name));
    (is_name && inside[end..].starts_with(close)).then_some((name, open.len() + end + close.len()))
}

/// The environment of a step: the run's variables, over them the runtime's, the job's and the step's own, each filled in with
/// the run's variables.
///
/// # Errors
/// If a value would become too long.
pub fn environment(
    variables: &HashMap<String, String>,
    spec: &pb::Spec,
    job: &pb::Job,
    step: &pb::Step,
    value_of: &dyn Fn(&str) -> Option<String>,
) -> Result<HashMap<String, String>, TooLong> {
    let mut filler = Filler { value_of, left: MAX_FILLED_BYTES };
    let mut environment = variables.clone();
    for layer in spec.runtime.iter().map(|runtime| &runtime.env).chain([&job.env, &step.env]) {
        for (name, value) in layer {
            environment.insert(name.clone(), filler.text(value)?.into_owned());
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".into()),
            "a.b" => Some("${A}".into()),
            "LONG" => Some("x".repeat(1 << 20)),
            _ => None,
        }
    }

    #[test]
    fn known_names_are_filled_in_and_all_else_stays() {
        for (text, filled) in [
            ("${{ A }}", "1"),
            ("${A}-${{A}}", "1-1"),
            ("${{ a.b }}", "${A}"),
            ("${{\tA }}", "1"),
            ("${HOME} $A ${A", "${HOME} $A ${A"),
            ("${{ A }", "${{ A }"),
            ("${{ A == '1' }}", "${{ A == '1' }}"),
            ("${{ a.b.c }}", "${{ a.b.c }}"),
            ("${${A}}", "${1}"),
            ("${}", "${}"),
            ("ü${A}ü", "ü1ü"),
        ] {
            assert_eq!(fill(text, &value_of).unwrap(), filled, "{text}");
        }
    }

    #[test]
    fn arguments_are_filled_in_at_any_depth() {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let nested = |text: Value| {
            let list = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![text] })) };
            Struct { fields: [("${A}".to_owned(), list)].into() }
        };
        assert_eq!(fill_struct(&nested(text("${A}")), &value_of), Ok(nested(text("1"))));
    }

    #[test]
    fn the_result_is_bounded() {
        assert!(fill(&"${LONG}".repeat(3), &value_of).is_ok());
        assert_eq!(fill(&"${LONG}".repeat(5), &value_of), Err(TooLong));
    }

    #[test]
    fn a_steps_own_environment_wins_over_its_jobs_and_the_pipelines() {
        let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let variables = map(&[("V", "v"), ("R", "v"), ("J", "v"), ("S", "v")]);
        let runtime = pb::Runtime { env: map(&[("R", "r"), ("J", "r"), ("S", "r")]), ..Default::default() };
        let spec = pb::Spec { runtime: Some(runtime), ..Default::default() };
        let job = pb::Job { env: map(&[("J", "j"), ("S", "j")]), ..Default::default() };
        let step = pb::Step { env: map(&[("S", "s${A}")]), ..Default::default() };
        let environment = environment(&variables, &spec, &job, &step, &value_of).unwrap();
        assert_eq!(environment, map(&[("V", "v"), ("R", "r"), ("J", "j"), ("S", "s1")]));
    }
}
