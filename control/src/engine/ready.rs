//! The steps that wait for an agent, in the order in which they are handed out: higher priority first, then the longest wait.
//!
//! Steps with one selector wait in one class: an agent's labels are compared with each class, not with each step. A step whose job
//! has begun at an agent waits for that one (its *home*) in a class of its own, as long as the home is there and its labels fit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// The agent at which its job has begun; may be empty.
    pub(super) home: String,
}

/// Priority, time, and the order of arrival.
type Order = (Reverse<i64>, Millis, u64);

#[derive(Debug, Default)]
struct Class {
    /// Absent: nothing matches, since the selector is none. Validation lets none of those through.
    selector: Option<Selector>,
    waiting: BTreeMap<Order, Waiting>,
}

/// Which class a step waits in, and where in it.
#[derive(Debug, Clone)]
struct Place {
    /// The agent that it waits for; empty: any.
    agent: String,
    selector: String,
    order: Order,
}

#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    /// By the agent that is waited for (empty: any), then by the selector's text.
    classes: HashMap<String, HashMap<String, Class>>,
    places: HashMap<String, Place>,
    /// The steps with a home that wait, by the home: for it or for anyone.
    homes: HashMap<String, BTreeSet<String>>,
    arrivals: u64,
}

impl ReadyQueue {
    pub(super) fn contains(&self, step_run_id: &str) -> bool {
        self.places.contains_key(step_run_id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Lets a step wait, if it does not yet. `selector` is [`text`]'s; `labels` are those of its home, if that is there.
    pub(super) fn push(
        &mut self,
        waiting: Waiting,
        selector: &str,
        priority: i64,
        since: Millis,
        labels: Option<&HashMap<String, String>>,
    ) {
        if self.contains(&waiting.step_run_id) {
            return;
        }
        self.arrivals += 1;
        self.put(waiting, selector.to_owned(), (Reverse(priority), since, self.arrivals), labels);
    }

    fn put(&mut self, waiting: Waiting, selector: String, order: Order, labels: Option<&HashMap<String, String>>) {
        let stays = labels.is_some_and(|labels| read(&selector).is_some_and(|selector| selector.matches(labels)));
        let agent = if stays { waiting.home.clone() } else { String::new() };
        if !waiting.home.is_empty() {
            self.homes.entry(waiting.home.clone()).or_default().insert(waiting.step_run_id.clone());
        }
        let class = self.classes.entry(agent.clone()).or_default().entry(selector.clone());
        let class = class.or_insert_with(|| Class { selector: read(&selector), ..Class::default() });
        let id = waiting.step_run_id.clone();
        class.waiting.insert(order, waiting);
        self.places.insert(id, Place { agent, selector, order });
    }

    /// The steps that wait and have this home.
    pub(super) fn of_home(&self, agent_id: &str) -> Vec<Waiting> {
        let ids = self.homes.get(agent_id).into_iter().flatten();
        let found = |id| {
            let place: &Place = self.places.get(id)?;
            self.classes.get(&place.agent)?.get(&place.selector)?.waiting.get(&place.order).cloned()
        };
        ids.filter_map(found).collect()
    }

    /// A home has come, is gone (no labels), or has other labels: what waits for it keeps its turn.
    pub(super) fn home_changed(&mut self, agent_id: &str, labels: Option<&HashMap<String, String>>) {
        for waiting in self.of_home(agent_id) {
            let Some(place) = self.places.get(&waiting.step_run_id).cloned() else { continue };
            self.remove(&waiting.step_run_id);
            self.put(waiting, place.selector, place.order, labels);
        }
    }

    /// Who waits in which class since when, in no order.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<String> {
        let place = |(id, Place { agent, selector, order: (priority, since, _) }): (&String, &Place)| {
            let waiting = &self.classes[agent][selector].waiting;
            let found = waiting.values().find(|waiting| waiting.step_run_id == *id);
            format!("{id} '{agent}' {selector} {priority:?} {since} {found:?}")
        };
        self.places.iter().map(place).collect()
    }

    pub(super) fn remove(&mut self, step_run_id: &str) -> Option<Waiting> {
        let place = self.places.remove(step_run_id)?;
        let classes = self.classes.get_mut(&place.agent)?;
        let class = classes.get_mut(&place.selector)?;
        let waiting = class.waiting.remove(&place.order)?;
        if class.waiting.is_empty() {
            classes.remove(&place.selector);
            if classes.is_empty() {
                self.classes.remove(&place.agent);
            }
        }
        if let Some(steps) = self.homes.get_mut(&waiting.home) {
            steps.remove(step_run_id);
            if steps.is_empty() {
                self.homes.remove(&waiting.home);
            }
        }
        Some(waiting)
    }

    /// The first `most` steps that an agent with these labels may execute, without taking them out. `only_home`: of those alone that
    /// wait for it.
    pub(super) fn first(&self, agent_id: &str, labels: &HashMap<String, String>, most: usize, only_home: bool) -> Vec<Waiting> {
        let fits = |class: &&Class| class.selector.as_ref().is_some_and(|selector| selector.matches(labels));
        let of = |agent: &str| self.classes.get(agent).into_iter().flat_map(HashMap::values);
        let own = of(agent_id).filter(|_| !agent_id.is_empty());
        let any = of("").filter(|_| !only_home);
        let mut heads: Vec<_> = own.chain(any).filter(fits).map(|class| class.waiting.iter().peekable()).collect();
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
        queue.push(
            Waiting { step_run_id: id.into(), run_id: "r".into(), step, home: String::new() },
            selector,
            priority,
            since,
            None,
        );
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
            queue.first("x", &labels(agent), most, false).into_iter().map(|waiting| waiting.step_run_id).collect::<Vec<_>>()
        };
        let all = [("os", "linux"), ("cpus", "8")];
        assert_eq!(ids(&queue, &all, 9), ["linux-urgent", "big-old", "any-old", "any-young"]);
        assert_eq!(ids(&queue, &all, 2), ["linux-urgent", "big-old"]);
        assert_eq!(ids(&queue, &[("os", "linux"), ("cpus", "4")], 9), ["linux-urgent", "any-old", "any-young"]);
        assert_eq!(ids(&queue, &[], 9), ["any-old", "any-young"]);
        assert!(queue.remove("any-old").is_some() && queue.remove("any-old").is_none());
        assert_eq!((queue.places.len(), ids(&queue, &[], 9)), (3, vec!["any-young".to_owned()]));
    }

