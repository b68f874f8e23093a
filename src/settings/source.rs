//! The sources of settings, each turned into a list of texts with their places.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Problem;
use super::table::KEYS;

/// What all variables of Arcgate begin with.
pub(super) const ENV_PREFIX: &str = "ARCGATE_";

/// One setting as it was given, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The key, as `section.name`.
    pub key: String,
    /// The value's text.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The built-in default.
    Default,
    /// A line of a file, from 1; 0 is the file as a whole.
    File(PathBuf, usize),
    /// A variable of the environment.
    Env(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The defaults of the table.
pub(super) fn defaults() -> Vec<Given> {
    KEYS.iter().map(|key| Given { key: key.name.into(), text: key.default.into(), place: Place::Default }).collect()
}

/// The settings of a TOML file.
///
/// # Errors
/// The file cannot be read or is no TOML.
pub fn from_file(path: &Path) -> Result<Vec<Given>, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem::new(Place::File(path.into(), 0), format!("cannot read the settings file: {error}")))?;
    from_toml(path, &text)
}

/// The settings that TOML text gives; `path` is only named.
pub(super) fn from_toml(path: &Path, text: &str) -> Result<Vec<Given>, Problem> {
    let line_of = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        Problem::new(Place::File(path.into(), line), error.message())
    })?;
    let mut found = Vec::new();
    flatten("", table.get_ref(), &mut |key, text, at| {
        found.push(Given { key, text, place: Place::File(path.into(), line_of(at)) });
    });
    Ok(found)
}

/// Walks the tables and hands each value on with its dotted key and where in the text it begins.
fn flatten(prefix: &str, table: &DeTable<'_>, found: &mut dyn FnMut(String, String, usize)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&key, inner, found),
            other => found(key, text_of(other).into_owned(), name.span().start),
        }
    }
}

/// A value's text; a list's words are joined by commas.
fn text_of<'v>(value: &'v DeValue<'_>) -> Cow<'v, str> {
    match value {
        DeValue::String(text) => Cow::Borrowed(text),
        DeValue::Integer(number) => Cow::Borrowed(number.as_str()),
        DeValue::Float(number) => Cow::Borrowed(number.as_str()),
        DeValue::Boolean(yes) => Cow::Borrowed(if *yes { "true" } else { "false" }),
        DeValue::Datetime(time) => Cow::Owned(time.to_string()),
        DeValue::Array(items) => {
            let texts: Vec<_> = items.iter().map(|item| text_of(item.get_ref())).collect();
            Cow::Owned(texts.join(","))
        }
        DeValue::Table(_) => Cow::Borrowed("{…}"),
    }
}

/// The settings among the variables: those that begin with `ARCGATE_` and hold `__`. Others are left alone, because a cluster
/// sets such ones by itself for every service (`ARCGATE_SERVICE_HOST`); but see `misspelt`.
#[must_use]
pub fn from_env(variables: Vec<(String, String)>) -> Vec<Given> {
    let mut found: Vec<Given> = variables
        .into_iter()
        .filter_map(|(name, text)| {
            let key = name.strip_prefix(ENV_PREFIX).filter(|rest| rest.contains("__"))?.to_lowercase().replace("__", ".");
            Some(Given { key, text, place: Place::Env(name) })
        })
        .collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}

/// What is wrong with those among the variables that would be a setting if two underscores stood behind the section.
pub(super) fn misspelt(variables: &[(String, String)]) -> impl Iterator<Item = Problem> + '_ {
    variables.iter().filter_map(|(name, _)| {
        let right = KEYS.iter().map(super::table::Key::env).find(|right| right.replace("__", "_") == *name)?;
        Some(Problem::new(Place::Env(name.clone()), format!("is not read; write {right}, with two underscores")))
    })
}

/// The setting that `--set section.name=value` gives; without `=`, `None`.
#[must_use]
pub fn from_flag(assignment: &str) -> Option<Given> {
    let (key, text) = assignment.split_once('=')?;
    let (key, text) = (key.trim().to_owned(), text.trim().to_owned());
    Some(Given { place: Place::Flag(format!("--set {key}")), key, text })
}
