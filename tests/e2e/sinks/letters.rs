//! What `arcgate deadletters` says and does, with the real binary.

use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Outcome, Rig, text};

/// A letter as `arcgate deadletters ls --json` prints it, one a line.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Letter {
    /// The sink that never takes it.
    pub(super) sink: String,
    /// Its name among the sink's.
    pub(super) letter: String,
    /// Why.
    pub(super) reason: String,
    /// How often it has been sent.
    pub(super) attempts: u64,
    /// `kept` or `retry`.
    pub(super) state: String,
}

/// The letters of all sinks, by their names: those of one log in its order.
pub(super) async fn list(rig: &Rig) -> Outcome<Vec<Letter>> {
    let listing = text(&rig.arcgate(&["deadletters", "ls", "--json"]).await?, 0)?;
    listing.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}").into())).collect()
}

/// All of a letter.
pub(super) async fn show(rig: &Rig, letter: &Letter) -> Outcome<Value> {
    let shown = text(&rig.arcgate(&["deadletters", "show", &letter.sink, &letter.letter]).await?, 0)?;
    Ok(serde_json::from_str(&shown)?)
}

/// Has a letter sent again.
pub(super) async fn retry(rig: &Rig, letter: &Letter) -> Outcome<()> {
    let said = text(&rig.arcgate(&["deadletters", "retry", &letter.sink, &letter.letter]).await?, 0)?;
    if said.starts_with("1 to be sent again") { Ok(()) } else { Err(said.into()) }
}

/// Removes a letter.
pub(super) async fn drop(rig: &Rig, letter: &Letter) -> Outcome<()> {
    let said = text(&rig.arcgate(&["deadletters", "drop", &letter.sink, &letter.letter]).await?, 0)?;
    if said == "1 dropped\n" { Ok(()) } else { Err(said.into()) }
}
