//! What an agent has to say to whoever runs it: lines on stderr, none twice in a row.

#![expect(clippy::disallowed_types, reason = "held for a line on stderr")]

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

/// Says things on stderr. Cloning shares what was said last.
#[derive(Debug, Clone, Default)]
pub(super) struct Diary(Arc<Mutex<String>>);

impl Diary {
    /// Says `text`, unless it was the last thing said. A stderr that is gone is no reason to fail.
    pub(super) fn say(&self, text: &str) {
        let mut last = self.0.lock();
        if *last != text {
            text.clone_into(&mut last);
            let _ = writeln!(std::io::stderr(), "arcgate: {text}");
        }
    }
}
