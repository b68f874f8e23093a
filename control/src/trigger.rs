//! What begins runs of a pipeline: its triggers.
//!
//! | type | options |
//! |---|---|
//! | `manual` | none; runs can always be begun by hand |
//! | `cron` | `expression`; `timezone`, else UTC |
//! | `event` | `event_type`: one of `push`, `tag`, `pull_request`, `merge_request`, `pull_merged`, `merge_request_merged`, any case; absent: each. `branch`: a name or a pattern (`release/*`); absent: each |
//!
//! A branch is compared without `refs/heads/`, and case does not count.

use arcgate_api::pipeline::v1 as pb;
use prost_types::value::Kind;

use crate::cron::Schedule;
use crate::glob::Glob;
use crate::text::{hint, quoted};

const TYPES: [&str; 3] = ["manual", "cron", "event"];
const EVENT_TYPES: [&str; 6] = ["push", "tag", "pull_request", "merge_request", "pull_merged", "merge_request_merged"];

/// A trigger that was checked.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// Somebody says so.
    Manual,
    /// A time comes.
    Cron(Box<Schedule>),
    /// Something happened to the code.
    Event(EventFilter),
}

/// Which events fire a trigger.
#[derive(Debug, Clone)]
pub struct EventFilter {
    event_type: Option<String>,
    branch: Option<Glob>,
}

impl Trigger {
    /// Checks a trigger of a definition.
    ///
    /// # Errors
    /// What is wrong, all of it; each with the option that it is about, or `type`.
    pub fn new(trigger: &pb::Trigger) -> Result<Self, Vec<(String, String)>> {
        let known: &[&str] = match trigger.r#type.as_str() {
            "manual" => &[],
            "cron" => &["expression", "timezone"],
            "event" => &["event_type", "branch"],
            other => return Err(vec![("type".into(), format!("{} is no type of trigger{}", quoted(other), hint(other, TYPES)))]),
        };
        let mut options = Options { values: [None; 2], wrong: Vec::new() };
        options.read(trigger, known);
        let [first, second] = options.values;
        let mut wrong = options.wrong;
        let built = match trigger.r#type.as_str() {
            "cron" => match first {
                None => Err(("expression".into(), "expression is required".into())),
                Some(expression) => Schedule::parse(expression, second.unwrap_or_default())
                    .map(|schedule| Self::Cron(Box::new(schedule)))
                    .map_err(|error| ("expression".into(), error.to_string())),
            },
            "event" => EventFilter::new(first, second).map(Self::Event),
            _ => Ok(Self::Manual),
        };
        match built {
            Ok(trigger) if wrong.is_empty() => Ok(trigger),
            Ok(_) => Err(wrong),
            Err(error) => {
                // A value of the wrong type is told already.
                if !wrong.iter().any(|(option, _)| *option == error.0) {
                    wrong.push(error);
                }
                Err(wrong)
            }
        }
    }
}

struct Options<'t> {
    values: [Option<&'t str>; 2],
    wrong: Vec<(String, String)>,
}

impl<'t> Options<'t> {
    /// Takes the values of the `known` options, in their order.
    fn read(&mut self, trigger: &'t pb::Trigger, known: &[&str]) {
        for (name, value) in trigger.options.iter().flat_map(|options| &options.fields) {
            let is = |known: &&str| known.replace('_', "").eq_ignore_ascii_case(&name.replace('_', ""));
            match (known.iter().position(is), &value.kind) {
                (None, _) => {
                    let message = format!(
                        "{} is no option of the type {}{}",
                        quoted(name),
                        trigger.r#type,
                        hint(name, known.iter().copied())
                    );
                    self.wrong.push((name.clone(), message));
                }
                (Some(_), None | Some(Kind::NullValue(_))) => {}
                (Some(at), Some(Kind::StringValue(text))) => {
                    self.values[at] = Some(text.as_str()).filter(|text| !text.is_empty());
                }
                (Some(at), Some(_)) => self.wrong.push((known[at].to_owned(), format!("{name} must be text"))),
            }
        }
    }
}

impl EventFilter {
    fn new(event_type: Option<&str>, branch: Option<&str>) -> Result<Self, (String, String)> {
        if let Some(unknown) = event_type.filter(|event| !EVENT_TYPES.iter().any(|known| known.eq_ignore_ascii_case(event))) {
            return Err(("event_type".into(), format!("{} is no type of event{}", quoted(unknown), hint(unknown, EVENT_TYPES))));
        }
        let branch = branch.map(|branch| Glob::parse(strip(branch))).transpose();
        let branch = branch.map_err(|why| ("branch".to_owned(), format!("the pattern for branches is wrong: {why}")))?;
        Ok(Self { event_type: event_type.map(str::to_owned), branch })
    }

    /// Whether an event of type `event_type` about `reference` (a branch, or `refs/heads/…`) fires the trigger.
    #[must_use]
    pub fn fires(&self, event_type: &str, reference: &str) -> bool {
        self.event_type.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(event_type))
            && self.branch.as_ref().is_none_or(|branch| branch.matches(strip(reference)))
    }
}

fn strip(reference: &str) -> &str {
    reference.strip_prefix("refs/heads/").unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(r#type: &str, options: &[(&str, &str)]) -> pb::Trigger {
        let value = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.into())) };
        let fields = options.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        pb::Trigger { r#type: r#type.into(), options: Some(prost_types::Struct { fields }) }
    }

    #[test]
    fn events_fire_what_their_type_and_branch_match() {
        let fires =
            |options: &[(&str, &str)], event: &str, reference: &str| match Trigger::new(&trigger("event", options)).unwrap() {
                Trigger::Event(filter) => filter.fires(event, reference),
                other => panic!("{other:?}"),
            };
        assert!(fires(&[], "tag", "refs/tags/v1"));
        assert!(fires(&[("event_type", "Push"), ("branch", "release/*")], "PUSH", "refs/heads/release/1"));
        assert!(fires(&[("eventType", "push"), ("branch", "Main")], "push", "main"));
        assert!(!fires(&[("event_type", "push")], "tag", "main"));
        assert!(!fires(&[("branch", "release/*")], "push", "refs/heads/main"));
    }

    #[test]
    fn mistakes_name_the_option() {
        for (trigger, option, message) in [
            (trigger("Cron", &[]), "type", "'Cron' is no type of trigger; did you mean cron?"),
            (trigger("", &[]), "type", "'' is no type of trigger; known: manual, cron, event"),
            (trigger("cron", &[]), "expression", "expression is required"),
            (
                trigger("cron", &[("expression", "0 0 30 2 *")]),
                "expression",
                "the cron expression '0 0 30 2 *' never fires: there is no such time",
            ),
            (trigger("event", &[("brnach", "main")]), "brnach", "'brnach' is no option of the type event; did you mean branch?"),
            (trigger("event", &[("event_type", "pushed")]), "event_type", "'pushed' is no type of event; did you mean push?"),
            (trigger("event", &[("branch", "[")]), "branch", "the pattern for branches is wrong: a '[' has no ']'"),
        ] {
            assert_eq!(Trigger::new(&trigger).unwrap_err(), [(option.to_owned(), message.to_owned())]);
        }
        let mut number = trigger("cron", &[]);
        let fields = &mut number.options.as_mut().unwrap().fields;
        fields.insert("expression".into(), prost_types::Value { kind: Some(Kind::NumberValue(1.0)) });
        assert_eq!(Trigger::new(&number).unwrap_err(), [("expression".to_owned(), "expression must be text".to_owned())]);
    }
}
