//! What the sinks promise, on a real Kafka and a real ClickHouse.

mod services;
