//! Which fields the messages of a definition have, and how each kind of value is read from a tree and written to one.
//!
//! The table at the end names the fields only; what a field is, the compiler takes from the generated message. A test compares
//! the table with the contract.

use std::collections::HashMap;

use arcgate_api::pipeline::v1 as pb;

use super::node::{Key, Kind, Node, camel};
use super::problem::{Path, Problems, Segment};
use crate::text::{hint, quoted};

/// Where the reader is, and what it found wrong.
#[derive(Default)]
pub(super) struct Reader {
    path: Path,
    pub(super) problems: Problems,
}

impl Reader {
    /// Reads what lies one segment below.
    pub(super) fn below<T>(&mut self, segment: Segment, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.0.push(segment);
        let value = read(self);
        self.path.0.pop();
        value
    }

    /// Notes that `node` is wrong, and goes on with a default.
    pub(super) fn wrong<T: Default>(&mut self, node: &Node, what: impl AsRef<str>) -> T {
        let message = format!("{}: {}", self.path, what.as_ref());
        self.problems.add(self.path.clone(), Some(node.place), message);
        T::default()
    }
}

/// A value of a definition.
pub(super) trait Value: Default {
    fn read(node: &Node, reader: &mut Reader) -> Self;
    fn write(&self) -> Kind;
    /// Whether it need not be written, since absence says the same.
    fn is_unset(&self) -> bool;
}

impl Value for String {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Number(_, text) if text.len() < 30 => {
                reader.wrong(node, format!("must be text, not a number; write \"{text}\""))
            }
            Kind::Bool(value) => reader.wrong(node, format!("must be text, not a bool; write \"{value}\"")),
            _ => reader.wrong(node, format!("must be text, not {}", node.describe())),
        }
    }

    fn write(&self) -> Kind {
        Kind::Text(self.clone())
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl Value for bool {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        match &node.kind {
            Kind::Bool(value) => *value,
            Kind::Text(text) => {
                reader.wrong(node, format!("must be true or false without quotes, not the text {}", quoted(text)))
            }
            _ => reader.wrong(node, format!("must be true or false, not {}", node.describe())),
        }
    }

    fn write(&self) -> Kind {
        Kind::Bool(*self)
    }

    fn is_unset(&self) -> bool {
        !self
    }
}

impl Value for i32 {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        let value = match &node.kind {
            Kind::Number(value, _) => *value,
            // The JSON form of protobuf has numbers as text too.
            Kind::Text(text) => text.parse::<i32>().map_or(f64::NAN, f64::from),
            _ => f64::NAN,
        };
        if value.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value) {
            return value as i32;
        }
        reader.wrong(node, format!("must be a whole number up to {}, not {}", i32::MAX, node.describe()))
    }

    fn write(&self) -> Kind {
        Kind::Number(f64::from(*self), self.to_string())
    }

    fn is_unset(&self) -> bool {
        *self == 0
    }
}

