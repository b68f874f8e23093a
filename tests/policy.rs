//! Rules about the project itself that no compiler checks: what may become part of it (deny.toml), and where locks may be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails may fail loudly")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// A file past this wants splitting by verb.
const LONGEST_FILE: usize = 600;

/// What cargo knows of the packages that are compiled into the program, its tests or its build.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn deny() -> toml::Table {
    std::fs::read_to_string(Path::new(ROOT).join("deny.toml")).unwrap().parse().unwrap()
}

/// The texts of a list in deny.toml.
fn list(table: &str, key: &str) -> Vec<String> {
    let deny = deny();
    deny[table][key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be satisfied with what is allowed. AND binds tighter than OR; `/` is an old way to write OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.trim();
    // Split at the operator outside of parentheses that binds least.
    for (operator, any) in [(" OR ", true), ("/", true), (" AND ", false)] {
        let mut parts = vec![String::new()];
        let mut depth = 0;
        let mut rest = expression;
        while let Some(next) = rest.chars().next() {
            if depth == 0 && rest.starts_with(operator) {
                parts.push(String::new());
                rest = &rest[operator.len()..];
                continue;
            }
            depth += i32::from(next == '(') - i32::from(next == ')');
            parts.last_mut().unwrap().push(next);
            rest = &rest[next.len_utf8()..];
        }
        if parts.len() > 1 {
            let mut parts = parts.iter().map(|part| is_allowed(part, allowed));
            return if any { parts.any(|part| part) } else { parts.all(|part| part) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.iter().any(|license| license == expression),
    }
}

#[test]
fn spdx_expressions_are_understood() {
    let allowed = ["MIT", "Zlib"].map(str::to_owned);
    for expression in ["MIT", "GPL-2.0 OR MIT", "GPL-2.0/MIT", "(GPL-2.0 OR MIT) AND Zlib", "Zlib AND MIT"] {
        assert!(is_allowed(expression, &allowed), "{expression}");
    }
    for expression in ["GPL-2.0", "MIT AND GPL-2.0", "(GPL-2.0 OR MIT) AND AGPL-3.0", "", "MITX"] {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let allowed = list("licenses", "allow");
    let registries: Vec<_> = list("sources", "allow-registry").iter().map(|registry| format!("registry+{registry}")).collect();
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let license = package["license"].as_str().unwrap_or("");
        assert!(is_allowed(license, &allowed), "{name}: the licence \"{license}\" is not among licenses.allow of deny.toml");
        if let Some(source) = package["source"].as_str() {
            assert!(registries.iter().any(|registry| registry == source), "{name} comes from {source}");
        }
    }
}

#[test]
fn no_banned_crate_is_used_but_by_its_wrappers() {
    let (metadata, deny) = (metadata(), deny());
    let names: HashMap<_, _> = (metadata["packages"].as_array().unwrap().iter())
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let bans = deny["bans"]["deny"].as_array().unwrap();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let user = names[node["id"].as_str().unwrap()];
        for used in node["deps"].as_array().unwrap().iter().map(|used| names[used["pkg"].as_str().unwrap()]) {
            let Some(ban) = bans.iter().find(|ban| ban["crate"].as_str() == Some(used)) else { continue };
            let wrappers = ban.get("wrappers").and_then(|wrappers| wrappers.as_array()).into_iter().flatten();
            let may = wrappers.into_iter().any(|wrapper| wrapper.as_str() == Some(user));
            assert!(may, "{user} uses {used}, which is among bans.deny of deny.toml");
        }
    }
}

/// All Rust files below these folders of the project.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| Path::new(ROOT).join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty());
    files
}

/// I10: clippy.toml bans locks everywhere, and locks held across awaits; here the log path is kept from asking for an exception.
#[test]
fn i10_the_log_path_takes_no_lock() {
    for file in sources(&["gateway/src/decode", "gateway/src/shard"]) {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in ["disallowed_types", "disallowed_methods", "await_holding", "Mutex", "RwLock", "Condvar"] {
            let place = text.lines().position(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            assert!(place.is_none(), "{}:{}: {word}", file.display(), place.unwrap_or(0) + 1);
        }
    }
    let bans = std::fs::read_to_string(Path::new(ROOT).join("clippy.toml")).unwrap();
    for lock in ["std::sync::Mutex", "std::sync::RwLock", "parking_lot::Mutex", "parking_lot::RwLock", "tokio::sync::Mutex"] {
        assert!(bans.contains(&format!("\"{lock}\"")), "clippy.toml no longer bans {lock}");
    }
    let workspace = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    for lint in ["await_holding_lock", "disallowed_types", "disallowed_methods"] {
        assert!(workspace.contains(&format!("{lint} = \"deny\"")), "Cargo.toml no longer denies {lint}");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short_enough_to_be_read() {
    for file in sources(&["src", "api/src", "gateway/src", "control/src", "load-tests/src", "benches", "tests"]) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines, more than {LONGEST_FILE}", file.display());
        // The tests of a module are told by its name.
        let is_tests = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        assert!(is_tests || text.starts_with("//!"), "{}: no head comment", file.display());
    }
}
