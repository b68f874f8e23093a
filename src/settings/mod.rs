//! Settings: one table of keys ([`table::KEYS`]) gives the parser, `arcgate config`, the README's table and the names in the
//! environment.
//!
//! Four sources, the later winning: the table's defaults, a file (`arcgate.toml` or `--config FILE`), variables such as
//! `ARCGATE_GRPC__LISTEN`, flags (`--set grpc.listen=…`). Each source is a list of `source::Given` texts, so that all four go
//! through the same parser and every complaint names its place. Nothing else in the project reads settings' files, variables
//! or flags.

mod check;
mod control;
mod kafka;
mod print;
mod schema;
mod source;
pub mod table;
#[cfg(test)]
mod tests;
pub mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use check::check;
pub use print::{as_markdown, as_toml};
pub use schema::*;
pub use source::{Given, Place, from_env, from_file, from_flag};

/// The settings file that is read if it is there and no other is named.
pub const DEFAULT_FILE: &str = "arcgate.toml";

/// The effective settings and where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// For each key of the table: the winning text and its place.
    pub given: BTreeMap<&'static str, Given>,
    /// The settings file that was read, if any.
    pub file: Option<PathBuf>,
}

/// One thing that is wrong with the settings, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Problem {
    /// Where it was given.
    pub place: Place,
    /// What is wrong and what to do.
    pub what: String,
}

impl Problem {
    /// A problem at `place`.
    #[must_use]
    pub fn new(place: Place, what: impl Into<String>) -> Self {
        Self { place, what: what.into() }
    }
}

/// Everything that is wrong with the settings. Trying again without changing them does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SettingsError(pub Vec<Problem>);

/// Where to look for settings, besides the table's defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`: this file must exist.
    pub file: Option<PathBuf>,
    /// The process environment.
    pub env: Vec<(String, String)>,
    /// What flags gave.
    pub flags: Vec<Given>,
}

/// Reads all sources in order and gives the effective settings, without checking the machine (see [`check`]).
///
/// # Errors
/// All unreadable files, misspelt variables, unknown keys and unfit values, together.
pub fn load(sources: Sources) -> Result<Loaded, SettingsError> {
    let mut problems = Vec::new();
    let file = sources.file.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
    let mut all = source::defaults();
    if let Some(path) = &file {
        all.extend(from_file(path).unwrap_or_else(|problem| {
            problems.push(problem);
            Vec::new()
        }));
    }
    problems.extend(source::misspelt(&sources.env));
    all.extend(from_env(sources.env));
    all.extend(sources.flags);

    let mut loaded = Loaded { settings: Settings::default(), given: BTreeMap::new(), file };
    for given in all {
        match table::find(&given.key) {
            None => problems.push(Problem::new(given.place, table::unknown(&given.key))),
            Some(key) => match key.kind.set(&mut loaded.settings, &given.text) {
                Ok(()) => drop(loaded.given.insert(key.name, given)),
                Err(why) => problems.push(Problem::new(given.place, format!("{} = \"{}\" {why}", key.name, given.text))),
            },
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(SettingsError(problems)) }
}
