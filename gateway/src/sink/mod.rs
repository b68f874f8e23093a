//! Sinks: what is stored goes on to Kafka and ClickHouse, each record at least once, whatever dies on the way.
//!
//! A sink is one more cursor over a log. [`runner`] is the loop: it cuts a batch ([`feed`]), saves where the batch ends ([`cursor`]),
//! delivers it ([`delivery`]; a batch is a range that can be read again, [`mod@batch`]), and saves the cursor once it is confirmed. What a
//! sink will never take goes to [`deadletters`]; [`lag`] says how far it is behind, and what it has lost.
//!
//! Always `cursor ≤ confirmed ≤ synced`: the cursor moves only after the sink has confirmed, and never back (I9). A batch's end is
//! durable before its first send, so that a crash cuts the same batches again, which a sink can tell by their token.
//!
//! A sink that is down costs disk, not memory: a batch holds no records, and few are under way at a time.

pub mod batch;
pub mod clickhouse;
pub mod cloudevent;
pub mod cursor;
pub mod deadletters;
pub mod delivery;
mod entries;
pub mod feed;
pub mod kafka;
pub mod lag;
pub mod runner;
pub(crate) mod start;
#[cfg(test)]
mod tests;
pub mod undelivered;

pub use batch::{EventBatch, LineBatch};
pub use deadletters::DeadLetter;
pub use delivery::{BatchLimits, Delivery, DeliveryError, Rejected};
pub use entries::{Entries, Events, LineContent, LineEntry};
pub use start::{RunningSinks, Sinks};
pub use undelivered::{Policy, Undelivered};

/// The sink of events to Kafka.
pub const KAFKA_EVENTS: &str = "kafka-events";
/// The sink of lines to Kafka.
pub const KAFKA_LOGS: &str = "kafka-logs";
/// The sink of events to ClickHouse.
pub const CLICKHOUSE_EVENTS: &str = "clickhouse-events";
/// The sink of lines to ClickHouse.
pub const CLICKHOUSE_LOGS: &str = "clickhouse-logs";