    #[test]
    fn a_step_with_a_home_waits_for_it_while_it_is_there_and_fits_and_keeps_its_turn() {
        let linux = text(Some(&pb::AgentSelector { match_labels: labels(&[("os", "linux")]), ..Default::default() }));
        let step = StepIndex { job: 0, step: 0 };
        let mut queue = ReadyQueue::default();
        push(&mut queue, "any", &linux, 5, 2);
        let waiting = Waiting { step_run_id: "bound".into(), run_id: "r".into(), step, home: "h".into() };
        let fitting = labels(&[("os", "linux")]);
        queue.push(waiting, &linux, 5, 1, Some(&fitting));
        let ids = |queue: &ReadyQueue, agent: &str| {
            queue.first(agent, &fitting, 9, false).into_iter().map(|waiting| waiting.step_run_id).collect::<Vec<_>>()
        };
        assert_eq!((ids(&queue, "h"), ids(&queue, "x")), (vec!["bound".into(), "any".into()], vec!["any".to_owned()]));
        assert_eq!(queue.first("h", &fitting, 9, true).len(), 1);
        for gone in [None, Some(labels(&[("os", "mac")]))] {
            queue.home_changed("h", gone.as_ref());
            assert_eq!(ids(&queue, "x"), ["bound", "any"]);
        }
        queue.home_changed("h", Some(&fitting));
        assert_eq!((ids(&queue, "x"), queue.of_home("h").len()), (vec!["any".to_owned()], 1));
        queue.remove("bound");
        assert!(queue.of_home("h").is_empty() && queue.homes.is_empty() && !queue.is_empty());
    }
}
