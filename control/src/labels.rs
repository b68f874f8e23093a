//! Which agents may execute a step: label selectors.
//!
//! A selector holds for an agent if all its labels are equal and all its expressions hold:
//!
//! | operator | holds if |
//! |---|---|
//! | `In` | the agent has the label, with one of the values |
//! | `NotIn` | it has another value, or not the label |
//! | `Exists` | it has the label, whatever its value |
//! | `NotExists` | it does not have the label |
//! | `Gt`, `Lt` | its value and the selector's one value are numbers, and the agent's is greater, or less |
//!
//! An agent without any label is matched by an empty selector only.

use std::collections::{BTreeMap, HashMap};

use arcgate_api::pipeline::v1 as pb;

use crate::text::{hint, quoted};

const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "NotExists", "Gt", "Lt"];

/// A selector that was checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selector {
    equal: BTreeMap<String, String>,
    conditions: Vec<(String, Condition)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    NotExists,
    Gt(f64),
    Lt(f64),
}

impl Selector {
    /// Checks a selector of a definition.
    ///
    /// # Errors
    /// What is wrong, all of it; each with the index of the expression that it is about.
    pub fn new(selector: &pb::AgentSelector) -> Result<Self, Vec<(Option<usize>, String)>> {
        let mut wrong = Vec::new();
        if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
            wrong.push((None, "agent_selector must have match_labels or match_expressions".into()));
        }
        if selector.match_labels.contains_key("") {
            wrong.push((None, "agent_selector.match_labels: a label's name is empty".into()));
        }
        let mut conditions = Vec::new();
        for (index, expression) in selector.match_expressions.iter().enumerate() {
            match condition(expression) {
                Ok(condition) => conditions.push((expression.key.clone(), condition)),
                Err(message) => wrong.push((Some(index), format!("agent_selector.match_expressions[{index}]: {message}"))),
            }
        }
        let equal = selector.match_labels.clone().into_iter().collect();
        if wrong.is_empty() { Ok(Self { equal, conditions }) } else { Err(wrong) }
    }

    /// Whether it holds for an agent with these labels.
    #[must_use]
    pub fn matches(&self, labels: &HashMap<String, String>) -> bool {
        if labels.is_empty() {
            return self.equal.is_empty() && self.conditions.is_empty();
        }
        self.equal.iter().all(|(name, value)| labels.get(name) == Some(value))
            && self.conditions.iter().all(|(name, condition)| condition.holds(labels.get(name).map(String::as_str)))
    }
}

impl Condition {
    fn holds(&self, value: Option<&str>) -> bool {
        let is = |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
        match self {
            Self::In(values) => is(values),
            Self::NotIn(values) => !is(values),
            Self::Exists => value.is_some(),
            Self::NotExists => value.is_none(),
            Self::Gt(bound) => value.and_then(number).is_some_and(|value| value > *bound),
            Self::Lt(bound) => value.and_then(number).is_some_and(|value| value < *bound),
        }
    }
}

fn condition(expression: &pb::LabelExpression) -> Result<Condition, String> {
    let pb::LabelExpression { key, operator, values } = expression;
    if key.is_empty() {
        return Err("key is required".into());
    }
    match (operator.as_str(), values.as_slice()) {
        ("In" | "NotIn" | "Gt" | "Lt", []) => Err(format!("values are required for the operator {operator}")),
        ("In", values) => Ok(Condition::In(values.to_vec())),
        ("NotIn", values) => Ok(Condition::NotIn(values.to_vec())),
        ("Gt" | "Lt", [value]) => {
            let bound =
                number(value).ok_or_else(|| format!("the operator {operator} compares numbers; {} is none", quoted(value)))?;
            Ok(if operator == "Gt" { Condition::Gt(bound) } else { Condition::Lt(bound) })
        }
        ("Gt" | "Lt", values) => Err(format!("the operator {operator} takes one value, not {}", values.len())),
        ("Exists", []) => Ok(Condition::Exists),
        ("NotExists", []) => Ok(Condition::NotExists),
        ("Exists" | "NotExists", _) => Err(format!("the operator {operator} takes no values")),
        _ => Err(format!("{} is no operator{}", quoted(operator), hint(operator, OPERATORS))),
    }
}

