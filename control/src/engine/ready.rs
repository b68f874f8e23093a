//! The steps that wait for an agent, in the order in which they are handed out: higher priority first, then the longest wait.
//!
//! Steps with one selector wait in one class: an agent's labels are compared with each class, not with each step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use arcgate_api::pipeline::v1 as pb;

use crate::Millis;
use crate::labels::Selector;
use crate::plan::StepIndex;

/// A step that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) step_run_id: String,
    pub(super) run_id: String,
    pub(super) step: StepIndex,
}

/// Priority, time, and the order of arrival.
type Order = (Reverse<i64>, Millis, u64);

#[derive(Debug, Default)]
struct Class {
    /// Absent: nothing matches, since the selector is none. Validation lets none of those through.
    selector: Option<Selector>,
    waiting: BTreeMap<Order, Waiting>,
}

#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    /// By the selector's text.
    classes: HashMap<String, Class>,
    places: HashMap<String, (String, Order)>,
    arrivals: u64,
}

impl ReadyQueue {
    pub(super) fn contains(&self, step_run_id: &str) -> bool {
        self.places.contains_key(step_run_id)
    }

    /// Lets a step wait, if it does not yet. `selector` is [`text`]'s.
    pub(super) fn push(&mut self, waiting: Waiting, selector: &str, priority: i64, since: Millis) {
        if self.contains(&waiting.step_run_id) {
            return;
        }
        self.arrivals += 1;
        let order = (Reverse(priority), since, self.arrivals);
        self.places.insert(waiting.step_run_id.clone(), (selector.to_owned(), order));
        let class =
            self.classes.entry(selector.to_owned()).or_insert_with(|| Class { selector: read(selector), ..Class::default() });
        class.waiting.insert(order, waiting);
    }

    /// Who waits in which class since when, in no order.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<String> {
        let place = |(id, (selector, (priority, since, _))): (&String, &(String, Order))| {
            let waiting = &self.classes[selector].waiting;
            let found = waiting.values().find(|waiting| waiting.step_run_id == *id);
            format!("{id} {selector} {priority:?} {since} {found:?}")
        };
        self.places.iter().map(place).collect()
    }

    pub(super) fn remove(&mut self, step_run_id: &str) -> Option<Waiting> {
        let (selector, order) = self.places.remove(step_run_id)?;
        let class = self.classes.get_mut(&selector)?;
        let waiting = class.waiting.remove(&order);
        if class.waiting.is_empty() {
            self.classes.remove(&selector);
        }
        waiting
    }

    /// The first `most` steps that an agent with these labels may execute, without taking them out.
    pub(super) fn first(&self, labels: &HashMap<String, String>, most: usize) -> Vec<Waiting> {
        let fits = |class: &&Class| class.selector.as_ref().is_some_and(|selector| selector.matches(labels));
        let mut heads: Vec<_> = self.classes.values().filter(fits).map(|class| class.waiting.iter().peekable()).collect();
        let mut found = Vec::new();
        while found.len() < most {
            let first = heads.iter_mut().filter_map(|head| head.peek().map(|(order, _)| **order)).min();
            let Some(first) = first else { break };
            let next = heads.iter_mut().find_map(|head| head.next_if(|(order, _)| **order == first));
            found.extend(next.map(|(_, waiting)| waiting.clone()));
        }
        found
    }
}

/// A selector as a row keeps it; the same selector is always the same text.
pub(super) fn text(selector: Option<&pb::AgentSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let labels: BTreeMap<_, _> = selector.match_labels.iter().collect();
    let expressions: Vec<_> =
        selector.match_expressions.iter().map(|expression| (&expression.key, &expression.operator, &expression.values)).collect();
    serde_json::json!({ "match_labels": labels, "match_expressions": expressions }).to_string()
}

fn read(text: &str) -> Option<Selector> {
    #[derive(serde::Deserialize)]
    struct Kept {
        match_labels: HashMap<String, String>,
        match_expressions: Vec<(String, String, Vec<String>)>,
    }
    if text.is_empty() {
        return Some(Selector::default());
    }
    let kept: Kept = serde_json::from_str(text).ok()?;
    let expression = |(key, operator, values)| pb::LabelExpression { key, operator, values };
    let match_expressions = kept.match_expressions.into_iter().map(expression).collect();
    Selector::new(&pb::AgentSelector { match_labels: kept.match_labels, match_expressions }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut ReadyQueue, id: &str, selector: &str, priority: i64, since: Millis) {
        let step = StepIndex { job: 0, step: 0 };
        queue.push(Waiting { step_run_id: id.into(), run_id: "r".into(), step }, selector, priority, since);
    }

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn steps_are_handed_out_by_labels_then_priority_then_age() {
        let expression = pb::LabelExpression { key: "cpus".into(), operator: "Gt".into(), values: vec!["4".into()] };
        let big = text(Some(&pb::AgentSelector { match_expressions: vec![expression], ..Default::default() }));
        let linux = text(Some(&pb::AgentSelector { match_labels: labels(&[("os", "linux")]), ..Default::default() }));
        let mut queue = ReadyQueue::default();
        push(&mut queue, "big-old", &big, 5, 1);
        push(&mut queue, "any-young", "", 5, 9);
        push(&mut queue, "linux-urgent", &linux, 9, 20);
        push(&mut queue, "any-old", "", 5, 3);
        push(&mut queue, "any-old", "", 5, 3);
        let ids = |queue: &ReadyQueue, agent: &[(&str, &str)], most| {
            queue.first(&labels(agent), most).into_iter().map(|waiting| waiting.step_run_id).collect::<Vec<_>>()
        };
        let all = [("os", "linux"), ("cpus", "8")];
        assert_eq!(ids(&queue, &all, 9), ["linux-urgent", "big-old", "any-old", "any-young"]);
        assert_eq!(ids(&queue, &all, 2), ["linux-urgent", "big-old"]);
        assert_eq!(ids(&queue, &[("os", "linux"), ("cpus", "4")], 9), ["linux-urgent", "any-old", "any-young"]);
        assert_eq!(ids(&queue, &[], 9), ["any-old", "any-young"]);
        assert!(queue.remove("any-old").is_some() && queue.remove("any-old").is_none());
        assert_eq!((queue.places.len(), ids(&queue, &[], 9)), (3, vec!["any-young".to_owned()]));
    }
}
