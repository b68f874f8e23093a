//! The event log: every event that was acked, once, in the order in which the gateway took them.
//!
//! [`record`] is the layout of an event in its frame. The [`committer`](Committer) finds the repeats, appends the rest with
//! one write, syncs once and answers everyone; [`EventLog`] gives it a thread and a queue, and cursors read what is synced.
//!
//! | frame kind | body |
//! |---|---|
//! | 0x81 event | [`record`] |
//! | 0x82 dead letter | [`record`] |
//! | 0x83 mark | [`crate::store::index::record`], a known event: retention has removed the event, its repeats are still known |

mod committer;
pub mod identity;
mod known;
mod log;
mod open;
mod reader;
pub(crate) mod recent;
pub mod record;
mod retained;
#[cfg(test)]
mod tests;
mod types;

pub use committer::{Committer, DEAD_LETTER, EVENT, EVENT_MARK, MAX_GROUP_BYTES, MAX_GROUP_EVENTS};
pub use log::{EventLog, EventLogOptions};
pub use open::open;
pub(crate) use reader::stored_event;
pub use reader::{EventReader, StoredEvent};
pub use retained::RetainedEvents;
pub use types::{Commit, DeadReason, EventFate, Incoming, IncomingEvent};