/// A decimal number; not the words for infinity and not-a-number that Rust would take too.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> pb::LabelExpression {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        pb::LabelExpression { key: key.into(), operator: operator.into(), values }
    }

    fn labels(labels: &[(&str, &str)]) -> HashMap<String, String> {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn holds(operator: &str, values: &[&str], agent: &[(&str, &str)]) -> bool {
        let selector = pb::AgentSelector { match_expressions: vec![expression("x", operator, values)], ..Default::default() };
        Selector::new(&selector).unwrap().matches(&labels(agent))
    }

    #[test]
    fn each_operator_holds_as_the_table_says() {
        let (other, a, b) = ([("y", "1")], [("x", "a")], [("x", "b")]);
        for (operator, values, expected) in [
            ("In", ["a"].as_slice(), [false, true, false]),
            ("In", &["a", "b"], [false, true, true]),
            ("NotIn", &["a"], [true, false, true]),
            ("Exists", &[], [false, true, true]),
            ("NotExists", &[], [true, false, false]),
            ("Gt", &["1"], [false, false, false]),
            ("Lt", &["1"], [false, false, false]),
        ] {
            assert_eq!([&other, &a, &b].map(|agent| holds(operator, values, agent)), expected, "{operator} {values:?}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        for (agent, bound, greater, less) in [
            ("10", "9", true, false),
            ("9", "10", false, true),
            ("4", "4.0", false, false),
            ("-1.5", "-1", false, true),
            ("nan", "1", false, false),
        ] {
            assert_eq!(holds("Gt", &[bound], &[("x", agent)]), greater, "{agent} > {bound}");
            assert_eq!(holds("Lt", &[bound], &[("x", agent)]), less, "{agent} < {bound}");
        }
    }

    #[test]
    fn all_parts_of_a_selector_must_hold() {
        let selector = pb::AgentSelector {
            match_labels: labels(&[("os", "linux"), ("arch", "amd64")]),
            match_expressions: vec![expression("cpus", "Gt", &["4"]), expression("gpu", "NotExists", &[])],
        };
        let selector = Selector::new(&selector).unwrap();
        let good = labels(&[("os", "linux"), ("arch", "amd64"), ("cpus", "8")]);
        assert!(selector.matches(&good));
        for (name, value) in [("os", "windows"), ("cpus", "4"), ("gpu", "yes")] {
            let mut agent = good.clone();
            agent.insert(name.into(), value.into());
            assert!(!selector.matches(&agent), "{name}={value}");
        }
    }

    #[test]
    fn an_agent_without_labels_takes_only_what_selects_nothing() {
        assert!(Selector::default().matches(&labels(&[])));
        assert!(!holds("NotExists", &[], &[]));
        assert!(!holds("NotIn", &["a"], &[]));
    }

    #[test]
    fn what_is_wrong_with_a_selector_is_told_all_at_once() {
        let selector = pb::AgentSelector {
            match_labels: HashMap::new(),
            match_expressions: vec![
                expression("", "In", &["a"]),
                expression("a", "in", &["a"]),
                expression("a", "In", &[]),
                expression("a", "Exists", &["a"]),
                expression("a", "Gt", &["1", "2"]),
                expression("a", "Lt", &["x"]),
            ],
        };
        let wrong: Vec<_> = Selector::new(&selector).unwrap_err().into_iter().map(|(_, message)| message).collect();
        let at = |index: usize, message: &str| format!("agent_selector.match_expressions[{index}]: {message}");
        assert_eq!(
            wrong,
            [
                at(0, "key is required"),
                at(1, "'in' is no operator; did you mean In?"),
                at(2, "values are required for the operator In"),
                at(3, "the operator Exists takes no values"),
                at(4, "the operator Gt takes one value, not 2"),
                at(5, "the operator Lt compares numbers; 'x' is none"),
            ]
        );
        assert!(Selector::new(&pb::AgentSelector::default()).is_err());
    }
}
