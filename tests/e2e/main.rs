//! End-to-end tests: the built binary, real sockets, real files. What the invariants of ARCHITECTURE.md promise stands here under
//! their names; [`harness`] is what the tests stand on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "a test that fails may fail loudly, and holds no lock that matters"
)]

mod access;
mod agent;
mod bad_input;
mod clickhouse;
mod clickhouse_long_replay;
mod clickhouse_replay;
mod command_line;
mod command_line_messages;
mod command_line_push;
mod control;
mod demo;
mod formats;
mod go_client;
mod harness;
mod i1_ack_after_sync;
mod i2_sigkill;
mod i3_repeats;
mod i4_marks;
mod i5_poison;
mod i6_numbers;
mod i7_readers;
mod i8_memory;
mod operations;
mod planes;
mod sinks;
mod store_damage;
mod task_logs;
mod websocket;
