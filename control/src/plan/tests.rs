//! The planner's rules by example, and by a model.

use std::sync::Arc;

use super::*;
use crate::spec::{self, Format};

mod model;
mod property;
mod rules;
mod world;

/// A run of a definition in YAML, without its namespace.
fn run_of(text: &str, cause: &Cause) -> Run {
    let document = spec::read(&format!("namespace: test\n{text}"), Format::Yaml).unwrap();
    assert_eq!(document.validate().problems, []);
    Run::new(Arc::new(Plan::new(&document.spec, cause).unwrap()), &mut ids())
}

/// Ids that nobody else gave, on this thread.
fn ids() -> impl FnMut() -> String {
    thread_local!(static NEXT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    || format!("id{}", NEXT.with(|next| next.replace(next.get() + 1)))
}
