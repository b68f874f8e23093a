//! What is wrong with a definition, where, and how it is told.

use std::fmt;

/// So many mistakes are told of one definition; more are only counted.
pub const MAX_PROBLEMS: usize = 20;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// One way down into a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Into a field, or an entry of a map.
    Key(String),
    /// Into an element of a list, from 0.
    Index(usize),
}

/// The way to a value in a definition. Shown as `jobs[1].steps[0].agent_selector`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(pub Vec<Segment>);

impl Path {
    /// The way to entry `key` below this.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// The way to element `index` of list `key` below this.
    #[must_use]
    pub fn element(&self, key: &str, index: usize) -> Self {
        self.key(key).with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the definition");
        }
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key)
                    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') =>
                {
                    write!(f, "[{}]", crate::text::quoted(key))?;
                }
                Segment::Key(key) if at == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong, or that only looks wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The value it is about.
    pub path: Path,
    /// Where that stands; absent if the definition did not come as text.
    pub place: Option<Place>,
    /// What is wrong with what, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column }) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Gathers problems up to [`MAX_PROBLEMS`].
#[derive(Debug, Default)]
pub(crate) struct Problems {
    told: Vec<Problem>,
    more: usize,
}

impl Problems {
    pub(crate) fn add(&mut self, path: Path, place: Option<Place>, message: String) {
        if self.told.len() < MAX_PROBLEMS {
            self.told.push(Problem { path, place, message });
        } else {
            self.more += 1;
        }
    }

    /// Whether more problems would only be counted, so that costly looks for them can be left.
    pub(crate) fn is_full(&self) -> bool {
        self.told.len() == MAX_PROBLEMS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// All that is told, in the order of the text; the last says that there are more.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.told.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
        if self.more > 0 {
            let message = format!("and at least {} more; correct the ones above first", self.more);
            self.told.push(Problem { path: Path::default(), place: None, message });
        }
        self.told
    }
}
