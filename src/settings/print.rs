//! The settings as text: the effective ones as a TOML file with their places, the table as Markdown for the README.

use std::fmt::Write;

use super::Loaded;
use super::table::{KEYS, Key};

/// The effective settings as a file that could be read again; behind each value stands where it came from.
#[must_use]
pub fn as_toml(loaded: &Loaded) -> String {
    let mut out = String::new();
    let mut section = "";
    for (key, given) in KEYS.iter().filter_map(|key| Some((key, loaded.given.get(key.name)?))) {
        let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if of != section {
            let _ = writeln!(out, "{}[{of}]", if section.is_empty() { "" } else { "\n" });
            section = of;
        }
        let assignment = format!("{name} = {}", toml::Value::String(given.text.clone()));
        let _ = writeln!(out, "{assignment:<40} # {}", given.place);
    }
    out
}

/// The table of all settings in Markdown.
#[must_use]
pub fn as_markdown() -> String {
    let mut out = String::from("| setting | default | values | what it does |\n|---|---|---|---|\n");
    for Key { name, default, kind, doc } in KEYS {
        let default = if default.is_empty() { "not set".to_owned() } else { format!("`{default}`") };
        let _ = writeln!(out, "| `{name}` | {default} | {} | {doc} |", kind.describe());
    }
    out
}
