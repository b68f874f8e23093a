//! Arcgate's data plane: logs and events in, kept durably, replayed.
//!
//! One folder a station, in the order in which a batch passes them:
//! [`source`] (gRPC services) → [`decode`] (bound, decompress, count lines) → [`shard`] (one owner per log stream: numbers
//! lines, batches, wakes readers) → [`store`] (segment logs, index, events, dedup, cursors) → [`replay`] (cursor, WebSocket)
//! and [`sink`] (Kafka, ClickHouse).
//! `ARCHITECTURE.md` walks one log batch and one event through the files by name.

pub mod access;
pub mod backoff;
pub mod block;
pub mod budget;
pub mod clock;
pub mod decode;
pub mod gateway;
pub mod id;
pub mod lookup;
mod metrics;
pub mod replay;
pub mod shard;
pub mod sink;
pub mod source;
pub mod stop;
pub mod store;
pub mod tasklog;
pub mod upkeep;
