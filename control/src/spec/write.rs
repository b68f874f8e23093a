//! A tree to text, so that it can be read again and means the same.

use std::fmt::Write as _;

use super::node::{Kind, Node};
use super::yaml_scalar::is_plain;

/// JSON, two spaces a level, one entry a line.
pub(super) fn json(node: &Node) -> String {
    let mut out = String::new();
    json_value(&mut out, &node.kind, 0);
    out.push('\n');
    out
}

fn json_value(out: &mut String, kind: &Kind, level: usize) {
    match kind {
        Kind::List(elements) if !elements.is_empty() => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                line(out, at > 0, level + 1);
                json_value(out, &element.kind, level + 1);
            }
            line(out, false, level);
            out.push(']');
        }
        Kind::Map(entries) if !entries.is_empty() => {
            out.push('{');
            for (at, (key, value)) in entries.iter().enumerate() {
                line(out, at > 0, level + 1);
                out.push_str(&string(&key.name));
                out.push_str(": ");
                json_value(out, &value.kind, level + 1);
            }
            line(out, false, level);
            out.push('}');
        }
        Kind::Text(text) => out.push_str(&string(text)),
        simple => out.push_str(&scalar(simple)),
    }
}

fn line(out: &mut String, comma: bool, level: usize) {
    out.push_str(if comma { ",\n" } else { "\n" });
    indent(out, level);
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// What JSON and YAML write alike.
fn scalar(kind: &Kind) -> String {
    match kind {
        Kind::Bool(value) => value.to_string(),
        Kind::Number(_, text) => text.clone(),
        Kind::Text(text) if is_plain(text) => text.clone(),
        Kind::Text(text) => string(text),
        Kind::List(_) => "[]".into(),
        Kind::Map(_) => "{}".into(),
        Kind::Null => "null".into(),
    }
}

/// Text in double quotes, with escapes that JSON and YAML share.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if !is_printable(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// YAML in block style; text of several lines as a literal block.
pub(super) fn yaml(node: &Node) -> String {
    let mut out = String::new();
    yaml_value(&mut out, &node.kind, 0);
    out
}

/// Writes a value from where the line stands, and ends the line. The entries of a list or map stand at `level`.
fn yaml_value(out: &mut String, kind: &Kind, level: usize) {
    match kind {
        Kind::List(elements) if !elements.is_empty() => {
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    indent(out, level);
                }
                out.push_str("- ");
                yaml_value(out, &element.kind, level + 1);
            }
        }
        Kind::Map(entries) if !entries.is_empty() => {
            for (at, (key, value)) in entries.iter().enumerate() {
                if at > 0 {
                    indent(out, level);
                }
                out.push_str(&if is_plain(&key.name) { key.name.clone() } else { string(&key.name) });
                out.push(':');
                let nested = matches!(&value.kind, Kind::Map(entries) if !entries.is_empty())
                    || matches!(&value.kind, Kind::List(elements) if !elements.is_empty());
                if nested {
                    line(out, false, level + 1);
                } else {
                    out.push(' ');
                }
                yaml_value(out, &value.kind, level + 1);
            }
        }
        Kind::Text(text) if is_block(text) => block(out, text, level),
        simple => {
            out.push_str(&scalar(simple));
            out.push('\n');
        }
    }
}

/// Whether text is better read as a block of lines, and survives it.
fn is_block(text: &str) -> bool {
    let inside = text.trim_end_matches('\n');
    inside.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
        // A line of spaces at the end would be taken for the end's blank lines.
        && !inside.ends_with([' ', '\t'])
}

fn block(out: &mut String, text: &str, level: usize) {
    let inside = text.trim_end_matches('\n');
    out.push_str(match text.len() - inside.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for part in inside.split('\n') {
        if !part.is_empty() {
            indent(out, level.max(1));
        }
        out.push_str(part);
        out.push('\n');
    }
    out.extend(std::iter::repeat_n('\n', (text.len() - inside.len()).saturating_sub(1)));
}
