//! ClickHouse: lines and events as rows, over its HTTP interface.
//!
//! [`server`] speaks with it, [`schema`] is what it must have, [`migrate`] brings that about. A batch becomes rows ([`line_rows`],
//! [`event_rows`]) in `RowBinary` ([`rowbinary`]) and one `INSERT` (`insert`); [`lines`] and [`events`] are the two sinks.
//! [`failure`] says what a refusal means. History is read back by [`crate::replay::archive`].
//!
//! A batch is one insert, of one day, below the size at which the server would cut it: it is there as a whole or not at all, and
//! its token tells a repeat, in the tables of the views too.

pub mod event_rows;
pub mod events;
pub mod failure;
mod insert;
pub mod line_rows;
pub mod lines;
pub mod migrate;
pub mod rowbinary;
pub mod schema;
pub mod server;
pub mod settings;
mod tls;

pub use events::ClickHouseEvents;
pub use lines::ClickHouseLines;
pub use server::Server;
pub use settings::{ClickHouseSettings, Compression};

/// What stands for a store in the tables: half of its id.
#[must_use]
pub fn origin_of(store_id: u128) -> u64 {
    // 0 says that an agent counted.
    ((store_id >> 64) as u64).max(1)
}
