//! Dead letters: records that a sink will never take, as they are.
//!
//! One small readable file each, in the data folder: `deadletters/<sink>/<position>-<line>.json` (line 0 for an event). They are
//! durable before the cursor moves past their records. `arcgate deadletters` lists, shows and removes them, whether or not a
//! gateway runs; to send one again it is renamed to `….json.retry`, which the running gateway finds within a second.
//!
//! At most [`MAX_LETTERS`] letters and [`MAX_BYTES`] are kept of a sink; past that the oldest go, counted and logged.

mod folder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::delivery::{DeliveryError, MAX_KEPT_RECORD, Rejected};
use crate::clock::Millis;
use crate::store::Position;

pub use folder::{DeadLetters, LetterError, LetterId, LetterInfo, sinks};

/// The folder, in the store's.
pub const FOLDER: &str = "deadletters";
/// Letters of a sink that are kept.
pub const MAX_LETTERS: usize = 10_000;
/// Their size in all, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;

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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The record as it would have been sent.
    pub record: String,
}

impl DeadLetter {
    /// The letter of a record that `sink` has just rejected.
    #[must_use]
    pub fn new(sink: &str, rejected: Rejected, now: Millis) -> Self {
        let Rejected { position, line, reason, route, record } = rejected;
        let cut = record.len() > MAX_KEPT_RECORD;
        let record = String::from_utf8_lossy(&record[..record.len().min(MAX_KEPT_RECORD)]).into_owned();
        Self { sink: sink.to_owned(), position, line, at_ms: now, reason, attempts: 1, route, cut, record }
    }

    /// Whether the whole record is there to be sent again.
    ///
    /// # Errors
    /// Permanent: only a part of it was kept, or it could not be written as a record at all.
    pub(super) fn check_whole(&self) -> Result<(), DeliveryError> {
        let why = match self {
            Self { cut: true, .. } => "it was too large to be kept whole, so that it cannot be sent again",
            Self { record, .. } if record.is_empty() => {
                "it could not be written as a record, so that there is nothing to send again"
            }
            _ => return Ok(()),
        };
        Err(DeliveryError::permanent(why))
    }

    /// What names it among its sink's.
    #[must_use]
    pub fn id(&self) -> LetterId {
        LetterId { position: self.position, line: self.line.unwrap_or(0) }
    }
}
