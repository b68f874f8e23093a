//! What the sinks promise, on a real Kafka and a real ClickHouse.

mod consumer;
mod kafka;
mod kafka_outages;
mod kafka_rights;
mod services;
