//! What push has to say to people, on stderr, between the lines of their build: little, and nothing twice.

#![expect(clippy::disallowed_types, reason = "held for a line on stderr, at most five times")]

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most that is said while a command runs.
const MOST: usize = 5;

/// Says things on stderr. Cloning shares what was said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    /// Says `text`, unless it was said before or too much was. A stderr that is gone is no reason to fail.
    pub(crate) fn say(&self, text: &str) {
        let mut said = self.0.lock();
        if said.len() < MOST && !said.iter().any(|earlier| earlier == text) {
            said.push(text.to_owned());
            write(text);
        }
    }

    /// Says `text` in any case: the last word.
    pub(crate) fn conclude(&self, text: &str) {
        write(text);
    }
}

fn write(text: &str) {
    let _ = writeln!(std::io::stderr(), "arcgate: {text}");
}
