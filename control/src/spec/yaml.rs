//! YAML text to a tree: one document, YAML 1.2's core schema, anchors, aliases and merge keys (`<<`).
//!
//! Aliases are copied, and the copies are counted against the same bounds as what is written out, so that a few lines can not
//! become gigabytes.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::json::{SyntaxError, check_key};
use super::node::{Budget, Key, Kind, Node};
use super::problem::Place;
use super::{MAX_DEPTH, yaml_scalar};
use crate::text::quoted;

/// A list or map that has begun and not ended, and its anchor (0 for none).
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key whose value comes next.
    key: Option<Key>,
    /// Whether that key is `<<` without quotes.
    merges: bool,
    /// In a map: the keys that are there.
    seen: HashSet<String>,
    /// In a map: what `<<` named.
    merged: Vec<Node>,
}

struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    budget: Budget,
    root: Option<Node>,
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut builder = Builder { open: Vec::new(), anchors: HashMap::new(), budget: Budget::default(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
            (place, format!("this is not valid YAML: {}", error.info()))
        })?;
        let place = start(span);
        builder.take(event, place).map_err(|message| (place, message))?;
    }
    Ok(builder.root.unwrap_or(Node { place: Place { line: 1, column: 1 }, kind: Kind::Null }))
}

fn start(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a second document begins here; a definition is one document, remove the '---'".into())
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                self.budget.take(text.len())?;
                // A key is its text, whatever that may look like.
                let is_key = self.open.last().is_some_and(|open| matches!(open.node.kind, Kind::Map(_)) && open.key.is_none());
                let kind = if is_key { Kind::Text(text.to_string()) } else { scalar(&text, style, tag.as_deref())? };
                self.ended(Node { place, kind }, anchor)?;
                if let Some(open) = self.open.last_mut().filter(|_| is_key) {
                    open.merges = style == ScalarStyle::Plain && text == "<<";
                }
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.begin(Node { place, kind: Kind::List(Vec::new()) }, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.begin(Node { place, kind: Kind::Map(Vec::new()) }, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else { return Ok(()) };
                merge(&mut open)?;
                self.ended(open.node, open.anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err("this alias names an anchor that is not complete here; a value can not contain itself".into());
                };
                self.budget.take_copy(node)?;
                let node = node.clone();
                if depth(&node) + self.open.len() > MAX_DEPTH {
                    return Err(too_deep());
                }
                self.ended(node, 0)
            }
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if self.open.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        if self.open.last().is_some_and(|open| matches!(open.node.kind, Kind::Map(_)) && open.key.is_none()) {
            return Err("a key must be plain text, not a list or a map".into());
        }
        self.budget.take(0)?;
        self.open.push(Open { node, anchor, key: None, merges: false, seen: HashSet::new(), merged: Vec::new() });
        Ok(())
    }

    /// A value is complete: it goes into what is open, as an element, a key or a value.
    fn ended(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            self.budget.take_copy(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (Kind::List(elements), _) => elements.push(node),
            (Kind::Map(_), Some(_)) if open.merges => open.merged.push(node),
            (Kind::Map(entries), Some(key)) => entries.push((key, node)),
            (Kind::Map(_), None) => {
                let Kind::Text(name) = node.kind else { return Err("a key must be plain text".into()) };
                check_key(&name)?;
                if !open.seen.insert(name.clone()) {
                    return Err(format!("the key {} stands twice in this map", quoted(&name)));
                }
                open.key = Some(Key { name, place: node.place });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Adds what `<<` named, where the map does not say it itself. Of several, the first wins.
fn merge(open: &mut Open) -> Result<(), String> {
    let Kind::Map(entries) = &mut open.node.kind else { return Ok(()) };
    let mut merged = Vec::new();
    for node in std::mem::take(&mut open.merged) {
        match node.kind {
            Kind::List(elements) => merged.extend(elements),
            _ => merged.push(node),
        }
    }
    for node in merged {
        let Kind::Map(more) = node.kind else {
            return Err(format!("'<<' takes a map or a list of maps, not {}", node.describe()));
        };
        for (key, value) in more {
            if open.seen.insert(key.name.clone()) {
                entries.push((key, value));
            }
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

/// How many lists and maps lie in one another.
fn depth(node: &Node) -> usize {
    match &node.kind {
        Kind::List(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Kind::Map(entries) => 1 + entries.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
    let plain = || yaml_scalar::resolve(text);
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { plain() } else { Ok(Kind::Text(text.to_owned())) };
    };
    let kind = match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, "str") => return Ok(Kind::Text(text.to_owned())),
        (true, "null" | "bool" | "int" | "float") => plain()?,
        (false, "") if tag.handle == "!" => return Ok(Kind::Text(text.to_owned())),
        _ => return Err(format!("the tag {} means nothing here; remove it", quoted(&tag.to_string()))),
    };
    match (&kind, tag.suffix.as_str()) {
        (Kind::Null, "null") | (Kind::Bool(_), "bool") | (Kind::Number(..), "int" | "float") => Ok(kind),
        _ => Err(format!("{} is no value of the tag !!{}", quoted(text), tag.suffix)),
    }
}

fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err(format!("the tag {} means nothing here; remove it", quoted(&tag.to_string())))
        }
        _ => Ok(()),
    }
}