impl Value for HashMap<String, String> {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        let Kind::Map(entries) = &node.kind else {
            return reader.wrong(node, format!("must be a map of names to text, not {}", node.describe()));
        };
        let read = |(key, value): &(Key, Node)| {
            (key.name.clone(), reader.below(Segment::Key(key.name.clone()), |reader| String::read(value, reader)))
        };
        entries.iter().map(read).collect()
    }

    fn write(&self) -> Kind {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable();
        Kind::Map(entries.into_iter().map(|(name, value)| (key(name), Node::new(value.write()))).collect())
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Value> Value for Option<T> {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        Some(T::read(node, reader))
    }

    fn write(&self) -> Kind {
        self.as_ref().map_or(Kind::Null, T::write)
    }

    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(node: &Node, reader: &mut Reader) -> Self {
        let Kind::List(elements) = &node.kind else {
            return reader.wrong(node, format!("must be a list, not {}", node.describe()));
        };
        let read = |(index, element)| reader.below(Segment::Index(index), |reader| T::read(element, reader));
        elements.iter().enumerate().map(read).collect()
    }

    fn write(&self) -> Kind {
        Kind::List(self.iter().map(|element| Node::new(element.write())).collect())
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

/// A key that is to be written.
pub(super) fn key(name: &str) -> Key {
    Key { name: name.to_owned(), place: super::Place::default() }
}

/// What people write who know other systems, or the older documents of this one.
const OTHER_WORDS: [(&str, &str); 7] = [
    ("args", "params"),
    ("if", "when"),
    ("image", "runtime.image"),
    ("needs", "dependsOn"),
    ("params", "args"),
    ("stages", "jobs"),
    ("with", "args"),
];

/// The entries of a map, each as the index of the field that it sets. Unknown and repeated fields are noted.
pub(super) fn entries<'n>(node: &'n Node, fields: &[&str], reader: &mut Reader) -> Vec<(usize, &'n Key, &'n Node)> {
    let Kind::Map(entries) = &node.kind else {
        return reader.wrong(node, format!("must be a map, not {}", node.describe()));
    };
    let mut known: Vec<(usize, &Key, &Node)> = Vec::new();
    for (key, value) in entries {
        let at_key = Node { place: key.place, kind: Kind::Null };
        let field = fields.iter().position(|field| key.name == *field || key.name == camel(field) || key.name == snake(field));
        reader.below(Segment::Key(key.name.clone()), |reader| match field {
            None => {
                let other = OTHER_WORDS.iter().find(|(word, field)| key.name == *word && fields.contains(field));
                let hint = match other {
                    Some((_, field)) => format!("; did you mean {field}?"),
                    None => hint(&key.name, fields.iter().copied()),
                };
                reader.wrong::<()>(&at_key, format!("unknown key{hint}"));
            }
            Some(field) if known.iter().any(|(other, ..)| *other == field) => {
                reader.wrong::<()>(&at_key, "this field is set twice, in two spellings; remove one");
            }
            // As in the JSON form of protobuf, null is absence.
            Some(_) if value.kind == Kind::Null => {}
            Some(field) => known.push((field, key, value)),
        });
    }
    known
}

/// The `snake_case` spelling of a name in `lowerCamelCase`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The text of the field that `stringify!` wrote: Rust's raw identifiers, and the one name that is camelCase in the contract.
fn name(field: &'static str) -> &'static str {
    match field {
        "r#type" => "type",
        "depends_on" => "dependsOn",
        other => other,
    }
}

macro_rules! messages {
    ($($message:ident { $($field:ident),+ $(,)? })+) => {
        $(impl Value for pb::$message {
            fn read(node: &Node, reader: &mut Reader) -> Self {
                let fields = [$(name(stringify!($field))),+];
                let mut message = Self::default();
                for (field, key, value) in entries(node, &fields, reader) {
                    reader.below(Segment::Key(key.name.clone()), |reader| {
                        $(if fields[field] == name(stringify!($field)) {
                            message.$field = Value::read(value, reader);
                        })+
                    });
                }
                message
            }

            fn write(&self) -> Kind {
                let mut entries = Vec::new();
                $(if !self.$field.is_unset() {
                    entries.push((key(name(stringify!($field))), Node::new(self.$field.write())));
                })+
                Kind::Map(entries)
            }

            fn is_unset(&self) -> bool {
                false
            }
        })+

        /// The table itself: messages and their fields.
        #[cfg(test)]
        pub(super) const MESSAGES: &[(&str, &[&str])] = &[$((stringify!($message), &[$(stringify!($field)),+])),+];
    };
}

messages! {
    Spec { namespace, version, variables, runtime, meta, triggers, jobs }
    Runtime { r#type, image, env, resources, config }
    Resources { cpu_request, cpu_limit, memory_request, memory_limit }
    Job { name, description, depends_on, when, concurrency, timeout, retry, approval, env, source, target, triggers, steps, notify }
    Retry { max_attempts, delay }
    Step { name, uses, action, args, env, when, continue_on_error, timeout, run_on_agent, agent_selector }
    Source { r#type, repo, branch, auth }
    SourceAuth { username, password, token }
    Approval { required, r#type, plugin, params }
    Target { r#type, config }
    Notify { on_success, on_failure }
    NotifyItem { plugin, action, params }
    Trigger { r#type, options }
    AgentSelector { match_labels, match_expressions }
    LabelExpression { key, operator, values }
}
