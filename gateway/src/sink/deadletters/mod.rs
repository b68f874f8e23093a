//! Dead letters: records that a sink will never take, as they are.
//!
//! One small readable file each, in the data folder: `deadletters/<sink>/<position>-<line>.json`. They are durable before the
//! cursor moves past their records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::store::Position;

/// A record that a sink will never take, and why. The file holds it as JSON, its fields by these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The sink.
    pub sink: String,
    /// Where the record's frame lies in its log.
    pub position: Position,
    /// Which line of it, by its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// When it became a dead letter, or was tried last, in Unix milliseconds.
    pub at_ms: Millis,
    /// Why.
    pub reason: String,
    /// How often it has been sent.
    pub attempts: u64,
    /// What else sending it takes, by name: topic, key, headers, table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub route: BTreeMap<String, String>,
    /// The record was too large to be kept whole, so that it cannot be sent again.
    #[serde(default)]
    pub cut: bool,
    /// The record as it would have been sent.
    pub record: String,
}
