//! The oracle: what is in the store, read by another process than the one that was killed.

use std::collections::HashMap;
use std::time::Duration;

use arcgate_load::process::Launch;
use serde::Deserialize;

use super::{Outcome, output, text};

/// An event as `arcgate store ls --events --json` prints it, one a line.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StoredEvent {
    /// Who sent it.
    pub(crate) agent_id: String,
    /// Its name.
    pub(crate) event_id: String,
    /// Its number as the agent counts.
    pub(crate) seq: u64,
}

/// All stored events of a folder that no gateway uses.
pub(crate) async fn events(launch: &Launch) -> Outcome<Vec<StoredEvent>> {
    let mut command = launch.command();
    command.args(["store", "ls", "--events", "--json"]);
    let listing = text(&output(command, Duration::from_secs(300)).await?, 0)?;
    let event = |line: &str| serde_json::from_str(line).map_err(|error| format!("{error}: {line}").into());
    listing.lines().map(event).collect()
}

/// How often each (agent, event id) is stored.
pub(crate) fn counts(events: &[StoredEvent]) -> HashMap<(&str, &str), u32> {
    let mut counts = HashMap::with_capacity(events.len());
    for event in events {
        *counts.entry((event.agent_id.as_str(), event.event_id.as_str())).or_insert(0) += 1;
    }
    counts
}
