//! A definition as a tree, before it is known what its keys mean. The same tree for YAML and JSON, read or to be written.

use super::problem::{Path, Place, Segment};
use super::{MAX_NODES, MAX_TREE_BYTES};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// A finite number, and how it is written.
    Number(f64, String),
    Text(String),
    List(Vec<Node>),
    /// Entries in their order; keys differ.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
}

impl Node {
    /// A value that is to be written, which stands nowhere yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self { place: Place::default(), kind }
    }

    /// What it is, for a message: `a number (1.5)`.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "null".into(),
            Kind::Bool(value) => format!("a bool ({value})"),
            Kind::Number(_, text) => format!("a number ({})", text.chars().take(30).collect::<String>()),
            Kind::Text(_) => "text".into(),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
        }
    }

    /// Where the value at `path` stands, or else the nearest value above it that is there.
    pub(super) fn place_of(&self, path: &Path) -> Place {
        let mut node = self;
        let mut place = self.place;
        for segment in &path.0 {
            let next = match (&node.kind, segment) {
                (Kind::List(elements), Segment::Index(index)) => elements.get(*index).map(|element| (element.place, element)),
                (Kind::Map(entries), Segment::Key(name)) => (entries.iter())
                    .find(|(key, _)| key.name == *name)
                    .or_else(|| entries.iter().find(|(key, _)| same_name(&key.name, name)))
                    .map(|(key, value)| (key.place, value)),
                _ => None,
            };
            let Some((there, below)) = next else { break };
            (place, node) = (there, below);
        }
        place
    }
}

/// Whether two spellings name one field: `agent_selector` and `agentSelector`.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    camel(a) == camel(b)
}

/// The `lowerCamelCase` spelling of a name in `snake_case`.
pub(super) fn camel(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else {
            camel.push(if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c });
        }
    }
    camel
}

/// Counts what a tree holds, copies by aliases included.
#[derive(Debug, Default)]
pub(super) struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Budget {
    /// Counts one value of `bytes` bytes of text.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.nodes += 1;
        self.bytes += bytes;
        if self.nodes > MAX_NODES || self.bytes > MAX_TREE_BYTES {
            return Err(format!("holds more than {MAX_NODES} values or {MAX_TREE_BYTES} bytes, copies by aliases included"));
        }
        Ok(())
    }

    /// Counts a copy of `node`.
    pub(super) fn take_copy(&mut self, node: &Node) -> Result<(), String> {
        match &node.kind {
            Kind::Text(text) | Kind::Number(_, text) => self.take(text.len()),
            Kind::Null | Kind::Bool(_) => self.take(0),
            Kind::List(elements) => {
                self.take(0)?;
                elements.iter().try_for_each(|element| self.take_copy(element))
            }
            Kind::Map(entries) => {
                self.take(0)?;
                entries.iter().try_for_each(|(key, value)| {
                    self.take(key.name.len())?;
                    self.take_copy(value)
                })
            }
        }
    }
}
