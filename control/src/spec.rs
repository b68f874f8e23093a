//! A pipeline's definition: from text to the contract's [`Spec`] and back, and what is wrong with it.
//!
//! The text is YAML 1.2 or JSON. Its keys are the fields of the contract's messages, spelled `snake_case` or `lowerCamelCase`.
//! Every mistake is told with its place and path; a key that is no field is a mistake. [`read`] tells what can not be read at all,
//! [`validate`] what is read and makes no pipeline.

mod fields;
mod json;
mod node;
mod problem;
mod structs;
#[cfg(test)]
mod tests;
mod validate;
mod write;
mod yaml;
mod yaml_scalar;

pub use arcgate_api::pipeline::v1::Spec;

use self::fields::{Reader, Value};
use self::node::Node;
pub use self::problem::{MAX_PROBLEMS, Path, Place, Problem, Segment};
pub use self::validate::{MAX_ATTEMPTS, MAX_JOBS, MAX_STEPS, Report, validate};

/// The longest text of a definition, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// How deep lists and maps may lie in one another. What is read so can also be sent in a protobuf message, where a level of
/// arbitrary JSON takes three of the hundred that decoders allow.
const MAX_DEPTH: usize = 32;
/// The most values in a definition.
const MAX_NODES: usize = 100_000;
/// The most text in a definition, after aliases have been copied, in bytes.
const MAX_TREE_BYTES: usize = 4 << 20;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// The syntax of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, strictly.
    Json,
    /// YAML 1.2.
    Yaml,
}

impl Format {
    /// The syntax of the file `name` with content `text`: by its ending, else JSON if it begins with a brace.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Self {
        let ends = |ending: &str| {
            name.get(name.len().saturating_sub(ending.len())..).is_some_and(|end| end.eq_ignore_ascii_case(ending))
        };
        let is_yaml = ends(".yaml") || ends(".yml");
        if !is_yaml && (ends(".json") || text.trim_start().starts_with('{')) { Self::Json } else { Self::Yaml }
    }
}

/// A definition that was read, and where its values stand.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it says.
    pub spec: Spec,
    root: Node,
}

impl Document {
    /// Where the value at `path` stands, or else the nearest value around it.
    #[must_use]
    pub fn place(&self, path: &Path) -> Place {
        self.root.place_of(path)
    }

    /// What is wrong with what it says, as [`validate`] finds it, with places.
    #[must_use]
    pub fn validate(&self) -> Report {
        validate::with_places(&self.spec, &|path| Some(self.place(path)))
    }
}

/// Reads a definition. It may still be invalid.
///
/// # Errors
/// All mistakes of syntax, keys and types, at most [`MAX_PROBLEMS`] of them and a last one that says that there are more.
pub fn read(text: &str, format: Format) -> Result<Document, Vec<Problem>> {
    let fail = |place, message| vec![Problem { path: Path::default(), place, message }];
    if text.len() > MAX_BYTES {
        return Err(fail(None, format!("the definition has {} bytes; at most {MAX_BYTES} are allowed", text.len())));
    }
    let parsed = match format {
        Format::Json => json::parse(text),
        Format::Yaml => yaml::parse(text),
    };
    let root = parsed.map_err(|(place, message)| fail(Some(place), message))?;
    if root.kind == node::Kind::Null {
        return Err(fail(None, "the definition is empty; it needs at least namespace and jobs".into()));
    }
    let mut reader = Reader::default();
    let spec = Spec::read(&root, &mut reader);
    if reader.problems.is_empty() { Ok(Document { spec, root }) } else { Err(reader.problems.finish()) }
}

/// Writes a definition with `snake_case` keys (and `dependsOn`, as the contract has it). What is absent or empty is left out.
/// Reading it again gives the same, except that numbers which JSON does not have become null.
#[must_use]
pub fn write(spec: &Spec, format: Format) -> String {
    let root = Node::new(Value::write(spec));
    match format {
        Format::Json => write::json(&root),
        Format::Yaml => write::yaml(&root),
    }
}
