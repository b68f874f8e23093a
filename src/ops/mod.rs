//! What an operator sees of a running gateway: its log, its metrics and health over HTTP, its addresses, how it stops.

pub mod addresses;
pub mod handles;
pub mod http;
pub mod listener;
pub mod shutdown;
pub mod telemetry;
